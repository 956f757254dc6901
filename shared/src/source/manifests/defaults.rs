//! What an API server fills in before it stores an object.

use serde_json::{Map, Value, json};

/// Fills in the defaults of the object's kind; `value` is a whole object.
pub(super) fn fill(kind: &str, value: &mut Value) {
    drop_nulls(value);
    let Some(object) = value.as_object_mut() else { return };
    for (of, fill) in TABLE {
        if *of == kind {
            fill(object);
        }
    }
}

type Fill = fn(&mut Map<String, Value>);

/// The defaults by kind, as the API's own `SetDefaults_…` functions have them, for the fields that are read here.
const TABLE: &[(&str, Fill)] =
    &[("Service", service), ("EndpointSlice", endpoint_slice), ("Endpoints", endpoints), ("Secret", secret)];

/// A null in a manifest is the same as nothing, except in a map of texts, where it is an empty text.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for field in ["annotations", "labels", "data", "stringData"] {
                if let Some(Value::Object(texts)) = map.get_mut(field) {
                    texts.values_mut().filter(|text| text.is_null()).for_each(|text| *text = json!(""));
                }
            }
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn set(object: &mut Map<String, Value>, field: &str, value: Value) {
    object.entry(field).or_insert(value);
}

fn each<'a>(object: &'a mut Map<String, Value>, list: &str) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    object.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

fn service(object: &mut Map<String, Value>) {
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
    set(spec, "type", json!("ClusterIP"));
    set(spec, "sessionAffinity", json!("None"));
    if spec["sessionAffinity"] == "ClientIP" {
        let config = spec.entry("sessionAffinityConfig").or_insert_with(|| json!({}));
        if let Some(config) = config.as_object_mut() {
            let client = config.entry("clientIP").or_insert_with(|| json!({}));
            if let Some(client) = client.as_object_mut() {
                // Three hours: DefaultClientIPServiceAffinitySeconds.
                set(client, "timeoutSeconds", json!(10_800));
            }
        }
    }
    let external = spec["type"] == "LoadBalancer" || spec["type"] == "NodePort";
    if external {
        set(spec, "externalTrafficPolicy", json!("Cluster"));
    }
    if spec["type"] == "LoadBalancer" {
        set(spec, "allocateLoadBalancerNodePorts", json!(true));
    }
    if spec["type"] != "ExternalName" {
        set(spec, "internalTrafficPolicy", json!("Cluster"));
    }
    for port in each(spec, "ports") {
        set(port, "protocol", json!("TCP"));
        if let Some(number) = port.get("port").cloned() {
            set(port, "targetPort", number);
        }
    }
}

fn endpoint_slice(object: &mut Map<String, Value>) {
    for port in each(object, "ports") {
        set(port, "protocol", json!("TCP"));
        set(port, "name", json!(""));
    }
}

fn endpoints(object: &mut Map<String, Value>) {
    for subset in each(object, "subsets") {
        for port in each(subset, "ports") {
            set(port, "protocol", json!("TCP"));
        }
    }
}

/// `stringData` is written plain and overrides `data`, which holds Base64.
fn secret(object: &mut Map<String, Value>) {
    set(object, "type", json!("Opaque"));
    if let Some(Value::Object(data)) = object.get_mut("data") {
        data.values_mut().for_each(unwrap_lines);
    }
    let Some(Value::Object(plain)) = object.get_mut("stringData") else { return };
    if !plain.values().all(Value::is_string) {
        // Left for decoding to report.
        return;
    }
    let plain = std::mem::take(plain);
    object.remove("stringData");
    let data = object.entry("data").or_insert_with(|| json!({}));
    if let Some(data) = data.as_object_mut() {
        for (key, text) in plain {
            let bytes = k8s_openapi::ByteString(text.as_str().unwrap_or_default().as_bytes().to_vec());
            data.insert(key, serde_json::to_value(bytes).unwrap_or_default());
        }
    }
}

/// Base64 may be wrapped, as kustomize and `base64` write it: the API server's decoder ignores line ends.
fn unwrap_lines(value: &mut Value) {
    if let Value::String(text) = value {
        text.retain(|character| !matches!(character, '\r' | '\n'));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_api() {
        let check = |kind: &str, mut value: Value, expected: Value| {
            fill(kind, &mut value);
            assert_eq!(value, expected, "{kind}");
        };
        check(
            "Service",
            json!({"spec": {"ports": [{"port": 80}, {"port": 53, "protocol": "UDP", "targetPort": "dns"}], "externalName": null}}),
            json!({"spec": {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster", "ports": [
                {"port": 80, "protocol": "TCP", "targetPort": 80}, {"port": 53, "protocol": "UDP", "targetPort": "dns"}]}}),
        );
        check(
            "Service",
            json!({"spec": {"type": "LoadBalancer", "sessionAffinity": "ClientIP"}}),
            json!({"spec": {"type": "LoadBalancer", "sessionAffinity": "ClientIP", "internalTrafficPolicy": "Cluster",
                "externalTrafficPolicy": "Cluster", "allocateLoadBalancerNodePorts": true,
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}}}),
        );
        check(
            "EndpointSlice",
            json!({"ports": [{"port": 80}]}),
            json!({"ports": [{"port": 80, "protocol": "TCP", "name": ""}]}),
        );
        check(
            "Secret",
            json!({"data": {"a": "YQ==", "b": "Yg=="}, "stringData": {"b": "hello"}}),
            json!({"type": "Opaque", "data": {"a": "YQ==", "b": "aGVsbG8="}}),
        );
        check(
            "Secret",
            json!({"data": {"a": "YWFh\nYWFh\r\nYQ==\n"}}),
            json!({"type": "Opaque", "data": {"a": "YWFhYWFhYQ=="}}),
        );
        check("ConfigMap", json!({"data": {"a": null}}), json!({"data": {"a": ""}}));
    }
}
