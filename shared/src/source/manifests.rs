//! A folder of ordinary Kubernetes YAML as a source.
//!
//! Every `*.yaml`, `*.yml` and `*.json` file below the folder is read in lexical order of its path; hidden files are
//! skipped and symbolic links followed, so that a mounted `ConfigMap` works. Each folder is read once. What an API server would have filled in
//! or refused, `document` and `defaults` do. A change is noticed by the kernel's notification and, for file
//! systems that send none, by looking again every two seconds.
//!
//! **Invariant:** a document that can't be read keeps its last good content in force and becomes a Problem; other
//! documents of the same file are not held up.
//!
//! **Invariant:** an object that was not touched is not emitted again.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use landfall_model::Problem;
use thiserror::Error;
use tokio::sync::mpsc;

use super::{BATCHES, Batch, Plan, Source, SourceView};
use crate::memory;

mod ages;
mod defaults;
mod document;
mod folder;
mod held;
mod lines;
mod split;
mod state;
mod watch;

#[cfg(test)]
mod tests;

use folder::{Folder, Found, Scan, Signature};
use state::State;
use watch::Watch;

pub use document::{DUPLICATE_OBJECT, INVALID_MANIFEST, UNKNOWN_FIELD, UNSUPPORTED_API_VERSION};
pub use held::Locations;

/// How often the folder is looked through even if the kernel reports nothing.
const RESCAN: Duration = Duration::from_secs(2);
/// The folder is read once nothing has happened for so long.
const QUIET: Duration = Duration::from_millis(10);
/// And no later than this after the first sign of a change.
const AT_LATEST: Duration = Duration::from_millis(40);

/// The folder can't be read at all.
#[derive(Debug, Error)]
pub enum ManifestsError {
    /// The folder is missing or closed to us.
    #[error("cannot read the folder {}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

/// Everything one look at a folder gives.
#[derive(Debug)]
pub struct Reading<C> {
    /// One `Replace` for each kind of the plan, in the plan's order.
    pub changes: Vec<C>,
    /// What is wrong with files, documents and fields.
    pub problems: Vec<Problem>,
    /// Where each object stands.
    pub locations: Arc<Locations>,
}

/// Reads the folder once.
pub fn read<C: Send + 'static>(folder: impl Into<PathBuf>, plan: &Plan<C>) -> Result<Reading<C>, ManifestsError> {
    let folder = Folder::open(folder.into())?;
    let mut state = State::new(plan.clone());
    let changes = state.update(folder.scan(&HashMap::new())).unwrap_or_default();
    Ok(Reading { changes, problems: state.problems(), locations: state.locations() })
}

/// Reads a text as the only file of a folder.
pub fn read_text<C: Send + 'static>(file: &str, text: &str, plan: &Plan<C>) -> Reading<C> {
    let mut state = State::new(plan.clone());
    let found = Found::Text(Signature::default(), text.to_owned());
    let scan = Scan { files: [(file.into(), found)].into(), ..Scan::default() };
    let changes = state.update(scan).unwrap_or_default();
    Reading { changes, problems: state.problems(), locations: state.locations() }
}

/// Reads the folder and then its changes, on a thread of its own.
pub fn start<C: Send + 'static>(folder: impl Into<PathBuf>, plan: &Plan<C>) -> Result<Source<C>, ManifestsError> {
    let folder = Folder::open(folder.into())?;
    let awaited = plan.kinds().iter().map(|kind| kind.names().resource()).collect();
    let view = SourceView::new(format!("folder {}", folder.path().display()), awaited);
    let (batches, outgoing) = mpsc::channel(BATCHES);
    let worker = Worker { folder, state: State::new(plan.clone()), batches, view: view.clone(), spent: false };
    let spawned = std::thread::Builder::new().name("manifests".to_owned()).spawn(move || worker.run());
    spawned.map_err(|cause| ManifestsError::Folder { folder: PathBuf::new(), cause })?;
    Ok(Source { batches: outgoing, view })
}

struct Worker<C> {
    folder: Folder,
    state: State<C>,
    batches: mpsc::Sender<Batch<C>>,
    view: SourceView,
    /// Objects were handed on since memory was last given back.
    spent: bool,
}

impl<C: Send + 'static> Worker<C> {
    fn run(mut self) {
        // The watch is set up before the first look, so that nothing falls between the two.
        let mut watch = Watch::start(self.folder.path());
        let mut received = Instant::now();
        while self.look(received, &mut watch) {
            if !self.state.is_behind() {
                received = await_change(&watch, &self.batches);
            }
        }
    }

    /// Reads what has changed and hands it on; says whether there is still a consumer.
    fn look(&mut self, received: Instant, watch: &mut Watch) -> bool {
        let mut scan = self.folder.scan(self.state.signatures());
        if watch.follow(std::mem::take(&mut scan.places)) {
            scan = self.folder.scan(self.state.signatures());
        }
        match &scan.failure {
            Some(error) => {
                if self.view.failing("folder", error) {
                    tracing::error!(error, "cannot read the folder of manifests");
                }
            }
            None => drop(self.view.working("folder")),
        }
        let Some(changes) = self.state.update(scan) else {
            if std::mem::take(&mut self.spent) {
                memory::give_back();
            }
            return !self.batches.is_closed();
        };
        self.view.set_locations(self.state.locations());
        self.view.set_problems(self.state.problems());
        for (resource, count) in self.state.counts() {
            self.view.set_objects(&resource, count);
        }
        self.view.set_awaited(Vec::new());
        if changes.is_empty() {
            return !self.batches.is_closed();
        }
        self.spent = true;
        self.batches.blocking_send(Batch { changes, complete: true, received }).is_ok()
    }
}

/// Waits for a sign of change and then for quiet; returns when the change was first noticed.
fn await_change<C>(watch: &Watch, batches: &mpsc::Sender<Batch<C>>) -> Instant {
    let rescan = Instant::now() + RESCAN;
    // Short waits, so that the thread ends soon after its consumer.
    let step = Duration::from_millis(200);
    while !batches.is_closed() && Instant::now() < rescan {
        if !watch.is_notified() {
            std::thread::sleep(step);
            continue;
        }
        match watch.recv_timeout(step) {
            Ok(()) => {
                let received = Instant::now();
                while received.elapsed() + QUIET <= AT_LATEST && watch.recv_timeout(QUIET).is_ok() {}
                return received;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(step),
        }
    }
    Instant::now()
}
