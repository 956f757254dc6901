//! SIGTERM: not ready, still accepting, then finishing what was begun until the deadline.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use http::Request;
use landfall_e2e::client::{Client, empty};
use landfall_e2e::echo::Echo;
use landfall_e2e::figures;
use landfall_e2e::ingress::{Ingress, Launch};
use landfall_e2e::manifests::{self, Folder};
use landfall_e2e::wait;
use landfall_e2e::ws::Socket;
use nix::sys::signal::Signal;

const HOST: &str = "shop.example";
const LAME_DUCK: Duration = Duration::from_secs(1);
const DRAIN: Duration = Duration::from_secs(3);
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
    assert_eq!(socket.echo_text("until the deadline").await?, "until the deadline");

    let (status, _) = ingress.ended(LAME_DUCK + DRAIN + SLACK).await?;
    assert!(status.success(), "{status}");
    assert!(begun.elapsed() >= LAME_DUCK + DRAIN, "the WebSocket was cut after {:?}", begun.elapsed());
    assert!(socket.next().await.is_err());
    figures::print(&format!("drain with an open WebSocket: {:.1} s of 4", begun.elapsed().as_secs_f64()));
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
