//! A backend that answers as the script of each exchange says, and remembers what it saw.

use std::collections::HashMap;
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use super::message::{Message, Reader};
use super::script::{Answer, Exchange, Then};

/// How long an attempt that is bound to come is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Clone)]
pub(crate) struct Backend {
    pub address: SocketAddr,
    book: Arc<Book>,
}

#[derive(Default)]
struct Book {
    entries: Mutex<HashMap<u64, Entry>>,
    changed: Condvar,
}

struct Entry {
    answers: Vec<Answer>,
    attempts: Vec<Message>,
    /// Attempts whose request is still being read.
    open: usize,
}

impl Backend {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let backend = Self { address: listener.local_addr().unwrap(), book: Arc::default() };
        let book = backend.book.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let book = book.clone();
                thread::spawn(move || serve(&stream, &book));
            }
        });
        backend
    }

    /// Takes the script of an exchange.
    pub(crate) fn expect(&self, exchange: &Exchange) {
        let entry = Entry { answers: exchange.answers.clone(), attempts: Vec::new(), open: 0 };
        self.book.entries.lock().unwrap().insert(exchange.id, entry);
    }

    /// Whether an attempt has come.
    pub(crate) fn was_asked(&self, exchange: &Exchange) -> bool {
        let entries = self.book.entries.lock().unwrap();
        entries.get(&exchange.id).is_some_and(|entry| !entry.attempts.is_empty() || entry.open > 0)
    }

    /// What was seen of an exchange, which is over. One that its client has left is waited for.
    pub(crate) fn heard(&self, exchange: &Exchange) -> Vec<Message> {
        let entries = self.book.entries.lock().unwrap();
        let unfinished = |entries: &mut HashMap<u64, Entry>| {
            let entry = &entries[&exchange.id];
            entry.open > 0 || (exchange.reaches && entry.attempts.is_empty())
        };
        let (mut entries, _) = self.book.changed.wait_timeout_while(entries, PATIENCE, unfinished).unwrap();
        entries.remove(&exchange.id).map(|entry| entry.attempts).unwrap_or_default()
    }
}

/// Serves one connection.
fn serve(stream: &TcpStream, book: &Book) {
    let _ = stream.set_nodelay(true);
    let mut reader = Reader::new(stream.try_clone().unwrap());
    while let Ok(mut request) = reader.head() {
        let id: u64 = request.field("x-id").and_then(|id| id.parse().ok()).unwrap_or(u64::MAX);
        let answer = {
            let mut entries = book.entries.lock().unwrap();
            let Some(entry) = entries.get_mut(&id) else { return };
            let number = entry.attempts.len() + entry.open;
            entry.open += 1;
            entry.answers[number.min(entry.answers.len() - 1)].clone()
        };
        let read = reader.request_body(&mut request);
        {
            let mut entries = book.entries.lock().unwrap();
            if let Some(entry) = entries.get_mut(&id) {
                entry.open -= 1;
                entry.attempts.push(request);
            }
        }
        book.changed.notify_all();
        if read.is_err() || respond(stream, &answer).is_err() || answer.then == Then::Close {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

fn respond(mut stream: &TcpStream, answer: &Answer) -> std::io::Result<()> {
    let mut from = 0;
    for cut in answer.cuts.iter().copied().chain([answer.bytes.len()]) {
        stream.write_all(&answer.bytes[from..cut])?;
        from = cut;
    }
    Ok(())
}
