//! The announcer's page while a node loses its power: the browser that has it open shows that the address has moved,
//! where to, since when, and how long that took.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use landfall_e2e::client;
use landfall_e2e::figures;
use landfall_e2e::pages::{MODES, look, text};
use landfall_e2e::testbed::{Host, LANDFALL, Namespace, PATIENCE, Testbed};
use landfall_e2e::{tools, wait};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::stage::{Stage, play};

const NAMESPACE: &str = "page";
const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: app}\nspec:\n  type: LoadBalancer\n  \
                       selector: {app: echo}\n  ports: [{port: 80, targetPort: http}]\n";
/// How long, in seconds, the page may take to show what has happened.
const SOON: u64 = 30;
/// How long nobody announced the address, as the page says; the budget of a power cut, and what holds anywhere.
const TOOK: Duration = Duration::from_millis(400);
const TOOK_ANYWHERE: Duration = Duration::from_secs(3);
const CONTROLLER: &str = "deployment/landfall-lb-controller";

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_where_an_address_went() -> Result<()> {
    play(NAMESPACE, scenario).await
}

/// `kubectl port-forward`, which is how people see the page; it ends with the test.
struct Forward {
    child: Child,
    port: u16,
    /// Left open, since kubectl ends where nobody takes what it says of each connection.
    _output: BufReader<ChildStdout>,
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Forward {
    fn start(testbed: &Testbed, target: &str, port: u16) -> Result<Self> {
        let mut command = testbed.kubectl_command();
        command.args(["port-forward", "--namespace", LANDFALL, target, &format!(":{port}")]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        // Forwarding from 127.0.0.1:40123 -> 10254
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().context("a pipe was asked for")?);
        output.read_line(&mut line)?;
        let port = line.split_once("127.0.0.1:").and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
        let port = port.with_context(|| format!("kubectl port-forward {target} said {line:?}"))?;
        Ok(Self { child, port, _output: output })
    }

    fn url(&self) -> String {
        format!("http://localhost:{}/", self.port)
    }

    /// What the page asks of this process.
    async fn ask(&self, path: &str) -> Result<Value> {
        let answer = client::get(([127, 0, 0, 1], self.port).into(), "localhost", path).await?;
        serde_json::from_str(&answer.text()).with_context(|| answer.to_string())
    }
}

/// Where the browser says that it has the page open: it asks, and is answered once the power is cut.
async fn asked(listener: &TcpListener) -> Result<TcpStream> {
    let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
    let (mut stream, _) = accepted.context("the browser has not opened the page")??;
    let _ = stream.read(&mut [0; 4096]).await?;
    Ok(stream)
}

async fn answer(mut stream: TcpStream) -> Result<()> {
    Ok(stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await?)
}

async fn scenario(stage: &Stage, namespace: &Namespace<'_>) -> Result<()> {
    let testbed = &stage.testbed;
    namespace.apply(include_str!("echo.yaml"))?;
    namespace.apply(SERVICE)?;
    testbed.rolled_out(NAMESPACE, "daemonset/echo")?;
    let address = stage.address(NAMESPACE, "app").await?.to_string();
    let owner = stage.announcer(NAMESPACE, "app").await?;
    move_controller_off(testbed, owner)?;
    let successor = successor(testbed, &address)?;
    let speakers =
        testbed.get(&["pods", "--namespace", LANDFALL, "--selector", "app.kubernetes.io/component=speaker"])?;
    let on = |pod: &&Value| pod["spec"]["nodeName"] == successor.as_str();
    let pod = speakers["items"].as_array().into_iter().flatten().find(on).context("no speaker there")?;
    let pod = format!("pod/{}", pod["metadata"]["name"].as_str().context("a name")?);
    let (controller, speaker) = (Forward::start(testbed, CONTROLLER, 10254)?, Forward::start(testbed, &pod, 7947)?);

    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let signal = format!("http://{}/", listener.local_addr()?);
    // The page is open before, so it has to follow by itself.
    let views = |shows: String| {
        json!([{ "name": "addresses", "shows": shows, "patience": SOON,
                 "steps": [["shows", address], ["get", signal]] }])
    };
    let open = |forward: &Forward, prefix, shows| look(forward.url(), prefix, &["light"], views(shows));
    let seen = open(&speaker, "power-cut-speaker", format!("from {owner}"));
    let seen_by_controller = open(&controller, "power-cut-controller", format!("from {owner}"));
    let cut = async {
        let waiting = (asked(&listener).await?, asked(&listener).await?);
        testbed.power_off(owner)?;
        answer(waiting.0).await?;
        answer(waiting.1).await
    };
    let outcome = tokio::join!(seen, seen_by_controller, cut);
    let outcome = async {
        let (seen, seen_by_controller, cut) = outcome;
        cut?;
        for (who, found) in [("speaker", seen?), ("controller", seen_by_controller?)] {
            let page = text(&found, "addresses");
            for part in [&successor, "since", "took"] {
                ensure!(page.contains(part), "the {who}'s page does not show {part:?}:\n{page}");
            }
        }
        let last = &row(&speaker, &address).await?["move"];
        ensure!(last["node"] == successor.as_str() && last["from"] == owner.to_string(), "{last}");
        ensure!(last["cause"] == "failover", "{last}");
        let took = Duration::from_millis(last["tookMs"].as_u64().with_context(|| last.to_string())?);
        figures::print(&format!("page: a power cut moved an address in {} ms, as it says", took.as_millis()));
        figures::within(took, TOOK, TOOK_ANYWHERE)?;
        // And whoever opens it afterwards sees the same, in the dark and on a phone, too.
        let after = json!([{ "name": "addresses", "shows": "failover" }, { "name": "overview", "shows": "Peers" }]);
        look(speaker.url(), "after-power-cut-speaker", MODES, after).await?;
        let after = json!([{ "name": "addresses", "shows": address }, { "name": "overview", "shows": "Pools" }]);
        look(controller.url(), "after-power-cut-controller", MODES, after).await.map(drop)
    }
    .await;
    testbed.power_on(owner).await?;
    outcome
}

/// What the page of a process says of an address.
async fn row(forward: &Forward, address: &str) -> Result<Value> {
    let (row, _) = wait::until(PATIENCE, "the address on the page", || async {
        let found = forward.ask(&format!("/status/addresses?search={address}")).await?;
        found["addresses"].get(0).cloned().with_context(|| found.to_string())
    })
    .await?;
    Ok(row)
}

/// Who would take the address over, as `who-has` says.
fn successor(testbed: &Testbed, address: &str) -> Result<String> {
    let mut command = std::process::Command::new(tools::program("landfall-lb-announcer")?);
    command.args(["who-has", address, "-o", "json"]).env("KUBECONFIG", testbed.kubeconfig());
    let found: Value = serde_json::from_str(&tools::run(&mut command)?)?;
    Ok(found["standbys"][0].as_str().with_context(|| found.to_string())?.to_owned())
}

/// The controller is to outlive the power cut, since its page is looked at meanwhile.
fn move_controller_off(testbed: &Testbed, node: Host) -> Result<()> {
    let node = node.to_string();
    testbed.kubectl(&["cordon", &node])?;
    let labels = "app.kubernetes.io/component=controller";
    let field = format!("spec.nodeName={node}");
    let moved =
        testbed.kubectl(&["delete", "pod", "--namespace", LANDFALL, "--selector", labels, "--field-selector", &field]);
    let ready = testbed.rolled_out(LANDFALL, CONTROLLER);
    testbed.kubectl(&["uncordon", &node])?;
    moved?;
    ready
}
