//! Memory: bodies of any size and idle connections. A file of its own, since the process is what is measured.

mod support;

use support::backend::Backend;
use support::client::Client;
use support::plane::{Plane, rule};

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn bodies_pass_without_being_held() {
    const SIZE: usize = 64 * 1024 * 1024;
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
