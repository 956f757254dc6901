//! Several Services with addresses of their own, and a client that asks each of them all the time.
//!
//! What the announcer must never do is judged here: an address that a Service holds stays, every address is answered for
//! by one node, and how long nobody answered is counted in requests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use landfall_e2e::testbed::{Host, LANDFALL, Namespace, PATIENCE, Testbed};
use landfall_e2e::{client, figures, tools, wait};
use serde_json::Value;

use crate::stage::Stage;

const APP: &str = include_str!("echo.yaml");
/// Services whose owner any node may be.
const ANYWHERE: usize = 3;
/// Services of policy Local: every node has a pod for each.
const LOCAL: usize = 6;
/// Between the beginnings of two requests to one address.
const EVERY: Duration = Duration::from_millis(50);
/// A request that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The Services, and the addresses that they had at first.
#[derive(Clone)]
pub(crate) struct Crowd {
    testbed: Testbed,
    namespace: String,
    services: Vec<String>,
    /// What every Service had at first.
    pub(crate) addresses: BTreeMap<String, IpAddr>,
}

/// What became of the requests while something happened.
pub(crate) struct Seen {
    asked: usize,
    failed: usize,
    /// The longest time between two answers of one address.
    pub(crate) longest: Duration,
}

impl Crowd {
    /// Creates the Services and waits until each of them answers at its address.
    ///
    /// One asks for the address `wanted` by name, which is another in each scenario: one that failed keeps its own.
    pub(crate) async fn gather(stage: &Stage, namespace: &Namespace<'_>, wanted: &str) -> Result<Self> {
        let testbed = stage.testbed.clone();
        let mut crowd =
            Self { testbed, namespace: namespace.name().to_owned(), services: Vec::new(), addresses: BTreeMap::new() };
        let mut yaml = APP.to_owned();
        for number in 0..ANYWHERE {
            crowd.add(&mut yaml, &format!("anywhere-{number}"), "Cluster", "");
        }
        for number in 0..LOCAL {
            crowd.add(&mut yaml, &format!("local-{number}"), "Local", "");
        }
        crowd.add(&mut yaml, "wanted", "Cluster", &format!("metallb.io/loadBalancerIPs: {wanted}"));
        namespace.apply(&yaml)?;
        crowd.testbed.rolled_out(&crowd.namespace, "daemonset/echo")?;
        for service in crowd.services.clone() {
            let address = stage.address(&crowd.namespace, &service).await?;
            crowd.addresses.insert(service, address);
        }
        crowd.answered_by_one("at first").await?;
        crowd.print("at first").await?;
        Ok(crowd)
    }

    /// The same with one address to watch.
    pub(crate) fn only(&self, address: IpAddr) -> Self {
        let mut one = self.clone();
        one.addresses.retain(|_, other| *other == address);
        one
    }

    fn add(&mut self, yaml: &mut String, name: &str, policy: &str, annotations: &str) {
        let _ = write!(
            yaml,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, annotations: {{{annotations}}}}}\nspec:\n  \
             type: LoadBalancer\n  externalTrafficPolicy: {policy}\n  selector: {{app: echo}}\n  \
             ports: [{{port: 80, targetPort: http}}]\n"
        );
        self.services.push(name.to_owned());
    }

    /// An error if a Service has another address than at first.
    pub(crate) fn unchanged(&self, when: &str) -> Result<()> {
        let now = self.held()?;
        println!("addresses {when}: {now:?}");
        ensure!(now == self.addresses, "addresses changed {when}: they were {:?} and are {now:?}", self.addresses);
        Ok(())
    }

    /// What each Service has in its status.
    fn held(&self) -> Result<BTreeMap<String, IpAddr>> {
        let list = self.testbed.get(&["services", "--namespace", &self.namespace])?;
        let mut held = BTreeMap::new();
        for service in list["items"].as_array().into_iter().flatten() {
            let name = service["metadata"]["name"].as_str().unwrap_or_default();
            let address = service.pointer("/status/loadBalancer/ingress/0/ip").and_then(Value::as_str);
            if let Some(address) = address {
                held.insert(name.to_owned(), address.parse()?);
            }
        }
        Ok(held)
    }

    /// Which node says that it announces each Service; a Service without one is left out.
    fn owners(&self) -> Result<BTreeMap<String, String>> {
        let selector = format!("metallb.io/service-namespace={}", self.namespace);
        let found = self.testbed.get(&["servicel2statuses", "--namespace", LANDFALL, "--selector", &selector])?;
        let mut owners = BTreeMap::new();
        for status in found["items"].as_array().into_iter().flatten() {
            let service = status.pointer("/status/serviceName").and_then(Value::as_str).unwrap_or_default();
            let node = status.pointer("/status/node").and_then(Value::as_str).unwrap_or_default();
            owners.insert(service.to_owned(), node.to_owned());
        }
        Ok(owners)
    }

    /// Prints which node announces which Services, and returns it once every Service has an owner.
    pub(crate) async fn print(&self, when: &str) -> Result<BTreeMap<String, Vec<String>>> {
        let (owners, _) = wait::until(PATIENCE, "every Service to be announced", || async {
            let owners = self.owners()?;
            ensure!(owners.len() == self.services.len(), "only {owners:?}");
            Ok(owners)
        })
        .await?;
        let mut by_node: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (service, node) in owners {
            by_node.entry(node).or_default().push(service);
        }
        for (node, services) in &by_node {
            println!("owners {when}: {node} has {}", services.join(", "));
        }
        Ok(by_node)
    }

    /// The owner of a Service by what the nodes say.
    pub(crate) fn owner(&self, service: &str) -> Result<Host> {
        let owners = self.owners()?;
        let name = owners.get(service).with_context(|| format!("nobody announces {service}"))?;
        Ok(Host::Node(name.trim_start_matches('n').parse().with_context(|| name.clone())?))
    }

    /// Waits until every address answers by HTTP and exactly one MAC answers for it by ARP.
    pub(crate) async fn answered_by_one(&self, when: &str) -> Result<()> {
        for (service, address) in &self.addresses {
            let what = format!("one node to answer for {service} at {address} {when}");
            wait::until(PATIENCE, &what, || async {
                let macs = self.macs(*address)?;
                ensure!(macs.len() == 1, "these answer: {macs:?}");
                let address = *address;
                let asked = self.testbed.run_on(Host::Client, move || async move {
                    tokio::time::timeout(TIMEOUT, client::get((address, 80).into(), "crowd.test", "/")).await?
                });
                let answer = asked.await?;
                ensure!(answer.status == 200, "{answer}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Who answers for an address, as the client hears it.
    fn macs(&self, address: IpAddr) -> Result<BTreeSet<String>> {
        let script = tools::checkout().join("e2e/testbed/who-has.py");
        let mut command = self.testbed.on(Host::Client, "python3");
        let said = tools::run(command.arg(script).args(["eth0", &address.to_string(), "0.3"]))?;
        Ok(said.lines().map(str::to_owned).collect())
    }

    /// Asks every address all the time while `event` happens, and prints what became of the requests.
    pub(crate) async fn watch(&self, what: &str, event: impl Future<Output = Result<()>>) -> Result<Seen> {
        let over = Arc::new(AtomicBool::new(false));
        let (watching, addresses) = (Arc::clone(&over), self.addresses.values().copied().collect::<Vec<_>>());
        let client = self.testbed.run_on(Host::Client, move || ask(addresses, watching));
        let event = async {
            let outcome = event.await;
            over.store(true, Ordering::Relaxed);
            outcome
        };
        let (seen, outcome) = tokio::join!(client, event);
        outcome.with_context(|| what.to_owned())?;
        let seen = seen?;
        figures::print(&format!(
            "{what}: {} of {} requests failed, no address was without an answer for longer than {:.2} s",
            seen.failed,
            seen.asked,
            seen.longest.as_secs_f64()
        ));
        Ok(seen)
    }
}

impl Seen {
    /// An error if a request failed.
    pub(crate) fn none_failed(&self) -> Result<()> {
        ensure!(self.failed == 0, "{} of {} requests failed", self.failed, self.asked);
        Ok(())
    }

    /// An error if an address was without an answer for longer than `limit`.
    pub(crate) fn no_longer_than(&self, limit: Duration) -> Result<()> {
        ensure!(self.longest <= limit, "an address had no answer for {:?}; at most {limit:?} is allowed", self.longest);
        Ok(())
    }
}

/// Asks every address in turn until it is `over`.
async fn ask(addresses: Vec<IpAddr>, over: Arc<AtomicBool>) -> Result<Seen> {
    let mut requests = tokio::task::JoinSet::new();
    let mut clock = tokio::time::interval(EVERY);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let begun = Instant::now();
    while !over.load(Ordering::Relaxed) {
        clock.tick().await;
        for address in addresses.clone() {
            requests.spawn(async move {
                let asked = tokio::time::timeout(TIMEOUT, client::get((address, 80).into(), "crowd.test", "/")).await;
                let right = matches!(asked, Ok(Ok(answer)) if answer.status == 200);
                (address, right.then(Instant::now))
            });
        }
    }
    let ended = Instant::now();
    let mut seen = Seen { asked: 0, failed: 0, longest: Duration::ZERO };
    let mut answers: BTreeMap<IpAddr, Vec<Instant>> = BTreeMap::new();
    for (address, answered) in requests.join_all().await {
        seen.asked += 1;
        match answered {
            Some(when) => answers.entry(address).or_default().push(when),
            None => seen.failed += 1,
        }
    }
    for address in &addresses {
        let mut moments = answers.remove(address).unwrap_or_default();
        // An address that never answers is without an answer from the beginning to the end.
        moments.extend([begun, ended]);
        moments.sort_unstable();
        let longest = moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
        seen.longest = seen.longest.max(longest);
    }
    Ok(seen)
}
