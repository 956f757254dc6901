//! The load generator: right answers are counted as such, and whatever a client would notice as a failure.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::Response;
use landfall_e2e::ingress::{Ingress, Launch};
use landfall_e2e::load::{self, Class, ClassReport, Kind, Plan, Report};
use landfall_e2e::manifests::{self, Folder};
use landfall_e2e::tls::Trust;
use landfall_e2e::{tools, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

const HOST: &str = "shop.localhost";
const RATE: u32 = 50;

/// Rates are kept only by a machine that is not busy with another load.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

struct Setup {
    _turn: MutexGuard<'static, ()>,
    ingress: Ingress,
    backends: Backends,
    folder: Folder,
    keys: tempfile::TempDir,
}

/// A process of its own, since a kill ends WebSockets as well.
struct Backends(Child);

impl Backends {
    fn kill(&mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Backends {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// An ingress in front of two backends that share a port.
async fn start() -> Result<Setup> {
    let turn = ONE_AT_A_TIME.lock().await;
    let port = tools::free_port()?;
    let endpoints = [[127, 0, 0, 1], [127, 0, 0, 2]].map(|ip| SocketAddr::from((ip, port)));
    let mut command = Command::new(tools::program("landfall-echo")?);
    command.arg("serve").args(["one", "two"].iter().zip(endpoints).map(|(name, addr)| format!("{name}={addr}")));
    let backends = Backends(command.spawn()?);
    for addr in endpoints {
        wait::until(Duration::from_secs(10), "the backends", || async { Ok(TcpStream::connect(addr).await?) }).await?;
    }
    let (folder, keys) = (Folder::new()?, tempfile::TempDir::new()?);
    tools::run(Command::new(tools::checkout().join("hack/quickstart-pki")).arg(keys.path()).arg(folder.path()))?;
    let ingress = manifests::ingress("shop", HOST, &[("/", "web"), ("/landfall.Echo", "grpc")])
        .replace("  rules:", &format!("  tls: [{{hosts: [{HOST}], secretName: shop-tls}}]\n  rules:"));
    let grpc =
        manifests::service("grpc", &endpoints).replace("port: 80}]}", "port: 80, appProtocol: kubernetes.io/h2c}]}");
    folder.write("shop.yaml", &(ingress + &manifests::service("web", &endpoints) + &grpc))?;
    let ingress = Launch::manifests(folder.path()).args(&["--no-access-log"]).start().await?;
    Ok(Setup { _turn: turn, ingress, backends, folder, keys })
}

/// All classes at the same rate.
fn everything(setup: &Setup) -> Result<Plan> {
    let trust = Trust::from_file(&setup.keys.path().join("ca.crt"))?;
    let plan = Plan::new(HOST, [setup.ingress.http]).tls([setup.ingress.https], trust);
    Ok(Class::ALL.into_iter().fold(plan, |plan, class| plan.rate(class, RATE)))
}

fn class(report: &Report, class: Class) -> Result<&ClassReport> {
    report.classes.get(&class).with_context(|| format!("no report of {class}"))
}

/// Nothing is forgotten: what was started ended in one way or the other.
fn whole(report: &Report) {
    for (class, counted) in &report.classes {
        assert_eq!(counted.started, counted.ok + counted.failed, "{class}: {counted:?}");
        assert_eq!(counted.failed, counted.failed_by_kind.values().sum::<u64>(), "{class}: {counted:?}");
    }
}

#[tokio::test]
async fn every_class_is_answered_by_every_backend() -> Result<()> {
    let setup = start().await?;
    let report = load::run(everything(&setup)?, sleep(Duration::from_secs(3))).await?;
    whole(&report);
    for (class, counted) in &report.classes {
        assert_eq!(counted.failed, 0, "{class}: {counted:?}");
        // The number of planned moments is exact; only the end is a matter of scheduling.
        assert!((140..=160).contains(&counted.started), "{class}: {counted:?}");
        assert!(counted.p50_ms > 0.0 && counted.p50_ms <= counted.p99_ms && counted.p99_ms <= counted.slowest_ms);
        assert_eq!((counted.reopened, counted.reconnected), (0, 0), "{class}: {counted:?}");
        match class {
            Class::New | Class::Tls => assert_eq!(counted.opened, counted.started, "{class}"),
            Class::Websocket => assert_eq!(counted.opened, 8),
            Class::H2c | Class::H2 | Class::Grpc => assert_eq!(counted.opened, 2, "{class}"),
            Class::Http1 => assert!(counted.opened >= 8, "{class}"),
        }
        assert_eq!(counted.backends.keys().collect::<Vec<_>>(), ["one", "two"], "{class}");
        assert_eq!(counted.backends.values().sum::<u64>(), counted.ok, "{class}");
    }
    Ok(())
}

#[tokio::test]
async fn a_backend_that_dies_is_counted() -> Result<()> {
    let mut setup = start().await?;
    let plan = everything(&setup)?;
    let running = tokio::spawn(load::run(plan, sleep(Duration::from_secs(2))));
    sleep(Duration::from_secs(1)).await;
    setup.backends.kill()?;
    let report = running.await??;
    whole(&report);
    for (class, counted) in &report.classes {
        assert!(counted.ok >= 20 && counted.failed >= 20, "{class}: {counted:?}");
        let first = counted.failures.first().context("no failure was kept")?;
        assert!(first.at_ms >= 900.0 && !first.text.is_empty(), "{class}: {first:?}");
        // The ingress answers for the backend, and a WebSocket can only be opened by one.
        let kind = if *class == Class::Websocket { Kind::Handshake } else { Kind::Status };
        assert!(counted.failed_by_kind.contains_key(&kind), "{class}: {counted:?}");
    }
    // A route that answers something else is no success either.
    let missing = Plan::new("elsewhere.example", [setup.ingress.http]).rate(Class::New, RATE);
    let report = load::run(missing, sleep(Duration::from_millis(300))).await?;
    assert_eq!(class(&report, Class::New)?.ok, 0);
    setup.folder.remove("shop.yaml")
}

/// A server of `serve` for each connection, until the test ends.
async fn server<F, Fut>(serve: F) -> Result<SocketAddr>
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let addr = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    Ok(addr)
}

#[tokio::test]
async fn what_no_client_forgives_is_a_failure() -> Result<()> {
    let resets = server(|stream| async move { Ok(stream.set_zero_linger()?) }).await?;
    let silent = server(|mut stream| async move {
        stream.read_to_end(&mut Vec::new()).await?;
        Ok(())
    })
    .await?;
    let nobody = SocketAddr::from(([127, 0, 0, 1], tools::free_port()?));
    let keys = tempfile::TempDir::new()?;
    tools::run(Command::new(tools::checkout().join("hack/quickstart-pki")).arg(keys.path()).arg(keys.path()))?;
    let trust = Trust::from_file(&keys.path().join("ca.crt"))?;
    let (short, long) = (Duration::from_millis(500), Duration::from_secs(5));
    let rows: [(&str, SocketAddr, Duration, &[Kind]); 3] = [
        ("resets", resets, long, &[Kind::Connect, Kind::Handshake, Kind::Lost]),
        // Who waits for a shared connection to be made may not get as far as a handshake.
        ("says nothing", silent, short, &[Kind::Connect, Kind::Handshake, Kind::Timeout]),
        ("does not exist", nobody, long, &[Kind::Connect]),
    ];
    for (name, addr, timeout, kinds) in rows {
        let plan = Plan { timeout, ..Plan::new(HOST, [addr]).tls([addr], trust.clone()) };
        let plan = Class::ALL.into_iter().fold(plan, |plan, class| plan.rate(class, RATE));
        let report = load::run(plan, sleep(Duration::from_secs(1))).await?;
        whole(&report);
        for (class, counted) in &report.classes {
            assert!(counted.failed > 0 && counted.ok == 0, "a server that {name}, {class}: {counted:?}");
            let right = counted.failed_by_kind.keys().all(|kind| kinds.contains(kind));
            assert!(right, "a server that {name}, {class}: {counted:?}");
        }
    }
    Ok(())
}

/// The path of the next request on `stream`; `None` at its end.
async fn asked(stream: &mut TcpStream) -> Result<Option<String>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(None);
        }
    }
    let path = String::from_utf8(head)?.split(' ').nth(1).context("no path")?.to_owned();
    Ok(Some(path))
}

async fn tell(stream: &mut TcpStream, path: &str) -> Result<()> {
    let body = format!("web GET {path} HTTP/1.1\n");
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    Ok(stream.write_all(answer.as_bytes()).await?)
}

#[tokio::test]
async fn a_kept_connection_may_end_between_requests_but_not_in_an_answer() -> Result<()> {
    // One answer, then the end; the next request may already be on its way.
    let once = server(|mut stream| async move {
        let path = asked(&mut stream).await?.context("no request")?;
        tell(&mut stream, &path).await?;
        asked(&mut stream).await?;
        Ok(())
    });
    let report =
        load::run(Plan::new(HOST, [once.await?]).rate(Class::Http1, 100), sleep(Duration::from_secs(1))).await?;
    whole(&report);
    let counted = class(&report, Class::Http1)?;
    assert_eq!(counted.failed, 0, "{counted:?}");
    assert!(counted.reopened > 40 && counted.closed_by_server >= counted.reopened, "{counted:?}");

    // The second answer breaks off after its first bytes.
    let torn = server(|mut stream| async move {
        let path = asked(&mut stream).await?.context("no request")?;
        tell(&mut stream, &path).await?;
        asked(&mut stream).await?;
        Ok(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-").await?)
    });
    let report =
        load::run(Plan::new(HOST, [torn.await?]).rate(Class::Http1, 100), sleep(Duration::from_secs(1))).await?;
    whole(&report);
    let counted = class(&report, Class::Http1)?;
    assert_eq!(counted.failed_by_kind.get(&Kind::Lost), Some(&counted.failed), "{counted:?}");
    assert!(counted.failed > 40, "{counted:?}");
    Ok(())
}

/// Answers `most` requests of HTTP/2, then GOAWAY; those that came are answered, unless `cut`.
async fn http2(stream: TcpStream, most: usize, cut: bool) -> Result<()> {
    let mut connection = h2::server::handshake(stream).await?;
    let mut answered = 0;
    while let Some(accepted) = connection.accept().await {
        let (request, mut respond) = accepted?;
        answered += 1;
        if cut && answered > most {
            return Ok(());
        }
        tokio::spawn(async move {
            sleep(Duration::from_millis(30)).await;
            let mut stream = respond.send_response(Response::new(()), false)?;
            let path = request.uri().path_and_query().context("no path")?.to_string();
            Ok::<_, anyhow::Error>(stream.send_data(Bytes::from(format!("web GET {path} HTTP/2.0\n")), true)?)
        });
        if !cut && answered == most {
            connection.graceful_shutdown();
        }
    }
    Ok(())
}

#[tokio::test]
async fn goaway_lets_streams_end_and_a_cut_does_not() -> Result<()> {
    for (cut, name) in [(false, "GOAWAY"), (true, "a cut")] {
        let addr = server(move |stream| http2(stream, 20, cut)).await?;
        let plan = Plan::new(HOST, [addr]).rate(Class::H2c, 200);
        let report = load::run(plan, sleep(Duration::from_secs(1))).await?;
        whole(&report);
        let counted = class(&report, Class::H2c)?;
        assert_eq!(counted.failed > 0, cut, "{name}: {counted:?}");
        assert!(counted.opened > 4 && counted.closed_by_server > 3, "{name}: {counted:?}");
    }
    Ok(())
}

/// Echoes five messages, then closes with `code` or, without one, cuts the connection.
async fn websocket(stream: TcpStream, code: Option<CloseCode>) -> Result<()> {
    let mut socket = tokio_tungstenite::accept_async(stream).await?;
    for _ in 0..5 {
        let message = socket.next().await.context("no message")??;
        socket.send(message).await?;
    }
    if let Some(code) = code {
        socket.send(Message::Close(Some(CloseFrame { code, reason: "".into() }))).await?;
        // Until the other side has closed too.
        while let Some(Ok(_)) = socket.next().await {}
    }
    Ok(())
}

#[tokio::test]
async fn a_websocket_may_be_sent_away_but_not_lost() -> Result<()> {
    let rows = [
        (Some(CloseCode::Away), true),
        (Some(CloseCode::Restart), true),
        (Some(CloseCode::Normal), false),
        (None, false),
    ];
    for (code, forgiven) in rows {
        let addr = server(move |stream| websocket(stream, code)).await?;
        let plan = Plan { kept: 4, ..Plan::new(HOST, [addr]).rate(Class::Websocket, 100) };
        let report = load::run(plan, sleep(Duration::from_secs(1))).await?;
        whole(&report);
        let counted = class(&report, Class::Websocket)?;
        assert_eq!(counted.failed == 0, forgiven, "{code:?}: {counted:?}");
        assert_eq!(counted.reconnected > 0, forgiven, "{code:?}: {counted:?}");
        assert!(counted.closed_by_server >= 4 && counted.opened > 4, "{code:?}: {counted:?}");
    }
    Ok(())
}

#[tokio::test]
async fn the_program_prints_the_same_report() -> Result<()> {
    let setup = start().await?;
    let mut command = Command::new(tools::program("landfall-load")?);
    command.args(["--target", &format!("http://{}", setup.ingress.http)]);
    command
        .args(["--target", &format!("https://{}", setup.ingress.https), "--ca"])
        .arg(setup.keys.path().join("ca.crt"));
    command.args(["--host", HOST, "--rate", "http1=40,tls=20", "--rate", "grpc=20", "--duration", "1"]);
    let said = tokio::task::spawn_blocking(move || tools::run(&mut command)).await??;
    let report: Report = serde_json::from_str(&said).context(said)?;
    whole(&report);
    let ok: BTreeMap<_, _> = report.classes.iter().map(|(class, counted)| (*class, counted.ok)).collect();
    assert_eq!(report.failed(), 0, "{report:?}");
    for (class, least) in [(Class::Http1, 35), (Class::Tls, 17), (Class::Grpc, 17)] {
        ensure!(ok.get(&class).is_some_and(|ok| *ok >= least), "{class}: {ok:?}");
    }
    Ok(())
}
