//! List and watch of one kind in one scope.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::api::{ListParams, ObjectList, Request, WatchEvent, WatchParams};
use kube::core::DeserializeGuard;
use kube::{Client, Resource as _};
use landfall_model::{ObjectKey, ObjectRef, Problem, Reason};
use thiserror::Error;
use tokio::time::timeout;

use super::Patience;
use super::board::Board;
use super::read;
use super::sink::Part;
use crate::api_error;
use crate::backoff::Backoff;
use crate::source::kind::KindNames;
use crate::source::{Object, Scope, trim};

/// An object that the API server serves can't be read as its kind.
pub const MALFORMED_OBJECT: Reason = Reason::new("MalformedObject");
/// The program may not list or watch a kind it needs.
pub const WATCH_FORBIDDEN: Reason = Reason::new("WatchForbidden");
/// The API server does not serve a kind the program needs.
pub const KIND_NOT_SERVED: Reason = Reason::new("KindNotServed");

/// Objects per page of a list. The API server makes a page of so many in less than half of the time that it takes for ten
/// of 500, as client-go has them, and a page of Ingresses is 4 MB.
const PAGE: u32 = 5_000;

/// A watch that ends sooner than this was refused rather than used up.
const SHORT_WATCH: Duration = Duration::from_secs(1);

pub(super) struct Reflector<K, C> {
    client: Client,
    url: String,
    kind: String,
    /// Name of this part in messages: `ingresses.networking.k8s.io`, `secrets in shop`.
    label: String,
    scope: Scope,
    part: Part<K, C>,
    board: Arc<Board>,
    patience: Patience,
}

#[derive(Debug, Error)]
enum Failure {
    #[error("{}", api_error::text(.0))]
    Api(#[from] kube::Error),
    #[error("no answer within {} s", .0.as_secs_f32())]
    Slow(Duration),
    #[error("the watch says {0}")]
    Watch(String),
    #[error("the list has no resource version")]
    NoVersion,
    #[error("the resource version is too old")]
    Expired,
}

impl Failure {
    fn code(&self) -> u16 {
        match self {
            Self::Api(kube::Error::Api(status)) => status.code,
            Self::Expired => 410,
            _ => 0,
        }
    }
}

impl<K: Object, C> Reflector<K, C> {
    pub(super) fn new(
        client: Client,
        names: &KindNames,
        scope: &Scope,
        namespace: Option<&str>,
        part: Part<K, C>,
        board: Arc<Board>,
        patience: Patience,
    ) -> Self {
        let resource = names.resource();
        let label = match namespace {
            Some(namespace) => format!("{resource} in {namespace}"),
            None => resource,
        };
        let url = K::url_path(&(), namespace);
        Self { client, url, kind: names.kind.clone(), label, scope: scope.clone(), part, board, patience }
    }

    /// Runs until its task is dropped.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::new(self.patience.retry);
        // The version to resume at; `None` asks for a list.
        let mut version = None;
        let mut careful = false;
        loop {
            let result = match version.as_mut() {
                None => self.list().await.map(|listed| version = Some(listed)),
                Some(version) => self.watch(version, &mut careful, &mut backoff).await,
            };
            let Err(failure) = result else { continue };
            if failure.code() == 410 {
                version = None;
            }
            let pause = self.failed(&failure, &mut backoff).await;
            // A fault of the API server is a fault of all parts at once, and so is its end.
            let _ = timeout(pause, self.board.recovered.notified()).await;
        }
    }

    /// The complete list, page by page, handed on as a whole; returns its version.
    async fn list(&self) -> Result<String, Failure> {
        let request = Request::new(&self.url);
        let mut parameters = ListParams {
            label_selector: self.scope.labels.clone(),
            field_selector: self.scope.fields.clone(),
            limit: Some(PAGE),
            ..ListParams::default()
        };
        let (mut objects, mut malformed) = (Vec::new(), Vec::new());
        let version = loop {
            let page = request.list(&parameters).map_err(kube::Error::BuildRequest)?;
            let answer = timeout(self.patience.response, self.client.request_text(page)).await;
            let page = answer.map_err(|_| Failure::Slow(self.patience.response))??;
            let page: ObjectList<DeserializeGuard<K>> = read::list(&page).map_err(kube::Error::SerdeError)?;
            for object in page.items {
                match self.read(object) {
                    Ok(object) => objects.push(object),
                    Err(found) => malformed.push(*found),
                }
            }
            let next = page.metadata.continue_.filter(|token| !token.is_empty());
            if next.is_none() {
                break page.metadata.resource_version.filter(|version| !version.is_empty());
            }
            parameters.continue_token = next;
        };
        let version = version.ok_or(Failure::NoVersion)?;
        self.board.set_all(&self.label, malformed);
        self.works();
        self.part.replace(objects).await;
        Ok(version)
    }

    /// Watches from `version` on until the server ends the watch, or until something comes that has to be read with care.
    async fn watch(&self, version: &mut String, careful: &mut bool, backoff: &mut Backoff) -> Result<(), Failure> {
        let parameters = WatchParams {
            label_selector: self.scope.labels.clone(),
            field_selector: self.scope.fields.clone(),
            // Spread, so that the watches of a program don't all end in the same second.
            timeout: Some(rand::random_range(240..290)),
            bookmarks: true,
            ..WatchParams::default()
        };
        let request = Request::new(&self.url).watch(&parameters, version).map_err(kube::Error::BuildRequest)?;
        let answer = timeout(self.patience.response, read::events(&self.client, request, *careful)).await;
        let mut events = answer.map_err(|_| Failure::Slow(self.patience.response))??;
        self.works();
        let started = Instant::now();
        // Once is enough: what can't be read may never come again.
        let careful_now = std::mem::take(careful);
        loop {
            let Ok(event) = timeout(self.patience.idle, events.next()).await else {
                tracing::debug!(resource = self.label, "watch is silent, resuming it");
                return Ok(());
            };
            match event {
                Some(Ok(event)) => self.handle(event, version).await?,
                Some(Err(error)) if is_unreadable(&error) && !careful_now => {
                    *careful = true;
                    return Ok(());
                }
                Some(Err(error)) if is_unreadable(&error) => {
                    tracing::warn!(resource = self.label, "cannot read an event");
                }
                Some(Err(error)) => return Err(error.into()),
                None => break,
            }
            backoff.reset();
        }
        if started.elapsed() < SHORT_WATCH {
            tokio::time::sleep(backoff.pause()).await;
        }
        Ok(())
    }

    async fn handle(&self, event: WatchEvent<DeserializeGuard<K>>, version: &mut String) -> Result<(), Failure> {
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                advance(version, &object);
                match self.read(object) {
                    Ok(object) => {
                        self.board.set(&self.label, Some(ObjectKey::of(object.meta())), None);
                        self.part.apply(object).await;
                    }
                    // What was last read of it stays in force.
                    Err(found) => {
                        let (key, problem) = *found;
                        self.board.set(&self.label, Some(key), Some(problem));
                    }
                }
            }
            WatchEvent::Deleted(object) => {
                advance(version, &object);
                let key = ObjectKey::of(object.meta());
                self.board.set(&self.label, Some(key.clone()), None);
                self.part.delete(key).await;
            }
            WatchEvent::Bookmark(bookmark) => *version = bookmark.metadata.resource_version,
            WatchEvent::Error(status) if status.code == 410 => return Err(Failure::Expired),
            WatchEvent::Error(status) => return Err(Failure::Watch(status.message)),
        }
        Ok(())
    }

    fn read(&self, object: DeserializeGuard<K>) -> Result<Arc<K>, Box<(ObjectKey, Problem)>> {
        let key = ObjectKey::of(object.meta());
        match object.0 {
            Ok(mut object) => {
                trim(&mut object);
                Ok(Arc::new(object))
            }
            Err(invalid) => {
                let object = ObjectRef::new(self.kind.as_str(), key.clone());
                // What a Secret holds must not get into a log, and the error may quote it.
                let cause = if self.kind == "Secret" { "not a valid secret".to_owned() } else { invalid.error };
                let problem = Problem::new(object, MALFORMED_OBJECT, format!("cannot be read: {cause}"))
                    .remedy("correct the field, or install the CRD of this release so that the api server checks it");
                Err(Box::new((key, problem)))
            }
        }
    }

    fn works(&self) {
        self.board.set(&self.label, None, None);
        if self.board.view.working(&self.label).is_some() {
            tracing::info!(resource = self.label, "reading from the api server again");
            self.board.recovered.notify_waiters();
        }
    }

    /// Notes a failure; returns how long to wait.
    async fn failed(&self, failure: &Failure, backoff: &mut Backoff) -> Duration {
        let code = failure.code();
        if code == 410 {
            tracing::debug!(resource = self.label, "watch expired, listing anew");
            return backoff.pause();
        }
        if self.scope.optional && (code == 404 || code == 403) {
            self.board.view.working(&self.label);
            self.part.absent().await;
            return self.patience.absent;
        }
        if let Some(problem) = self.refusal(code) {
            self.board.set(&self.label, None, Some(problem));
        }
        if self.board.view.failing(&self.label, &failure.to_string()) {
            tracing::error!(resource = self.label, error = %failure, "cannot read from the api server");
        } else {
            tracing::debug!(resource = self.label, error = %failure, "cannot read from the api server");
        }
        backoff.pause()
    }

    fn refusal(&self, code: u16) -> Option<Problem> {
        let object = ObjectRef::new("Resource", ObjectKey::cluster(self.label.as_str()));
        match code {
            401 | 403 => Some(
                Problem::new(object, WATCH_FORBIDDEN, "the api server refuses to list it")
                    .remedy("grant this service account get, list and watch on it"),
            ),
            404 => Some(
                Problem::new(object, KIND_NOT_SERVED, "the api server does not know it")
                    .remedy("install the CRDs that belong to this release"),
            ),
            _ => None,
        }
    }
}

/// Whether this is one event that isn't even an object with metadata; the next may well be.
///
/// kube reads such a line as a status whose fields are all absent.
fn is_unreadable(error: &kube::Error) -> bool {
    match error {
        kube::Error::SerdeError(_) => true,
        kube::Error::Api(status) => status.code == 0 && status.message.is_empty(),
        _ => false,
    }
}

fn advance<K: Object>(version: &mut String, object: &DeserializeGuard<K>) {
    if let Some(seen) = kube::Resource::meta(object).resource_version.as_ref().filter(|seen| !seen.is_empty()) {
        version.clone_from(seen);
    }
}

impl<K, C> fmt::Debug for Reflector<K, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reflector").field("label", &self.label).finish_non_exhaustive()
    }
}
