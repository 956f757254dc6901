//! The `ConfigMap`s of TCP and UDP services.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use std::time::Duration;

use landfall_ingress_model::backend::Transport;
use landfall_ingress_model::compiler::{Built, Compiler};
use landfall_ingress_model::input::Input;
use landfall_ingress_model::settings::Publish;
use landfall_ingress_model::table::StreamPort;
use landfall_model::{Change, ObjectKey};
use serde_json::{Value, json};
use support::{input, now, settings};

fn compiler() -> Compiler {
    let mut settings = settings(Publish::Nothing);
    settings.config_map = ObjectKey::parse("landfall/options");
    settings.tcp_services = ObjectKey::parse("landfall/tcp");
    settings.udp_services = ObjectKey::parse("landfall/udp");
    Compiler::new(settings)
}

fn map(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "landfall"}, "data": data})
}

fn named(name: &str, data: &Value) -> Input {
    Input::NamedConfigMap(Change::Apply(serde_json::from_value(map(name, data)).unwrap()))
}

/// A Service with a TCP and a UDP port of one number, and an endpoint for each.
fn service(name: &str, address: &str) -> [Input; 2] {
    let ports = json!([
        {"name": "tcp", "port": 53, "protocol": "TCP"},
        {"name": "udp", "port": 53, "protocol": "UDP", "appProtocol": "dns"},
    ]);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"selector": {"app": name}, "ports": ports},
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4", "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
        "ports": [
            {"name": "tcp", "port": 1053, "protocol": "TCP"}, {"name": "udp", "port": 2053, "protocol": "UDP"},
        ],
    });
    [input(&service), input(&slice)]
}

/// `TCP port 53: shop/dns:53 10.0.0.1:1053 PROXY in`
fn ports(built: &Built) -> Vec<String> {
    for (backend, state) in &built.backends {
        backend.publish(state.clone());
    }
    let shown = |service: &std::sync::Arc<landfall_ingress_model::table::StreamService>| {
        let addresses: Vec<String> = service.backend.state().addresses().iter().map(ToString::to_string).collect();
        let proxy = match (service.proxy.from_client, service.proxy.to_endpoint) {
            (false, false) => "",
            (true, false) => " PROXY in",
            (false, true) => " PROXY out",
            (true, true) => " PROXY in and out",
        };
        let closed = if service.is_open() { "" } else { " closed" };
        format!("{}: {} {}{proxy}{closed}", service.port, service.backend.key, addresses.join(" "))
    };
    built.table.streams.ports.values().map(shown).collect()
}

fn problems(built: &Built) -> Vec<String> {
    built.problems.iter().map(|problem| format!("{}: {}", problem.reason, problem.message())).collect()
}

#[test]
fn every_form_of_an_entry_is_read_and_a_bad_one_leaves_its_neighbours_alone() {
    let mut compiler = compiler();
    compiler.apply(service("dns", "10.0.0.1"));
    let tcp = json!({
        "1": "shop/dns:53", "2": "shop/dns:tcp", "3": "shop/dns:53:PROXY", "4": "shop/dns:53::proxy",
        "5": "shop/dns:tcp:PROXY:PROXY\n", "6": "shop/dns:53:PROXXY",
        "10254": "shop/dns:53", "0": "shop/dns:53", "http": "shop/dns:53", "70000": "shop/dns:53", "01": "shop/dns:53",
        "11": "dns:53", "12": "shop/dns", "13": "shop/dns:", "14": "shop/dns:0", "15": "shop/dns:53:PROXY:PROXY:PROXY",
        "16": "shop/dsn:53", "17": "shop/dns:dns", "18": "shop/dns:udp",
    });
    compiler.apply([named("tcp", &tcp), named("udp", &json!({"1": "shop/dns:53", "2": "shop/dns:udp:PROXY"}))]);
    let built = compiler.build(now());
    assert_eq!(
        ports(&built),
        [
            "TCP port 1: shop/dns:53 10.0.0.1:1053",
            "TCP port 2: shop/dns:tcp 10.0.0.1:1053",
            "TCP port 3: shop/dns:53 10.0.0.1:1053 PROXY in",
            "TCP port 4: shop/dns:53 10.0.0.1:1053 PROXY out",
            "TCP port 5: shop/dns:tcp 10.0.0.1:1053 PROXY in and out",
            "TCP port 6: shop/dns:53 10.0.0.1:1053",
            "TCP port 16: shop/dsn:53  closed",
            "TCP port 17: shop/dns:dns  closed",
            "TCP port 18: shop/dns:udp  closed",
            "UDP port 1: shop/dns:53 10.0.0.1:2053",
            "UDP port 2: shop/dns:udp 10.0.0.1:2053",
        ]
    );
    let problems = problems(&built).join("\n");
    for part in [
        r#"InvalidConfigMap: configmap landfall/tcp: data[0] "shop/dns:53": this key is no TCP port"#,
        "InvalidConfigMap: configmap landfall/tcp: data[http] ",
        "InvalidConfigMap: configmap landfall/tcp: data[70000] ",
        r#"InvalidConfigMap: configmap landfall/tcp: data[1] "shop/dns:53": another key means TCP port 1 too"#,
        r#"data[11] "dns:53": it does not begin with a Service, so TCP port 11 is not opened; write NAMESPACE/SERVICE:PORT"#,
        r#"data[12] "shop/dns": it names no port of the Service"#,
        r#"data[13] "shop/dns:": it names no port of the Service"#,
        r#"data[14] "shop/dns:0": the port of the Service is none"#,
        r#"data[15] "shop/dns:53:PROXY:PROXY:PROXY": it has too many parts"#,
        r#"data[6] "shop/dns:53:PROXXY": the only word that may follow the port is PROXY"#,
        r#"UnknownService: configmap landfall/tcp: data[16] "shop/dsn:53": there is no service shop/dsn, so TCP port 16 is not opened; did you mean"#,
        r#"UnknownPort: configmap landfall/tcp: data[17] "shop/dns:dns": service shop/dns has no port named "dns", so TCP port 17 is not opened"#,
        r#"UnsupportedProtocol: configmap landfall/tcp: data[18] "shop/dns:udp": port 53 (udp) of service shop/dns is for UDP, not for TCP; name a TCP port"#,
        r#"PortConflict: configmap landfall/tcp: data[10254] "shop/dns:53": the ingress itself listens on TCP port 10254"#,
        r#"configmap landfall/udp: data[2] "shop/dns:udp:PROXY": the PROXY protocol is for TCP only"#,
    ] {
        assert!(problems.to_lowercase().contains(&part.to_lowercase()), "{part} is missing in\n{problems}");
    }
    assert_eq!(problems.lines().count(), 15, "{problems}");
    let port = StreamPort { transport: Transport::Tcp, number: 5 };
    let problem = compiler.stream_problem(port, "it is taken".into(), "free it".into()).unwrap();
    assert!(problem.message().ends_with(r#"data[5] "shop/dns:tcp:PROXY:PROXY": it is taken; free it"#), "{problem}");
}

#[test]
fn changes_of_maps_services_and_endpoints_touch_what_they_are_about() {
    let mut compiler = compiler();
    compiler.apply([named("tcp", &json!({"1": "shop/dns:53", "2": "shop/other:53"}))]);
    let built = compiler.build(now());
    assert_eq!(ports(&built), ["TCP port 1: shop/dns:53  closed", "TCP port 2: shop/other:53  closed"]);
    assert_eq!(built.missing_config_maps.len(), 2, "both are asked for by name");
    // A Service that comes later opens its port, without another table.
    let generation = built.table.generation;
    compiler.apply(service("dns", "10.0.0.1"));
    let built = compiler.build(now());
    assert_eq!(built.table.generation, generation);
    assert_eq!(ports(&built), ["TCP port 1: shop/dns:53 10.0.0.1:1053", "TCP port 2: shop/other:53  closed"]);
    compiler.apply(service("dns", "10.0.0.2"));
    let built = compiler.build(now());
    assert_eq!(ports(&built)[0], "TCP port 1: shop/dns:53 10.0.0.2:1053");
    // What stays in the map is the very same one.
    let port = StreamPort { transport: Transport::Tcp, number: 1 };
    let before = built.table.streams.ports[&port].clone();
    compiler.apply([named("tcp", &json!({"1": "shop/dns:53", "3": "shop/dns:53"}))]);
    let built = compiler.build(now());
    assert!(std::sync::Arc::ptr_eq(&before, &built.table.streams.ports[&port]));
    assert_eq!(ports(&built).len(), 2);
    assert!(problems(&built).is_empty(), "nobody uses the other Service any more: {:?}", problems(&built));
    compiler.apply([named("tcp", &json!({}))]);
    assert!(ports(&compiler.build(now())).is_empty());
}

#[test]
fn a_map_that_is_named_and_not_there_is_a_problem_once_that_is_known() {
    let mut compiler = compiler();
    assert!(problems(&compiler.build(now())).is_empty(), "it may still come");
    compiler.apply([Input::NamedConfigMap(Change::Delete(ObjectKey::new("landfall", "tcp")))]);
    let told = problems(&compiler.build(now()));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("UnknownConfigMap: ") && told[0].contains("--tcp-services-configmap"), "{told:?}");
    compiler.apply([named("tcp", &json!({}))]);
    assert!(problems(&compiler.build(now())).is_empty());
}

#[test]
fn the_options_of_ingress_nginx_hold_for_every_port() {
    let mut compiler = compiler();
    compiler.apply([named("tcp", &json!({"1": "shop/dns:53"}))]);
    let built = compiler.build(now());
    let policy = built.table.streams.policy.clone();
    assert_eq!((policy.idle, policy.tries, policy.responses), (Duration::from_mins(10), 3, Some(1)));
    compiler.apply([input(&map(
        "options",
        &json!({
            "proxy-stream-timeout": "1h30m", "proxy-stream-next-upstream-tries": "2",
            "proxy-stream-next-upstream-timeout": "0", "proxy-stream-responses": "2147483647",
            "disable-stream-access-log": "true",
        }),
    ))]);
    let built = compiler.build(now());
    let policy = built.table.streams.policy.clone();
    assert_eq!((policy.idle, policy.tries, policy.within), (Duration::from_mins(90), 2, None));
    assert!(policy.responses.is_none() && policy.is_unlogged);
    let service = built.table.streams.ports.values().next().unwrap();
    assert_eq!(service.policy, policy);
    compiler.apply([input(&map(
        "options",
        &json!({"proxy-stream-next-upstream": "false", "proxy-stream-timeout": "soon", "proxy-stream-responses": "-1"}),
    ))]);
    let built = compiler.build(now());
    assert_eq!((built.table.streams.policy.tries, built.table.streams.policy.idle), (1, Duration::from_mins(10)));
    let told = problems(&built);
    assert!(told.iter().any(|told| told.contains(r#"data[proxy-stream-timeout] "soon""#)), "{told:?}");
    assert!(told.iter().any(|told| told.contains("data[proxy-stream-responses]")), "{told:?}");
}
