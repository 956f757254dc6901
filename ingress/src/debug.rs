//! `/debug/routes`: the table in force, a line for each route and for each port of a Service.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use landfall_ingress_model::backend::{Backend, Target};
use landfall_ingress_model::table::{Action, HostRoutes, Route, Table};

use crate::balance::Balancers;

/// The routes by host and path: the rule, the Ingress it is from, and what it leads to now.
pub(crate) fn routes(table: &Table, balancers: &Balancers) -> String {
    let hosts = table.exact.values().chain(table.wildcard.values()).chain([&table.any]);
    let mut routes: Vec<&Arc<Route>> = hosts.flat_map(|routes| all(routes)).chain(&table.default).collect();
    routes.sort_by(|one, other| one.id.cmp(&other.id));
    let mut page =
        format!("# table {}, {} routes: host, path, ingress, backend, endpoints\n", table.generation, routes.len());
    for route in routes {
        let path = route.id.path.as_ref().map_or_else(|| "default backend".to_owned(), ToString::to_string);
        let _ = writeln!(page, "{}\t{path}\t{}\t{}", route.id.host, route.id.ingress, action(&route.action, balancers));
    }
    for service in table.streams.ports.values() {
        let backend = &service.backend;
        let _ = writeln!(page, "{}\t\t\t{}\t{}", service.port, backend.key, endpoints(backend, balancers));
    }
    page
}

fn all(routes: &HostRoutes) -> impl Iterator<Item = &Arc<Route>> {
    routes.exact.values().chain(routes.prefix.values()).chain(&routes.default)
}

fn action(action: &Action, balancers: &Balancers) -> String {
    match action {
        Action::Forward(backend) => format!("{}\t{}", backend.key, endpoints(backend, balancers)),
        Action::Unavailable(why) => format!("503\t{why}"),
        Action::NotFound => "404\t".to_owned(),
    }
}

fn endpoints(backend: &Backend, balancers: &Balancers) -> String {
    let state = backend.state();
    if let Some(why) = &state.unavailable {
        return why.to_string();
    }
    match &state.target {
        Target::Dns { name, port } => format!("{name}:{port}"),
        Target::Endpoints(addresses) => {
            let (balancer, now) = (balancers.known(backend), Instant::now());
            let shown = |address: &SocketAddr| {
                let ejected = balancer.as_ref().is_some_and(|balancer| balancer.is_ejected(*address, now));
                let ejected = if ejected { " (left out)" } else { "" };
                format!("{address}{ejected}")
            };
            addresses.iter().map(shown).collect::<Vec<_>>().join(", ")
        }
    }
}
