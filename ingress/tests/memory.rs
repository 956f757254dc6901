//! Memory: bodies of any size and idle connections. A file of its own, since the process is what is measured.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use std::sync::{Mutex, MutexGuard, PoisonError};

use support::backend::Backend;
use support::client::{Client, client_config};
use support::plane::{Plane, rule};

/// Both tests measure this process, so they take turns.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    // A test that failed leaves nothing behind that the other minds.
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn bodies_pass_without_being_held() {
    const SIZE: usize = 64 * 1024 * 1024;
    let _turn = turn();
    let backend = Backend::echo();
    let plane = Plane::start(vec![rule("", "/", &[backend.address])]);
    for mut client in [Client::plain(plane.http()), Client::tls(plane.https(), "a")] {
        assert_eq!(client.get("a", "/").status, 200);
        let before = resident();
        let mut most = before;
        client.send(format!("POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n"));
        let block = vec![b'u'; 256 * 1024];
        for _ in 0..SIZE / block.len() {
            client.send(&block);
            most = most.max(resident());
        }
        let response = client.response();
        assert!(response.text().contains(&format!("body {SIZE}: ")));
        client.send(format!("GET /download/{SIZE} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.read_response(true).unwrap().status, 200);
        for _ in 0..SIZE / block.len() {
            assert_eq!(client.take(block.len()).len(), block.len());
            most = most.max(resident());
        }
        let grown = (most - before) / 1024 / 1024;
        assert!(grown < 16, "{grown} MiB more for a body of {} MiB", SIZE / 1024 / 1024);
    }
}

/// Idle connections hold no buffers of ours.
#[test]
fn idle_connections_cost_little() {
    const COUNT: usize = 500;
    let _turn = turn();
    let backend = Backend::echo();
    let plane = Plane::start(vec![rule("", "/", &[backend.address])]);
    let config = client_config(&[b"http/1.1"]);
    let address = plane.https();
    // The clients live in the same process, so what is measured is both halves.
    let mut clients: Vec<Client> = Vec::with_capacity(COUNT);
    let before = resident();
    for _ in 0..COUNT {
        let mut client = Client::with_config(address, "a", config.clone());
        assert_eq!(client.get("a", "/").status, 200);
        clients.push(client);
    }
    let each = (resident() - before) / COUNT;
    println!("{each} bytes for an idle TLS connection, the client's half included");
    assert!(each < 60_000, "{each} bytes for both halves of an idle connection");
    drop(clients);
}
