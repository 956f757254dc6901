//! A line in a form that ingress-nginx's `log-format-upstream` gives.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use landfall_ingress_model::backend::BackendKey;
use landfall_ingress_model::pipeline::credentials;
use landfall_ingress_model::policy::{LogEscape, LogFormat, LogPiece, LogVariable, variable_cookie as cookie};

use super::line::{Line, protocol};
use crate::engine::Exchange;

impl Line {
    /// The line of an exchange, with its line feed.
    pub(super) fn as_nginx(&mut self, exchange: &Exchange<'_>, format: &LogFormat) -> &[u8] {
        let ended = self.look_at(exchange.start + exchange.duration);
        self.text.clear();
        for piece in &format.pieces {
            match piece {
                LogPiece::Text(text) => self.text.push_str(text),
                LogPiece::Variable(variable) => {
                    let value = self.value(variable, exchange, ended);
                    escaped(value.as_deref().unwrap_or_default(), format.escape, &mut self.text);
                }
            }
        }
        self.text.push('\n');
        self.text.as_bytes()
    }

    /// What a variable stands for; `None` is nothing.
    fn value(&self, variable: &LogVariable, exchange: &Exchange<'_>, ended: Duration) -> Option<String> {
        let target = &*exchange.target;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let route = exchange.route.as_ref().map(|route| &route.id.ingress);
        let upstream = exchange.upstream.as_ref();
        Some(match variable {
            LogVariable::RemoteAddr => exchange.client.to_string(),
            LogVariable::RemotePort => exchange.peer.port().to_string(),
            // Whether it was asked for or not, as nginx does.
            LogVariable::RemoteUser => credentials(exchange.fields.as_ref()?)?.0,
            // Ours is the one that counts already.
            LogVariable::ProxyProtocolAddr => return None,
            LogVariable::TimeLocal => self.local.clone(),
            LogVariable::TimeIso8601 => format!("{}+00:00", self.date()),
            LogVariable::Msec => format!("{}.{:03}", ended.as_secs(), ended.subsec_millis()),
            LogVariable::Request => format!("{} {target} {}", exchange.method, protocol(exchange.version)),
            LogVariable::RequestMethod => exchange.method.clone().into_owned(),
            LogVariable::RequestUri => target.to_owned(),
            LogVariable::Uri => path.to_owned(),
            LogVariable::Args => query.to_owned(),
            LogVariable::Scheme => exchange.scheme.as_str().to_owned(),
            LogVariable::ServerProtocol => protocol(exchange.version).to_owned(),
            LogVariable::Host => without_port(&exchange.host).to_ascii_lowercase(),
            LogVariable::Status => exchange.status.to_string(),
            LogVariable::BodyBytesSent => exchange.sent.to_string(),
            LogVariable::RequestLength => {
                let head = exchange.fields.as_ref().map_or(0, |fields| fields.size() as u64);
                (head + exchange.received).to_string()
            }
            LogVariable::RequestTime => seconds(exchange.duration),
            LogVariable::RequestId => exchange.request_id.clone().into_owned(),
            LogVariable::Namespace => route?.namespace().to_owned(),
            LogVariable::IngressName => route?.name().to_owned(),
            LogVariable::ServiceName => exchange.backend()?.service.name().to_owned(),
            LogVariable::ServicePort => exchange.backend()?.port.to_string(),
            LogVariable::UpstreamName => upstream_name(exchange.backend()?),
            LogVariable::AlternativeUpstreamName => upstream_name(&exchange.canary.as_ref()?.key),
            LogVariable::UpstreamAddr => socket(upstream?.address),
            LogVariable::UpstreamStatus => upstream?.first_byte.map(|_| exchange.status.to_string())?,
            LogVariable::UpstreamResponseLength => upstream?.first_byte.map(|_| exchange.sent.to_string())?,
            LogVariable::UpstreamResponseTime => seconds(upstream?.first_byte.map(|_| exchange.duration)?),
            LogVariable::UpstreamConnectTime => seconds(upstream?.connect?),
            LogVariable::UpstreamHeaderTime => seconds(upstream?.first_byte?),
            LogVariable::Https => exchange.tls.as_ref().map(|_| "on".to_owned())?,
            LogVariable::Tls(variable) => variable.text(exchange.tls.as_ref()?),
            LogVariable::Cookie(name) => cookie(exchange.fields.as_ref()?, name)?.to_owned(),
            LogVariable::Argument(name) => {
                let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
                pairs.find(|(key, _)| key.eq_ignore_ascii_case(name))?.1.to_owned()
            }
            LogVariable::Header(name) => {
                let value = exchange.fields.as_ref()?.get(name)?;
                String::from_utf8_lossy(value.as_bytes()).into_owned()
            }
        })
    }
}

/// `NAMESPACE-SERVICE-PORT`.
fn upstream_name(backend: &BackendKey) -> String {
    format!("{}-{}-{}", backend.service.namespace(), backend.service.name(), backend.port)
}

fn socket(address: SocketAddr) -> String {
    SocketAddr::new(address.ip().to_canonical(), address.port()).to_string()
}

/// With milliseconds.
fn seconds(duration: Duration) -> String {
    format!("{}.{:03}", duration.as_secs(), duration.subsec_millis())
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Writes a value as nginx escapes it.
fn escaped(value: &str, escape: LogEscape, out: &mut String) {
    match escape {
        LogEscape::Default if value.is_empty() => out.push('-'),
        LogEscape::Default => {
            for byte in value.bytes() {
                if matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\' {
                    out.push(char::from(byte));
                } else {
                    // Writing to a text can't fail.
                    let _ = write!(out, "\\x{byte:02X}");
                }
            }
        }
        LogEscape::Json => {
            let quoted = serde_json::to_string(value).unwrap_or_default();
            out.push_str(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default());
        }
        LogEscape::None => out.push_str(value),
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::net::IpAddr;
    use std::time::UNIX_EPOCH;

    use http::{HeaderName, HeaderValue, Version};
    use landfall_ingress_model::fields::Fields;

    use super::*;
    use crate::engine::{Scheme, Upstream};

    fn exchange(fields: &Fields) -> Exchange<'_> {
        Exchange {
            start: UNIX_EPOCH + Duration::from_millis(1_795_860_504_467),
            duration: Duration::from_millis(5),
            request_id: "fe16".into(),
            client: IpAddr::from([192, 0, 2, 1]),
            peer: ([192, 0, 2, 1], 4711).into(),
            method: "GET".into(),
            scheme: Scheme::Http,
            host: "Shop.example:8080".into(),
            target: "/a?b=\"c\u{e9}".into(),
            version: Version::HTTP_11,
            status: 200,
            received: 7,
            sent: 6,
            route: None,
            canary: None,
            span: None,
            upstream: Some(Upstream {
                address: ([10, 0, 0, 200], 8080).into(),
                connect: Some(Duration::ZERO),
                first_byte: Some(Duration::from_millis(4)),
                reused: true,
            }),
            tries: 1,
            user_agent: None,
            referer: None,
            fields: Some(Cow::Borrowed(fields)),
            tls: None,
            error: None,
        }
    }

    fn check(format: &str, escape: LogEscape, expected: &str) {
        let field = |name, value| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let fields =
            Fields::from_iter([field("authorization", "Basic YWxpY2U6c2VjcmV0"), field("user-agent", "curl/8")]);
        let format = LogFormat::parse(format, escape).unwrap();
        let mut line = Line::default();
        let line = line.as_nginx(&exchange(&fields), &format);
        assert_eq!(String::from_utf8_lossy(line), format!("{expected}\n"));
    }

    #[test]
    fn the_form_of_ingress_nginx_is_written() {
        check(
            "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \"$http_referer\" \
             \"$http_user_agent\" $request_time [$proxy_upstream_name] $upstream_addr $upstream_response_time \
             $upstream_status $req_id",
            LogEscape::Default,
            "192.0.2.1 - alice [28/Nov/2026:10:08:24 +0000] \"GET /a?b=\\x22c\\xC3\\xA9 HTTP/1.1\" 200 6 \"-\" \"curl/8\" 0.005 \
             [-] 10.0.0.200:8080 0.005 200 fe16",
        );
    }

    #[test]
    fn values_are_escaped_as_they_are_wanted() {
        check(
            "{\"u\":\"$request_uri\",\"r\":\"$http_referer\"}",
            LogEscape::Json,
            "{\"u\":\"/a?b=\\\"c\u{e9}\",\"r\":\"\"}",
        );
        check("$args $http_referer.", LogEscape::None, "b=\"c\u{e9} .");
        check("$arg_b $cookie_a $https $ssl_protocol", LogEscape::Default, "\\x22c\\xC3\\xA9 - - -");
        check("$host $time_iso8601 $msec", LogEscape::Default, "shop.example 2026-11-28T10:08:24+00:00 1795860504.472");
    }
}
