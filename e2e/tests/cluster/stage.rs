//! What every scenario stands on: the testbed with the chart installed, and requests from the client.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use landfall_e2e::client::{self, Answer};
use landfall_e2e::testbed::{Host, LANDFALL, Namespace, PATIENCE, Testbed};
use landfall_e2e::{tools, wait};

/// How long one request may take, on a machine that is busy with other things too.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The cluster with Landfall in it.
pub(crate) struct Stage {
    pub(crate) testbed: Testbed,
    /// The address of the ingress on the LAN.
    pub(crate) ingress: IpAddr,
}

/// Plays a scenario in a namespace of its own, which goes if it passes and is described and kept if it fails.
pub(crate) async fn play(name: &str, scenario: impl AsyncFnOnce(&Stage, &Namespace<'_>) -> Result<()>) -> Result<()> {
    let stage = Stage::set().await?;
    let namespace = stage.testbed.namespace(name)?;
    let outcome = scenario(&stage, &namespace).await;
    namespace.conclude(outcome)
}

/// The same for a scenario that installs Landfall in another way; those that follow find it as they expect it.
pub(crate) async fn play_and_restore(
    name: &str,
    scenario: impl AsyncFnOnce(&Stage, &Namespace<'_>) -> Result<()>,
) -> Result<()> {
    play(name, async |stage, namespace| {
        let outcome = scenario(stage, namespace).await;
        Stage::install(&stage.testbed, &["--wait", "--timeout", "120s"])?;
        outcome
    })
    .await
}

impl Stage {
    /// Installs or upgrades Landfall from this checkout on nodes that are ready, and waits until the ingress has its
    /// address.
    pub(crate) async fn set() -> Result<Self> {
        let testbed = Testbed::running()?;
        // The scenario before may have cut the power of one.
        testbed.kubectl(&["wait", "--for=condition=Ready", "node", "--all", "--timeout=90s"])?;
        Self::install(&testbed, &["--wait", "--timeout", "120s"])?;
        Self::of(testbed).await
    }

    /// Installs or upgrades Landfall with the values of these scenarios and with further arguments for helm.
    pub(crate) fn install(testbed: &Testbed, further: &[&str]) -> Result<()> {
        let chart = tools::checkout().join("charts/landfall");
        let values = tools::checkout().join("e2e/tests/cluster/values.yaml");
        let (chart, values) = (chart.to_string_lossy(), values.to_string_lossy());
        let arguments = ["upgrade", "--install", "landfall", &chart, "--namespace", LANDFALL, "--create-namespace"];
        testbed.helm(&[&arguments[..], &["--values", &values], further].concat()).map(drop)
    }

    /// The stage where Landfall is installed already, as soon as the ingress has its address.
    pub(crate) async fn of(testbed: Testbed) -> Result<Self> {
        let ingress = testbed.addresses(LANDFALL, "landfall-ingress").await?;
        let ingress = ingress.first().context("no address")?.parse()?;
        Ok(Self { testbed, ingress })
    }

    /// One GET by the client, on a connection of its own.
    pub(crate) async fn get(&self, address: IpAddr, port: u16, host: &str, path: &str) -> Result<Answer> {
        let (host, path) = (host.to_owned(), path.to_owned());
        self.testbed
            .run_on(Host::Client, move || async move {
                let asked = client::get(SocketAddr::new(address, port), &host, &path);
                tokio::time::timeout(TIMEOUT, asked).await.with_context(|| format!("no answer within {TIMEOUT:?}"))?
            })
            .await
    }

    /// Asks until `expected` holds of the answer.
    pub(crate) async fn get_until(
        &self,
        address: IpAddr,
        port: u16,
        (host, path): (&str, &str),
        expected: impl Fn(&Answer) -> bool,
    ) -> Result<Answer> {
        let what = format!("http://{host}:{port}{path} at {address}");
        let (answer, _) = wait::until(PATIENCE, &what, || async {
            let answer = self.get(address, port, host, path).await?;
            ensure!(expected(&answer), "it answers {answer}");
            Ok(answer)
        })
        .await?;
        Ok(answer)
    }

    /// The first address of a Service, once it has one.
    pub(crate) async fn address(&self, namespace: &str, service: &str) -> Result<IpAddr> {
        let addresses = self.testbed.addresses(namespace, service).await?;
        Ok(addresses.first().context("no address")?.parse()?)
    }

    /// The node that announces a Service, once exactly one says so.
    pub(crate) async fn announcer(&self, namespace: &str, service: &str) -> Result<Host> {
        let what = format!("one node to announce {namespace}/{service}");
        let selector = format!("metallb.io/service-name={service},metallb.io/service-namespace={namespace}");
        let (node, _) = wait::until(PATIENCE, &what, || async {
            let found = self.testbed.get(&["servicel2statuses", "--namespace", LANDFALL, "--selector", &selector])?;
            let nodes: Vec<_> = found["items"].as_array().into_iter().flatten().collect();
            ensure!(nodes.len() == 1, "{} nodes do", nodes.len());
            let name = nodes[0]["status"]["node"].as_str().context("it names no node")?;
            let number = name.trim_start_matches('n').parse().with_context(|| name.to_owned())?;
            Ok(Host::Node(number))
        })
        .await?;
        Ok(node)
    }
}

/// How often something is repeated: `full` times, or as often as `LANDFALL_E2E_ROUNDS` allows.
pub(crate) fn rounds(full: usize) -> Result<usize> {
    match std::env::var("LANDFALL_E2E_ROUNDS") {
        Ok(most) => Ok(full.min(most.parse().context("LANDFALL_E2E_ROUNDS is not a number")?)),
        Err(_) => Ok(full),
    }
}
