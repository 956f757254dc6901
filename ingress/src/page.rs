//! The page of the admin port: what it asks of this replica.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures::future::{BoxFuture, ready};
use http::StatusCode;
use landfall_ingress_model::table::{Action, Route, Table};
use landfall_model::ObjectKey;
use landfall_shared::admin::{Admin, Answer, Query};

use crate::cli::ServeArgs;
use crate::observe::{Filter, Live, routes};
use crate::publish::identity;

/// What the page shows.
pub(crate) struct Page {
    /// The table in force.
    pub(crate) table: Arc<ArcSwap<Table>>,
    /// Requests as they happen.
    pub(crate) live: Arc<Live>,
}

impl Page {
    /// Adds the page to the admin port.
    pub(crate) fn serve(self, admin: Admin, args: &ServeArgs) -> Admin {
        let replica: Arc<str> = identity(args).into();
        let table = self.table.clone();
        let service = args.page.page_service.clone();
        let is_replica =
            move |peer: IpAddr| service.as_ref().is_some_and(|service| serves(&table.load(), service, peer));
        let live = self.live;
        admin
            .page_for(args.page.access.clone(), is_replica)
            .question("/status/live", move |query| answer(watch(&live, &query, &replica)))
    }
}

fn answer(answer: Answer) -> BoxFuture<'static, Answer> {
    Box::pin(ready(answer))
}

fn refused(why: impl std::fmt::Display) -> Answer {
    Answer::Refused(StatusCode::BAD_REQUEST, why.to_string())
}

/// `/status/live`.
fn watch(live: &Arc<Live>, query: &Query, replica: &str) -> Answer {
    let filter = match Filter::read(query) {
        Ok(filter) => filter,
        Err(error) => return refused(error),
    };
    match live.watch(filter, replica) {
        Ok(events) => Answer::Events(events),
        Err(error) => Answer::Refused(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
}

/// Whether a peer is one of the endpoints of a Service that a rule leads to.
fn serves(table: &Table, service: &ObjectKey, peer: IpAddr) -> bool {
    let of_service = |route: &&Arc<Route>| match &route.action {
        Action::Forward(backend) => backend.key.service == *service,
        Action::Unavailable(_) | Action::NotFound => false,
    };
    routes(table).filter(of_service).any(|route| match &route.action {
        Action::Forward(backend) => {
            backend.state().addresses().iter().any(|address| address.ip().to_canonical() == peer)
        }
        Action::Unavailable(_) | Action::NotFound => false,
    })
}
