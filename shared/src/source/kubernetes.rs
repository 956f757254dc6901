//! The API server as a source: list, then watch, for each kind of a plan.
//!
//! The loop is our own rather than `kube-runtime`'s watcher, for what that one can't say: whether a quiet watch is
//! connected (it reports no success when a watch resumes), and what a relist leaves out. The rules are the usual
//! ones: pages of 500, bookmarks, resume at the last version seen, relist after 410.
//!
//! **Invariant:** while the API server is away nothing is emitted; a relist comes out as one complete
//! [`Change::Replace`].
//!
//! A stalled connection is noticed without the kernel's help: bookmarks come about once a minute, so a watch that
//! says nothing for [`IDLE`] is resumed on another connection.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;
use landfall_model::Change;
use thiserror::Error;
use tokio::sync::mpsc;

use super::kind::KindNames;
use super::{BATCHES, Batch, Object, Plan, Scope, Source, SourceView};

mod board;
mod read;
mod reflector;
mod sink;
#[cfg(test)]
mod tests;

use board::Board;
use reflector::Reflector;
pub use reflector::{KIND_NOT_SERVED, MALFORMED_OBJECT, WATCH_FORBIDDEN};
use sink::Sink;

/// How long a watch may be silent before it is taken for dead; an API server's bookmarks come once a minute.
pub const IDLE: Duration = Duration::from_secs(90);

/// How long connecting to the API server may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How many changes may wait to be gathered into a batch.
const WAITING: usize = 1024;

/// A client could not be made; an API server that is away is no reason for this.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Neither the service account's files nor a kubeconfig can be read.
    #[error("no Kubernetes configuration: not in a pod and no KUBECONFIG")]
    Config(#[from] kube::config::InferConfigError),
    /// The configuration can't be used, for example a broken certificate.
    #[error("the Kubernetes configuration can't be used")]
    Client(#[from] kube::Error),
}

/// A client for the API server of this pod, or of `KUBECONFIG`.
///
/// It does not connect yet. The TLS provider must have been installed by the program.
pub async fn client() -> Result<Client, ClientError> {
    let mut config = kube::Config::infer().await?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.write_timeout = Some(2 * CONNECT_TIMEOUT);
    // Longer than the watch's own limit, so that this one is only the last resort.
    config.read_timeout = Some(IDLE + Duration::from_secs(30));
    config.reset_reader_on_write = true;
    // Retries belong to the callers: each has its own deadline.
    config.default_retry = false;
    let agent = concat!("landfall/", env!("CARGO_PKG_VERSION"));
    config.headers.push((http::header::USER_AGENT, http::HeaderValue::from_static(agent)));
    Ok(Client::try_from(config)?)
}

/// How patient a source is; tests shorten it.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Longest silence of a watch; see [`IDLE`].
    pub idle: Duration,
    /// Longest wait for the head of a response.
    pub response: Duration,
    /// Longest pause between two tries.
    pub retry: Duration,
    /// Pause before an optional kind that was absent is asked for again.
    pub absent: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            idle: IDLE,
            response: Duration::from_secs(30),
            retry: Duration::from_secs(5),
            absent: Duration::from_secs(30),
        }
    }
}

/// Watches the kinds of `plan` at the API server of `client`. Must be called within a tokio runtime.
pub fn start<C: Send + 'static>(client: &Client, plan: &Plan<C>) -> Source<C> {
    start_with(client, plan, Patience::default())
}

/// [`start`], with other limits.
pub fn start_with<C: Send + 'static>(client: &Client, plan: &Plan<C>, patience: Patience) -> Source<C> {
    let awaited: Vec<_> = plan.kinds().iter().map(|kind| kind.names().resource()).collect();
    let view = SourceView::new("kubernetes", awaited.clone());
    let board = Arc::new(Board::new(view.clone()));
    let (messages, incoming) = mpsc::channel(WAITING);
    let (batches, outgoing) = mpsc::channel(BATCHES);
    for (number, kind) in plan.kinds().iter().enumerate() {
        let context =
            Feed { client: client.clone(), board: board.clone(), messages: messages.clone(), number, patience };
        let closed = messages.clone();
        let feed = kind.feed(context);
        tokio::spawn(async move {
            tokio::select! {
                () = feed => {}
                () = closed.closed() => {}
            }
        });
    }
    tokio::spawn(gather(incoming, batches, awaited, view.clone()));
    Source { batches: outgoing, view }
}

/// What a kind's feed needs.
pub(crate) struct Feed<C> {
    client: Client,
    board: Arc<Board>,
    messages: mpsc::Sender<Message<C>>,
    number: usize,
    patience: Patience,
}

/// What a feed tells the gatherer.
struct Message<C> {
    /// The kind's place in the plan.
    number: usize,
    change: Option<C>,
    /// The kind is now known as a whole, or known to be absent.
    listed: bool,
    received: Instant,
}

/// Lists and watches one kind, in one scope or in several namespaces at once.
pub(crate) async fn feed<K: Object, C: Send + 'static>(
    context: Feed<C>,
    names: KindNames,
    scope: Scope,
    into: fn(Change<K>) -> C,
) {
    let parts = if names.namespaced && !scope.namespaces.is_empty() {
        scope.namespaces.iter().map(|namespace| Some(namespace.as_str())).collect()
    } else {
        vec![None]
    };
    let sink = Sink::new(parts.len(), context.messages, context.number, into);
    let reflectors = parts.into_iter().enumerate().map(|(part, namespace)| {
        let (client, board, patience) = (context.client.clone(), context.board.clone(), context.patience);
        Reflector::new(client, &names, &scope, namespace, sink.part(part), board, patience).run()
    });
    futures::future::join_all(reflectors).await;
}

/// Gathers what is already waiting into one batch; never waits for more.
async fn gather<C: Send + 'static>(
    mut incoming: mpsc::Receiver<Message<C>>,
    batches: mpsc::Sender<Batch<C>>,
    resources: Vec<String>,
    view: SourceView,
) {
    let mut awaited: BTreeSet<usize> = (0..resources.len()).collect();
    loop {
        let first = tokio::select! {
            first = incoming.recv() => first,
            () = batches.closed() => None,
        };
        let Some(first) = first else { return };
        // Waiting for room first lets a slow consumer get fewer and larger batches.
        let Ok(room) = batches.reserve().await else { return };
        let received = first.received;
        let mut changes = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            if message.listed && awaited.remove(&message.number) {
                view.set_awaited(awaited.iter().filter_map(|number| resources.get(*number).cloned()).collect());
            }
            changes.extend(message.change);
            next = incoming.try_recv().ok();
        }
        room.send(Batch { changes, complete: awaited.is_empty(), received });
    }
}
