//! The limit of memory. A file of its own, since the process is what is measured.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, StatusCode};
use landfall_ingress::engine::Rejected;
use landfall_ingress::memory::{Ledger, Pressure, Refusal};
use landfall_ingress_model::tls::CertificateTable;
use support::backend::Backend;
use support::client::Client;
use support::plane::{Plane, rule, table, wait_for};

/// Both tests measure this process, so they take turns.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How far the limit is above what the process has at the start.
const ROOM: usize = 200 << 20;

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Memory that is in use until it is dropped.
fn ballast(size: usize) -> Vec<u8> {
    vec![1; size]
}

fn limit(ledger: &Ledger) -> usize {
    usize::try_from(ledger.limit().unwrap()).unwrap()
}

fn until(ledger: &Arc<Ledger>, pressure: Pressure) {
    wait_for(|| (ledger.pressure() == pressure).then_some(()));
}

async fn ask(send: &SendRequest<Bytes>) -> Result<StatusCode, h2::Error> {
    let request = Request::get("http://a.example/").body(()).unwrap();
    let response = send.clone().ready().await?.send_request(request, true)?.0;
    Ok(response.await?.status())
}

/// Sends a request on a new connection and returns all that comes.
fn newcomer(plane: &Plane) -> String {
    let mut tcp = TcpStream::connect(plane.http()).unwrap();
    let _ = tcp.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut said = Vec::new();
    let _ = tcp.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn nothing_new_begins_without_memory_and_what_was_begun_ends_well() {
    let _turn = turn();
    tokio::runtime::Runtime::new().unwrap().block_on(nothing_new_begins());
}

async fn nothing_new_begins() {
    let backend = Backend::echo();
    let ledger = Ledger::new(Some((resident() + ROOM) as u64));
    let rules = table(vec![rule("", "/", &[backend.address])], CertificateTable::default());
    let plane = Plane::with(rules, |config| config.memory = ledger.clone());
    let mut kept = Client::plain(plane.http());
    assert_eq!(kept.get("a", "/").status, 200);
    let mut loading = Client::plain(plane.http());
    loading.send("GET /download/20000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(loading.read_response(true).unwrap().status, 200);
    let tcp = tokio::net::TcpStream::connect(plane.http()).await.unwrap();
    let (send, connection) = h2::client::handshake(tcp).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(ask(&send).await.unwrap(), StatusCode::OK);

    let held = ballast(limit(&ledger) - resident() + (8 << 20));
    until(&ledger, Pressure::Full);
    let refused = newcomer(&plane);
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("short of memory"), "{refused}");
    assert!(plane.heard.rejected.lock().unwrap().contains(&Rejected::Memory));
    let answer = kept.get("a", "/");
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("short of memory"), "{}", answer.text());
    assert!(kept.closed());
    let error = ask(&send).await.unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::REFUSED_STREAM), "{error}");
    assert_eq!(Refusal::ALL.map(|what| ledger.refused(what) > 0), [true; 3]);
    // What was under way is not touched.
    assert_eq!(loading.take(20_000_000).len(), 20_000_000);

    drop(held);
    until(&ledger, Pressure::None);
    assert!(newcomer(&plane).starts_with("HTTP/1.1 200"));
    assert_eq!(ask(&send).await.unwrap(), StatusCode::OK);
}

/// With little left everything still works, in small pieces.
#[test]
fn bodies_pass_in_small_pieces_while_memory_is_short() {
    const SIZE: usize = 5_000_000;
    let _turn = turn();
    let backend = Backend::echo();
    let ledger = Ledger::new(Some((resident() + ROOM) as u64));
    let rules = table(vec![rule("", "/", &[backend.address])], CertificateTable::default());
    let plane = Plane::with(rules, |config| config.memory = ledger.clone());
    let held = ballast(limit(&ledger) / 100 * 87 - resident());
    until(&ledger, Pressure::Tight);
    let mut client = Client::plain(plane.http());
    client.send(format!("POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n"));
    client.send(vec![b'u'; SIZE]);
    assert!(client.response().text().contains(&format!("body {SIZE}: ")));
    assert_eq!(client.get("a", &format!("/download/{SIZE}")).body.len(), SIZE);
    drop(held);
    until(&ledger, Pressure::None);
}
