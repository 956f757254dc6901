//! What two controllers answered, and where they differ.

use std::collections::BTreeSet;

use serde::Serialize;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::probes::Probe;

/// An answer, as far as it is compared.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// Why there is none.
    pub error: Option<String>,
    /// Its status.
    pub status: u16,
    /// Its fields; names in lower case.
    pub fields: Vec<(String, String)>,
    /// The certificate that was shown, in DER form.
    pub certificate: Option<Vec<u8>>,
}

/// One way in which two answers differ.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Difference {
    /// The method of the request.
    pub method: &'static str,
    /// Its URL.
    pub url: String,
    /// The Ingress whose rule it is derived from.
    pub ingress: Option<String>,
    /// `status`, `certificate`, `cookies`, `fields`, or the name of a field.
    pub what: String,
    /// As the controller that is left has it.
    pub old: String,
    /// As Landfall has it.
    pub new: String,
}

/// How two controllers compare.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Comparison {
    /// Where the controller that is left was asked.
    pub old: String,
    /// Where Landfall was asked.
    pub new: String,
    /// Requests that were sent to each.
    pub asked: usize,
    /// Requests that were not, and why.
    pub left_out: usize,
    /// Whether the time was up before the last request.
    pub out_of_time: bool,
    /// The differences that two tries showed.
    pub differences: Vec<Difference>,
}

/// Fields whose values are compared.
const COMPARED: &[&str] = &[
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-max-age",
    "content-encoding",
    "content-type",
    "location",
    "strict-transport-security",
    "www-authenticate",
    "x-backend",
    "x-backend-server",
    "x-served-by",
];

/// Fields that differ from answer to answer, or that belong to one hop.
const VOLATILE: &[&str] = &[
    "age",
    "alt-svc",
    "connection",
    "content-length",
    "date",
    "etag",
    "expires",
    "keep-alive",
    "last-modified",
    "server",
    "set-cookie",
    "transfer-encoding",
    "via",
    "x-request-id",
];

/// Where two answers to a request differ.
pub fn differences(probe: &Probe, old: &Seen, new: &Seen) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut compare = |what: &str, old: String, new: String| {
        if old != new {
            let (method, url) = (probe.method.as_str(), probe.url());
            found.push(Difference { method, url, ingress: probe.ingress.clone(), what: what.into(), old, new });
        }
    };
    if old.error.is_some() || new.error.is_some() {
        // Nobody answers either way; in which words does not matter.
        if old.error.is_none() || new.error.is_none() {
            compare("status", status(old), status(new));
        }
        return found;
    }
    compare("status", status(old), status(new));
    for name in COMPARED {
        // Pages of the controllers' own are their own matter.
        if *name == "content-type" && old.status >= 300 {
            continue;
        }
        compare(name, value(old, name), value(new, name));
    }
    compare("cookies", cookies(old), cookies(new));
    compare("certificate", certificate(old), certificate(new));
    let (old_only, new_only) = (others(old), others(new));
    let only =
        |one: &BTreeSet<&str>, other: &BTreeSet<&str>| one.difference(other).copied().collect::<Vec<_>>().join(", ");
    compare("fields", only(&old_only, &new_only), only(&new_only, &old_only));
    found
}

fn status(seen: &Seen) -> String {
    seen.error.clone().unwrap_or_else(|| seen.status.to_string())
}

fn value(seen: &Seen, name: &str) -> String {
    let values = seen.fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str());
    values.collect::<Vec<_>>().join(", ")
}

/// The names of the cookies that are set.
fn cookies(seen: &Seen) -> String {
    let set = seen.fields.iter().filter(|(field, _)| field == "set-cookie");
    let names: BTreeSet<&str> = set.filter_map(|(_, value)| value.split('=').next()).map(str::trim).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

/// Whose certificate it is; those that controllers make for themselves are alike.
fn certificate(seen: &Seen) -> String {
    let Some(der) = &seen.certificate else { return String::new() };
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return "unreadable".to_owned() };
    let (subject, issuer) = (certificate.subject().to_string(), certificate.issuer().to_string());
    let is_own = ["Fake Certificate", "landfall"].iter().any(|name| subject.contains(name));
    if is_own && subject == issuer {
        return "the controller's own".to_owned();
    }
    format!("{} {}", certificate.raw_serial_as_string(), subject)
}

/// Names of the fields whose values are not compared.
fn others(seen: &Seen) -> BTreeSet<&str> {
    let names = seen.fields.iter().map(|(name, _)| name.as_str());
    names.filter(|name| !COMPARED.contains(name) && !VOLATILE.contains(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::probes::{Method, Scheme};
    use super::*;

    fn seen(status: u16, fields: &[(&str, &str)]) -> Seen {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Seen { status, fields, ..Seen::default() }
    }

    #[test]
    fn what_clients_notice_is_compared() {
        let probe = Probe {
            scheme: Scheme::Http,
            host: "shop.example".into(),
            path: "/a".into(),
            method: Method::Get,
            ingress: Some("shop/web".into()),
        };
        let what =
            |old: &Seen, new: &Seen| differences(&probe, old, new).into_iter().map(|one| one.what).collect::<Vec<_>>();
        let plain = seen(200, &[("date", "1"), ("content-type", "text/html")]);
        assert!(what(&plain, &seen(200, &[("date", "2"), ("content-type", "text/html")])).is_empty());
        let old = seen(308, &[("location", "https://shop.example/a")]);
        assert_eq!(what(&old, &seen(308, &[("location", "https://shop.example/a/")])), ["location"]);
        assert_eq!(what(&old, &seen(200, &[])), ["status", "location"]);
        let cookie = |value: &str| seen(200, &[("set-cookie", value)]);
        assert!(what(&cookie("a=1; Path=/"), &cookie("a=2; Path=/")).is_empty());
        assert_eq!(what(&cookie("a=1"), &cookie("b=1")), ["cookies"]);
        assert_eq!(what(&seen(200, &[("x-frame-options", "DENY")]), &seen(200, &[])), ["fields"]);
        let gone = Seen { error: Some("no connection".into()), ..Seen::default() };
        assert_eq!(what(&gone, &plain), ["status"]);
        assert!(what(&gone, &Seen { error: Some("closed".into()), ..Seen::default() }).is_empty());
    }
}
