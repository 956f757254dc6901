//! Real clients of other makes: h2load, a gRPC client, WebSockets with large frames, bodies of a gigabyte.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::stream;
use http::Request;
use http::uri::PathAndQuery;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use landfall_e2e::client::{Client, empty};
use landfall_e2e::echo::Echo;
use landfall_e2e::figures::{self, megabytes, resident};
use landfall_e2e::ingress::{Ingress, Launch};
use landfall_e2e::manifests::{self, Folder};
use landfall_e2e::tls::Trust;
use landfall_e2e::tools;
use landfall_e2e::ws::Socket;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

/// The host of the quickstart's certificate.
const HOST: &str = "shop.localhost";
const GIB: u64 = 1 << 30;
/// What a body that is streamed may add to the memory, however long it is.
const FLAT: u64 = 32_000_000;

/// An ingress with one echo backend at `/`, over HTTP/1.1, and at `/landfall.Echo`, over HTTP/2.
struct Setup {
    ingress: Ingress,
    trust: Trust,
    _folder: Folder,
    _keys: tempfile::TempDir,
    _echo: Echo,
}

async fn start() -> Result<Setup> {
    let echo = Echo::local("web").await?;
    let folder = Folder::new()?;
    let keys = tempfile::TempDir::new()?;
    tools::run(Command::new(tools::checkout().join("hack/quickstart-pki")).arg(keys.path()).arg(folder.path()))?;
    let trust = Trust::from_file(&keys.path().join("ca.crt"))?;
    let ingress = manifests::ingress("shop", HOST, &[("/", "web"), ("/landfall.Echo", "grpc")])
        .replace("  rules:", &format!("  tls: [{{hosts: [{HOST}], secretName: shop-tls}}]\n  rules:"));
    let h2c =
        manifests::service("grpc", &[echo.addr]).replace("port: 80}]}", "port: 80, appProtocol: kubernetes.io/h2c}]}");
    folder.write("shop.yaml", &(ingress + &manifests::service("web", &[echo.addr]) + "---\n" + &h2c))?;
    let ingress = Launch::manifests(folder.path()).args(&["--no-access-log"]).start().await?;
    Ok(Setup { ingress, trust, _folder: folder, _keys: keys, _echo: echo })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2load_sees_no_failure() -> Result<()> {
    let setup = start().await?;
    let (http, https) = (setup.ingress.http.to_string(), setup.ingress.https.to_string());
    let rows: &[(&str, &str, &[&str])] = &[
        ("HTTP/1.1", &http, &["--h1"]),
        ("HTTP/2 without TLS", &http, &["-m", "20"]),
        ("HTTP/1.1 over TLS", &https, &["--h1"]),
        ("HTTP/2 over TLS", &https, &["-m", "20"]),
    ];
    for (name, addr, arguments) in rows {
        let scheme = if *addr == https { "https" } else { "http" };
        let mut command = Command::new("h2load");
        command.args(["-n", "20000", "-c", "16"]).args(*arguments).arg(format!("--connect-to={addr}"));
        command.arg(format!("{scheme}://{HOST}/status/200"));
        let said = tokio::task::spawn_blocking(move || tools::run(&mut command)).await??;
        let requests = said.lines().find(|line| line.starts_with("requests:")).context(said.clone())?;
        let right = requests.contains("20000 succeeded, 0 failed, 0 errored, 0 timeout");
        assert!(right && said.contains("20000 2xx"), "{name}: {said}");
        let finished = said.lines().find(|line| line.starts_with("finished in")).unwrap_or_default();
        figures::print(&format!("h2load, {name}: {finished}"));
    }
    Ok(())
}

/// One field of text, as `message Line { string text = 1; }` would give it.
#[derive(Clone, PartialEq, prost::Message)]
struct Line {
    #[prost(string, tag = "1")]
    text: String,
}

async fn channels(setup: &Setup) -> Result<Vec<(&'static str, Channel)>> {
    let plain = Endpoint::from_shared(format!("http://{}", setup.ingress.http))?;
    let plain = plain.origin(format!("http://{HOST}").parse()?).connect().await?;
    let (trust, https) = (setup.trust.clone(), setup.ingress.https);
    let connect = tower::service_fn(move |_: http::Uri| {
        let trust = trust.clone();
        async move { trust.connect(https, HOST, &["h2"]).await.map(TokioIo::new).map_err(std::io::Error::other) }
    });
    // The scheme is plain because the connector brings its own TLS.
    let secure = Endpoint::from_shared(format!("http://{HOST}"))?.connect_with_connector(connect).await?;
    Ok(vec![("in the clear", plain), ("over TLS", secure)])
}

#[tokio::test]
async fn grpc_is_carried_with_its_trailers() -> Result<()> {
    let setup = start().await?;
    for (name, channel) in channels(&setup).await? {
        let mut client = Grpc::new(channel);
        let path = PathAndQuery::from_static;
        let line = |text: String| Line { text };

        client.ready().await?;
        let codec = ProstCodec::<Line, Line>::default();
        let request = tonic::Request::new(line("one".into()));
        let answer = client.unary(request, path("/landfall.Echo/Say"), codec).await;
        assert_eq!(answer.with_context(|| name)?.into_inner().text, "one");

        client.ready().await?;
        let codec = ProstCodec::<Line, Line>::default();
        let lines = stream::iter((0..1_000).map(move |number| line(format!("line {number}"))));
        let request = tonic::Request::new(lines);
        let mut answers = client.streaming(request, path("/landfall.Echo/Chat"), codec).await?.into_inner();
        for number in 0..1_000 {
            let answer = answers.message().await.with_context(|| name)?.context("the stream ended early")?;
            assert_eq!(answer.text, format!("line {number}"), "{name}");
        }
        assert_eq!(answers.message().await?, None, "{name}");

        client.ready().await?;
        let codec = ProstCodec::<Line, Line>::default();
        let request = tonic::Request::new(Line::default());
        let refused = client.unary(request, path("/landfall.Echo/Missing"), codec).await;
        assert_eq!(refused.map(drop).map_err(|status| status.code()), Err(tonic::Code::Unimplemented), "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn a_grpc_stream_is_not_held_back() -> Result<()> {
    let setup = start().await?;
    for (name, channel) in channels(&setup).await? {
        let mut client = Grpc::new(channel);
        client.ready().await?;
        let (sender, lines) = futures::channel::mpsc::unbounded();
        let (codec, path) = (ProstCodec::<Line, Line>::default(), PathAndQuery::from_static("/landfall.Echo/Chat"));
        sender.unbounded_send(Line { text: "first".into() })?;
        let mut answers = client.streaming(tonic::Request::new(lines), path, codec).await?.into_inner();
        // Each message comes back before the next one is sent.
        for number in 0..20 {
            let answer = tokio::time::timeout(Duration::from_secs(5), answers.message()).await.context(name)??;
            assert!(answer.is_some(), "{name}");
            sender.unbounded_send(Line { text: format!("line {number}") })?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn websocket_frames_of_300_kb_come_back_over_tls() -> Result<()> {
    let setup = start().await?;
    let mut socket = Socket::open(&format!("wss://{HOST}/ws"), setup.ingress.https, Some(&setup.trust)).await?;
    for round in 0..50_u8 {
        let frame = vec![round; 300_000];
        assert!(socket.echo(frame.clone()).await? == frame, "frame {round} was changed");
    }
    socket.close().await
}

/// Watches the memory of a process while something runs; the most that it grew by.
struct Growth {
    before: u64,
    most: Arc<AtomicU64>,
    watch: tokio::task::JoinHandle<()>,
}

impl Growth {
    fn of(pid: u32) -> Result<Self> {
        let before = resident(pid)?.resident;
        let most = Arc::new(AtomicU64::new(before));
        let seen = Arc::clone(&most);
        let watch = tokio::spawn(async move {
            let mut every = tokio::time::interval(Duration::from_millis(20));
            loop {
                every.tick().await;
                let now = resident(pid).map_or(0, |memory| memory.resident);
                seen.fetch_max(now, Ordering::Relaxed);
            }
        });
        Ok(Self { before, most, watch })
    }

    fn end(self) -> u64 {
        self.watch.abort();
        self.most.load(Ordering::Relaxed) - self.before
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gibibyte_each_way_leaves_the_memory_flat() -> Result<()> {
    let Setup { ingress, trust, .. } = &start().await?;
    let mut rows = [
        ("HTTP/1.1", GIB, Client::http1(ingress.http).await?),
        ("HTTP/1.1 over TLS", GIB, Client::https1(ingress.https, HOST, trust).await?),
        ("HTTP/2 over TLS", GIB / 4, Client::https2(ingress.https, HOST, trust).await?),
    ];
    for (name, bytes, client) in &mut rows {
        let (bytes, growth, begun) = (*bytes, Growth::of(ingress.pid())?, Instant::now());
        let answer = client.begin(HOST, Request::get(format!("/bytes/{bytes}")).body(empty())?).await?;
        let mut body = answer.into_body();
        let mut received = 0;
        while let Some(frame) = body.frame().await {
            received += frame?.data_ref().map_or(0, |data| data.len() as u64);
        }
        assert_eq!(received, bytes, "{name}");
        report(name, "download", bytes, begun, growth.end())?;

        let (growth, begun) = (Growth::of(ingress.pid())?, Instant::now());
        let piece = Bytes::from(vec![b'x'; 64 * 1024]);
        let pieces = stream::iter((0..bytes / piece.len() as u64).map(move |_| Ok(Frame::data(piece.clone()))));
        let request = Request::post("/upload").body(StreamBody::new(pieces).boxed_unsync())?;
        let answer = client.send(HOST, request).await?;
        assert_eq!(answer.text(), format!("web received {bytes} bytes\n"), "{name}");
        report(name, "upload", bytes, begun, growth.end())?;
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_does_not_read_is_not_read_for() -> Result<()> {
    let Setup { ingress, trust, .. } = &start().await?;
    let mut one = Client::http1(ingress.http).await?;
    let mut two = Client::https2(ingress.https, HOST, trust).await?;
    let growth = Growth::of(ingress.pid())?;
    for client in [&mut one, &mut two] {
        let mut body = client.begin(HOST, Request::get(format!("/bytes/{GIB}")).body(empty())?).await?.into_body();
        // The head has come; the rest has a second to pile up where it must not.
        let _ = tokio::time::timeout(Duration::from_secs(1), std::future::pending::<()>()).await;
        assert!(body.frame().await.context("no body")??.is_data());
    }
    let grown = growth.end();
    ensure!(grown < FLAT, "grew by {:.1} MB for clients that do not read", megabytes(grown));
    Ok(())
}

fn report(name: &str, what: &str, bytes: u64, begun: Instant, grown: u64) -> Result<()> {
    let rate = megabytes(bytes) / begun.elapsed().as_secs_f64();
    figures::print(&format!(
        "{what} of {} MiB, {name}: {rate:.0} MB/s, memory grew by {:.1} MB",
        bytes >> 20,
        megabytes(grown)
    ));
    ensure!(grown < FLAT, "{what}, {name}: memory grew by {:.1} MB", megabytes(grown));
    Ok(())
}
