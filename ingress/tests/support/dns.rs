//! A name server on loopback: UDP, A and AAAA records of one list, by hand.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What is answered for a name.
#[derive(Clone)]
pub enum Zone {
    /// These addresses, with this TTL in seconds.
    Addresses(Vec<IpAddr>, u32),
    /// There is no such name.
    Missing,
    /// SERVFAIL.
    Broken,
}

impl Zone {
    /// These addresses, with a TTL in seconds.
    pub fn of(addresses: &[&str], ttl: u32) -> Self {
        Self::Addresses(addresses.iter().map(|text| text.parse().unwrap()).collect(), ttl)
    }
}

/// A running name server. It ends with the test's process.
#[derive(Clone)]
pub struct NameServer {
    pub address: SocketAddr,
    zones: Arc<Mutex<HashMap<String, Zone>>>,
    queries: Arc<AtomicUsize>,
}

impl NameServer {
    /// Answers each query after `delay`; what has no zone is missing.
    pub fn start(delay: Duration) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = Self { address: socket.local_addr().unwrap(), zones: Arc::default(), queries: Arc::default() };
        let (mine, socket) = (server.clone(), Arc::new(socket));
        thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((length, client)) = socket.recv_from(&mut buffer) {
                let query = buffer[..length].to_vec();
                let (name, kind, end) = question(&query);
                if kind == 1 {
                    mine.queries.fetch_add(1, Ordering::SeqCst);
                }
                let zone = mine.zones.lock().unwrap().get(&name).cloned().unwrap_or(Zone::Missing);
                let answer = answer(&query[..end], kind, &zone);
                let socket = socket.clone();
                thread::spawn(move || {
                    thread::sleep(delay);
                    let _ = socket.send_to(&answer, client);
                });
            }
        });
        server
    }

    /// From now on `name` is answered so.
    pub fn set(&self, name: &str, zone: Zone) {
        self.zones.lock().unwrap().insert(name.to_owned(), zone);
    }

    /// Queries for A records so far.
    pub fn queries(&self) -> usize {
        self.queries.load(Ordering::SeqCst)
    }
}

/// Name, type, and where the question ends.
fn question(query: &[u8]) -> (String, u8, usize) {
    let (mut labels, mut at) = (Vec::new(), 12);
    while query[at] != 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..=at + length]).to_ascii_lowercase());
        at += length + 1;
    }
    (labels.join("."), query[at + 2], at + 5)
}

/// RFC 1035 section 4.1: header, the question as it came, and a record for each address of the type.
fn answer(asked: &[u8], kind: u8, zone: &Zone) -> Vec<u8> {
    let (code, addresses, ttl) = match zone {
        Zone::Addresses(addresses, ttl) => (0, addresses.as_slice(), *ttl),
        Zone::Missing => (3, [].as_slice(), 0),
        Zone::Broken => (2, [].as_slice(), 0),
    };
    let records: Vec<Vec<u8>> = addresses
        .iter()
        .filter_map(|address| match (kind, address) {
            (1, IpAddr::V4(address)) => Some(address.octets().to_vec()),
            (28, IpAddr::V6(address)) => Some(address.octets().to_vec()),
            _ => None,
        })
        .collect();
    let mut message = asked.to_vec();
    message[2..4].copy_from_slice(&[0x81, 0x80 | code]);
    message[4..12].copy_from_slice(&[0, 1, 0, u8::try_from(records.len()).unwrap(), 0, 0, 0, 0]);
    for record in records {
        message.extend([0xc0, 12, 0, kind, 0, 1]);
        message.extend(ttl.to_be_bytes());
        message.extend([0, u8::try_from(record.len()).unwrap()]);
        message.extend(record);
    }
    message
}
