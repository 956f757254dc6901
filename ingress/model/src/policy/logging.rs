//! What the access log says: ingress-nginx's `log-format-upstream` and its neighbours.

use http::HeaderName;

use super::UnknownVariable;
use crate::pipeline::TlsVariable;

/// What is asked of the access log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Logging {
    /// The form of a line; `None` is our own.
    pub format: Option<LogFormat>,
    /// `disable-access-log`: there is none.
    pub is_off: bool,
    /// `skip-access-log-urls`: no line for these paths.
    pub skipped: Box<[Box<str>]>,
}

impl Logging {
    /// Whether a request with this target has a line.
    pub fn has(&self, target: &str) -> bool {
        let path = target.split('?').next().unwrap_or_default();
        !self.is_off && !self.skipped.iter().any(|skipped| **skipped == *path)
    }
}

/// A line in the words of nginx's `log_format`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogFormat {
    /// How values are escaped.
    pub escape: LogEscape,
    /// What stands in the line.
    pub pieces: Box<[LogPiece]>,
}

/// How values are escaped (`escape` of nginx's `log_format`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogEscape {
    /// Quotes, backslashes and what is not visible ASCII as `\xXX`; nothing is `-`.
    #[default]
    Default,
    /// As in strings of JSON; nothing is nothing.
    Json,
    /// Not at all; nothing is nothing.
    None,
}

/// A part of a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LogPiece {
    /// This text.
    Text(Box<str>),
    /// What a variable stands for.
    Variable(LogVariable),
}

/// A variable, by the name that nginx or ingress-nginx has for it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names are nginx's")]
pub enum LogVariable {
    RemoteAddr,
    RemotePort,
    RemoteUser,
    ProxyProtocolAddr,
    TimeLocal,
    TimeIso8601,
    Msec,
    Request,
    RequestMethod,
    RequestUri,
    Uri,
    Args,
    Scheme,
    ServerProtocol,
    Host,
    Status,
    BodyBytesSent,
    RequestLength,
    RequestTime,
    RequestId,
    Namespace,
    IngressName,
    ServiceName,
    ServicePort,
    UpstreamName,
    AlternativeUpstreamName,
    UpstreamAddr,
    UpstreamStatus,
    UpstreamResponseLength,
    UpstreamResponseTime,
    UpstreamConnectTime,
    UpstreamHeaderTime,
    Header(HeaderName),
    Cookie(Box<str>),
    Argument(Box<str>),
    Tls(TlsVariable),
    Https,
}

impl LogFormat {
    /// Reads a format. A name that is none is an error: a line with a hole in it would be noticed too late.
    pub fn parse(text: &str, escape: LogEscape) -> Result<Self, UnknownVariable> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            if at > 0 {
                pieces.push(LogPiece::Text(rest[..at].into()));
            }
            let behind = &rest[at + 1..];
            let braced = behind.strip_prefix('{').and_then(|inner| inner.split_once('}'));
            let (name, left) = braced.unwrap_or_else(|| {
                let belongs = |byte: &u8| *byte == b'_' || byte.is_ascii_alphanumeric();
                behind.split_at(behind.bytes().take_while(belongs).count())
            });
            pieces.push(LogPiece::Variable(variable(name).ok_or_else(|| UnknownVariable(name.to_owned()))?));
            rest = left;
        }
        if !rest.is_empty() {
            pieces.push(LogPiece::Text(rest.into()));
        }
        Ok(Self { escape, pieces: pieces.into() })
    }
}

fn variable(name: &str) -> Option<LogVariable> {
    use LogVariable as V;
    Some(match name {
        "remote_addr" | "the_real_ip" | "realip_remote_addr" => V::RemoteAddr,
        "remote_port" => V::RemotePort,
        "remote_user" => V::RemoteUser,
        "proxy_protocol_addr" => V::ProxyProtocolAddr,
        "time_local" => V::TimeLocal,
        "time_iso8601" => V::TimeIso8601,
        "msec" => V::Msec,
        "request" => V::Request,
        "request_method" => V::RequestMethod,
        "request_uri" => V::RequestUri,
        "uri" | "document_uri" => V::Uri,
        "args" | "query_string" => V::Args,
        "scheme" | "pass_access_scheme" => V::Scheme,
        "server_protocol" => V::ServerProtocol,
        "host" | "server_name" | "best_http_host" => V::Host,
        "status" => V::Status,
        "body_bytes_sent" | "bytes_sent" => V::BodyBytesSent,
        "request_length" => V::RequestLength,
        "request_time" => V::RequestTime,
        "req_id" | "request_id" => V::RequestId,
        "namespace" => V::Namespace,
        "ingress_name" => V::IngressName,
        "service_name" => V::ServiceName,
        "service_port" => V::ServicePort,
        "proxy_upstream_name" => V::UpstreamName,
        "proxy_alternative_upstream_name" => V::AlternativeUpstreamName,
        "upstream_addr" => V::UpstreamAddr,
        "upstream_status" => V::UpstreamStatus,
        "upstream_response_length" | "upstream_bytes_received" => V::UpstreamResponseLength,
        "upstream_response_time" => V::UpstreamResponseTime,
        "upstream_connect_time" => V::UpstreamConnectTime,
        "upstream_header_time" => V::UpstreamHeaderTime,
        "https" => V::Https,
        _ => {
            if let Some(variable) = TlsVariable::of(name) {
                V::Tls(variable)
            } else if let Some(cookie) = name.strip_prefix("cookie_") {
                V::Cookie(cookie.into())
            } else if let Some(argument) = name.strip_prefix("arg_") {
                V::Argument(argument.into())
            } else {
                V::Header(HeaderName::try_from(name.strip_prefix("http_")?.replace('_', "-")).ok()?)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_of_ingress_nginx_is_read() {
        let text = r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" $request_length $request_time [$proxy_upstream_name] [$proxy_alternative_upstream_name] $upstream_addr $upstream_response_length $upstream_response_time $upstream_status $req_id"#;
        let format = LogFormat::parse(text, LogEscape::Default).unwrap();
        let variables = format.pieces.iter().filter(|piece| matches!(piece, LogPiece::Variable(_))).count();
        assert_eq!(variables, 17);
        assert_eq!(format.pieces[0], LogPiece::Variable(LogVariable::RemoteAddr));
        assert_eq!(format.pieces[1], LogPiece::Text(" - ".into()));
    }

    #[test]
    fn names_end_where_they_end() {
        let pieces = |text| LogFormat::parse(text, LogEscape::Json).map(|format| format.pieces.into_vec());
        let status = || LogPiece::Variable(LogVariable::Status);
        assert_eq!(pieces("${status}a$status"), Ok(vec![status(), LogPiece::Text("a".into()), status()]));
        assert_eq!(pieces("$nothing"), Err(UnknownVariable("nothing".into())));
        assert_eq!(pieces("costs 5$"), Err(UnknownVariable(String::new())));
        let field = LogVariable::Header(HeaderName::from_static("x-forwarded-for"));
        assert_eq!(pieces("$http_x_forwarded_for"), Ok(vec![LogPiece::Variable(field)]));
    }

    #[test]
    fn some_paths_have_no_line() {
        let logging = Logging { skipped: Box::new(["/healthz".into()]), ..Logging::default() };
        assert!(!logging.has("/healthz") && !logging.has("/healthz?a") && logging.has("/healthz/a"));
        assert!(!Logging { is_off: true, ..logging }.has("/"));
    }
}
