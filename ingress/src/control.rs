//! Control work: takes batches from a source, lets the compiler build, and publishes what changed.
//!
//! It runs on a runtime of its own; data workers read what it publishes and never wait for it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use landfall_ingress_model::compiler::{Built, Compiler};
use landfall_ingress_model::explain::{Explanation, Request, explain};
use landfall_ingress_model::input::Input;
use landfall_ingress_model::table::Table;
use landfall_model::Problem;
use landfall_shared::readiness::Block;
use landfall_shared::source::{Batch, Source, SourceView};
use rustls_pki_types::UnixTime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use crate::acme::Link;
use crate::listener::{StreamPorts, Unopened};
use crate::named::Named;
use crate::observe::ControlMetrics;
use crate::status::StatusBoard;
use crate::uids::Uids;

/// The longest time without a build, so that the passing of time alone is noticed.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// How often a port is tried that can't be listened on.
const PORT_RETRY: Duration = Duration::from_secs(5);

/// How often it is looked whether the first table may be served.
const AWAITED: Duration = Duration::from_millis(200);

/// Everything that a build is published to.
#[derive(Debug)]
pub struct Control {
    /// What the data path reads.
    pub table: Arc<ArcSwap<Table>>,
    /// What `/status`, the Events and the status writer read.
    pub board: Arc<StatusBoard>,
    /// Uids for Events, where there is an API server to write them to.
    pub(crate) uids: Option<Arc<Uids>>,
    /// Counts and times of builds.
    pub metrics: ControlMetrics,
    /// Secrets that are watched by name.
    pub(crate) secrets: Named<Secret>,
    /// `ConfigMap`s that are.
    pub(crate) config_maps: Named<ConfigMap>,
    /// The ports of TCP and UDP services.
    pub(crate) ports: StreamPorts,
    /// Whoever looks after certificates.
    pub(crate) acme: Option<Link>,
    /// Requests that somebody wants explained.
    pub(crate) questions: mpsc::Receiver<Question>,
    /// Dropped with the first complete table.
    pub block: Option<Block>,
}

/// A request that somebody wants explained. The compiler is nobody else's, so it is asked here.
#[derive(Debug)]
pub(crate) struct Question {
    /// The request.
    pub(crate) request: Request,
    /// Who waits.
    pub(crate) answer: oneshot::Sender<Explanation>,
}

/// The problems that were published last: those of the build, of certificates, of the source, and of ports that can't be
/// opened.
#[derive(Default)]
struct Told {
    built: Option<Arc<[Problem]>>,
    acme: Option<Arc<[Problem]>>,
    source: Vec<Problem>,
    ports: Vec<Problem>,
}

impl Control {
    /// Runs until the source ends.
    pub async fn run(mut self, mut source: Source<Input>, mut compiler: Compiler) {
        let view = source.view.clone();
        let mut source_problems = view.changed();
        let mut pause = LONGEST_PAUSE;
        let mut complete = false;
        let mut told = Told::default();
        loop {
            let received = tokio::select! {
                change = self.secrets.changed() => {
                    compiler.apply([change]);
                    Instant::now()
                }
                change = self.config_maps.changed() => {
                    compiler.apply([change]);
                    Instant::now()
                }
                Some(question) = self.questions.recv() => {
                    // Whoever has gone needs no answer.
                    let _ = question.answer.send(explain(&compiler, &question.request));
                    continue;
                }
                news = acme_news(&mut self.acme) => {
                    compiler.apply(news);
                    Instant::now()
                }
                batch = source.batches.recv() => match batch {
                    Some(batch) => {
                        let received = batch.received;
                        complete |= self.take(&mut compiler, batch);
                        while let Ok(more) = source.batches.try_recv() {
                            complete |= self.take(&mut compiler, more);
                        }
                        received
                    }
                    None => return,
                },
                _ = source_problems.changed() => Instant::now(),
                () = sleep(pause) => Instant::now(),
            };
            if complete {
                let built = compiler.build(unix_now());
                pause = until(built.next_deadline);
                compiler.apply(self.secrets.watch(&built.missing_secrets));
                compiler.apply(self.config_maps.watch(&built.missing_config_maps));
                if let Some(acme) = &mut self.acme {
                    acme.built(&built.asked);
                }
                self.publish(&compiler, built, &view, received, &mut told);
                if !told.ports.is_empty() {
                    pause = pause.min(PORT_RETRY);
                }
                if self.block.is_some() {
                    pause = pause.min(AWAITED);
                }
            } else {
                // The table has holes until every kind was listed; what the source says of itself is shown.
                self.board.source_problems(view.problems());
            }
        }
    }

    /// Publishes a build: backends first, so that a new table never points to a backend without its endpoints.
    fn publish(&mut self, compiler: &Compiler, built: Built, view: &SourceView, received: Instant, told: &mut Told) {
        let has_endpoints_changed = !built.backends.is_empty();
        for (backend, state) in built.backends {
            backend.publish(state);
        }
        let before = self.table.load_full();
        let new_table = !Arc::ptr_eq(&built.table, &before);
        if new_table {
            self.table.store(built.table.clone());
        }
        // A port without endpoints is closed, and one that could not be opened is tried again.
        let ports = if new_table || has_endpoints_changed || !told.ports.is_empty() {
            let unopened = self.ports.follow(&built.table.streams);
            unopened.iter().filter_map(|port| unopened_problem(compiler, port)).collect()
        } else {
            Vec::new()
        };
        self.metrics.built(&built.table, &before, received.elapsed());
        // Most changes are of endpoints and change no problem; then nothing is told anew.
        let source = view.problems();
        let acme = self.acme.as_ref().map(Link::problems);
        let unchanged = told.built.as_ref().is_some_and(|last| Arc::ptr_eq(last, &built.problems)) && told.acme == acme;
        let problems = (!unchanged || told.source != source || told.ports != ports).then(|| {
            let located = built.problems.iter().cloned().map(|problem| locate(problem, view));
            let certificates = acme.iter().flat_map(|problems| problems.iter().cloned());
            let others = certificates.chain(ports.iter().cloned()).map(|problem| locate(problem, view));
            let problems: Vec<Problem> = source.iter().cloned().chain(located).chain(others).collect();
            self.metrics.problems(&problems);
            problems
        });
        *told = Told { built: Some(built.problems), acme, source, ports };
        self.board.publish(built.table.generation, built.statuses, built.ingresses, problems);
        if self.secrets.settled() && self.config_maps.settled() && self.block.take().is_some() {
            tracing::info!(generation = built.table.generation, "first complete table is live");
        }
    }

    /// Applies a batch; true once the source has listed everything.
    fn take(&self, compiler: &mut Compiler, batch: Batch<Input>) -> bool {
        if let Some(uids) = &self.uids {
            batch.changes.iter().for_each(|input| uids.apply(input));
        }
        if let Some(acme) = &self.acme {
            batch.changes.iter().for_each(|input| acme.changed(input));
        }
        compiler.apply(batch.changes);
        batch.complete
    }
}

/// Waits for what whoever looks after certificates has to say: a Secret, or that there are other problems.
async fn acme_news(acme: &mut Option<Link>) -> Option<Input> {
    match acme {
        Some(acme) => acme.news().await,
        None => std::future::pending().await,
    }
}

/// Adds where the object stands in a folder of manifests.
pub fn locate(problem: Problem, view: &SourceView) -> Problem {
    match view.locate(&problem.object) {
        Some(location) if problem.location.is_none() => problem.in_file(location),
        _ => problem,
    }
}

/// A port that can't be listened on, in the words of the `ConfigMap` that asks for it.
fn unopened_problem(compiler: &Compiler, unopened: &Unopened) -> Option<Problem> {
    use std::io::ErrorKind::{AddrInUse, PermissionDenied};
    let Unopened { port, cause } = unopened;
    let (cause, remedy) = match cause.cause.kind() {
        AddrInUse => {
            (format!("another program has {port} of {}", cause.address.ip()), "free the port, or choose another one")
        }
        PermissionDenied => (
            format!("this process may not listen on {port}, which is a privileged one"),
            "give it the capability NET_BIND_SERVICE, set the sysctl net.ipv4.ip_unprivileged_port_start to 0 as the \
             chart does, or choose a port from 1024 up",
        ),
        _ => (cause.to_string(), "choose another port"),
    };
    compiler.stream_problem(*port, cause, remedy.to_owned())
}

/// The wall clock, for the validity of certificates.
pub fn unix_now() -> UnixTime {
    UnixTime::since_unix_epoch(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn until(deadline: Option<UnixTime>) -> Duration {
    let left = deadline.map(|deadline| deadline.as_secs().saturating_sub(unix_now().as_secs()) + 1);
    left.map_or(LONGEST_PAUSE, Duration::from_secs).min(LONGEST_PAUSE)
}
