//! The page of the admin port, and what its script asks of this replica.

mod answers;
mod routes;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use futures::future::{BoxFuture, FutureExt, ready};
use http::{Method, StatusCode};
use landfall_ingress_model::table::{Action, Route, Table};
use landfall_model::ObjectKey;
use landfall_shared::admin::{Admin, Answer, Asset, Query};
use landfall_shared::readiness::Readiness;
use landfall_shared::source::SourceView;
use serde::Serialize;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use crate::balance::Balancers;
use crate::cli::ServeArgs;
use crate::control::Question;
use crate::explain::request;
use crate::observe::{Filter, Live, Recent, TICK};
use crate::publish::identity;
use crate::status::StatusBoard;

/// Rules that an explanation names one by one; the nearest come first.
const REJECTED: usize = 200;

/// The files of the page.
const ASSETS: [Asset; 4] = [
    Asset { path: "/", kind: "text/html; charset=utf-8", text: include_str!("../page/index.html") },
    Asset { path: "/ingress.js", kind: "text/javascript; charset=utf-8", text: include_str!("../page/ingress.js") },
    Asset { path: "/page.js", kind: "text/javascript; charset=utf-8", text: include_str!("../../shared/page/page.js") },
    Asset { path: "/page.css", kind: "text/css; charset=utf-8", text: include_str!("../../shared/page/page.css") },
];

/// What the page shows.
pub(crate) struct Page {
    /// The table in force.
    pub(crate) table: Arc<ArcSwap<Table>>,
    /// What is known of endpoints.
    pub(crate) balancers: Arc<Balancers>,
    /// What the last build said.
    pub(crate) board: Arc<StatusBoard>,
    /// Where the objects come from.
    pub(crate) source: SourceView,
    /// Whether this replica takes traffic.
    pub(crate) readiness: Readiness,
    /// Requests as they happen.
    pub(crate) live: Arc<Live>,
    /// The last minutes.
    pub(crate) recent: Arc<Recent>,
    /// Where explanations are asked for.
    pub(crate) questions: mpsc::Sender<Question>,
}

/// What does not change.
struct Facts {
    page: Page,
    replica: String,
    started: SystemTime,
}

impl Page {
    /// Adds the page to the admin port, and begins to read the counters.
    pub(crate) fn serve(self, admin: Admin, args: &ServeArgs) -> Admin {
        let (table, service) = (self.table.clone(), args.page.page_service.clone());
        let is_replica =
            move |peer: IpAddr| service.as_ref().is_some_and(|service| serves(&table.load(), service, peer));
        tokio::spawn(read_counters(self.recent.clone()));
        let facts = Arc::new(Facts { page: self, replica: identity(args), started: SystemTime::now() });
        let ask = |answer: fn(&Facts, &Query) -> Answer| {
            let facts = facts.clone();
            move |query: Query| -> BoxFuture<'static, Answer> {
                let facts = facts.clone();
                // What takes long for a large table holds up neither watches nor probes.
                let answered = tokio::task::spawn_blocking(move || answer(&facts, &query));
                answered.map(|answer| answer.unwrap_or_else(|_| failed("this can't be answered"))).boxed()
            }
        };
        let (watched, explained) = (facts.clone(), facts.clone());
        admin
            .page(args.page.access.clone(), ASSETS)
            .page_for(args.page.access.clone(), is_replica)
            .question("/status/overview", ask(answers::overview))
            .question("/status/problems", ask(answers::problems))
            .question("/status/routes", ask(routes::routes))
            .question("/status/certificates", ask(answers::certificates))
            .question("/status/traffic", ask(|facts, _| Answer::Json(json(&facts.page.recent.traffic()))))
            .question("/status/explain", move |query| explained.clone().explain(query).boxed())
            .question("/status/live", move |query| ready(watched.watch(&query)).boxed())
    }
}

async fn read_counters(recent: Arc<Recent>) {
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        recent.tick();
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

fn refused(why: impl std::fmt::Display) -> Answer {
    Answer::Refused(StatusCode::BAD_REQUEST, why.to_string())
}

fn failed(why: impl std::fmt::Display) -> Answer {
    Answer::Refused(StatusCode::SERVICE_UNAVAILABLE, why.to_string())
}

impl Facts {
    /// `/status/live`.
    fn watch(&self, query: &Query) -> Answer {
        match Filter::read(query).map(|filter| self.page.live.watch(filter, &self.replica)) {
            Ok(Ok(events)) => Answer::Events(events),
            Ok(Err(error)) => failed(error),
            Err(error) => refused(error),
        }
    }

    /// `/status/explain`.
    async fn explain(self: Arc<Self>, query: Query) -> Answer {
        let Some(url) = query.get("url").map(str::trim) else { return refused("name the URL to explain: ?url=...") };
        let method = match query.get("method").map(|method| method.trim().parse::<Method>()) {
            Some(Ok(method)) => method,
            None => Method::GET,
            Some(Err(_)) => return refused("the method is none"),
        };
        let client = match query.get("client").map(|client| client.trim().parse::<IpAddr>()) {
            None => None,
            Some(Ok(client)) => Some(client),
            Some(Err(_)) => return refused("the client is no address such as 192.0.2.7"),
        };
        let headers: Vec<String> = query
            .all("header")
            .flat_map(str::lines)
            .filter(|line| !line.trim().is_empty())
            .map(str::to_owned)
            .collect();
        let request = match request(url, method, client, &headers) {
            Ok(request) => request,
            Err(error) => return refused(format!("{error:#}")),
        };
        let (answer, answered) = oneshot::channel();
        let asked = self.page.questions.send(Question { request, answer }).await;
        let Ok(mut explanation) = async {
            asked.map_err(drop)?;
            answered.await.map_err(drop)
        }
        .await
        else {
            return failed("this replica is ending");
        };
        let left_out = explanation.rejected.len().saturating_sub(REJECTED);
        explanation.rejected.truncate(REJECTED);
        let mut value = json!(explanation);
        value["replica"] = json!(self.replica);
        value["rejectedLeftOut"] = json!(left_out);
        Answer::Json(value.to_string())
    }
}

/// Whether a peer is one of the endpoints of a Service that a rule leads to.
fn serves(table: &Table, service: &ObjectKey, peer: IpAddr) -> bool {
    let leads_there = |route: &Arc<Route>| match &route.action {
        Action::Forward(backend) if backend.key.service == *service => {
            backend.state().addresses().iter().any(|address| address.ip().to_canonical() == peer)
        }
        _ => false,
    };
    crate::observe::routes(table).any(leads_there)
}
