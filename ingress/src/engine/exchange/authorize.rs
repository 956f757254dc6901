//! Finding out whether a request may pass: passwords, and the word of another service.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use http::HeaderValue;
use landfall_ingress_model::pipeline::{Answer as Page, Ask, Forward, Opinion, Question};
use landfall_ingress_model::policy::verify;
use landfall_ingress_model::table::Route;
use moka::sync::Cache;
use tokio::sync::Semaphore;

use super::service::Services;
use super::{Request, Shared};

/// How long a service may take to answer.
const ANSWER: Duration = Duration::from_mins(1);
/// Answers that are kept.
const KEPT: u64 = 10_000;

/// Passwords that are looked at together, so that they leave room for other work.
static PASSWORDS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(std::thread::available_parallelism().map_or(1, std::num::NonZero::get)));

/// What services said of requests, until it is to be asked again.
#[derive(Clone)]
pub(crate) struct Opinions(Cache<String, (Instant, Arc<Opinion>)>);

impl Default for Opinions {
    fn default() -> Self {
        Self(Cache::new(KEPT))
    }
}

impl Opinions {
    fn get(&self, key: &str) -> Option<Arc<Opinion>> {
        let (until, opinion) = self.0.get(key)?;
        (Instant::now() < until).then_some(opinion)
    }
}

/// Finds out whether a request may pass.
///
/// `Err` is the answer if it may not, and the route.
pub(super) async fn authorize(
    engine: &Shared,
    request: &Request,
    ask: Ask,
    id: &HeaderValue,
) -> Result<Box<Forward>, (Page, Option<Arc<Route>>)> {
    let right = match ask.login() {
        Some((hash, password)) => is_right(hash.to_owned(), password.to_owned()).await,
        None => false,
    };
    let opinion = match ask.question(right) {
        Some(question) => opinion(engine, &ask, question).await,
        None => None,
    };
    let route = ask.route().clone();
    ask.conclude(right, opinion.as_deref(), &request.fields, id).map_err(|page| (page, Some(route)))
}

/// Whether a password has this hash; what takes that long must not hold other requests up.
async fn is_right(hash: String, password: Vec<u8>) -> bool {
    let Ok(permit) = PASSWORDS.acquire().await else { return false };
    let right = tokio::task::spawn_blocking(move || verify(&password, &hash)).await;
    drop(permit);
    right.unwrap_or(false)
}

/// What the service says, now or lately.
async fn opinion(engine: &Shared, ask: &Ask, question: &Question) -> Option<Arc<Opinion>> {
    if let Some(known) = question.key.as_deref().and_then(|key| engine.opinions.get(key)) {
        return Some(known);
    }
    let asked = tokio::time::timeout(ANSWER, Services::of(engine).ask(question, None)).await.ok().flatten();
    let Some(opinion) = asked else {
        tracing::warn!(url = question.url, "the authentication service could not be asked");
        return None;
    };
    let opinion = Arc::new(opinion);
    if let (Some(key), Some(duration)) = (&question.key, ask.kept_for(&opinion)) {
        engine.opinions.0.insert(key.clone(), (Instant::now() + duration, opinion.clone()));
    }
    Some(opinion)
}
