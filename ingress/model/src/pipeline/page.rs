//! Answers of our own: error pages in the format the client accepts.

use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, SERVER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::fields::X_REQUEST_ID;
use super::response::SERVER_NAME;
use crate::fields::Fields;
use crate::policy::snippet::{Effects, Place};

/// A whole answer made here.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// Its fields, without framing: the engine adds `Content-Length`, `Date` and `Connection`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body; not sent in answer to HEAD.
    pub body: String,
    /// The place in a snippet that decided it.
    pub said: Option<Place>,
    /// Whether it is meant as it is, so that nobody else's page takes its place.
    pub is_final: bool,
}

impl Answer {
    /// An answer without a body.
    pub fn empty(status: StatusCode, request_id: &HeaderValue) -> Self {
        let headers = vec![(X_REQUEST_ID, request_id.clone()), (SERVER, SERVER_NAME)];
        Self { status, headers, body: String::new(), said: None, is_final: false }
    }

    /// Sets fields, each in the place of those that had its name.
    pub fn set(&mut self, fields: impl IntoIterator<Item = (HeaderName, HeaderValue)>) {
        for (name, value) in fields {
            self.headers.retain(|(known, _)| *known != name);
            self.headers.push((name, value));
        }
    }

    /// Does to the fields what snippets ask for.
    pub(super) fn change(&mut self, effects: &Effects) {
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in self.headers.drain(..) {
            headers.append(name, value);
        }
        effects.apply(self.status, None, &mut headers);
        self.headers.extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())));
    }

    /// The answer to an HTTP-01 challenge (RFC 8555 section 8.3).
    pub(super) fn challenge(body: String, request_id: &HeaderValue) -> Self {
        let mut answer = Self::empty(StatusCode::OK, request_id);
        answer.headers.push((CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")));
        answer.headers.push((CACHE_CONTROL, HeaderValue::from_static("no-store")));
        answer.body = body;
        answer
    }
}

/// The formats an error page comes in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    Text,
    Html,
    Json,
}

/// The page for `status` in the format that `headers` accept, with the reason in words and the request id.
///
/// `reason` must not name anything inside the cluster: the page is for whoever asks.
pub fn error_page(status: StatusCode, reason: &str, headers: &Fields, request_id: &HeaderValue) -> Answer {
    let title = status.canonical_reason().unwrap_or("Error");
    let code = status.as_u16();
    // The id is visible ASCII; one that a client chose holds no character that either format gives a meaning to.
    let id = request_id.to_str().unwrap_or("-");
    let (kind, body) = match accepted(headers) {
        Format::Text => ("text/plain; charset=utf-8", format!("{code} {title}: {reason}\nrequest id: {id}\n")),
        Format::Html => ("text/html; charset=utf-8", html(code, title, reason, id)),
        Format::Json => ("application/json", json(code, title, reason, id)),
    };
    let mut answer = Answer::empty(status, request_id);
    answer.headers.push((CONTENT_TYPE, HeaderValue::from_static(kind)));
    answer.headers.push((CACHE_CONTROL, HeaderValue::from_static("no-store")));
    answer.body = body;
    answer
}

fn html(code: u16, title: &str, reason: &str, id: &str) -> String {
    let reason = reason.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{code} {title}</title></head>\n\
         <body>\n<h1>{code} {title}</h1>\n<p>{reason}</p>\n<p><small>request id: {id}</small></p>\n</body>\n</html>\n"
    )
}

fn json(code: u16, title: &str, reason: &str, id: &str) -> String {
    let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        "{{\"status\":{code},\"error\":\"{title}\",\"message\":\"{}\",\"requestId\":\"{}\"}}\n",
        quote(reason),
        quote(id)
    )
}

/// The format with the highest weight in `Accept` (RFC 9110 section 12.5.1); among equals the first.
fn accepted(headers: &Fields) -> Format {
    let mut best = (0.0, Format::Text);
    let ranges = headers.get_all(ACCEPT).filter_map(|value| value.to_str().ok());
    for range in ranges.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let format = match parts.next().map(str::to_ascii_lowercase).as_deref() {
            Some("text/html" | "application/xhtml+xml") => Format::Html,
            Some("application/json" | "application/problem+json") => Format::Json,
            Some("text/plain" | "text/*" | "*/*") => Format::Text,
            _ => continue,
        };
        let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
        if weight > best.0 {
            best = (weight, format);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_comes_in_the_format_the_client_accepts() {
        let cases = [
            ("", "text/plain; charset=utf-8"),
            ("*/*", "text/plain; charset=utf-8"),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html; charset=utf-8"),
            ("application/json", "application/json"),
            ("text/html;q=0.5, application/json;q=0.9", "application/json"),
            ("image/png", "text/plain; charset=utf-8"),
            ("text/html;q=0", "text/plain; charset=utf-8"),
        ];
        let id = HeaderValue::from_static("7");
        for (accept, kind) in cases {
            let headers = Fields::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            let page = error_page(StatusCode::NOT_FOUND, "nothing here", &headers, &id);
            let found = page.headers.iter().find(|(name, _)| name == CONTENT_TYPE).map(|(_, value)| value.clone());
            assert_eq!(found, Some(HeaderValue::from_static(kind)), "{accept}");
            assert!(page.body.contains("nothing here") && page.body.contains('7'), "{accept}");
        }
    }

    #[test]
    fn a_reason_cannot_break_out_of_the_page() {
        assert!(html(400, "Bad Request", "<script>", "1").contains("&lt;script&gt;"));
        assert!(json(400, "Bad Request", "a \"b\"", "1").contains(r#""a \"b\"""#));
    }
}
