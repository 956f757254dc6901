//! Text with variables of nginx in it.

use std::fmt;
use std::net::IpAddr;

use http::{HeaderName, Method};
use thiserror::Error;

use super::affinity::key_of;
use crate::fields::Fields;
use crate::pipeline::{Tls, TlsVariable};

/// What variables stand for in one request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts<'a> {
    /// The host without its port.
    pub host: &'a str,
    /// The host as the client wrote it.
    pub authority: &'a str,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// `http` or `https`, as a trusted proxy says it.
    pub outer_scheme: &'static str,
    /// Path and query as they were sent.
    pub request_uri: &'a str,
    /// The path in the form in which it is matched.
    pub path: &'a str,
    /// The method.
    pub method: Option<&'a Method>,
    /// The client.
    pub client: Option<IpAddr>,
    /// The fields of the request.
    pub headers: Option<&'a Fields>,
    /// The request id, which may be the client's.
    pub request_id: &'a str,
    /// A random number.
    pub dice: u64,
    /// Whether `$arg_NAME` is empty.
    pub no_arguments: bool,
    /// Namespace, Ingress, Service and port of the route.
    pub place: [&'a str; 4],
    /// What is known of TLS with the client.
    pub tls: Option<&'a Tls>,
}

impl Facts<'_> {
    /// The same, with no arguments of the request.
    #[must_use]
    pub fn without_arguments(&self) -> Self {
        Self { no_arguments: true, ..*self }
    }
}

/// A text with variables.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Template(Box<[Piece]>);

/// A name behind a `$` that stands for nothing here.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("${0} is no variable that is known here")]
pub struct UnknownVariable(pub String);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Text(Box<str>),
    /// The number or name of a group of a regular expression.
    Capture(Box<str>),
    Variable(Variable),
}

/// What a name stands for in every request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Variable {
    Host,
    HttpHost,
    Scheme,
    OuterScheme,
    RequestUri,
    EscapedRequestUri,
    Uri,
    Args,
    IsArgs,
    Method,
    Client,
    RequestId,
    /// A request id that is never the client's.
    OwnId,
    Namespace,
    Ingress,
    Service,
    ServicePort,
    Header(HeaderName),
    Cookie(Box<str>),
    Argument(Box<str>),
    Tls(TlsVariable),
    /// A `$` itself.
    Dollar,
}

impl Template {
    /// Reads a text in which a name that is no variable is a group of a regular expression.
    pub fn parse(text: &str) -> Result<Self, UnknownVariable> {
        Self::read(text, true)
    }

    /// Reads a text in which every name must be a variable.
    pub fn of_variables(text: &str) -> Result<Self, UnknownVariable> {
        Self::read(text, false)
    }

    /// A text without variables.
    pub fn verbatim(text: &str) -> Self {
        Self(Box::new([Piece::Text(text.into())]))
    }

    fn read(text: &str, captures: bool) -> Result<Self, UnknownVariable> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            if at > 0 {
                pieces.push(Piece::Text(rest[..at].into()));
            }
            rest = &rest[at + 1..];
            let braced = rest.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            let (name, behind) = braced.unwrap_or_else(|| {
                let digits = rest.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
                let belongs = |byte: u8| byte == b'_' || byte.is_ascii_alphanumeric();
                let end = if digits { 1 } else { rest.bytes().take_while(|byte| belongs(*byte)).count() };
                rest.split_at(end)
            });
            rest = behind;
            pieces.push(match Variable::of(name) {
                Some(variable) => Piece::Variable(variable),
                None if name.is_empty() => Piece::Text("$".into()),
                None if captures => Piece::Capture(name.into()),
                None => return Err(UnknownVariable(name.to_owned())),
            });
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.into()));
        }
        Ok(Self(pieces.into()))
    }

    /// The text for a request; a group of a regular expression is empty.
    pub fn expand(&self, facts: &Facts<'_>) -> String {
        String::from_utf8_lossy(&self.expand_with(facts, |_| None)).into_owned()
    }

    /// The text for a request and the groups of a regular expression.
    pub fn expand_with<'t>(&self, facts: &Facts<'_>, capture: impl Fn(&str) -> Option<&'t [u8]>) -> Vec<u8> {
        let mut text = Vec::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(part) => text.extend_from_slice(part.as_bytes()),
                Piece::Capture(name) => text.extend_from_slice(capture(name).unwrap_or_default()),
                Piece::Variable(variable) => variable.push(facts, &mut text),
            }
        }
        text
    }
}

impl Variable {
    /// That of a name, if there is one.
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "host" | "server_name" => Self::Host,
            "http_host" | "best_http_host" => Self::HttpHost,
            "scheme" => Self::Scheme,
            "pass_access_scheme" => Self::OuterScheme,
            "request_uri" => Self::RequestUri,
            "escaped_request_uri" => Self::EscapedRequestUri,
            "uri" | "document_uri" => Self::Uri,
            "args" | "query_string" => Self::Args,
            "is_args" => Self::IsArgs,
            "request_method" => Self::Method,
            "remote_addr" | "the_real_ip" | "binary_remote_addr" => Self::Client,
            "req_id" => Self::RequestId,
            "request_id" => Self::OwnId,
            "namespace" => Self::Namespace,
            "ingress_name" => Self::Ingress,
            "service_name" => Self::Service,
            "service_port" => Self::ServicePort,
            "content_type" => Self::Header(http::header::CONTENT_TYPE),
            "literal_dollar" => Self::Dollar,
            _ => {
                if let Some(variable) = TlsVariable::of(name) {
                    Self::Tls(variable)
                } else if let Some(header) = name.strip_prefix("http_") {
                    Self::Header(HeaderName::try_from(header.replace('_', "-")).ok()?)
                } else if let Some(cookie) = name.strip_prefix("cookie_") {
                    Self::Cookie(cookie.into())
                } else {
                    Self::Argument(name.strip_prefix("arg_")?.into())
                }
            }
        })
    }

    pub(super) fn push(&self, facts: &Facts<'_>, text: &mut Vec<u8>) {
        let query = facts.request_uri.split_once('?').map_or("", |(_, query)| query);
        let part: &str = match self {
            Self::Host => facts.host,
            Self::HttpHost => facts.authority,
            Self::Scheme => facts.scheme,
            Self::OuterScheme => facts.outer_scheme,
            Self::RequestUri => facts.request_uri,
            Self::EscapedRequestUri => return text.extend_from_slice(escaped_argument(facts.request_uri).as_bytes()),
            Self::Uri => facts.path,
            Self::Args => query,
            Self::IsArgs if query.is_empty() => "",
            Self::IsArgs => "?",
            Self::Method => facts.method.map_or("", Method::as_str),
            Self::Client => match facts.client {
                Some(client) => return text.extend_from_slice(client.to_string().as_bytes()),
                None => "",
            },
            Self::RequestId => facts.request_id,
            Self::OwnId => {
                let sent = facts.headers.and_then(|headers| headers.get(HeaderName::from_static("x-request-id")));
                if sent.is_some_and(|sent| sent.as_bytes() == facts.request_id.as_bytes()) {
                    let own = format!("{:016x}{:016x}", key_of(&facts.dice.to_le_bytes()), facts.dice);
                    return text.extend_from_slice(own.as_bytes());
                }
                facts.request_id
            }
            Self::Namespace => facts.place[0],
            Self::Ingress => facts.place[1],
            Self::Service => facts.place[2],
            Self::ServicePort => facts.place[3],
            Self::Header(name) => {
                // Several fields of one name are one list.
                let separator: &[u8] = if *name == http::header::COOKIE { b"; " } else { b", " };
                let values = facts.headers.into_iter().flat_map(|headers| headers.get_all(name));
                for (index, value) in values.enumerate() {
                    text.extend_from_slice(if index > 0 { separator } else { b"" });
                    text.extend_from_slice(value.as_bytes());
                }
                return;
            }
            Self::Cookie(name) => facts.headers.and_then(|headers| variable_cookie(headers, name)).unwrap_or_default(),
            Self::Tls(variable) => {
                let value = facts.tls.map(|tls| variable.text(tls)).unwrap_or_default();
                return text.extend_from_slice(value.as_bytes());
            }
            Self::Dollar => "$",
            Self::Argument(_) if facts.no_arguments => "",
            Self::Argument(name) => {
                let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
                pairs.find(|(key, _)| key.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
            }
        };
        text.extend_from_slice(part.as_bytes());
    }
}

/// The value of a cookie that the client sends.
pub(crate) fn cookie<'a>(headers: &'a Fields, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(http::header::COOKIE).filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// The value of a cookie as nginx' variables have it: letter case does not matter in the name.
pub fn variable_cookie<'a>(headers: &'a Fields, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(http::header::COOKIE).filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| key.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim_matches(' '))
}

/// A text as the value of a query's argument: all but unreserved characters escaped.
pub(crate) fn escaped_argument(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a text can't fail.
            let _ = std::fmt::Write::write_fmt(&mut escaped, format_args!("%{byte:02X}"));
        }
    }
    escaped
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => f.write_str(text)?,
                Piece::Capture(name) => write!(f, "${name}")?,
                Piece::Variable(variable) => write!(f, "${variable:?}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn variables_stand_for_what_the_request_says() {
        let headers = Fields::from_iter([
            (HeaderName::from_static("x-tenant"), HeaderValue::from_static("acme")),
            (http::header::COOKIE, HeaderValue::from_static("a=1; session=s")),
        ]);
        let facts = Facts {
            host: "h.test",
            authority: "h.test:81",
            scheme: "https",
            outer_scheme: "https",
            request_uri: "/a/b?x=1&y=2",
            path: "/a/b",
            method: Some(&Method::PUT),
            client: Some([192, 0, 2, 1].into()),
            headers: Some(&headers),
            request_id: "id",
            dice: 0,
            no_arguments: false,
            place: ["shop", "web", "api", "80"],
            tls: None,
        };
        for (text, expected) in [
            ("$service_name.$namespace.svc", "api.shop.svc"),
            ("$scheme://$http_host$request_uri", "https://h.test:81/a/b?x=1&y=2"),
            ("${host}x", "h.testx"),
            ("$http_x_tenant/$cookie_session/$arg_y", "acme/s/2"),
            ("$uri$is_args$args", "/a/b?x=1&y=2"),
            ("$request_method $remote_addr $req_id", "PUT 192.0.2.1 id"),
            ("$escaped_request_uri", "%2Fa%2Fb%3Fx%3D1%26y%3D2"),
            ("costs $", "costs $"),
        ] {
            assert_eq!(Template::of_variables(text).unwrap().expand(&facts), expected, "{text}");
        }
        assert_eq!(Template::of_variables("$nope"), Err(UnknownVariable("nope".into())));
    }
}
