//! Requests in, decisions out.

mod certificates;

use http::header::LOCATION;
use http::{HeaderMap, HeaderName};

use super::*;
use crate::access::Access;
use crate::backend::{Affinity, AllInUse, Backend, BackendKey, BackendState, Balance, PortRef, Protocol, Target};
use crate::host::HostPattern;
use crate::policy::{Auth, BasicAuth};
use crate::table::{Action, Attached, Dialect, HostRoutes, HttpsRedirect, PathRule, RouteId, RoutePolicy, Written};

use landfall_model::ObjectKey;

/// A table with one route: `shop.example` and a path prefix.
fn table(policy: RoutePolicy, dialect: Dialect) -> Table {
    let state = BackendState {
        protocol: Protocol::Http,
        affinity: Affinity::None,
        balance: Balance::RoundRobin,
        hash_by: None,
        cookie: None,
        target: Target::Endpoints(["10.0.0.1:80".parse().unwrap()].into()),
        unavailable: None,
    };
    let key = BackendKey { service: ObjectKey::new("shop", "web"), port: PortRef::Number(80) };
    let path = PathRule::Prefix("/app".into());
    let host = HostPattern::parse("shop.example").unwrap();
    let route = Arc::new(Route {
        id: RouteId { ingress: ObjectKey::new("shop", "web"), host, path: Some(path) },
        dialect,
        action: Action::Forward(Arc::new(Backend::new(key, Arc::new(state)))),
        policy: Arc::new(RoutePolicy { manner: dialect.manner(), ..policy }),
        written: Written::default(),
        attached: Attached::default(),
    });
    let routes = HostRoutes { prefix: FromIterator::from_iter([("/app".into(), route)]), ..HostRoutes::default() };
    let name = HostName::from_authority("shop.example").unwrap();
    Table { exact: FromIterator::from_iter([(name, Arc::new(routes))]), ..Table::default() }
}

/// A request in words: `GET /app HTTP/1.1`, then fields.
struct Request {
    method: Method,
    target: String,
    version: Version,
    headers: HeaderMap,
}

fn request(text: &str) -> Request {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut start = lines.next().unwrap().split(' ');
    let method = start.next().unwrap().parse().unwrap();
    let target = start.next().unwrap().to_owned();
    let version = match start.next().unwrap() {
        "HTTP/1.0" => Version::HTTP_10,
        "HTTP/2" => Version::HTTP_2,
        _ => Version::HTTP_11,
    };
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap();
        headers.append(name.parse::<HeaderName>().unwrap(), value.trim().parse().unwrap());
    }
    Request { method, target, version, headers }
}

/// What `client` gets, over TLS if `secure`, with 10.9.0.0/16 trusted.
fn ask(table: &Table, client: &str, tls: Option<Tls>, text: &str) -> Decision {
    let Request { method, target, version, headers } = request(text);
    let head =
        RequestHead { method: &method, version, target: &target, authority: None, headers: &Fields::from(&headers) };
    let client: SocketAddr = format!("{client}:4711").parse().unwrap();
    // The ports that a pod listens on, which no client knows.
    let local = if tls.is_some() { "192.0.2.1:8443" } else { "192.0.2.1:8080" }.parse().unwrap();
    let connection = Connection { client, peer: client, local, destination: None, tls };
    let settings = PipelineSettings { trusted_proxies: vec!["10.9.0.0/16".parse().unwrap()] };
    let live = Live {
        dice: 0,
        now: 0,
        instant: std::time::Instant::now(),
        limiter: &crate::policy::Unlimited,
        challenges: &Challenges::default(),
        ejections: &AllInUse,
        trace: None,
    };
    decide(&head, &connection, table, &settings, &HeaderValue::from_static("id"), &live)
}

/// The fields that a backend would see, sorted, or the status of our own answer.
fn outcome(decision: Decision, text: &str) -> Result<(String, Vec<String>), u16> {
    match decision {
        Decision::Ask(_) => panic!("nobody is to be asked"),
        Decision::Answer(answer, _) => Err(answer.status.as_u16()),
        Decision::Forward(forward) => {
            let mut headers = request(text).headers;
            forward.edits.apply(&mut headers);
            let mut fields: Vec<_> =
                headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
            fields.sort();
            Ok((forward.target, fields))
        }
    }
}

fn check(client: &str, text: &str, expected: Result<(&str, &[&str]), u16>) {
    let table = table(RoutePolicy::default(), Dialect::Kubernetes);
    let found = outcome(ask(&table, client, None, text), text);
    let expected =
        expected.map(|(target, fields)| (target.into(), fields.iter().map(|field| (*field).into()).collect()));
    assert_eq!(found, expected, "{text}");
}

#[test]
fn a_strangers_forwarding_headers_are_replaced_and_forwarded_is_left_alone() {
    check(
        "198.51.100.7",
        "GET /app HTTP/1.1
         Host: shop.example:8080
         X-Forwarded-For: 1.2.3.4
         X-Forwarded-Proto: https
         X-Forwarded-Host: evil.example
         X-Forwarded-Port: 1
         X-Real-IP: 1.2.3.4
         X-Scheme: https
         Forwarded: for=1.2.3.4
         X-Request-ID: mine",
        Ok((
            "/app",
            &[
                "forwarded: for=1.2.3.4",
                "host: shop.example:8080",
                "x-forwarded-for: 198.51.100.7",
                "x-forwarded-host: shop.example:8080",
                "x-forwarded-port: 8080",
                "x-forwarded-proto: http",
                "x-real-ip: 198.51.100.7",
                "x-request-id: id",
            ],
        )),
    );
}

#[test]
fn a_trusted_proxys_forwarding_headers_are_kept_and_extended() {
    check(
        "10.9.0.1",
        "GET /app HTTP/1.1
         Host: shop.example
         X-Forwarded-For: 1.2.3.4, 203.0.113.9
         X-Forwarded-For: 10.9.0.2
         X-Forwarded-Proto: https
         X-Forwarded-Host: shop.example:8443
         X-Forwarded-Port: 8443",
        Ok((
            "/app",
            &[
                "host: shop.example",
                "x-forwarded-for: 1.2.3.4, 203.0.113.9, 10.9.0.2, 10.9.0.1",
                "x-forwarded-host: shop.example:8443",
                "x-forwarded-port: 8443",
                "x-forwarded-proto: https",
                "x-real-ip: 203.0.113.9",
                "x-request-id: id",
            ],
        )),
    );
}

#[test]
fn the_ports_of_the_listeners_are_nobodys_business() {
    let table = table(RoutePolicy::default(), Dialect::Kubernetes);
    let text = "GET /app HTTP/1.1\nHost: shop.example";
    for (tls, scheme, port) in [
        (None, "http", "80"),
        (Some(Tls { server_name: None, client: None, session: TlsSession::default() }), "https", "443"),
    ] {
        let (_, fields) = outcome(ask(&table, "198.51.100.7", tls, text), text).unwrap();
        for expected in [
            "host: shop.example".to_owned(),
            "x-forwarded-host: shop.example".to_owned(),
            format!("x-forwarded-port: {port}"),
            format!("x-forwarded-proto: {scheme}"),
        ] {
            assert!(fields.contains(&expected), "{expected}: {fields:?}");
        }
    }
}

#[test]
fn fields_that_a_backend_would_take_for_ours_are_removed() {
    check(
        "10.9.0.1",
        "GET /app HTTP/1.1
         Host: shop.example
         X_Forwarded_For: 6.6.6.6
         X-Forwarded_Proto: https
         X.Real.IP: 6.6.6.6
         my_header: kept
         Cookie: theme=dark
         Cookie: session=abc
         Trailer: Digest",
        Ok((
            "/app",
            &[
                "cookie: theme=dark; session=abc",
                "host: shop.example",
                "my_header: kept",
                "x-forwarded-for: 10.9.0.1",
                "x-forwarded-host: shop.example",
                "x-forwarded-port: 80",
                "x-forwarded-proto: http",
                "x-real-ip: 10.9.0.1",
                "x-request-id: id",
            ],
        )),
    );
}

#[test]
fn hop_by_hop_fields_stop_here() {
    check(
        "198.51.100.7",
        "GET /app/x?q=/../1 HTTP/1.1
         Host: shop.example
         Connection: keep-alive, X-Internal, Host, Authorization
         Keep-Alive: timeout=5
         Authorization: Basic eDp5
         X-Internal: 1
         TE: trailers
         Proxy: http://evil.example
         Upgrade: h2c",
        Ok((
            "/app/x?q=/../1",
            &[
                "authorization: Basic eDp5",
                "host: shop.example",
                "te: trailers",
                "x-forwarded-for: 198.51.100.7",
                "x-forwarded-host: shop.example",
                "x-forwarded-port: 80",
                "x-forwarded-proto: http",
                "x-real-ip: 198.51.100.7",
                "x-request-id: id",
            ],
        )),
    );
}

#[test]
fn an_upgrade_is_passed_on_unless_it_is_h2c() {
    let table = table(RoutePolicy::default(), Dialect::Kubernetes);
    for (fields, passes) in [
        ("Connection: Upgrade\nUpgrade: websocket", true),
        ("Connection: keep-alive, upgrade\nUpgrade: SPDY/3.1", true),
        ("Connection: Upgrade\nUpgrade: h2c", false),
        ("Connection: Upgrade\nUpgrade: websocket, h2c", false),
        ("Upgrade: websocket", false),
    ] {
        let text = format!("GET /app HTTP/1.1\nHost: shop.example\n{fields}");
        let Decision::Forward(forward) = ask(&table, "198.51.100.7", None, &text) else { panic!("{text}") };
        assert_eq!(forward.upgrade, passes, "{text}");
        assert_eq!(forward.edits.set.iter().any(|(name, _)| name == http::header::UPGRADE), passes, "{text}");
    }
}

#[test]
fn what_is_matched_is_what_is_forwarded() {
    for (target, forwarded) in [
        ("/x/../app", Ok("/app")),
        ("/%61pp/%7e", Ok("/app/~")),
        ("/app/a%2fb", Ok("/app/a%2Fb")),
        ("/app/../secret", Err(404)),
        ("/app/%2e%2e/secret", Err(404)),
        ("/app/..%2fsecret", Err(400)),
        ("/app%00", Err(400)),
        ("/application", Err(404)),
        ("/app#fragment", Err(400)),
        ("*", Err(400)),
    ] {
        let text = format!("GET {target} HTTP/1.1\nHost: shop.example");
        let table = table(RoutePolicy::default(), Dialect::Kubernetes);
        let found = outcome(ask(&table, "198.51.100.7", None, &text), &text).map(|(target, _)| target);
        assert_eq!(found, forwarded.map(String::from), "{target}");
    }
}

#[test]
fn a_request_needs_one_host() {
    check("198.51.100.7", "GET /app HTTP/1.1\nAccept: */*", Err(400));
    check("198.51.100.7", "GET /app HTTP/1.1\nHost: shop.example\nHost: shop.example", Err(400));
    check("198.51.100.7", "GET /app HTTP/1.1\nHost: shop example", Err(400));
    check("198.51.100.7", "GET /app HTTP/1.0", Err(404));
    check("198.51.100.7", "OPTIONS * HTTP/1.1\nHost: shop.example", Err(204));
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_is_sent() {
    let table = table(RoutePolicy { max_body: Some(10), ..RoutePolicy::default() }, Dialect::Kubernetes);
    for (length, status) in [("10", None), ("11", Some(413))] {
        let text = format!("POST /app HTTP/1.1\nHost: shop.example\nContent-Length: {length}");
        assert_eq!(outcome(ask(&table, "198.51.100.7", None, &text), &text).err(), status);
    }
}

#[test]
fn a_plain_request_is_sent_to_https_where_the_route_asks_for_it() {
    let policy = RoutePolicy { https_redirect: HttpsRedirect::Always, ..RoutePolicy::default() };
    let table = table(policy, Dialect::IngressNginx);
    let text = "GET /app/a?b=c HTTP/1.1\nHost: shop.example:8080";
    let Decision::Answer(answer, Some(_)) = ask(&table, "198.51.100.7", None, text) else { panic!() };
    assert_eq!(answer.status, StatusCode::PERMANENT_REDIRECT);
    assert!(answer.headers.contains(&(LOCATION, HeaderValue::from_static("https://shop.example/app/a?b=c"))));
    let by_tls = ask(
        &table,
        "198.51.100.7",
        Some(Tls { server_name: None, client: None, session: TlsSession::default() }),
        text,
    );
    assert!(matches!(by_tls, Decision::Forward(_)));
    let behind_proxy = format!("{text}\nX-Forwarded-Proto: https");
    assert!(matches!(ask(&table, "10.9.0.1", None, &behind_proxy), Decision::Forward(_)));
}

#[test]
fn a_clients_request_id_is_kept_only_if_it_can_be_passed_on() {
    let id = |value: &'static str| {
        let headers = Fields::from_iter([(HeaderName::from_static("x-request-id"), HeaderValue::from_static(value))]);
        request_id(&headers, 255).to_str().unwrap().to_owned()
    };
    assert_eq!(id("abc-123"), "abc-123");
    assert_eq!(id("<script>"), "000000000000000000000000000000ff");
    assert_eq!(id(""), "000000000000000000000000000000ff");
}

/// `satisfy: any` makes a password needless for addresses that a list lets in, and for no other.
#[test]
fn who_is_not_denied_is_not_let_in_for_it() {
    let ranges = |text: &str| -> Box<[ipnet::IpNet]> { text.split(' ').map(|net| net.parse().unwrap()).collect() };
    let deny_only = Access { deny: ranges("203.0.113.0/24"), allow: None };
    let both = Access { allow: Some(ranges("198.51.100.0/24")), ..deny_only.clone() };
    for (access, any, client, expected) in [
        (&deny_only, true, "198.51.100.7", "asked"),
        (&deny_only, true, "203.0.113.7", "asked"),
        (&deny_only, false, "203.0.113.7", "403"),
        (&deny_only, false, "198.51.100.7", "asked"),
        (&both, true, "198.51.100.7", "passes"),
        (&both, true, "192.0.2.7", "asked"),
        (&both, true, "203.0.113.7", "asked"),
        (&both, false, "198.51.100.7", "asked"),
        (&both, false, "192.0.2.7", "403"),
    ] {
        let basic = BasicAuth { challenge: HeaderValue::from_static("Basic"), users: std::collections::HashMap::new() };
        let auth = Auth { any, basic: Some(Arc::new(basic)), external: None };
        let policy = RoutePolicy {
            access: Some(Arc::new(access.clone())),
            auth: Some(Arc::new(auth)),
            ..RoutePolicy::default()
        };
        let table = table(policy, Dialect::IngressNginx);
        let found = match ask(&table, client, None, "GET /app HTTP/1.1\nHost: shop.example") {
            Decision::Ask(_) => "asked".to_owned(),
            Decision::Forward(_) => "passes".to_owned(),
            Decision::Answer(answer, _) => answer.status.as_u16().to_string(),
        };
        assert_eq!(found, expected, "{access:?} {any} {client}");
    }
}
