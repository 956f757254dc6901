//! Traces: what backends are told, and what a collector gets.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Response};
use landfall_ingress::observe::Traffic;
use landfall_ingress::traces::Traces;
use landfall_ingress_model::policy::{Sampler, Sampling, Template, Tracing};
use landfall_ingress_model::table::{Collector, Table};
use landfall_ingress_model::tls::CertificateTable;
use landfall_shared::drain::{Drain, DrainTimes};
use prometheus_client::registry::Registry;
use prost::{Message, Oneof};
use support::backend::Backend;
use support::client::Client;
use support::plane::{Plane, rule, table, wait_for};

#[derive(Clone, PartialEq, Message)]
struct Export {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
#[expect(clippy::struct_field_names, reason = "the names of the protocol")]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    trace_state: String,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start: u64,
    #[prost(fixed64, tag = "8")]
    end: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 3")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Number(i64),
}

fn attributes(list: &[KeyValue]) -> BTreeMap<String, String> {
    let shown = |value: &AnyValue| match &value.value {
        Some(Value::Text(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        None => String::new(),
    };
    list.iter().map(|pair| (pair.key.clone(), pair.value.as_ref().map(shown).unwrap_or_default())).collect()
}

/// A collector that keeps what it gets.
#[derive(Clone, Default)]
struct Otlp(Arc<Mutex<Vec<ResourceSpans>>>);

impl Otlp {
    async fn listen(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let this = self.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let this = this.clone();
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(tcp).await.unwrap();
                    while let Some(Ok((request, mut answer))) = connection.accept().await {
                        let this = this.clone();
                        tokio::spawn(async move {
                            assert_eq!(
                                request.uri().path(),
                                "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
                            );
                            assert_eq!(request.headers()["content-type"], "application/grpc");
                            let mut stream = request.into_body();
                            let mut body = BytesMut::new();
                            while let Some(data) = stream.data().await {
                                let data = data.unwrap();
                                stream.flow_control().release_capacity(data.len()).unwrap();
                                body.extend_from_slice(&data);
                            }
                            let head = (body.get_u8(), usize::try_from(body.get_u32()).unwrap());
                            assert_eq!(head, (0, body.len()));
                            let export = Export::decode(body.freeze()).unwrap();
                            this.0.lock().unwrap().extend(export.resource_spans);
                            let mut stream = answer.send_response(Response::new(()), false).unwrap();
                            stream.send_data(Bytes::from_static(&[0; 5]), false).unwrap();
                            let mut trailers = HeaderMap::new();
                            trailers.insert("grpc-status", "0".parse().unwrap());
                            stream.send_trailers(trailers).unwrap();
                        });
                    }
                });
            }
        });
        address
    }

    fn spans(&self) -> Vec<Span> {
        let got = self.0.lock().unwrap();
        got.iter().flat_map(|resource| &resource.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
    }
}

fn tracing() -> Tracing {
    let sampling = Sampling { sampler: Sampler::Always, follows_parent: true };
    Tracing { trusts: true, operation: None, sampling }
}

/// A plane whose routes are traced, with its registry and what ends the exporter.
struct Traced {
    plane: Plane,
    registry: Registry,
    runtime: tokio::runtime::Runtime,
    drainer: landfall_shared::drain::Drainer,
}

fn start(otlp: Option<&Otlp>, rules: Vec<support::plane::Rule>) -> Traced {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let address = otlp.map(|otlp| runtime.block_on(otlp.listen()));
    let mut routes = table(rules, CertificateTable::default());
    let address = address.unwrap_or_else(|| "127.0.0.1:1".parse().unwrap());
    routes.collector = Some(Arc::new(Collector {
        host: address.ip().to_string().into(),
        port: address.port(),
        service: "edge".into(),
        delay: Duration::from_millis(20),
        batch: 3,
    }));
    let mut registry = Registry::default();
    let table = Arc::new(ArcSwap::from_pointee(Table::default()));
    let (traces, exporter) = Traces::register(&mut registry);
    let traffic = Traffic::register(&mut registry, None, table.clone()).with_traces(traces);
    let plane = Plane::with(routes, |config| config.observer = Arc::new(traffic));
    table.store(plane.table.load_full());
    let (drainer, drain) = Drain::new(DrainTimes::default());
    runtime.spawn(exporter.run(plane.table.clone(), drain));
    Traced { plane, registry, runtime, drainer }
}

fn metric(traced: &Traced, name: &str) -> u64 {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &traced.registry).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}_total ")).map(str::to_owned));
    line.unwrap_or_else(|| panic!("{name} is missing in {text}")).parse().unwrap()
}

const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn a_trace_goes_on_to_the_backend_and_its_span_to_the_collector() {
    let (otlp, backend) = (Otlp::default(), Backend::echo());
    let traced = start(
        Some(&otlp),
        vec![
            rule("a", "/shop", &[backend.address]).policy(|policy| policy.tracing = Some(Arc::new(tracing()))),
            rule("a", "/dead", &["127.0.0.1:1".parse().unwrap()]).policy(|policy| {
                let operation = Some(Template::of_variables("to $service_name of $namespace").unwrap());
                policy.tracing = Some(Arc::new(Tracing { operation, ..tracing() }));
            }),
            rule("a", "/plain", &[backend.address]),
        ],
    );
    let mut client = Client::plain(traced.plane.http());
    let head = format!("traceparent: {GIVEN}\r\ntracestate: a=b\r\nUser-Agent: test\r\n");
    // Names are the same in any case.
    let small = |text: String| text.replace("Traceparent: ", "traceparent: ");
    let text = client.ask(format!("GET /shop/1?q=2 HTTP/1.1\r\nHost: a\r\n{head}\r\n"));
    let text = small(text.text());
    let sent = text.lines().find_map(|line| line.strip_prefix("traceparent: "));
    let sent = sent.unwrap_or_else(|| panic!("no traceparent in {text}")).to_owned();
    assert!(text.contains("tracestate: a=b\n"), "{text}");
    let [span] = &wait_for(|| Some(otlp.spans()).filter(|spans| !spans.is_empty()))[..] else { panic!("one span") };
    let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |all, byte| format!("{all}{byte:02x}"));
    assert_eq!(sent, format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id)));
    assert_eq!(hex(&span.trace_id), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!((hex(&span.parent_span_id).as_str(), &*span.trace_state), ("b7ad6b7169203331", "a=b"));
    assert_eq!((&*span.name, span.kind, span.status.is_none()), ("GET /shop", 2, true));
    assert!(span.start > 1_700_000_000_000_000_000 && span.end >= span.start);
    let told = attributes(&span.attributes);
    for (key, value) in [
        ("http.request.method", "GET"),
        ("url.scheme", "http"),
        ("url.path", "/shop/1"),
        ("url.query", "q=2"),
        ("server.address", "a"),
        ("http.response.status_code", "200"),
        ("http.route", "/shop"),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("k8s.namespace.name", "test"),
        ("upstream.address", &backend.address.to_string()),
    ] {
        assert_eq!(told.get(key).map(String::as_str), Some(value), "{key} in {told:?}");
    }
    let resource = otlp.0.lock().unwrap()[0].resource.clone().unwrap();
    assert_eq!(attributes(&resource.attributes)["service.name"], "edge");

    // Without one a trace begins here; what fails is an error; what is not traced is left as it is.
    let text = small(client.get("a", "/shop").text());
    assert!(text.contains("traceparent: 00-"), "{text}");
    assert_eq!(client.get("a", "/dead").status, 502);
    let spans = wait_for(|| Some(otlp.spans()).filter(|spans| spans.len() >= 3));
    assert!(spans[1].parent_span_id.is_empty() && spans[1].trace_id != span.trace_id);
    assert_eq!((&*spans[2].name, spans[2].status.as_ref().unwrap().code), ("to a-dead of test", 2));
    let text = client.ask(format!("GET /plain HTTP/1.1\r\nHost: a\r\ntraceparent: {GIVEN}\r\n\r\n")).text();
    assert!(text.contains(&format!("traceparent: {GIVEN}\n")), "{text}");
    // One that is not sampled is passed on as that, and not sent.
    let unsampled = GIVEN.replace("-01", "-00");
    let text = client.ask(format!("GET /shop HTTP/1.1\r\nHost: a\r\ntraceparent: {unsampled}\r\n\r\n"));
    let text = small(text.text());
    let line = text.lines().find(|line| line.starts_with("traceparent: ")).unwrap();
    assert!(line.ends_with("-00") && !line.contains("b7ad6b7169203331"), "{line}");
    wait_for(|| (metric(&traced, "landfall_ingress_spans_sent") == 3).then_some(()));
    assert_eq!(otlp.spans().len(), 3);
}

#[test]
fn a_collector_that_is_away_costs_spans_and_no_request() {
    let backend = Backend::echo();
    let rules = vec![rule("a", "/", &[backend.address]).policy(|policy| policy.tracing = Some(Arc::new(tracing())))];
    let traced = start(None, rules);
    let mut client = Client::plain(traced.plane.http());
    for _ in 0..20 {
        assert_eq!(client.get("a", "/").status, 200);
    }
    wait_for(|| (metric(&traced, "landfall_ingress_spans_failed") == 20).then_some(()));
}

#[test]
fn what_waits_is_sent_at_the_end() {
    let (otlp, backend) = (Otlp::default(), Backend::echo());
    let rules = vec![rule("a", "/", &[backend.address]).policy(|policy| policy.tracing = Some(Arc::new(tracing())))];
    let traced = start(Some(&otlp), rules);
    let mut slow = (**traced.plane.table.load().collector.as_ref().unwrap()).clone();
    slow.delay = Duration::from_hours(1);
    slow.batch = 100;
    let old = traced.plane.table.load_full();
    traced.plane.table.store(Arc::new(Table {
        generation: 2,
        exact: old.exact.clone(),
        collector: Some(Arc::new(slow)),
        ..Table::default()
    }));
    let mut client = Client::plain(traced.plane.http());
    for _ in 0..5 {
        assert_eq!(client.get("a", "/").status, 200);
    }
    traced.runtime.block_on(traced.drainer.run(std::future::ready(())));
    wait_for(|| (otlp.spans().len() == 5).then_some(()));
}
