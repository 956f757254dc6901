//! Few open files: whom that costs what, seen by many clients of the real program.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::future::join_all;
use h2::client::SendRequest;
use http::Request;
use landfall_e2e::client::Client;
use landfall_e2e::echo::Echo;
use landfall_e2e::ingress::{Ingress, Launch};
use landfall_e2e::manifests::{self, Folder};
use landfall_e2e::{figures, wait};
use tokio::net::TcpStream;

const HOST: &str = "shop.example";
/// Open files of the ingress: about half of them are for connections of clients and to backends.
const FILES: usize = 200;
/// More than may come in.
const CLIENTS: usize = 120;
/// Connections over HTTP/2, and requests on each: far more at once than there are files.
const SHARED: usize = 20;
const STREAMS: usize = 20;
/// Lines that say what is lacking: one each ten seconds, and no test takes longer than two of these.
const LINES: usize = 3;

struct Setup {
    ingress: Ingress,
    echo: Echo,
    _folder: Folder,
}

async fn start(engine: &str) -> Result<Setup> {
    let echo = Echo::local("web").await?;
    let folder = Folder::new()?;
    let ingress = manifests::ingress("shop", HOST, &[("/", "web")]);
    folder.write("shop.yaml", &(manifests::class() + &ingress + &manifests::service("web", &[echo.addr])))?;
    let launch = Launch::manifests(folder.path()).files(FILES).args(&["--no-access-log", "--engine", engine]);
    Ok(Setup { ingress: launch.start().await?, echo, _folder: folder })
}

impl Setup {
    /// What must hold whatever has happened.
    async fn nobody_is_blamed(&self) -> Result<()> {
        let log = self.ingress.log();
        ensure!(!log.contains("is left out for a while"), "an endpoint was ejected: {log}");
        // The admin port has a file left as soon as nothing is under way.
        let metrics = landfall_e2e::client::get(self.ingress.admin, "admin", "/metrics");
        let metrics =
            tokio::time::timeout(Duration::from_secs(10), metrics).await.context("no metrics in time")??.text();
        ensure!(!metrics.contains("endpoint_ejections_total{"), "an endpoint was ejected");
        let lines = log.lines().filter(|line| line.contains("no file descriptor")).count();
        ensure!(lines <= LINES, "{lines} lines of the same: {log}");
        Ok(())
    }
}

/// Those of `CLIENTS` clients that come in, each with an answer.
async fn come(ingress: &Ingress) -> Vec<Client> {
    let mut inside = Vec::new();
    for _ in 0..CLIENTS {
        let Ok(mut client) = Client::http1(ingress.http).await else { continue };
        if client.get(HOST, "/").await.is_ok_and(|answer| answer.status == 200) {
            inside.push(client);
        }
    }
    inside
}

#[tokio::test]
async fn newcomers_get_in_again_once_others_leave() -> Result<()> {
    for engine in ["landfall", "pingora"] {
        let setup = start(engine).await?;
        for _ in 0..3 {
            let mut inside = come(&setup.ingress).await;
            figures::print(&format!("{engine}: {} of {CLIENTS} clients came in with {FILES} files", inside.len()));
            ensure!((10..FILES / 2).contains(&inside.len()), "{engine}: {} clients came in", inside.len());
            for client in &mut inside {
                let answer = client.get(HOST, "/").await.context("whoever is inside stays served")?;
                assert_eq!(answer.status, 200, "{engine}: {answer}");
            }
            drop(inside);
            setup.ingress.answers(HOST, "/", 200, "web").await?;
        }
        setup.nobody_is_blamed().await?;
    }
    Ok(())
}

async fn connection(ingress: &Ingress) -> Result<SendRequest<Bytes>> {
    let (send, connection) = h2::client::handshake(TcpStream::connect(ingress.http).await?).await?;
    tokio::spawn(connection);
    Ok(send)
}

/// The status of one answer, read to its end.
async fn status(send: SendRequest<Bytes>, path: &str) -> Result<u16> {
    let request = Request::get(format!("http://{HOST}{path}")).body(())?;
    let (response, _) = send.ready().await?.send_request(request, true)?;
    let (head, mut body) = response.await?.into_parts();
    while let Some(data) = body.data().await {
        body.flow_control().release_capacity(data?.len())?;
    }
    Ok(head.status.as_u16())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_beyond_the_open_files_are_503_and_no_endpoints_fault() -> Result<()> {
    for engine in ["landfall", "pingora"] {
        let setup = start(engine).await?;
        let mut connections = Vec::new();
        for _ in 0..SHARED {
            connections.push(connection(&setup.ingress).await?);
        }
        for _ in 0..2 {
            let requests = connections.iter().flat_map(|send| std::iter::repeat_n(send, STREAMS));
            let answers = join_all(requests.map(|send| status(send.clone(), "/sleep/1500"))).await;
            let mut statuses = BTreeMap::<u16, usize>::new();
            for answer in answers {
                *statuses.entry(answer.with_context(|| engine)?).or_default() += 1;
            }
            figures::print(&format!(
                "{engine}: {} requests at once with {FILES} files: {statuses:?}",
                SHARED * STREAMS
            ));
            ensure!(statuses.keys().eq(&[200, 503]), "{engine}: {statuses:?}");
            // As soon as they are over, everybody is served again.
            let after = join_all(connections.iter().map(|send| status(send.clone(), "/"))).await;
            for status in after {
                assert_eq!(status.with_context(|| engine)?, 200, "{engine}");
            }
        }
        ensure!(setup.ingress.log().contains("no file descriptor"), "{engine}: the log is silent");
        setup.nobody_is_blamed().await?;
        wait::until(Duration::from_secs(10), "a newcomer to be served", || async {
            let answer = setup.ingress.get(HOST, "/").await?;
            ensure!(answer.status == 200, "{answer}");
            Ok(())
        })
        .await?;
        ensure!(setup.echo.requests() > 0);
    }
    Ok(())
}
