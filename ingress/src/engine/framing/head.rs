//! The head of an HTTP/1 request: request line and fields (RFC 9112 sections 2 to 5).

use http::{Method, StatusCode, Version};
use landfall_ingress_model::fields::{FieldLine, Fields};
use memchr::memchr;

use super::fields::field_line;
use super::{Body, USUAL_FIELDS, Violation, is_token_byte};

/// Limits of a request head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of the whole head.
    pub head: usize,
    /// Number of fields. Many small ones cost far more memory than their bytes.
    pub fields: usize,
    /// Bytes of the request target.
    pub target: usize,
}

impl Default for Limits {
    /// 32 KiB, 100 fields and 8 KiB: what nginx and Apache allow by default, give or take.
    fn default() -> Self {
        Self { head: 32 * 1024, fields: 100, target: 8 * 1024 }
    }
}

/// What stands in a request line besides the target: the longest method and the version.
const LINE_OVERHEAD: usize = 64;

/// A complete and sound request head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    /// Bytes of the head, the empty line included.
    pub length: usize,
    /// Where the first field line starts, counted from the start of the head.
    pub fields_start: usize,
    /// The method.
    pub method: Method,
    /// The version: 1.0 or 1.1.
    pub version: Version,
    /// Path and query in origin form, or `*`.
    pub target: String,
    /// The host of a target in absolute form, which then counts instead of the Host field
    /// (RFC 9112 section 3.2.2).
    pub authority: Option<String>,
    /// The framing of the body.
    pub body: Body,
    /// Where the fields are.
    pub lines: Vec<FieldLine>,
}

/// Finds and checks a request head in bytes that come in pieces.
///
/// How the bytes are cut into pieces makes no difference to the outcome.
#[derive(Clone, Debug, Default)]
pub struct RequestScanner {
    /// Start of the line that is being read.
    line_start: usize,
    /// Up to here there is no line feed behind `line_start`.
    searched: usize,
    line: Option<RequestLine>,
    fields_start: usize,
    lines: Vec<FieldLine>,
    framing: FramingFields,
}

#[derive(Clone, Debug, Default)]
struct RequestLine {
    method: Method,
    version: Version,
    target: String,
    authority: Option<String>,
}

/// What the fields say about host and framing.
#[derive(Clone, Debug, Default)]
struct FramingFields {
    hosts: usize,
    lengths: usize,
    length: u64,
    encodings: usize,
    chunked: bool,
}

impl Head {
    /// The fields; `bytes` are those of the head.
    pub(crate) fn fields(&mut self, bytes: bytes::Bytes) -> Fields {
        Fields::new(bytes, std::mem::take(&mut self.lines))
    }
}

impl RequestScanner {
    /// Looks at all bytes read so far, always from the start of the head. `None`: more bytes are needed.
    pub fn scan(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<Head>, Violation> {
        // Whatever does not begin like a method, a TLS handshake for instance, need not be waited for.
        if let Some(first) = bytes.first()
            && !is_token_byte(*first)
            && *first != b'\r'
        {
            return Err(Violation::bad_request("the request does not begin with a method"));
        }
        loop {
            let unseen = bytes.get(self.searched..).unwrap_or_default();
            let found = memchr(b'\n', unseen).map(|at| self.searched + at);
            let end = found.map_or(bytes.len(), |at| at + 1);
            self.check_size(end, limits)?;
            let Some(line_feed) = found else {
                self.searched = bytes.len();
                return Ok(None);
            };
            let line = &bytes[self.line_start..line_feed];
            let Some(line) = line.strip_suffix(b"\r") else {
                return Err(Violation::bad_request("a line ends in a line feed without a carriage return"));
            };
            let start = self.line_start;
            self.line_start = end;
            self.searched = end;
            if let Some(head) = self.take_line(line, start, end, limits)? {
                return Ok(Some(head));
            }
        }
    }

    /// Refuses what is too long, whether the end of the line has come or not.
    fn check_size(&self, end: usize, limits: &Limits) -> Result<(), Violation> {
        if self.line.is_none() {
            if end - self.line_start > limits.target + LINE_OVERHEAD {
                return Err(Violation::new(StatusCode::URI_TOO_LONG, "the request line is too long"));
            }
        } else if end > limits.head {
            return Err(Violation::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the header section is too large"));
        }
        Ok(())
    }

    fn take_line(&mut self, line: &[u8], start: usize, end: usize, limits: &Limits) -> Result<Option<Head>, Violation> {
        let Some(request) = &mut self.line else {
            // RFC 9112 section 2.2: one empty line before the request line is ignored, since old clients send it.
            if line.is_empty() && start == 0 {
                return Ok(None);
            }
            self.line = Some(RequestLine::parse(line, limits)?);
            self.fields_start = end;
            return Ok(None);
        };
        if line.is_empty() {
            let body = self.framing.body(request)?;
            let RequestLine { method, version, target, authority } = std::mem::take(request);
            let (fields_start, lines) = (self.fields_start, std::mem::take(&mut self.lines));
            return Ok(Some(Head { length: end, fields_start, method, version, target, authority, body, lines }));
        }
        if self.lines.len() == limits.fields {
            return Err(Violation::new(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "the request has too many header fields",
            ));
        }
        let (place, name, value) = field_line(line, start, true)?;
        self.framing.note(name, value)?;
        if self.lines.is_empty() {
            self.lines.reserve(USUAL_FIELDS);
        }
        self.lines.push(place);
        Ok(None)
    }
}

impl RequestLine {
    fn parse(line: &[u8], limits: &Limits) -> Result<Self, Violation> {
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Violation::bad_request("the request line is not a method, a target and a version"));
        };
        if method.is_empty() || !method.iter().copied().all(is_token_byte) {
            return Err(Violation::bad_request("the method has a character that no method has"));
        }
        let version = match version {
            b"HTTP/1.1" => Version::HTTP_11,
            b"HTTP/1.0" => Version::HTTP_10,
            [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
                return Err(Violation::new(
                    StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                    "this version of HTTP is not supported",
                ));
            }
            _ => return Err(Violation::bad_request("the version is not one of HTTP")),
        };
        if target.len() > limits.target {
            return Err(Violation::new(StatusCode::URI_TOO_LONG, "the request target is too long"));
        }
        let method = Method::from_bytes(method).map_err(|_| Violation::bad_request("the method is malformed"))?;
        if method == Method::CONNECT {
            return Err(Violation::new(StatusCode::METHOD_NOT_ALLOWED, "CONNECT is not supported"));
        }
        let target = std::str::from_utf8(target)
            .ok()
            .filter(|target| !target.bytes().any(|byte| byte.is_ascii_control()))
            .ok_or(Violation::bad_request("the request target has a character that no target has"))?;
        let (target, authority) = split_target(&method, target)?;
        Ok(Self { method, version, target, authority })
    }
}

/// Origin form, absolute form or asterisk form (RFC 9112 section 3.2).
fn split_target(method: &Method, target: &str) -> Result<(String, Option<String>), Violation> {
    if target.starts_with('/') {
        return Ok((target.into(), None));
    }
    if target == "*" {
        return if *method == Method::OPTIONS {
            Ok((target.into(), None))
        } else {
            Err(Violation::bad_request("only OPTIONS may be asked of *"))
        };
    }
    let bad = Violation::bad_request("the request target is neither a path nor an http URI");
    let (scheme, rest) = target.split_once("://").ok_or(bad)?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(bad);
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.is_empty() || authority.contains('@') {
        return Err(bad);
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok((path, Some(authority.to_owned())))
}

impl FramingFields {
    fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), Violation> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                self.hosts += 1;
                if self.hosts > 1 {
                    return Err(Violation::bad_request("the request has more than one Host field"));
                }
                // RFC 9110 section 4.2.4: who reads what stands before the @ as the host is led astray.
                if value.contains(&b'@') {
                    return Err(Violation::bad_request("the Host field has user information"));
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                self.lengths += 1;
                if self.lengths > 1 {
                    return Err(Violation::bad_request("the request has more than one Content-Length"));
                }
                self.length = parse_length(value)?;
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                self.encodings += 1;
                self.chunked = value.eq_ignore_ascii_case(b"chunked");
                if self.encodings > 1 || value.is_empty() {
                    return Err(Violation::bad_request("the Transfer-Encoding is malformed"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Host and framing, judged once all fields are known.
    fn body(&self, request: &RequestLine) -> Result<Body, Violation> {
        if self.hosts == 0 && request.version == Version::HTTP_11 {
            return Err(Violation::bad_request("the request has no Host field"));
        }
        if self.encodings == 0 {
            return Ok(Body::Length(self.length));
        }
        if self.lengths > 0 {
            return Err(Violation::bad_request("the request has both a Content-Length and a Transfer-Encoding"));
        }
        if request.version == Version::HTTP_10 {
            return Err(Violation::bad_request("an HTTP/1.0 request has a Transfer-Encoding"));
        }
        if !self.chunked {
            return Err(Violation::new(
                StatusCode::NOT_IMPLEMENTED,
                "the only transfer coding that is supported is chunked",
            ));
        }
        Ok(Body::Chunked(Box::default()))
    }
}

/// `1*DIGIT` (RFC 9110 section 8.6), at most 63 bits.
pub(crate) fn parse_length(value: &[u8]) -> Result<u64, Violation> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let number = if digits { std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok()) } else { None };
    number
        .and_then(|number| u64::try_from(number).ok())
        .ok_or(Violation::bad_request("the Content-Length is not a number of bytes"))
}
