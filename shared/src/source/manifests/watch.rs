//! The kernel's notifications about a folder, also where it is behind symbolic links.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::folder::{Place, place};

/// Links on the way to a folder; a longer chain is a loop.
const MOST_LINKS: usize = 40;

/// Notifications about a folder and everything below it.
pub(super) struct Watch {
    path: PathBuf,
    sender: Sender<()>,
    signals: Receiver<()>,
    watcher: notify::Result<RecommendedWatcher>,
    /// What is watched: a folder that takes the place of one of these is not.
    places: BTreeSet<Place>,
}

impl Watch {
    pub(super) fn start(path: &Path) -> Self {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        // Asked for before it is watched: a folder that takes its place in between is then noticed as another one.
        let places = std::fs::metadata(&path).iter().map(place).collect();
        let (sender, signals) = channel();
        let watcher = watcher(&path, sender.clone());
        if let Err(error) = &watcher {
            tracing::warn!(%error, "no notification of changes, looking every two seconds instead");
        }
        Self { path, sender, signals, watcher, places }
    }

    /// Follows links that lead elsewhere now; says whether the folder is to be looked at once more, since something
    /// may have changed between the last look and this call.
    pub(super) fn follow(&mut self, places: BTreeSet<Place>) -> bool {
        if self.places == places {
            return false;
        }
        self.places = places;
        self.watcher = watcher(&self.path, self.sender.clone());
        true
    }

    pub(super) fn is_notified(&self) -> bool {
        self.watcher.is_ok()
    }

    pub(super) fn recv_timeout(&self, timeout: Duration) -> Result<(), RecvTimeoutError> {
        self.signals.recv_timeout(timeout)
    }
}

/// Signals every change below `folder`, and every change to a link that leads there.
fn watcher(folder: &Path, sender: Sender<()>) -> notify::Result<RecommendedWatcher> {
    let links = links(folder);
    let parents: BTreeSet<PathBuf> = links.iter().filter_map(|link| link.parent()).map(Path::to_owned).collect();
    let (own, beside) = (folder.to_owned(), parents.clone());
    let concerns = move |path: &PathBuf| {
        let is_neighbour = path.parent().is_some_and(|parent| beside.contains(parent));
        path.starts_with(&own) || !is_neighbour || links.contains(path)
    };
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // Reading a file is reported too, and would make our own look the cause of the next one.
        let is_reading = |event: &Event| match event.kind {
            EventKind::Access(access) => access != AccessKind::Close(AccessMode::Write),
            _ => false,
        };
        let ignored = matches!(&event, Ok(event) if is_reading(event)
            || !event.paths.is_empty() && !event.paths.iter().any(&concerns));
        if !ignored {
            // Nobody listens any more only when the reader's thread is about to end.
            let _ = sender.send(());
        }
    })?;
    watcher.watch(folder, RecursiveMode::Recursive)?;
    for parent in parents {
        // A parent that can't be watched delays a change of the link to the next look.
        if let Err(error) = watcher.watch(&parent, RecursiveMode::NonRecursive) {
            tracing::debug!(%error, folder = %parent.display(), "a symbolic link is not watched");
        }
    }
    Ok(watcher)
}

/// The symbolic links on the way to `folder`, those behind other links included.
fn links(folder: &Path) -> BTreeSet<PathBuf> {
    let mut links = BTreeSet::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(path) = waiting.pop() {
        for part in path.ancestors() {
            let Ok(target) = std::fs::read_link(part) else { continue };
            if links.len() < MOST_LINKS && links.insert(part.to_owned()) {
                waiting.push(part.parent().unwrap_or(part).join(target));
            }
        }
    }
    links
}
