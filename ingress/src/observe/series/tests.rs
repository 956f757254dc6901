//! What is scraped while rules come and go.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime};

use http::Version;
use landfall_ingress_model::backend::{Affinity, Backend, BackendState, Balance, PortRef, Protocol, Target};
use landfall_ingress_model::host::HostName;
use landfall_ingress_model::table::{Attached, Dialect, RegexRoute, RoutePolicy, Written};
use prometheus_client::registry::Registry;

use super::super::kept::SLACK;
use super::*;
use crate::engine::Scheme;

fn backend(name: &str) -> BackendKey {
    BackendKey { service: ObjectKey::new("shop", name), port: PortRef::Number(80) }
}

/// The one route of an Ingress with one host.
fn route(name: &str) -> Arc<Route> {
    let state = BackendState {
        protocol: Protocol::default(),
        affinity: Affinity::None,
        balance: Balance::RoundRobin,
        hash_by: None,
        cookie: None,
        target: Target::Endpoints(Arc::default()),
        unavailable: None,
    };
    let host = HostPattern::parse(&format!("{name}.example")).unwrap();
    Arc::new(Route {
        id: RouteId { ingress: ObjectKey::new("shop", name), host, path: None },
        dialect: Dialect::Kubernetes,
        action: Action::Forward(Arc::new(Backend::new(backend(name), Arc::new(state)))),
        policy: Arc::new(RoutePolicy::default()),
        written: Written::default(),
        attached: Attached::default(),
    })
}

fn routes(route: Arc<Route>) -> HostRoutes {
    HostRoutes { prefix: FromIterator::from_iter([("".into(), route)]), ..HostRoutes::default() }
}

/// A table with one host and Ingress for each name.
fn table(names: &[String]) -> Table {
    let host =
        |name: &String| (HostName::from_authority(&format!("{name}.example")).unwrap(), Arc::new(routes(route(name))));
    Table { exact: names.iter().map(host).collect(), ..Table::default() }
}

fn exchange(route: Option<Arc<Route>>, status: u16) -> Exchange<'static> {
    Exchange {
        start: SystemTime::UNIX_EPOCH,
        duration: Duration::from_millis(3),
        request_id: "".into(),
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        peer: "127.0.0.1:1".parse().unwrap(),
        method: "GET".into(),
        scheme: Scheme::Http,
        host: "".into(),
        target: "/".into(),
        version: Version::HTTP_11,
        status,
        received: 1,
        sent: 2,
        route,
        canary: None,
        upstream: None,
        span: None,
        tries: 2,
        user_agent: None,
        referer: None,
        fields: None,
        tls: None,
        error: None,
    }
}

fn names(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| format!("h{number}")).collect()
}

fn scrape(registry: &Registry) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    text
}

fn registered(names: &[String]) -> (Registry, Arc<Series>, Arc<ArcSwap<Table>>) {
    let table = Arc::new(ArcSwap::from_pointee(table(names)));
    let series = Arc::new(Series::new(table.clone()));
    let mut registry = Registry::default();
    registry.sub_registry_with_prefix("landfall_ingress").register_collector(Box::new(series.clone()));
    (registry, series, table)
}

#[test]
fn a_rule_has_its_metrics_under_their_names() {
    let (registry, series, _) = registered(&names(0..1));
    series.count(&exchange(Some(route("h0")), 200));
    series.count(&exchange(None, 404));
    series.ejected(&backend("h0"));
    let text = scrape(&registry);
    let of = r#"namespace="shop",ingress="h0",host="h0.example""#;
    for line in [
        format!(r#"landfall_ingress_requests_total{{{of},method="GET",status="200"}} 1"#),
        format!("landfall_ingress_request_duration_seconds_count{{{of}}} 1"),
        format!(r#"landfall_ingress_request_duration_seconds_bucket{{le="0.005",{of}}} 1"#),
        format!("landfall_ingress_retries_total{{{of}}} 1"),
        format!("landfall_ingress_request_body_bytes_total{{{of}}} 1"),
        format!("landfall_ingress_response_body_bytes_total{{{of}}} 2"),
        r#"landfall_ingress_endpoint_ejections_total{namespace="shop",service="h0",port="80"} 1"#.to_owned(),
        r#"landfall_ingress_requests_total{namespace="",ingress="",host="",method="GET",status="404"} 1"#.to_owned(),
    ] {
        assert!(text.contains(&line), "{line}\n{text}");
    }
}

#[test]
fn what_is_gone_from_the_table_is_gone_from_the_metrics() {
    let (registry, series, published) = registered(&names(0..3));
    for name in names(0..3) {
        series.count(&exchange(Some(route(&name)), 200));
        series.ejected(&backend(&name));
    }
    published.store(Arc::new(table(&names(1..2))));
    // A request that was under way when its rule went brings nothing back.
    series.count(&exchange(Some(route("h2")), 200));
    let text = scrape(&registry);
    assert!(!text.contains("\"h0\"") && !text.contains("\"h2\"") && text.contains("\"h1\""), "{text}");
    assert!(text.contains("ejections_total{namespace=\"shop\",service=\"h1\""), "{text}");
}

#[test]
fn hosts_that_come_and_go_unseen_take_no_memory() {
    let (_, series, published) = registered(&[]);
    for round in 0..100 {
        let names = names(round * 10..round * 10 + 10);
        published.store(Arc::new(table(&names)));
        for name in names {
            series.count(&exchange(Some(route(&name)), 200));
        }
    }
    let held = series.routes.len();
    assert!(held < 3 * SLACK, "{held}");
}

#[test]
fn a_backend_cannot_make_hundreds_of_series() {
    let (registry, series, _) = registered(&names(0..1));
    for status in 100..=999 {
        series.count(&exchange(Some(route("h0")), status));
    }
    let lines = scrape(&registry).lines().filter(|line| line.starts_with("landfall_ingress_requests_total")).count();
    assert!(lines < 60, "{lines}");
}

/// What other namespaces have where a host belongs to one, and what `--default-backend-service` takes, is in the table.
#[test]
fn every_route_of_the_table_keeps_its_counts_over_scrapes() {
    let (registry, series, published) = registered(&[]);
    let [other, fallback, regex] = ["other", "fallback", "regex"].map(|name| {
        let mut route = Arc::into_inner(route(name)).unwrap();
        route.id.host = HostPattern::Any;
        Arc::new(route)
    });
    let others = BTreeMap::from([("team".into(), routes(other.clone()))]);
    let expression = RegexRoute { pattern: "^/v[0-9]".parse().unwrap(), route: regex.clone() };
    let any = Arc::new(HostRoutes { others, regex: vec![expression], ..HostRoutes::default() });
    published.store(Arc::new(Table { any, fallback: Some(fallback.clone()), ..Table::default() }));
    for round in 1..4 {
        for route in [&other, &fallback, &regex] {
            series.count(&exchange(Some(route.clone()), 200));
        }
        let text = scrape(&registry);
        for name in ["other", "fallback", "regex"] {
            let line = format!(r#"ingress="{name}",host="*",method="GET",status="200"}} {round}"#);
            assert!(text.contains(&line), "{line}\n{text}");
        }
    }
}

#[test]
fn a_route_that_comes_back_is_counted_again() {
    let (registry, series, published) = registered(&[]);
    let route = route("h0");
    let host = HostName::from_authority("h0.example").unwrap();
    let with = Table { exact: FromIterator::from_iter([(host, Arc::new(routes(route.clone())))]), ..Table::default() };
    let with = Arc::new(with);
    for _ in 0..2 {
        published.store(with.clone());
        series.count(&exchange(Some(route.clone()), 200));
        let text = scrape(&registry);
        assert!(text.contains(r#"ingress="h0",host="h0.example",method="GET",status="200"} 1"#), "{text}");
        published.store(Arc::default());
        assert!(!scrape(&registry).contains("h0"));
    }
}
