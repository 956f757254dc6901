//! Text with variables of nginx, those that a snippet sets itself included.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, StatusCode};

use super::memory::Memory;
use super::{Scene, TooLong};
use crate::policy::template::Variable;

/// Bytes that one value may come to. What is set can be put together of what was set before, so this bounds memory.
const LONGEST_VALUE: usize = 16 * 1024;

/// The name of a variable that a snippet sets.
pub type Name = Arc<str>;

/// A text with variables.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Value(Box<[Piece]>);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Text(Box<str>),
    /// A group of the regular expression that matched last.
    Group(usize),
    /// What a snippet sets.
    Own(Name),
    /// The path as it is by now, decoded.
    Path,
    /// The query as it is by now.
    Arguments,
    IsArguments,
    Argument(Box<str>),
    Protocol,
    Port,
    Https,
    RequestLine,
    /// The client's list with the client added.
    ForwardedFor,
    User,
    Fact(Variable),
    Late(Late),
}

/// What is known only once there is a response.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Late {
    /// A field as the backend sent it.
    Upstream(HeaderName),
    /// A field as it is sent.
    Sent(HeaderName),
    Status,
    UpstreamStatus,
}

/// A value with all filled in that is known of the request.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Filled(Vec<Part>);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Text(Vec<u8>),
    /// What the authentication service will say.
    Own(Name),
    Late(Late),
}

/// What is known of a response.
#[derive(Clone, Copy)]
pub(crate) struct Response<'a> {
    pub(crate) status: StatusCode,
    /// The fields as the backend sent them, if one did.
    pub(crate) upstream: Option<&'a HeaderMap>,
    /// The fields as they are by now.
    pub(crate) sent: &'a HeaderMap,
}

impl Value {
    /// Reads a text in which `known` says which names a snippet sets. `Err` is what is wrong with it.
    pub(super) fn parse(text: &str, known: &dyn Fn(&str) -> Option<Name>) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            if at > 0 {
                pieces.push(Piece::Text(rest[..at].into()));
            }
            rest = &rest[at + 1..];
            let (name, behind) = match rest.strip_prefix('{') {
                Some(inner) => inner.split_once('}').ok_or_else(|| "the variable is not closed by }".to_owned())?,
                None if rest.starts_with(|first: char| first.is_ascii_digit()) => rest.split_at(1),
                None => {
                    let belongs = |character: char| character == '_' || character.is_ascii_alphanumeric();
                    rest.split_at(rest.find(|character| !belongs(character)).unwrap_or(rest.len()))
                }
            };
            if name.is_empty() {
                return Err("a $ stands without the name of a variable".to_owned());
            }
            pieces.push(piece(name, known).ok_or_else(|| format!("${name} is no variable that is known here"))?);
            rest = behind;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.into()));
        }
        Ok(Self(pieces.into()))
    }

    /// Whether it is no text at all.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text, if it has no variable.
    pub(super) fn literal(&self) -> Option<&str> {
        match &*self.0 {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// What it begins with, as it was written.
    pub(super) fn begins_with_scheme(&self) -> bool {
        match self.0.first() {
            Some(Piece::Text(text)) => text.starts_with("http://") || text.starts_with("https://"),
            Some(Piece::Fact(variable)) => *variable == Variable::Scheme,
            _ => false,
        }
    }

    /// The text for a request; what is not known yet is empty.
    pub(super) fn text(&self, memory: &Memory, scene: &Scene<'_>) -> Result<Vec<u8>, TooLong> {
        self.written(memory, scene, |_, _, bytes, text| text.extend_from_slice(bytes))
    }

    /// The text, with groups of a regular expression passed through `escape`; it is told what was written before.
    pub(super) fn written(
        &self,
        memory: &Memory,
        scene: &Scene<'_>,
        mut push: impl FnMut(bool, usize, &[u8], &mut Vec<u8>),
    ) -> Result<Vec<u8>, TooLong> {
        let mut text = Vec::new();
        for (index, piece) in self.0.iter().enumerate() {
            let is_group = matches!(piece, Piece::Group(_));
            let mut bytes = Vec::new();
            piece.push(memory, scene, &mut bytes);
            push(is_group, index, &bytes, &mut text);
            if text.len() > LONGEST_VALUE {
                return Err(TooLong);
            }
        }
        Ok(text)
    }

    /// The value as far as it is known; `auth` are the names that an authentication service will give values.
    pub(super) fn fill(&self, memory: &Memory, scene: &Scene<'_>, auth: &[&Name]) -> Result<Filled, TooLong> {
        let mut parts = Vec::new();
        let mut length = 0;
        for piece in &self.0 {
            match piece {
                Piece::Late(late) => parts.push(Part::Late(late.clone())),
                Piece::Own(name) if auth.contains(&name) => parts.push(Part::Own(name.clone())),
                _ => {
                    let mut bytes = Vec::new();
                    piece.push(memory, scene, &mut bytes);
                    length += bytes.len();
                    if length > LONGEST_VALUE {
                        return Err(TooLong);
                    }
                    match parts.last_mut() {
                        Some(Part::Text(text)) => text.extend_from_slice(&bytes),
                        _ => parts.push(Part::Text(bytes)),
                    }
                }
            }
        }
        Ok(Filled(parts))
    }
}

impl Filled {
    /// Fills in what the authentication service has said; other names are empty.
    pub(crate) fn settle(&mut self, said: &[(Name, Vec<u8>)]) {
        for part in &mut self.0 {
            if let Part::Own(name) = part {
                let value = said.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
                *part = Part::Text(value.unwrap_or_default());
            }
        }
    }

    /// The text, by a response if there is one.
    pub(crate) fn text(&self, response: Option<Response<'_>>) -> Vec<u8> {
        let mut text = Vec::new();
        for part in &self.0 {
            match (part, response) {
                (Part::Text(bytes), _) => text.extend_from_slice(bytes),
                (Part::Late(late), Some(response)) => late.push(response, &mut text),
                (Part::Own(_) | Part::Late(_), _) => {}
            }
            if text.len() > LONGEST_VALUE {
                text.truncate(LONGEST_VALUE);
                break;
            }
        }
        text
    }
}

impl Late {
    fn push(&self, response: Response<'_>, text: &mut Vec<u8>) {
        match self {
            Self::Upstream(name) => push_joined(response.upstream, name, text),
            Self::Sent(name) => push_joined(Some(response.sent), name, text),
            Self::UpstreamStatus if response.upstream.is_none() => {}
            Self::Status | Self::UpstreamStatus => text.extend_from_slice(response.status.as_str().as_bytes()),
        }
    }
}

fn push_joined(headers: Option<&HeaderMap>, name: &HeaderName, text: &mut Vec<u8>) {
    for (index, value) in headers.into_iter().flat_map(|headers| headers.get_all(name)).enumerate() {
        if index > 0 {
            text.extend_from_slice(b", ");
        }
        text.extend_from_slice(value.as_bytes());
    }
}

/// What a name stands for.
fn piece(name: &str, known: &dyn Fn(&str) -> Option<Name>) -> Option<Piece> {
    if let Some(digit) = name.bytes().next().filter(|_| name.len() == 1).filter(u8::is_ascii_digit) {
        // $0 is no variable of nginx.
        return (digit != b'0').then(|| Piece::Group(usize::from(digit - b'0')));
    }
    let field = |name: &str| HeaderName::try_from(name.replace('_', "-")).ok();
    Some(match name {
        "uri" | "document_uri" => Piece::Path,
        "args" | "query_string" => Piece::Arguments,
        "is_args" => Piece::IsArguments,
        "server_protocol" => Piece::Protocol,
        "server_port" | "pass_port" | "pass_server_port" => Piece::Port,
        "https" => Piece::Https,
        "request" => Piece::RequestLine,
        "proxy_add_x_forwarded_for" => Piece::ForwardedFor,
        "remote_user" => Piece::User,
        "status" => Piece::Late(Late::Status),
        "upstream_status" => Piece::Late(Late::UpstreamStatus),
        _ => {
            if let Some(name) = known(name) {
                return Some(Piece::Own(name));
            }
            if let Some(argument) = name.strip_prefix("arg_") {
                return Some(Piece::Argument(argument.into()));
            }
            if let Some(name) = name.strip_prefix("upstream_http_") {
                return Some(Piece::Late(Late::Upstream(field(name)?)));
            }
            if let Some(name) = name.strip_prefix("sent_http_") {
                return Some(Piece::Late(Late::Sent(field(name)?)));
            }
            Piece::Fact(Variable::of(name)?)
        }
    })
}

/// Whether a name means something of the request, so that no snippet can set it.
pub(super) fn is_built_in(name: &str) -> bool {
    piece(name, &|_| None).is_some()
}

impl Piece {
    fn push(&self, memory: &Memory, scene: &Scene<'_>, text: &mut Vec<u8>) {
        let facts = &scene.facts;
        let part: &[u8] = match self {
            Self::Text(part) => part.as_bytes(),
            Self::Group(number) => memory.group(*number),
            Self::Own(name) => memory.variable(name),
            Self::Path => memory.path(),
            Self::Arguments => memory.arguments(),
            Self::IsArguments if memory.arguments().is_empty() => b"",
            Self::IsArguments => b"?",
            Self::Argument(name) => argument(memory.arguments(), name),
            Self::Protocol => protocol(scene).as_bytes(),
            Self::Port if facts.scheme == "https" => b"443",
            Self::Port => b"80",
            Self::Https if facts.scheme == "https" => b"on",
            Self::Https | Self::Late(_) => b"",
            Self::RequestLine => {
                let method = facts.method.map_or("", http::Method::as_str);
                let line = format!("{method} {} {}", facts.request_uri, protocol(scene));
                return text.extend_from_slice(line.as_bytes());
            }
            Self::ForwardedFor => {
                let name = HeaderName::from_static("x-forwarded-for");
                for value in facts.headers.into_iter().flat_map(|headers| headers.get_all(&name)) {
                    text.extend_from_slice(value.as_bytes());
                    text.extend_from_slice(b", ");
                }
                let client = facts.client.map(|client| client.to_string()).unwrap_or_default();
                return text.extend_from_slice(client.as_bytes());
            }
            Self::User => return text.extend_from_slice(scene.user.as_bytes()),
            Self::Fact(variable) => return variable.push(facts, text),
        };
        text.extend_from_slice(part);
    }
}

fn protocol(scene: &Scene<'_>) -> &'static str {
    match scene.version {
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

/// The value of an argument of a query; nginx finds it without regard to letter case.
fn argument<'q>(query: &'q [u8], name: &str) -> &'q [u8] {
    let mut pairs = query.split(|byte| *byte == b'&').filter_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        Some((&pair[..equals], &pair[equals + 1..]))
    });
    pairs.find(|(key, _)| key.eq_ignore_ascii_case(name.as_bytes())).map_or(b"", |(_, value)| value)
}
