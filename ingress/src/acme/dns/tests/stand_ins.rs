//! What stands in for providers, as they document themselves. Each keeps the zone example.com.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::serve::Asked;

pub(super) const TOKEN: &str = "right-token";
/// As acme-dns answers to `/register`.
pub(super) const ACCOUNT: &str = r#"{"username": "u", "password": "right-token", "fulldomain": "sub.acme-dns.example",
    "subdomain": "sub", "allowfrom": []}"#;

type Answer = (u16, String);
type Rule = fn(&mut Vec<String>, &Asked) -> Answer;

/// The values of the one name that there is.
#[derive(Clone)]
pub(super) struct StandIn {
    values: Arc<Mutex<Vec<String>>>,
    throttled: Arc<Mutex<u32>>,
    rule: Rule,
}

impl StandIn {
    pub(super) fn new(rule: Rule) -> Self {
        Self { values: Arc::default(), throttled: Arc::default(), rule }
    }

    pub(super) fn values(&self) -> Vec<String> {
        self.values.lock().unwrap().clone()
    }

    /// Answers the next requests with 429.
    pub(super) fn throttle(&self, times: u32) {
        *self.throttled.lock().unwrap() = times;
    }

    pub(super) fn answer(&self, asked: &Asked) -> Answer {
        let mut left = self.throttled.lock().unwrap();
        if *left > 0 {
            *left -= 1;
            return (429, json!({"detail": "Request was throttled."}).to_string());
        }
        (self.rule)(&mut self.values.lock().unwrap(), asked)
    }
}

fn said(status: u16, body: &Value) -> Answer {
    (status, body.to_string())
}

fn unquoted(value: &Value) -> String {
    let text = value.as_str().unwrap_or_default();
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).expect("it is quoted").to_owned()
}

pub(super) fn cloudflare(values: &mut Vec<String>, asked: &Asked) -> Answer {
    if asked.header("authorization") != format!("Bearer {TOKEN}") {
        let errors = json!([{"code": 10000, "message": "Authentication error"}]);
        return said(403, &json!({"success": false, "errors": errors}));
    }
    let records = "/zones/z1/dns_records";
    let path = asked.path.split('?').next().unwrap_or_default();
    match asked.method.as_str() {
        "GET" if path == "/zones" => {
            let zones = if asked.query("name") == Some("example.com") { json!([{"id": "z1"}]) } else { json!([]) };
            said(200, &json!({"success": true, "result": zones}))
        }
        "GET" if path == records => {
            assert_eq!(asked.query("name"), Some("_acme-challenge.www.example.com"));
            let record = |value: &String| json!({"id": value, "content": format!("\"{value}\"")});
            said(200, &json!({"success": true, "result": values.iter().map(record).collect::<Vec<_>>()}))
        }
        "POST" if path == records => {
            let value = unquoted(&asked.body["content"]);
            assert_eq!((&asked.body["type"], &asked.body["ttl"]), (&json!("TXT"), &json!(60)));
            if values.contains(&value) {
                let errors = json!([{"code": 81058, "message": "An identical record already exists."}]);
                return said(400, &json!({"success": false, "errors": errors}));
            }
            values.push(value);
            said(200, &json!({"success": true}))
        }
        "DELETE" => {
            let id = path.strip_prefix(records).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
            values.retain(|value| value != id);
            said(200, &json!({"success": true}))
        }
        _ => said(405, &json!({})),
    }
}

pub(super) fn desec(values: &mut Vec<String>, asked: &Asked) -> Answer {
    if asked.header("authorization") != format!("Token {TOKEN}") {
        return said(401, &json!({"detail": "Invalid token."}));
    }
    if let Some(name) = asked.query("owns_qname") {
        let is_ours = name.ends_with("example.com");
        let zones = if is_ours { json!([{"name": "example.com", "minimum_ttl": 3600}]) } else { json!([]) };
        return said(200, &zones);
    }
    match asked.method.as_str() {
        "GET" if asked.path.ends_with("/TXT/") && values.is_empty() => said(404, &json!({"detail": "Not found."})),
        "GET" if asked.path.ends_with("/TXT/") => {
            let records: Vec<String> = values.iter().map(|value| format!("\"{value}\"")).collect();
            said(200, &json!({"type": "TXT", "ttl": 3600, "records": records}))
        }
        "PUT" if asked.path == "/domains/example.com/rrsets/" => {
            let set = &asked.body[0];
            if set["ttl"].as_u64().is_none_or(|ttl| ttl < 3600) {
                return said(400, &json!([{"ttl": ["Ensure this value is greater than or equal to 3600."]}]));
            }
            *values = set["records"].as_array().into_iter().flatten().map(unquoted).collect();
            said(200, &json!([set]))
        }
        _ => said(404, &json!({"detail": "Not found."})),
    }
}

pub(super) fn hetzner(values: &mut Vec<String>, asked: &Asked) -> Answer {
    if asked.header("authorization") != format!("Bearer {TOKEN}") {
        return said(401, &json!({"error": {"code": "unauthorized", "message": "unable to authenticate"}}));
    }
    let missing = said(404, &json!({"error": {"code": "not_found"}}));
    let set = "/zones/example.com/rrsets/_acme-challenge.www/TXT";
    let records = asked.body["records"].as_array().cloned().unwrap_or_default();
    match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", "/zones/example.com") => said(200, &json!({"zone": {"id": 1, "name": "example.com"}})),
        ("GET", path) if path == set && !values.is_empty() => {
            let records: Vec<Value> = values.iter().map(|value| json!({"value": format!("\"{value}\"")})).collect();
            said(200, &json!({"rrset": {"name": "_acme-challenge.www", "type": "TXT", "records": records}}))
        }
        ("POST", path) if path == format!("{set}/actions/add_records") => {
            for record in records {
                let value = unquoted(&record["value"]);
                if values.contains(&value) {
                    return said(422, &json!({"error": {"code": "invalid_input"}}));
                }
                values.push(value);
            }
            said(201, &json!({"action": {"status": "running"}}))
        }
        ("POST", path) if path == format!("{set}/actions/remove_records") => {
            let gone: Vec<String> = records.iter().map(|record| unquoted(&record["value"])).collect();
            values.retain(|value| !gone.contains(value));
            said(201, &json!({"action": {"status": "running"}}))
        }
        _ => missing,
    }
}

pub(super) fn duckdns(values: &mut Vec<String>, asked: &Asked) -> Answer {
    if asked.query("token") != Some(TOKEN) || asked.query("domains") != Some("home") {
        return (200, "KO".to_owned());
    }
    values.clear();
    if asked.query("clear") != Some("true") {
        values.extend(asked.query("txt").map(str::to_owned));
    }
    (200, "OK".to_owned())
}

pub(super) fn webhook(values: &mut Vec<String>, asked: &Asked) -> Answer {
    // me:right-token
    if asked.header("authorization") != "Basic bWU6cmlnaHQtdG9rZW4=" {
        return (401, String::new());
    }
    assert_eq!(asked.body["fqdn"], "_acme-challenge.www.example.com.");
    let value = asked.body["value"].as_str().unwrap_or_default().to_owned();
    match asked.path.as_str() {
        "/hook/present" => values.push(value),
        "/hook/cleanup" => values.retain(|known| *known != value),
        _ => return (404, String::new()),
    }
    (200, String::new())
}

pub(super) fn acme_dns(values: &mut Vec<String>, asked: &Asked) -> Answer {
    if (asked.header("x-api-user"), asked.header("x-api-key")) != ("u", TOKEN) {
        return said(401, &json!({"error": "forbidden"}));
    }
    assert_eq!((asked.path.as_str(), &asked.body["subdomain"]), ("/update", &json!("sub")));
    values.extend(asked.body["txt"].as_str().map(str::to_owned));
    said(200, &json!({"txt": asked.body["txt"]}))
}
