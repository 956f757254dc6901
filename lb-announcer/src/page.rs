//! The admin port: what the loop leaves there and a scrape finds.

mod addresses;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use landfall_lb_model::duty::Duty;
use landfall_lb_model::plan::{Grant, Usage};
use landfall_lb_model::reason;
use landfall_lb_model::world::World;
use landfall_model::{ObjectKey, Problem};
use landfall_shared::admin::{Admin, Answer, Asset, PageAccess, Query};
use landfall_shared::readiness::Readiness;
use landfall_shared::source::SourceView;
use landfall_shared::telemetry::register_build_info;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::Name;
use crate::inputs::Role;
use crate::metrics::{PoolMetrics, SpeakerMetrics, StateMetrics};
use crate::moves::{Move, Moves};
use crate::report;
use crate::wire::{Figures, View};

/// How often a port that another program has is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// The files of the page.
const ASSETS: [Asset; 4] = [
    Asset { path: "/", kind: "text/html; charset=utf-8", text: include_str!("../page/index.html") },
    Asset { path: "/announcer.js", kind: "text/javascript; charset=utf-8", text: include_str!("../page/announcer.js") },
    Asset { path: "/page.js", kind: "text/javascript; charset=utf-8", text: include_str!("../../shared/page/page.js") },
    Asset { path: "/page.css", kind: "text/css; charset=utf-8", text: include_str!("../../shared/page/page.css") },
];

/// What the loop decided last.
#[derive(Debug, Default)]
pub struct Page {
    /// Every Service that is ours, with what it has.
    pub services: BTreeMap<ObjectKey, Option<Grant>>,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
    /// IPv4 and IPv6 usage of each pool.
    pub usage: BTreeMap<Name, (Usage, Usage)>,
    /// Who can announce each address, the first choice first.
    pub standbys: BTreeMap<IpAddr, Vec<Name>>,
    /// Which nodes announce each Service on which interfaces, as their speakers wrote down.
    pub announcing: BTreeMap<ObjectKey, Vec<(Name, Vec<Name>)>>,
    /// How addresses came to the nodes that announce them, as those nodes' speakers wrote down.
    pub(crate) moves: BTreeMap<IpAddr, Move>,
    /// The nodes' MAC addresses, as their speakers wrote down.
    pub macs: BTreeMap<Name, Vec<String>>,
    /// How many Services wait for an address.
    pub waiting: usize,
    /// Changes of objects that were taken in.
    pub updates: u64,
    /// How often the API server couldn't be read.
    pub update_errors: u64,
    /// Whether the configuration is known.
    pub loaded: bool,
    /// Whether some of it can't be used.
    pub stale: bool,
}

/// The loop writes it, a scrape reads it.
pub type Shown = Arc<Mutex<Page>>;

/// The MAC addresses that the nodes' speakers have published.
pub fn macs(world: &World) -> BTreeMap<Name, Vec<String>> {
    let of = |node: &Name| world.speakers().macs(node).iter().map(ToString::to_string).collect();
    world.nodes().keys().map(|node| (node.clone(), of(node))).collect()
}

/// Who can announce each address, the first choice first.
pub fn standbys(duties: Option<&BTreeMap<IpAddr, Duty>>) -> BTreeMap<IpAddr, Vec<Name>> {
    let nodes = |duty: &Duty| duty.candidates.iter().map(|candidate| candidate.node.clone()).collect();
    duties.into_iter().flatten().map(|(ip, duty)| (*ip, nodes(duty))).collect()
}

/// Locks; a writer that panicked left whole values behind.
pub fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the pages are made from.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// This node; empty for a controller.
    pub node: &'a str,
    /// What the program is.
    pub role: Role,
    /// What there is to see of the announcer.
    pub view: &'a watch::Receiver<Arc<View>>,
    /// Its figures.
    pub figures: &'a Arc<Mutex<Figures>>,
    /// Where the objects come from.
    pub source: &'a SourceView,
    /// What the loop decided.
    pub shown: &'a Shown,
    /// Who may see the page.
    pub page: &'a PageAccess,
    /// The port of the heartbeats, where this process has one.
    pub port: Option<u16>,
}

/// What the page is made from.
struct Facts {
    node: Name,
    role: Role,
    view: watch::Receiver<Arc<View>>,
    source: SourceView,
    shown: Shown,
    readiness: Readiness,
    moves: Moves,
    started: u64,
    port: Option<u16>,
}

impl Facts {
    /// Which of several this is: the pod, else the node.
    fn replica(&self) -> String {
        let pod = std::env::var("LANDFALL_POD_NAME").ok().filter(|name| !name.is_empty());
        pod.unwrap_or_else(|| match &*self.node {
            "" => addresses::role(self.role).to_owned(),
            node => node.to_owned(),
        })
    }
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Adds the page to the admin port.
fn add_page(admin: Admin, facts: Facts, args: &PageAccess) -> Admin {
    let facts = Arc::new(facts);
    let ask = |answer: fn(&Facts, &Query) -> Answer| {
        let facts = facts.clone();
        move |query: Query| {
            let answer = answer(&facts, &query);
            Box::pin(std::future::ready(answer)) as futures::future::BoxFuture<'static, Answer>
        }
    };
    admin
        .page(args.clone(), ASSETS)
        .question("/status/overview", ask(addresses::overview))
        .question("/status/addresses", ask(addresses::addresses))
        .question("/status/problems", ask(addresses::problems))
}

/// Starts the admin port and returns the metrics that the loop counts in.
pub async fn serve(address: SocketAddr, sources: &Sources<'_>, readiness: Readiness) -> anyhow::Result<SpeakerMetrics> {
    let mut registry = Registry::default();
    register_build_info(&mut registry);
    let state = StateMetrics::new(&mut registry);
    // Whoever doesn't do a thing has no metrics of it: sums over all pods stay right.
    let mut hidden = Registry::default();
    let moves = Moves::default();
    let metrics = SpeakerMetrics::new(if sources.role == Role::Allocates { &mut hidden } else { &mut registry })
        .noting(sources.node.into(), moves.clone());
    tokio::spawn(moves.clone().follow(sources.view.clone()));
    let pools = PoolMetrics::new(if sources.role == Role::Announces { &mut hidden } else { &mut registry });
    let (view, figures, node) = (sources.view.clone(), sources.figures.clone(), sources.node.to_owned());
    let (page, scraped) = (sources.shown.clone(), metrics.clone());
    let hook = move || {
        let page = lock(&page);
        scraped.refresh(&node, &view.borrow().clone(), &lock(&figures), &page.services);
        pools.refresh(&page);
        state.refresh(&page);
    };
    let (page, view, source) = (sources.shown.clone(), sources.view.clone(), sources.source.clone());
    let ready = readiness.clone();
    let status = move || {
        let page = lock(&page);
        report::status(ready.is_ready(), &page.services, &page.problems, &view.borrow(), &source)
    };
    let awaited = sources.source.clone();
    readiness.provider(move || awaited.awaited());
    if sources.role != Role::Allocates {
        let view = sources.view.clone();
        let unusable = move || view.borrow().ready && view.borrow().interfaces.is_empty();
        readiness.provider(move || unusable().then(|| "an interface to announce on".to_owned()).into_iter().collect());
    }
    let facts = Facts {
        node: sources.node.into(),
        role: sources.role,
        view: sources.view.clone(),
        source: sources.source.clone(),
        shown: sources.shown.clone(),
        readiness: readiness.clone(),
        moves,
        started: seconds_now(),
        port: sources.port,
    };
    let admin = Admin::new(readiness, Arc::new(Mutex::new(registry)), status).before_scrape(hook);
    let admin = add_page(admin, facts, sources.page);
    let admin = Arc::new(admin);
    match admin.clone().serve_again(address).await {
        Ok(bound) => tracing::info!(%bound, "admin port"),
        // Addresses aren't announced any later because of it.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => drop(tokio::spawn(await_port(admin, address))),
        Err(error) => return Err(error).with_context(|| format!("cannot listen at {address}")),
    }
    Ok(metrics)
}

/// Serves as soon as whoever has the port leaves it: the speaker of `MetalLB` may still run.
async fn await_port(admin: Arc<Admin>, address: SocketAddr) {
    tracing::warn!(%address, reason = %reason::PORT_IN_USE, "another program has the admin port; waiting until it is free");
    loop {
        tokio::time::sleep(AGAIN).await;
        match admin.clone().serve_again(address).await {
            Ok(bound) => return tracing::info!(%bound, "admin port"),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return tracing::error!(%error, %address, "cannot listen at the admin port"),
        }
    }
}
