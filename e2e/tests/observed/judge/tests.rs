use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::*;

fn request(expect: &Value, accept: &Value) -> Request {
    serde_json::from_value(json!({"path": "/", "expect": expect, "accept": accept})).unwrap()
}

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Exchange {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let answer = Answer { status, headers, body: body.into(), cut: false };
    let took = Duration::from_millis(3);
    Exchange { result: Outcome::Answer(answer), certificate: None, alpn: None, took }
}

fn seen(id: usize, service: &str, path: &str, headers: &[(&str, &str)]) -> Seen {
    Seen {
        id,
        service: service.into(),
        namespace: "a01".into(),
        pod: ([127, 0, 1, 1], 80).into(),
        method: "GET".into(),
        path: path.into(),
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        length: Arc::default(),
    }
}

/// The difference without alternatives.
fn judged(expect: &Value, exchange: &Exchange, seen: &[Seen]) -> String {
    judged_with(expect, &json!([]), exchange, seen)
}

fn judged_with(expect: &Value, accept: &Value, exchange: &Exchange, seen: &[Seen]) -> String {
    let observed = Observed { exchange, seen, pki: &Pki::default(), hsts: true };
    difference(&request(expect, accept), &observed).unwrap_or_default()
}

#[test]
fn our_own_answers() {
    let own = |expect: Value, headers: &[(&str, &str)]| judged(&expect, &answer(301, headers, "moved"), &[]);
    assert_eq!(own(json!({"status": 301, "headers": {"Location": "/x"}}), &[("location", "/x")]), "");
    assert_eq!(own(json!({"status": 308}), &[]), "status 301 instead of 308");
    assert_eq!(own(json!({"status": 301}), &[("Location", "/x")]), "Location \"/x\" instead of none");
    assert_eq!(own(json!({"status": 301, "headers": {"Location": "*"}}), &[("Location", "/x")]), "");
    assert_eq!(
        own(json!({"status": 301, "headers": {"Location": null}}), &[("Location", "/x")]),
        "Location [\"/x\"] instead of absent"
    );
    assert_eq!(own(json!({"status": 301, "headers": {"Location": "~^/[xy]$"}}), &[("Location", "/y")]), "");
    assert_eq!(
        own(json!({"status": 301, "headers": {"X": ["1", "2"]}}), &[("X", "1")]),
        "X [\"1\"] instead of [\"1\",\"2\"]"
    );
    assert_eq!(own(json!({"status": 301, "served_by": "a"}), &[]), "our own answer instead of one of a");
    assert_eq!(own(json!({"status": 301}), &[("Content-Type", "text/html"), ("Date", "now")]), "");
}

#[test]
fn strict_transport_security_is_free_over_tls_only() {
    let right = answer(301, &[HSTS], "");
    let expect = json!({"status": 301, "headers": {HSTS.0: null}});
    assert!(judged(&json!({"status": 301}), &right, &[]).starts_with("Strict-Transport-Security"));
    for (tls, hsts, met) in [(true, true, true), (true, false, false), (false, true, false)] {
        let mut request = request(&expect, &json!([]));
        request.tls = tls;
        let observed = Observed { exchange: &right, seen: &[], pki: &Pki::default(), hsts };
        assert_eq!(difference(&request, &observed).is_none(), met, "tls {tls}, by default {hsts}");
    }
}

#[test]
fn answers_of_services() {
    let exchange = answer(200, &[], r#"{"seen": 7}"#);
    let asked = seen(7, "a", "/x", &[("host", "h"), ("X-Request-ID", "1"), ("X-Request-ID", "1")]);
    let check = |expect: Value| judged(&expect, &exchange, std::slice::from_ref(&asked));
    assert_eq!(check(json!({"status": 200, "served_by": "a", "upstream_path": "/x", "upstream_method": "GET"})), "");
    assert_eq!(check(json!({"status": 200})), "an answer of a instead of our own");
    assert_eq!(check(json!({"status": 200, "served_by": "b"})), "served by a instead of b");
    assert_eq!(
        check(json!({"status": 200, "served_by": "a", "upstream_path": "/y"})),
        "upstream path \"/x\" instead of \"/y\""
    );
    let named = json!({"Host": "h", "X-Request-ID": "1", "X-Gone": null});
    let expect = json!({"status": 200, "served_by": "a", "upstream_headers": named, "no_other_upstream_headers": true});
    assert_eq!(check(expect), "");
    let expect =
        json!({"status": 200, "served_by": "a", "upstream_headers": {"Host": "h"}, "no_other_upstream_headers": true});
    assert_eq!(check(expect), "upstream X-Request-ID \"1\" instead of none");
}

#[test]
fn other_services() {
    let exchange = answer(200, &[], r#"{"seen": 7}"#);
    let both = [seen(6, "auth", "/auth", &[("Host", "h")]), seen(7, "a", "/", &[])];
    let check = |others: Value| {
        let mut expect = json!({"status": 200, "served_by": "a"});
        if !others.is_null() {
            expect["others_saw"] = others;
        }
        judged(&expect, &exchange, &both)
    };
    let auth = |path: &str, host: &str| json!({"auth": [{"method": "GET", "path": path, "headers": {"Host": host}}]});
    assert_eq!(check(auth("/auth", "h")), "");
    assert_eq!(check(Value::Null), "auth saw GET /auth instead of nothing");
    assert_eq!(check(auth("/x", "h")), "auth saw GET /auth instead of GET /x");
    assert_eq!(check(auth("/auth", "g")), "auth saw Host [\"h\"] instead of \"g\" instead of GET /auth");
    let mirror = json!({"mirror": [{"method": "GET", "path": "/"}], "auth": [{"method": "GET", "path": "/auth"}]});
    assert_eq!(check(mirror), "mirror saw nothing instead of GET /");
    assert_eq!(judged(&json!({"status": 200, "served_by": "a", "others_saw_any": true}), &exchange, &both), "");
    // Tries: all that one service got.
    let tries = |several: &[Seen]| {
        let twice = json!({"a": [{"method": "GET", "path": "/"}, {"method": "GET", "path": "/"}]});
        judged(&json!({"status": 200, "served_by": "a", "others_saw": twice}), &exchange, several)
    };
    assert_eq!(tries(&[seen(6, "a", "/", &[]), seen(7, "a", "/", &[])]), "");
    assert_eq!(tries(&[seen(7, "a", "/", &[])]), "a saw nothing instead of GET /");
}

#[test]
fn alternatives_say_all_that_counts() {
    let own = answer(503, &[("Refresh", "1")], "no");
    let expect = json!({"status": 404});
    assert_eq!(judged_with(&expect, &json!([{"status": 503}]), &own, &[]), "");
    assert_eq!(judged_with(&expect, &json!([{"status": 502}]), &own, &[]), "status 503 instead of 404");
    assert_eq!(judged_with(&expect, &json!([{"status": [502, 503]}]), &own, &[]), "");
    assert_eq!(
        judged_with(&expect, &json!([{"status": 503, "served_by": "a"}]), &own, &[]),
        "status 503 instead of 404"
    );
    // A choice of statuses says as little.
    let asked = [seen(7, "a", "/", &[])];
    assert_eq!(judged(&json!({"status": [200, 404]}), &answer(200, &[], r#"{"seen": 7}"#), &asked), "");
}

#[test]
fn cookies_in_any_order() {
    let cookie = |attributes: &[&str]| json!({"cookie": "SID", "value": "~", "attributes": attributes});
    let check = |wanted: &[Value], value: &str| {
        let expect = json!({"status": 200, "headers": {"Set-Cookie": wanted}});
        judged(&expect, &answer(200, &[("Set-Cookie", value)], ""), &[]).is_empty()
    };
    assert!(check(&[cookie(&["Path=/", "HttpOnly"])], "SID=abc; HttpOnly; Path=/"));
    assert!(check(&[cookie(&["Expires=~"])], "SID=abc; Expires=Thu, 01 Jan 1970 00:00:00 GMT"));
    assert!(!check(&[cookie(&["Path=/"])], "SID=abc; Path=/; Secure"));
    assert!(!check(&[cookie(&["Path=/"])], "OTHER=abc; Path=/"));
    assert!(!check(&[cookie(&[]), cookie(&[])], "SID=abc"));
}

#[test]
fn failures() {
    let failed = |result| Exchange { result, certificate: None, alpn: None, took: Duration::ZERO };
    assert_eq!(judged(&json!({"error": "closed"}), &failed(Outcome::Closed), &[]), "");
    assert_eq!(judged(&json!({"error": "tls"}), &failed(Outcome::Closed), &[]), "Closed instead of tls");
    assert_eq!(judged(&json!({"error": "tls"}), &answer(200, &[], ""), &[]), "200 instead of tls");
    assert_eq!(judged(&json!({"status": 413}), &failed(Outcome::Silence), &[]), "Silence instead of 413");
}
