//! SIGTERM: not ready, still accepting, then finishing what was begun until the deadline.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use http::Request;
use http::header::CONNECTION;
use landfall_e2e::client::{Client, empty};
use landfall_e2e::echo::Echo;
use landfall_e2e::figures;
use landfall_e2e::ingress::{Ingress, Launch};
use landfall_e2e::manifests::{self, Folder};
use landfall_e2e::tls::tcp;
use landfall_e2e::wait;
use landfall_e2e::ws::Socket;
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HOST: &str = "shop.example";
const LAME_DUCK: Duration = Duration::from_secs(1);
const DRAIN: Duration = Duration::from_secs(5);
/// What a busy machine may add to any of the times above.
const SLACK: Duration = Duration::from_secs(2);

async fn start() -> Result<(Ingress, Folder, Echo)> {
    let echo = Echo::local("web").await?;
    let folder = Folder::new()?;
    folder.write("shop.yaml", &manifests::ingress("shop", HOST, &[("/", "web")]))?;
    folder.write("web.yaml", &manifests::service("web", &[echo.addr]))?;
    let times = ["--lame-duck", &LAME_DUCK.as_secs().to_string(), "--drain-timeout", &DRAIN.as_secs().to_string()];
    let ingress = Launch::manifests(folder.path()).args(&times).start().await?;
    Ok((ingress, folder, echo))
}

#[tokio::test]
async fn sigterm_is_a_lame_duck_first_and_finishes_what_was_begun() -> Result<()> {
    let (mut ingress, _folder, echo) = start().await?;
    let (http, admin) = (ingress.http, ingress.admin);
    let mut idle = Client::http1(http).await?;
    assert_eq!(idle.get(HOST, "/").await?.status, 200);
    let mut socket = Socket::open(&format!("ws://{HOST}/ws"), http, None).await?;
    let mut slow = Client::http1(http).await?;
    let mut slow2 = Client::http2(http).await?;
    // Longer than the lame duck, shorter than the deadline.
    let request = || -> Result<_> { Ok(Request::get("/sleep/2500").body(empty())?) };
    let (one, two) = (request()?, request()?);
    let in_flight = tokio::spawn(async move { slow.send(HOST, one).await });
    let in_flight2 = tokio::spawn(async move { slow2.send(HOST, two).await });
    wait::until(SLACK, "the slow requests to be at the backend", || async {
        ensure!(echo.requests() >= 4, "{} requests", echo.requests());
        Ok(())
    })
    .await?;

    ingress.signal(Signal::SIGTERM)?;
    let begun = Instant::now();
    wait::until(LAME_DUCK, "/readyz to say 503", || async {
        let answer = landfall_e2e::client::get(admin, "admin", "/readyz").await?;
        ensure!(answer.status == 503, "{answer}");
        Ok(())
    })
    .await?;
    assert_eq!(ingress.get(HOST, "/").await?.status, 200, "a lame duck accepts");
    assert!(begun.elapsed() < LAME_DUCK, "this machine is too slow to tell a lame duck from a drain");

    wait::until(LAME_DUCK + SLACK, "new connections to be refused", || async {
        ensure!(Client::http1(http).await.is_err(), "still accepted");
        Ok(())
    })
    .await?;
    assert!(begun.elapsed() >= LAME_DUCK, "accepting ended after {:?}", begun.elapsed());
    wait::until(SLACK, "the idle connection to be closed", || async {
        ensure!(idle.is_closed(), "still open");
        Ok(())
    })
    .await?;
    assert_eq!(socket.echo_text("still here").await?, "still here");
    assert_eq!(in_flight.await??.status, 200);
    assert_eq!(in_flight2.await??.status, 200);
    assert_eq!(socket.echo_text("half the time").await?, "half the time");

    // RFC 6455 section 7.4.1: 1001 is "going away".
    assert_eq!(tokio::time::timeout(DRAIN + SLACK, socket.closed()).await.context("never sent away")??, 1001);
    let took = begun.elapsed();
    assert!(took >= LAME_DUCK + DRAIN / 2 && took < LAME_DUCK + DRAIN, "the WebSocket was sent away after {took:?}");
    let (status, _) = ingress.ended(DRAIN + SLACK).await?;
    assert!(status.success(), "{status}");
    figures::print(&format!("drain with an open WebSocket: {:.1} s of 6", begun.elapsed().as_secs_f64()));
    Ok(())
}

#[tokio::test]
async fn during_a_handover_newcomers_wait_and_everybody_else_leaves() -> Result<()> {
    const HANDOVER: Duration = Duration::from_secs(2);
    let echo = Echo::local("web").await?;
    let folder = Folder::new()?;
    folder.write("shop.yaml", &manifests::ingress("shop", HOST, &[("/", "web")]))?;
    folder.write("web.yaml", &manifests::service("web", &[echo.addr]))?;
    let times = ["--lame-duck", "1", "--handover", &HANDOVER.as_secs().to_string(), "--drain-timeout", "30"];
    let mut ingress = Launch::manifests(folder.path()).args(&times).start().await?;
    let http = ingress.http;
    let mut idle = Client::http1(http).await?;
    assert_eq!(idle.get(HOST, "/").await?.status, 200);
    let mut socket = Socket::open(&format!("ws://{HOST}/ws"), http, None).await?;
    assert_eq!(socket.echo_text("here").await?, "here");

    ingress.signal(Signal::SIGTERM)?;
    let begun = Instant::now();
    assert_eq!(tokio::time::timeout(LAME_DUCK + SLACK, socket.closed()).await.context("never sent away")??, 1001);
    drop(socket);
    wait::until(SLACK, "the idle connection to be closed", || async {
        ensure!(idle.is_closed(), "still open");
        Ok(())
    })
    .await?;
    let connecting = tokio::time::timeout(Duration::from_millis(500), TcpStream::connect(http)).await;
    assert!(connecting.is_err(), "a newcomer hears nothing, but it heard {connecting:?}");
    assert!(begun.elapsed() < LAME_DUCK + HANDOVER, "this machine is too slow to see a handover");
    let (status, _) = ingress.ended(HANDOVER + SLACK).await?;
    assert!(status.success(), "{status}");
    assert!(begun.elapsed() >= LAME_DUCK + HANDOVER, "it ended after {:?}", begun.elapsed());
    Ok(())
}

#[tokio::test]
async fn with_nothing_to_finish_the_drain_is_over_at_once() -> Result<()> {
    let (mut ingress, _folder, _echo) = start().await?;
    let mut idle = Client::http1(ingress.http).await?;
    assert_eq!(idle.get(HOST, "/").await?.status, 200);
    ingress.signal(Signal::SIGTERM)?;
    let (status, took) = ingress.ended(LAME_DUCK + DRAIN).await?;
    assert!(status.success(), "{status}");
    assert!(took >= LAME_DUCK && took < LAME_DUCK + DRAIN, "{took:?}");
    Ok(())
}

#[tokio::test]
async fn a_second_signal_ends_it() -> Result<()> {
    let (mut ingress, _folder, _echo) = start().await?;
    ingress.signal(Signal::SIGTERM)?;
    wait::until(LAME_DUCK, "the first signal to be seen", || async {
        let answer = landfall_e2e::client::get(ingress.admin, "admin", "/readyz").await?;
        ensure!(answer.status == 503, "{answer}");
        Ok(())
    })
    .await?;
    ingress.signal(Signal::SIGTERM)?;
    let (_, took) = ingress.ended(SLACK).await?;
    assert!(took < LAME_DUCK, "{took:?}");
    Ok(())
}

#[tokio::test]
async fn kept_connections_are_told_that_it_is_over() -> Result<()> {
    let (ingress, _folder, echo) = start().await?;
    let mut slow = Client::http1(ingress.http).await?;
    let mut goodbye = Http2::open(ingress.http).await?;
    // It is answered while the ingress drains.
    let request = Request::get("/sleep/2000").body(empty())?;
    let in_flight = tokio::spawn(async move { slow.send(HOST, request).await });
    wait::until(SLACK, "the slow request to be at the backend", || async {
        ensure!(echo.requests() >= 1, "it is not");
        Ok(())
    })
    .await?;
    ingress.signal(Signal::SIGTERM)?;
    let said = tokio::time::timeout(LAME_DUCK + SLACK, goodbye.until(GOAWAY)).await.context("no GOAWAY in time")??;
    // Last stream, then the error code (RFC 9113 section 6.8): none.
    assert_eq!(said.get(4..8), Some(&[0; 4][..]), "{said:?}");
    let answer = in_flight.await??;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers.get(CONNECTION).map(http::HeaderValue::as_bytes), Some(&b"close"[..]), "{answer}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_when_it_ends_under_load() -> Result<()> {
    let (mut ingress, _folder, echo) = start().await?;
    let http = ingress.http;
    let clients: Vec<_> = (0..16).map(|_| tokio::spawn(ask_until_refused(http))).collect();
    wait::until(10 * SLACK, "load", || async {
        ensure!(echo.requests() > 500, "{} requests", echo.requests());
        Ok(())
    })
    .await?;
    ingress.signal(Signal::SIGTERM)?;
    let mut answered = 0;
    for client in clients {
        answered += client.await??;
    }
    let (status, _) = ingress.ended(LAME_DUCK + DRAIN + SLACK).await?;
    assert!(status.success(), "{status}");
    figures::print(&format!("SIGTERM under load: 0 of {answered} requests failed"));
    Ok(())
}

/// Asks again and again, as a client with kept connections does, until a new connection is refused.
async fn ask_until_refused(addr: std::net::SocketAddr) -> Result<u64> {
    let mut answered = 0;
    while let Ok(mut client) = Client::http1(addr).await {
        let mut on_this = 0;
        loop {
            match client.get(HOST, "/").await {
                Ok(answer) if answer.status == 200 => {
                    on_this += 1;
                    if answer.headers.contains_key(CONNECTION) {
                        break;
                    }
                }
                Ok(answer) => bail!("{answer}"),
                // A kept connection may close while a request is on its way; every client asks again on another
                // (RFC 9112 section 9.3.1). On a new connection there is no such excuse.
                Err(_) if on_this > 0 => break,
                Err(error) => return Err(error),
            }
        }
        answered += on_this;
    }
    Ok(answered)
}

/// The type of the frame that ends an HTTP/2 connection (RFC 9113 section 6.8).
const GOAWAY: u8 = 7;

/// An HTTP/2 connection that only listens.
struct Http2(TcpStream);

impl Http2 {
    /// Sends the preface and empty SETTINGS.
    async fn open(addr: std::net::SocketAddr) -> Result<Self> {
        let mut stream = tcp(addr).await?;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
        Ok(Self(stream))
    }

    /// The payload of the next frame of type `wanted`.
    async fn until(&mut self, wanted: u8) -> Result<Vec<u8>> {
        loop {
            // Three bytes of length, type, flags, four bytes of stream (RFC 9113 section 4.1).
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.context("the connection was closed")?;
            let [high, middle, low, kind, ..] = head;
            let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, high, middle, low]))?];
            self.0.read_exact(&mut payload).await?;
            if kind == wanted {
                return Ok(payload);
            }
        }
    }
}
