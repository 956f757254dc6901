//! What a CA says, as a failure with a remedy.

use instant_acme::{Error, Identifier, Problem};
use landfall_ingress_model::acme::trouble::{Failure, Kind};

/// The kind of an error of RFC 8555 section 6.7, by the last part of its URN.
fn kind_of(problem: &Problem) -> Kind {
    let name = problem.r#type.as_deref().and_then(|urn| urn.rsplit(':').next()).unwrap_or_default();
    match name {
        "rateLimited" => Kind::RateLimited,
        "accountDoesNotExist"
        | "externalAccountRequired"
        | "userActionRequired"
        | "invalidContact"
        | "unsupportedContact"
        | "badPublicKey" => Kind::Account,
        "caa" => Kind::Caa,
        "dns" | "connection" | "tls" | "unauthorized" | "incorrectResponse" => Kind::Validation,
        "serverInternal" | "badNonce" => Kind::Unreachable,
        _ if problem.status.is_some_and(|status| status >= 500) => Kind::Unreachable,
        _ => Kind::Refused,
    }
}

/// Whether the CA may say something else to the same request in a moment.
pub(super) fn is_passing(problem: &Problem) -> bool {
    matches!(kind_of(problem), Kind::Unreachable | Kind::RateLimited)
}

/// Whether the CA does not know the account that has asked.
pub(super) fn is_unknown_account(error: &Error) -> bool {
    matches!(error, Error::Api(problem) if problem.r#type.as_deref().is_some_and(|kind| kind.ends_with(":accountDoesNotExist")))
}

/// What to do about it, for a host or for the order as a whole.
fn remedy(problem: &Problem, kind: Kind, host: Option<&str>) -> String {
    let name = problem.r#type.as_deref().and_then(|urn| urn.rsplit(':').next()).unwrap_or_default();
    let host = host.unwrap_or("the host");
    match (kind, name) {
        (Kind::Caa, _) => {
            format!("add a CAA record for this CA to {host} or to the domain above it, or use another issuer")
        }
        (_, "dns") => format!("create an A or AAAA record for {host} that leads to this ingress"),
        (_, "connection") => {
            format!(
                "let the CA reach this ingress at {host}: check the address of its record, port forwarding and firewalls, also for IPv6"
            )
        }
        (_, "unauthorized" | "incorrectResponse" | "tls") => {
            format!("let the record of {host} lead to this ingress; something else answers there")
        }
        (Kind::RateLimited, _) => "wait; it is tried again when the CA allows it".to_owned(),
        (_, "externalAccountRequired") => "give the issuer an external account (--acme-eab-key-id)".to_owned(),
        (_, "userActionRequired") => "agree to the CA's new terms of service".to_owned(),
        (_, "invalidContact" | "unsupportedContact") => "correct the address of --acme-email".to_owned(),
        (Kind::Account, _) => "correct the issuer".to_owned(),
        (Kind::Unreachable, _) => "wait, or see whether the CA reports an outage".to_owned(),
        _ => "correct the hosts or the issuer as the CA says".to_owned(),
    }
}

/// The CA's own words, on one line.
fn words(detail: Option<&str>, kind: Option<&str>) -> String {
    let text = match (detail, kind) {
        (Some(detail), Some(kind)) => format!("{detail} ({})", kind.rsplit(':').next().unwrap_or(kind)),
        (Some(text), None) | (None, Some(text)) => text.to_owned(),
        (None, None) => "no reason given".to_owned(),
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a challenge of a host has failed of.
pub(super) fn of_host(problem: &Problem, host: &str) -> Failure {
    let kind = match kind_of(problem) {
        // The CA has looked and found something it does not like, whatever it calls that.
        Kind::Refused => Kind::Validation,
        kind => kind,
    };
    Failure::new(kind, words(problem.detail.as_deref(), problem.r#type.as_deref()), remedy(problem, kind, Some(host)))
}

/// What an error means: for single hosts where it names some, else for the order as a whole.
///
/// Of `ordered`, those count as named that stand in the CA's words: for a single bad name CAs give no list.
pub(super) fn of(
    error: &Error,
    ordered: &[String],
    retry_after: Option<u64>,
) -> (Vec<(String, Failure)>, Option<Failure>) {
    let Error::Api(problem) = error else {
        return (Vec::new(), Some(other(error)));
    };
    let mut hosts = Vec::new();
    for sub in &problem.subproblems {
        let Some(Identifier::Dns(host)) = &sub.identifier else { continue };
        let part =
            Problem { r#type: sub.r#type.clone(), detail: sub.detail.clone(), status: None, subproblems: vec![] };
        let kind = kind_of(&part);
        hosts.push((
            host.clone(),
            Failure::new(kind, words(sub.detail.as_deref(), sub.r#type.as_deref()), remedy(&part, kind, Some(host))),
        ));
    }
    if !hosts.is_empty() {
        return (hosts, None);
    }
    let kind = kind_of(problem);
    let words = words(problem.detail.as_deref(), problem.r#type.as_deref());
    if matches!(kind, Kind::Refused | Kind::Caa) {
        let named = ordered.iter().filter(|host| names(&words, host));
        let failure = |host: &String| Failure::new(kind, words.clone(), remedy(problem, kind, Some(host)));
        hosts.extend(named.map(|host| (host.clone(), failure(host))));
        if !hosts.is_empty() {
            return (hosts, None);
        }
    }
    let mut failure = Failure::new(kind, words, remedy(problem, kind, None));
    failure.retry_after = retry_after;
    (Vec::new(), Some(failure))
}

/// As [`of`], where the account was asked for.
pub(super) fn of_account(error: &Error, retry_after: Option<u64>) -> Failure {
    let (_, whole) = of(error, &[], retry_after);
    let mut failure = whole.unwrap_or_else(|| other(error));
    if matches!(failure.kind, Kind::Refused | Kind::Validation) {
        failure.kind = Kind::Account;
        "correct the issuer's account: address, external account and terms".clone_into(&mut failure.remedy);
    }
    failure
}

/// Whether a text has this very host in it, and not a longer one.
fn names(text: &str, host: &str) -> bool {
    let is_part = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    text.match_indices(host).any(|(start, _)| {
        let (before, after) = (&text.as_bytes()[..start], &text.as_bytes()[start + host.len()..]);
        let longer_before = is_part(before.last()) || before.last() == Some(&b'.');
        let longer_after = is_part(after.first()) || (after.first() == Some(&b'.') && is_part(after.get(1)));
        !longer_before && !longer_after
    })
}

/// What to do where the CA's server was not understood. Only its words tell what TLS stumbled over: they have passed
/// through other libraries.
fn remedy_of_connection(words: &str) -> &'static str {
    if words.contains("CaUsedAsEndEntity") {
        "the server shows the certificate of an authority itself; give it one that this authority has signed, or one with \
         basicConstraints CA:FALSE"
    } else if words.contains("UnknownIssuer") {
        "put the certificate of the authority that has signed the server's own into the issuer's caBundle"
    } else if words.contains("NotValidForName") {
        "name the server in the directory's URL as its certificate does"
    } else {
        "see whether the directory's URL is right and can be reached from here"
    }
}

fn other(error: &Error) -> Failure {
    let kind = match error {
        Error::Unsupported(_) | Error::KeyRejected => Kind::Refused,
        _ => Kind::Unreachable,
    };
    let words = error.to_string();
    Failure::new(kind, words.clone(), remedy_of_connection(&words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(json: &str) -> Error {
        Error::Api(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn an_order_that_fails_because_of_one_name_says_which() {
        let error = problem(
            r#"{"type": "urn:ietf:params:acme:error:rejectedIdentifier", "detail": "some are bad", "subproblems": [
                {"type": "urn:ietf:params:acme:error:caa", "detail": "CAA record for b.example prevents issuance",
                 "identifier": {"type": "dns", "value": "b.example"}}]}"#,
        );
        let (hosts, whole) = of(&error, &[], None);
        assert_eq!(whole, None);
        assert_eq!((hosts[0].0.as_str(), hosts[0].1.kind), ("b.example", Kind::Caa));
        assert_eq!(hosts[0].1.error, "CAA record for b.example prevents issuance (caa)");
        assert!(hosts[0].1.remedy.contains("CAA record for this CA to b.example"));
    }

    #[test]
    fn a_name_that_stands_in_the_words_of_the_ca_is_the_one() {
        let error =
            problem(r#"{"type": "urn:ietf:params:acme:error:rejectedIdentifier", "detail": "not \"b.example\"."}"#);
        let ordered = ["a.example", "b.example", "example", "b.example.org"].map(str::to_owned);
        let (hosts, whole) = of(&error, &ordered, None);
        assert_eq!(hosts.iter().map(|(host, _)| host.as_str()).collect::<Vec<_>>(), ["b.example"]);
        assert_eq!(whole, None);
    }

    #[test]
    fn kinds_follow_the_ca() {
        let cases = [
            (
                r#"{"type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many", "status": 429}"#,
                Kind::RateLimited,
            ),
            (
                r#"{"type": "urn:ietf:params:acme:error:serverInternal", "detail": "oops", "status": 500}"#,
                Kind::Unreachable,
            ),
            (
                r#"{"type": "urn:ietf:params:acme:error:malformed", "detail": "no such profile", "status": 400}"#,
                Kind::Refused,
            ),
            (r#"{"detail": "down for maintenance", "status": 503}"#, Kind::Unreachable),
        ];
        for (json, kind) in cases {
            let (hosts, whole) = of(&problem(json), &["a.example".to_owned()], Some(7));
            let whole = whole.unwrap();
            assert!(hosts.is_empty() && whole.kind == kind && whole.retry_after == Some(7), "{json}");
        }
        assert_eq!(
            of_account(&problem(r#"{"type": "urn:ietf:params:acme:error:unauthorized"}"#), None).kind,
            Kind::Account
        );
    }
}
