//! `landfall-ingress tail` watches an ingress that runs: what it shows, what it must not show, and how it ends.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use landfall_e2e::client::Client;
use landfall_e2e::echo::Echo;
use landfall_e2e::ingress::{Ingress, Launch};
use landfall_e2e::manifests::{self, Folder};
use landfall_e2e::{figures, tools, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Watchers that an ingress has at one time.
const WATCHERS: usize = 8;

/// An ingress with two hosts, and what it needs.
struct Scene {
    ingress: Ingress,
    _echo: Echo,
    _folder: Folder,
}

impl Scene {
    async fn start() -> Result<Self> {
        let echo = Echo::local("web").await?;
        let folder = Folder::new()?;
        let mut yaml = manifests::class() + &manifests::service("web", &[echo.addr]);
        for host in ["shop", "blog"] {
            yaml += &manifests::ingress(host, &format!("{host}.example"), &[("/", "web")]);
        }
        folder.write("all.yaml", &yaml)?;
        let ingress = Launch::manifests(folder.path()).start().await?;
        Ok(Self { ingress, _echo: echo, _folder: folder })
    }

    /// Begins to watch, and waits until the ingress says that somebody does.
    fn tail(&self, arguments: &[&str]) -> Result<Tail> {
        let mut tail = Tail::start(&self.ingress, arguments)?;
        let first = tail.line()?;
        ensure!(first.contains("replica") || first.starts_with("watching"), "{first}");
        Ok(tail)
    }
}

/// `tail` as a process.
struct Tail {
    child: Child,
    lines: Receiver<String>,
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Tail {
    fn start(ingress: &Ingress, arguments: &[&str]) -> Result<Self> {
        let (child, output) = spawn(ingress, arguments)?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Ok(Self { child, lines })
    }

    fn line(&mut self) -> Result<String> {
        self.lines.recv_timeout(PATIENCE).context("tail prints nothing")
    }

    fn request(&mut self) -> Result<Value> {
        let line = self.line()?;
        serde_json::from_str(&line).with_context(|| line)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?)
    }

    fn ends(&mut self) -> Result<ExitStatus> {
        ends(&mut self.child)
    }
}

fn spawn(ingress: &Ingress, arguments: &[&str]) -> Result<(Child, ChildStdout)> {
    let mut command = Command::new(tools::program("landfall-ingress")?);
    command.args(["tail", "--admin", &ingress.admin.to_string()]).args(arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let output = child.stdout.take().context("a pipe was asked for")?;
    Ok((child, output))
}

fn ends(child: &mut Child) -> Result<ExitStatus> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    bail!("tail goes on")
}

/// How a process ends that others end: what it said on standard error.
fn complaint(tail: &mut Tail) -> Result<String> {
    Ok(std::io::read_to_string(tail.child.stderr.take().context("a pipe was asked for")?)?)
}

#[tokio::test]
async fn requests_are_shown_as_they_happen_and_filtered() -> Result<()> {
    let scene = Scene::start().await?;
    let ingress = &scene.ingress;
    let mut all = scene.tail(&["-o", "json"])?;
    let mut text = scene.tail(&["--host", "shop"])?;
    let mut lost = scene.tail(&["-o", "json", "--status", "4xx"])?;
    let mut blog = scene.tail(&["-o", "json", "--route", "default/blog", "--client", "127.0.0.0/8", "--path", "/a"])?;
    for (host, path) in [
        ("shop.example", "/reset;session=hidden?token=hidden&user=&flag"),
        ("nobody.example", "/"),
        ("blog.example", "/b"),
        ("blog.example", "/a"),
    ] {
        ingress.get(host, path).await?;
    }
    let first = all.request()?;
    assert_eq!(first["path"], "/reset;session=***?token=***&user=&***");
    assert_eq!((&first["host"], &first["status"]), (&"shop.example".into(), &200.into()));
    assert_eq!((&first["ingress"], &first["namespace"]), (&"shop".into(), &"default".into()));
    assert!(first["upstream.addr"].is_string() && first["duration_ms"].is_number(), "{first}");
    let rest = [all.request()?, all.request()?, all.request()?];
    let shown: Vec<_> = rest.iter().map(|one| (one["host"].as_str(), one["path"].as_str())).collect();
    let expected = [("nobody.example", "/"), ("blog.example", "/b"), ("blog.example", "/a")];
    assert_eq!(shown, expected.map(|(host, path)| (Some(host), Some(path))));
    let line = text.line()?;
    assert!(line.starts_with("200 GET http://shop.example/reset;session=***?token=***"), "{line}");
    assert!(line.contains(" ms from 127.0.0.1 by default/shop to 127.0.0.1:") && !line.contains("hidden"), "{line}");
    let not_found = lost.request()?;
    assert_eq!((&not_found["host"], &not_found["status"]), (&"nobody.example".into(), &404.into()));
    assert_eq!(blog.request()?["path"], "/a");
    // Nothing else has passed any filter.
    for (what, tail) in [("text", &text), ("4xx", &lost), ("blog", &blog), ("all", &all)] {
        assert!(tail.lines.try_recv().is_err(), "{what}");
    }
    Ok(())
}

#[tokio::test]
async fn a_filter_that_cannot_be_read_is_refused_with_the_reason() -> Result<()> {
    let scene = Scene::start().await?;
    let mut tail = Tail::start(&scene.ingress, &["--status", "bad"])?;
    let said = complaint(&mut tail)?;
    assert!(said.contains("\"bad\" is neither a number such as 404 nor a class such as 5xx"), "{said}");
    assert!(!tail.ends()?.success());
    Ok(())
}

/// Far more requests than anybody could read: some are shown, and it is said how many are not.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_shown_is_counted() -> Result<()> {
    let scene = Scene::start().await?;
    let tail = scene.tail(&["-o", "json"])?;
    let http = scene.ingress.http;
    let mut client = Client::http1(http).await?;
    let (mut sent, mut shown, mut left_out) = (0_u64, 0, 0);
    let begun = Instant::now();
    while left_out == 0 {
        ensure!(
            begun.elapsed() < PATIENCE,
            "{sent} requests were sent, {shown} are shown, and nothing is said of others"
        );
        for _ in 0..500 {
            client.get("shop.example", "/").await?;
        }
        sent += 500;
        while let Ok(line) = tail.lines.try_recv() {
            let event: Value = serde_json::from_str(&line)?;
            shown += u64::from(event["event"] == "request");
            left_out += event["dropped"].as_u64().unwrap_or_default();
        }
    }
    // In the end each request was shown or counted.
    wait::until(PATIENCE, "all requests to be accounted for", || {
        for line in tail.lines.try_iter() {
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            shown += u64::from(event["event"] == "request");
            left_out += event["dropped"].as_u64().unwrap_or_default();
        }
        let accounted = shown + left_out;
        async move {
            ensure!(accounted == sent, "{accounted} of {sent}");
            Ok(())
        }
    })
    .await?;
    assert!(shown > 0);
    Ok(())
}

/// In words, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_says_how_many_are_left_out() -> Result<()> {
    let scene = Scene::start().await?;
    let tail = scene.tail(&[])?;
    let mut client = Client::http1(scene.ingress.http).await?;
    let begun = Instant::now();
    loop {
        ensure!(begun.elapsed() < PATIENCE, "nothing is said of requests that are left out");
        for _ in 0..500 {
            client.get("shop.example", "/").await?;
        }
        if tail.lines.try_iter().any(|line| line.starts_with("… ") && line.contains("requests are not shown")) {
            return tail.signal(Signal::SIGTERM);
        }
    }
}

#[tokio::test]
async fn it_ends_with_its_reader_and_with_the_ingress() -> Result<()> {
    let scene = Scene::start().await?;
    // As in `tail | head -1`: whoever read has gone, and that is no error.
    let (mut child, output) = spawn(&scene.ingress, &[])?;
    let mut reader = BufReader::new(output);
    reader.read_line(&mut String::new())?;
    drop(reader);
    scene.ingress.get("shop.example", "/").await?;
    let status = ends(&mut child)?;
    let said = std::io::read_to_string(child.stderr.take().context("a pipe was asked for")?)?;
    assert!(status.success() && said.is_empty(), "{status}: {said}");
    // Whoever goes makes room for others.
    for _ in 0..2 * WATCHERS {
        let mut tail = scene.tail(&[])?;
        tail.signal(Signal::SIGINT)?;
        tail.ends()?;
    }
    wait::until(PATIENCE, "room for somebody else", || async { scene.tail(&[]).map(drop) }).await?;
    let mut tail = scene.tail(&[])?;
    drop(scene);
    let said = complaint(&mut tail)?;
    assert!(said.contains("has ended") && said.contains("no replica is left"), "{said}");
    assert!(!tail.ends()?.success());
    Ok(())
}

/// Requests a second while the cost of watching is measured.
const RATE: u32 = 5_000;
/// Connections that they come over.
const CONNECTIONS: u32 = 10;
/// What a watcher may cost, of the time that the workers have: two in a hundred of one processor.
const SHARE: f64 = 0.02;

/// What somebody who watches everything costs the workers, by turns with nobody who does.
#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_costs_the_workers_little() -> Result<()> {
    let scene = Scene::start().await?;
    let (rounds, each) =
        if figures::held_to_budgets() { (10, Duration::from_secs(3)) } else { (2, Duration::from_secs(1)) };
    let (mut alone, mut watched, mut left_out) = (0.0, 0.0, 0);
    let mut answered = 0;
    load(&scene, each).await?;
    for _ in 0..rounds {
        alone += share(&scene, each, &mut answered).await?;
        let tail = scene.tail(&["-o", "json"])?;
        watched += share(&scene, each, &mut answered).await?;
        let told = tail.lines.try_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        left_out += told.filter_map(|event| event["dropped"].as_u64()).sum::<u64>();
    }
    let (alone, watched) = (alone / f64::from(rounds), watched / f64::from(rounds));
    let seconds = 2.0 * f64::from(rounds) * each.as_secs_f64();
    figures::print(&format!(
        "live view: at {:.0} requests a second the workers use {:.2} % of a processor, and {:.2} % while somebody watches",
        f64::from(answered) / seconds,
        alone * 100.0,
        watched * 100.0
    ));
    ensure!(left_out > 0, "nothing is said of requests that are not shown");
    ensure!(
        !figures::held_to_budgets() || watched - alone <= SHARE,
        "it costs {:.2} % more",
        (watched - alone) * 100.0
    );
    Ok(())
}

/// Which share of one processor the workers use during a load.
async fn share(scene: &Scene, length: Duration, answered: &mut u32) -> Result<f64> {
    let (begun, before) = (Instant::now(), workers(scene)?);
    *answered += load(scene, length).await?;
    let used = workers(scene)?.saturating_sub(before);
    Ok(used.as_secs_f64() / begun.elapsed().as_secs_f64())
}

/// The processor time that the data workers have used so far (proc(5), `schedstat`: nanoseconds).
fn workers(scene: &Scene) -> Result<Duration> {
    let mut used = Duration::ZERO;
    for thread in std::fs::read_dir(format!("/proc/{}/task", scene.ingress.pid()))? {
        let thread = thread?.path();
        if std::fs::read_to_string(thread.join("comm"))?.starts_with("data-") {
            let text = std::fs::read_to_string(thread.join("schedstat"))?;
            used += Duration::from_nanos(text.split_whitespace().next().context("schedstat is empty")?.parse()?);
        }
    }
    ensure!(!used.is_zero(), "no worker has done anything");
    Ok(used)
}

/// Requests at a steady rate; returns how many were answered.
async fn load(scene: &Scene, length: Duration) -> Result<u32> {
    let mut connections = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let mut client = Client::http1(scene.ingress.http).await?;
        connections.spawn(async move {
            let (begun, mut clock, mut answered) =
                (Instant::now(), tokio::time::interval(Duration::from_secs(1) * CONNECTIONS / RATE), 0);
            while begun.elapsed() < length {
                clock.tick().await;
                client.get("shop.example", "/cart?item=1&size=large").await?;
                answered += 1;
            }
            Ok::<u32, anyhow::Error>(answered)
        });
    }
    let mut answered = 0;
    while let Some(connection) = connections.join_next().await {
        answered += connection??;
    }
    Ok(answered)
}
