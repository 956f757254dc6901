//! The admin port: what the loop leaves there and a scrape finds.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use landfall_lb_model::plan::{Grant, Usage};
use landfall_lb_model::reason;
use landfall_model::{ObjectKey, Problem};
use landfall_shared::admin::Admin;
use landfall_shared::readiness::Readiness;
use landfall_shared::source::SourceView;
use landfall_shared::telemetry::register_build_info;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::Name;
use crate::inputs::Role;
use crate::metrics::{PoolMetrics, SpeakerMetrics, StateMetrics};
use crate::report;
use crate::wire::{Figures, View};

/// How often a port that another program has is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// What the loop decided last.
#[derive(Debug, Default)]
pub struct Page {
    /// Every Service that is ours, with what it has.
    pub services: BTreeMap<ObjectKey, Option<Grant>>,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
    /// IPv4 and IPv6 usage of each pool.
    pub usage: BTreeMap<Name, (Usage, Usage)>,
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
}

/// Starts the admin port and returns the metrics that the loop counts in.
pub async fn serve(address: SocketAddr, sources: &Sources<'_>, readiness: Readiness) -> anyhow::Result<SpeakerMetrics> {
    let mut registry = Registry::default();
    register_build_info(&mut registry);
    let state = StateMetrics::new(&mut registry);
    // Whoever doesn't do a thing has no metrics of it: sums over all pods stay right.
    let mut hidden = Registry::default();
    let metrics = SpeakerMetrics::new(if sources.role == Role::Allocates { &mut hidden } else { &mut registry });
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
    let admin = Admin::new(readiness, Arc::new(Mutex::new(registry)), status).before_scrape(hook);
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
