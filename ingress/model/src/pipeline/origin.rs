//! Which host and port the client asked for: what `X-Forwarded-Host` and `X-Forwarded-Port` say.

use http::HeaderValue;

use crate::fields::FieldValue;

/// What they are made from.
pub(super) struct Facts<'a> {
    /// Whether the client came by HTTPS, here or at a trusted proxy.
    pub(super) secure: bool,
    /// The `Host` or `:authority` as it was written.
    pub(super) authority: Option<&'a str>,
    /// `X-Forwarded-Host` of a trusted proxy.
    pub(super) given_host: Option<FieldValue<'a>>,
    /// `X-Forwarded-Port` of a trusted proxy.
    pub(super) given_port: Option<FieldValue<'a>>,
    /// The destination port in the PROXY header.
    pub(super) destination: Option<u16>,
}

/// The host, with the port where it was written with one, and the port.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Origin {
    pub(super) host: Option<HeaderValue>,
    pub(super) port: u16,
}

impl Facts<'_> {
    /// The port that the client used. Where we listen ourselves says nothing about it: in a pod that is another port.
    ///
    /// A trusted proxy's word comes first. Then the port in `Host` counts, since a client writes the one there that
    /// it connected to. Without one it connected to the default port of the scheme, unless a PROXY header knows
    /// better. Applications make URLs from either field, so the two never name different ports.
    ///
    /// `written` is the authority as a value.
    pub(super) fn origin(&self, written: Option<HeaderValue>) -> Origin {
        let default = if self.secure { 443 } else { 80 };
        let stated = match self.given_host {
            // A proxy passes the client's Host on, but may give the port where it listens itself.
            Some(host) => first(host).and_then(port_in).or_else(|| self.stated_port()),
            None => self.stated_port().or_else(|| self.authority.and_then(port_in)),
        };
        let port = stated.or(self.destination).unwrap_or(default);
        let host = self.given_host.map(|host| host.to_value()).or(written);
        Origin { host: host.map(|host| agreeing(host, port, default)), port }
    }

    fn stated_port(&self) -> Option<u16> {
        first(self.given_port?)?.parse().ok().filter(|port| *port != 0)
    }
}

/// The host with `port` in the place of another one.
fn agreeing(host: HeaderValue, port: u16, default: u16) -> HeaderValue {
    let Some(text) = host.to_str().ok().and_then(first_of) else { return host };
    if port_in(text).is_none_or(|written| written == port) {
        return host;
    }
    let name = text.rsplit_once(':').map_or(text, |(name, _)| name);
    let agreed = if port == default { name.to_owned() } else { format!("{name}:{port}") };
    HeaderValue::from_str(&agreed).unwrap_or(host)
}

/// The port in an authority. An IPv6 address is in brackets.
fn port_in(authority: &str) -> Option<u16> {
    let (_, port) = authority.rsplit_once(':')?;
    port.parse().ok().filter(|port| *port != 0)
}

/// The first entry of a list: a chain of proxies puts the client's side first.
pub(super) fn first(value: FieldValue<'_>) -> Option<&str> {
    first_of(value.to_str().ok()?)
}

fn first_of(list: &str) -> Option<&str> {
    list.split(',').next().map(str::trim)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;
    use crate::fields::Fields;

    /// `Host; X-Forwarded-Host; X-Forwarded-Port; PROXY port`, by scheme, gives `host port`.
    fn check(scheme: &str, facts: [&'static str; 4], expected: &str) {
        let given = |text: &'static str| (!text.is_empty()).then(|| HeaderValue::from_static(text));
        let (host, port) = (HeaderName::from_static("h"), HeaderName::from_static("p"));
        let fields = [(host.clone(), facts[1]), (port.clone(), facts[2])];
        let fields = fields.into_iter().filter_map(|(name, text)| Some((name, given(text)?)));
        let fields: Fields = fields.collect();
        let origin = Facts {
            secure: scheme == "https",
            authority: (!facts[0].is_empty()).then_some(facts[0]),
            given_host: fields.get(host),
            given_port: fields.get(port),
            destination: facts[3].parse().ok(),
        }
        .origin((!facts[0].is_empty()).then(|| HeaderValue::from_static(facts[0])));
        let host = origin.host.as_ref().map_or("-", |host| host.to_str().unwrap());
        assert_eq!(format!("{host} {}", origin.port), expected, "{scheme} {facts:?}");
    }

    #[test]
    fn the_port_is_the_one_that_the_client_used() {
        check("http", ["a.test", "", "", ""], "a.test 80");
        check("https", ["a.test", "", "", ""], "a.test 443");
        check("https", ["a.test:8443", "", "", ""], "a.test:8443 8443");
        check("http", ["a.test:443", "", "", ""], "a.test:443 443");
        check("http", ["a.test:", "", "", ""], "a.test: 80");
        check("https", ["[2001:db8::1]", "", "", ""], "[2001:db8::1] 443");
        check("https", ["[2001:db8::1]:8443", "", "", ""], "[2001:db8::1]:8443 8443");
        check("http", ["", "", "", ""], "- 80");
    }

    #[test]
    fn a_proxy_header_knows_the_port_where_the_host_names_none() {
        check("http", ["a.test", "", "", "8080"], "a.test 8080");
        check("https", ["", "", "", "8443"], "- 8443");
        check("http", ["a.test:81", "", "", "8080"], "a.test:81 81");
    }

    #[test]
    fn a_trusted_proxys_word_comes_first_and_never_contradicts_itself() {
        check("https", ["a", "b.test", "", ""], "b.test 443");
        check("https", ["a", "b.test:8443", "", ""], "b.test:8443 8443");
        check("https", ["a", "b.test", "8443", ""], "b.test 8443");
        check("https", ["a:30443", "b.test", "", ""], "b.test 443");
        check("https", ["a:30443", "", "443", ""], "a 443");
        check("http", ["a:30080", "", "8080", "9"], "a:8080 8080");
        check("http", ["[::1]:30080", "", "80", ""], "[::1] 80");
        check("https", ["a", "b.test:8443", "443", ""], "b.test:8443 8443");
        check("https", ["a", "b.test:8443, a:80", "", ""], "b.test:8443, a:80 8443");
        check("https", ["a", "", "443, 8080", ""], "a 443");
        check("https", ["a:1", "", "none", ""], "a:1 1");
        check("https", ["a", "", "0", ""], "a 443");
    }
}
