//! Lines on their way out.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

/// How long a line waits for others at most.
const GATHER: Duration = Duration::from_millis(50);
/// Bytes from which on nothing is waited for.
const ENOUGH: usize = 32 * 1024;
/// Bytes that may wait for a reader. What is more is left out: a log that nobody reads must not hold requests up, nor
/// take all memory.
const MOST: usize = 4 * 1024 * 1024;

/// Lines that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Lines {
    waiting: Mutex<Waiting>,
    /// Told when the first line has come, when there are enough of them, and when they are wanted at once.
    news: Condvar,
    /// Told when everything was written.
    written: Condvar,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    /// Lines were taken and are being written.
    is_writing: bool,
    /// Somebody waits for the end of it.
    is_wanted: bool,
}

impl Lines {
    /// Lines that a thread of their own writes.
    pub(super) fn start(out: impl Write + Send + 'static) -> Arc<Self> {
        let lines = Arc::new(Self::default());
        let writer = lines.clone();
        let started = thread::Builder::new().name("access-log".into()).spawn(move || writer.run(out));
        if let Err(error) = started {
            tracing::error!(%error, "no thread for the access log");
        }
        lines
    }

    pub(super) fn dropped(&self) -> Counter {
        self.dropped.clone()
    }

    /// Puts a line to those that wait.
    pub(super) fn push(&self, line: &[u8]) {
        let mut waiting = self.lock();
        if waiting.lines.len() + line.len() > MOST {
            drop(waiting);
            self.dropped.inc();
            return;
        }
        let before = waiting.lines.len();
        waiting.lines.extend_from_slice(line);
        let is_news = before == 0 || (before < ENOUGH && before + line.len() >= ENOUGH);
        drop(waiting);
        if is_news {
            self.news.notify_one();
        }
    }

    /// Waits until everything is written, for a second at most.
    pub(super) fn flush(&self) {
        let mut waiting = self.lock();
        waiting.is_wanted = true;
        self.news.notify_one();
        let is_busy = |waiting: &mut Waiting| waiting.is_writing || !waiting.lines.is_empty();
        let done = self.written.wait_timeout_while(waiting, Duration::from_secs(1), is_busy);
        drop(done);
    }

    fn run(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        loop {
            let waiting = self.lock();
            let waiting = self
                .news
                .wait_while(waiting, |waiting| waiting.lines.is_empty())
                .unwrap_or_else(PoisonError::into_inner);
            let few = |waiting: &mut Waiting| waiting.lines.len() < ENOUGH && !waiting.is_wanted;
            let gathered = self.news.wait_timeout_while(waiting, GATHER, few).unwrap_or_else(PoisonError::into_inner);
            let mut waiting = gathered.0;
            std::mem::swap(&mut waiting.lines, &mut batch);
            waiting.is_writing = true;
            drop(waiting);
            // A log that can't be written is nobody's to hear of.
            let _ = out.write_all(&batch).and_then(|()| out.flush());
            batch.clear();
            // What a burst took is given back.
            batch.shrink_to(2 * ENOUGH);
            self.lock().is_writing = false;
            self.written.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that takes nothing before it is let go.
    #[derive(Clone, Default)]
    struct Reader {
        read: Arc<Mutex<Vec<u8>>>,
        gate: Arc<Mutex<()>>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            drop(self.gate.lock().unwrap());
            self.read.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_come_whole_and_in_their_order() {
        let reader = Reader::default();
        let lines = Lines::start(reader.clone());
        for number in 0..10_000 {
            lines.push(format!("{number}\n").as_bytes());
        }
        lines.flush();
        let text = String::from_utf8(reader.read.lock().unwrap().clone()).unwrap();
        assert!(text.lines().map(|line| line.parse::<u32>().unwrap()).eq(0..10_000));
        assert_eq!(lines.dropped().get(), 0);
    }

    #[test]
    fn a_reader_that_stands_still_holds_nobody_up() {
        let reader = Reader::default();
        let closed = reader.gate.lock().unwrap();
        let lines = Lines::start(reader.clone());
        let line = [b'x'; 1024];
        let count = 3 * MOST / line.len();
        for _ in 0..count {
            lines.push(&line);
        }
        let dropped = lines.dropped().get();
        assert!(dropped > 0 && lines.lock().lines.len() <= MOST, "{dropped}");
        drop(closed);
        lines.flush();
        let read = reader.read.lock().unwrap().len();
        assert_eq!(read / line.len() + usize::try_from(dropped).unwrap(), count);
    }
}
