//! What a route asks for, in words for people.

use std::time::Duration;

use serde::Serialize;

use super::{Auth, ClientCertificates, Demand, HttpsRedirect, Limit, OriginPattern, Rate, RoutePolicy};

/// One thing that a route asks for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Words {
    /// What it is about, as in `access`.
    pub about: &'static str,
    /// What it is.
    pub text: String,
}

impl RoutePolicy {
    /// Everything that the route asks for and that isn't as usual, except what snippets do. Hashes and keys are no part
    /// of it.
    pub fn words(&self) -> Vec<Words> {
        let usual = Self::default();
        let mut words = Vec::new();
        let mut say = |about, text: Option<String>| words.extend(text.map(|text| Words { about, text }));
        say("access", self.access.as_ref().map(|access| format!("{access}; 403 for others")));
        say("authentication", self.auth.as_deref().map(authentication));
        say("limit", self.limit.as_deref().map(limit));
        say("request body", self.max_body.map(|bytes| format!("at most {}; 413 for more", size(bytes))));
        say("HTTPS", https(self.https_redirect));
        say(
            "redirect",
            self.redirect.as_ref().map(|redirect| {
                format!("{} to {}", redirect.status.as_u16(), String::from_utf8_lossy(redirect.location.as_bytes()))
            }),
        );
        say("rewrite", self.rewrite.as_ref().map(ToString::to_string));
        say("host", self.upstream_host.as_ref().map(|host| format!("the backend is asked for host {host}")));
        say(
            "CORS",
            self.cors.as_ref().map(|cors| match &cors.origins {
                None => "pages of all origins may ask".to_owned(),
                Some(origins) => {
                    format!("pages of {} may ask", origins.iter().map(origin).collect::<Vec<_>>().join(", "))
                }
            }),
        );
        say(
            "affinity",
            self.affinity
                .as_ref()
                .map(|cookie| format!("clients stay at their endpoint by the cookie {}", cookie.name)),
        );
        say("endpoint", self.hash_by.as_ref().map(|hash| format!("chosen by {}", hash.key)));
        say(
            "pace",
            self.pace.map(|pace| {
                let after =
                    if pace.after > 0 { format!(" after the first {}", size(pace.after)) } else { String::new() };
                format!("answers are sent at {} a second{after}", size(pace.bytes_per_second.get()))
            }),
        );
        say("mirror", self.mirror.as_ref().map(|mirror| format!("a copy of each request goes to {}", mirror.url)));
        say(
            "errors",
            self.errors.as_ref().filter(|errors| !errors.statuses.is_empty()).map(|errors| {
                let statuses: Vec<_> = errors.statuses.iter().map(u16::to_string).collect();
                format!("answers with {} are replaced", statuses.join(", "))
            }),
        );
        say(
            "TLS to the backend",
            self.upstream_tls.as_ref().map(|tls| {
                let verified = if tls.verify.is_some() {
                    "the endpoint's certificate is verified"
                } else {
                    "the endpoint's certificate is not verified"
                };
                let own = if tls.certificate.is_some() { "; a certificate of our own is shown" } else { "" };
                format!("{verified}{own}")
            }),
        );
        let times = [
            ("connect", self.connect_timeout, usual.connect_timeout),
            ("read", self.read_timeout, usual.read_timeout),
            ("write", self.write_timeout, usual.write_timeout),
        ];
        let changed = times.into_iter().filter(|(_, time, usual)| time != usual);
        let changed: Vec<_> = changed.map(|(name, time, _)| format!("{name} {}", seconds(time))).collect();
        say("time limits", (!changed.is_empty()).then(|| changed.join(", ")));
        say(
            "attempts",
            (self.tries != usual.tries).then(|| match self.tries {
                1 => "one".to_owned(),
                tries => format!("at most {tries}"),
            }),
        );
        say("access log", self.is_unlogged.then(|| "none".to_owned()));
        words
    }
}

impl ClientCertificates {
    /// What is asked of clients' certificates, in words.
    pub fn words(&self) -> String {
        if let Err(why) = &self.authorities {
            return format!("nobody gets in: {why}");
        }
        let demand = match self.demand {
            Demand::Off => "not asked for",
            Demand::Required => "each client needs a certificate that is trusted",
            Demand::Optional => "a certificate that is shown must be trusted",
            Demand::OptionalNoCa => "a certificate may be shown; the backend is told",
        };
        match &self.subject {
            Some(subject) => format!("{demand}; its subject must look like {}", subject.as_str()),
            None => demand.to_owned(),
        }
    }
}

fn authentication(auth: &Auth) -> String {
    let mut parts = Vec::new();
    if let Some(basic) = &auth.basic {
        parts.push(match basic.users.len() {
            0 => "a name and a password, which nobody has".to_owned(),
            1 => "a name and a password (1 user)".to_owned(),
            users => format!("a name and a password ({users} users)"),
        });
    }
    if let Some(external) = &auth.external {
        parts.push(format!("the word of {}", external.url));
    }
    if auth.any { format!("an allowed address, or {}", parts.join(", or ")) } else { parts.join(", and ") }
}

fn limit(limit: &Limit) -> String {
    let rate = |rate: Rate, unit: &str, per: f64| {
        let count = rate.milli as f64 / 1000.0 * per;
        format!("{} requests a {unit} and {} more at once", (count * 10.0).round() / 10.0, rate.burst)
    };
    let mut parts = Vec::new();
    parts.extend(limit.per_second.map(|of| rate(of, "second", 1.0)));
    parts.extend(limit.per_minute.map(|of| rate(of, "minute", 60.0)));
    parts.extend(limit.at_once.map(|count| format!("{count} requests at the same time")));
    let mut text = format!("each client of each replica: {}; {} for more", parts.join(", "), limit.status.as_u16());
    if !limit.exempt.is_empty() {
        let exempt: Vec<_> = limit.exempt.iter().map(ToString::to_string).collect();
        text = format!("{text}; none for {}", exempt.join(", "));
    }
    text
}

fn https(redirect: HttpsRedirect) -> Option<String> {
    match redirect {
        HttpsRedirect::Never => None,
        HttpsRedirect::Always => Some("plain requests are sent to HTTPS with 308".to_owned()),
        HttpsRedirect::IngressNginx { status, .. } => {
            Some(format!("plain requests are sent to HTTPS with {}", status.as_u16()))
        }
    }
}

fn origin(pattern: &OriginPattern) -> String {
    match pattern {
        OriginPattern::Exact(exact) => exact.to_string(),
        OriginPattern::Subdomains(before, behind) => format!("{before}*{behind}"),
    }
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

/// A number of bytes as people write it.
fn size(bytes: u64) -> String {
    match bytes {
        _ if bytes >= 1 << 30 && bytes.is_multiple_of(1 << 30) => format!("{} GiB", bytes >> 30),
        _ if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes >= 1 << 10 && bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::StatusCode;

    use super::*;

    #[test]
    fn what_is_as_usual_is_not_said() {
        assert_eq!(RoutePolicy::default().words(), []);
    }

    #[test]
    fn limits_and_access_are_said_in_words() {
        let policy = RoutePolicy {
            access: Some(Arc::new(crate::access::Access {
                allow: Some(["10.0.0.0/8".parse().unwrap()].into()),
                ..Default::default()
            })),
            auth: Some(Arc::new(Auth { any: false, basic: None, external: None })),
            limit: Some(Arc::new(Limit {
                zone: 1,
                per_second: Some(Rate { milli: 2500, burst: 10 }),
                per_minute: Some(Rate { milli: 500, burst: 150 }),
                at_once: Some(5),
                exempt: ["192.0.2.1/32".parse().unwrap()].into(),
                status: StatusCode::TOO_MANY_REQUESTS,
                crowded: StatusCode::TOO_MANY_REQUESTS,
            })),
            max_body: Some(8 << 20),
            read_timeout: Duration::from_mins(5),
            tries: 1,
            ..RoutePolicy::default()
        };
        let said: Vec<String> =
            policy.words().into_iter().map(|words| format!("{}: {}", words.about, words.text)).collect();
        for expected in [
            "access: allowed: 10.0.0.0/8; 403 for others",
            "limit: each client of each replica: 2.5 requests a second and 10 more at once, 30 requests a minute and 150 more \
             at once, 5 requests at the same time; 429 for more; none for 192.0.2.1/32",
            "request body: at most 8 MiB; 413 for more",
            "time limits: read 300 s",
            "attempts: one",
        ] {
            assert!(said.iter().any(|words| words == expected), "{expected}\n{said:#?}");
        }
    }
}
