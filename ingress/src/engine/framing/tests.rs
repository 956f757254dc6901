//! The scanner against the rules of RFC 9112, one request a line.

use proptest::prelude::*;

use super::*;

/// What a request, head and body, comes to: the status of a violation, or how many bytes belong to it.
fn outcome(pieces: &[&[u8]]) -> Result<Option<usize>, u16> {
    let limits = Limits::default();
    let mut scanner = RequestScanner::default();
    let mut seen = Vec::new();
    let mut head: Option<Head> = None;
    let mut body_from = 0;
    for piece in pieces {
        seen.extend_from_slice(piece);
        if head.is_none() {
            head = scanner.scan(&seen, &limits).map_err(|violation| violation.status.as_u16())?;
            body_from = head.as_ref().map_or(0, |head| head.length);
        }
        if let Some(head) = &mut head {
            body_from += head.body.advance(&seen[body_from..]).map_err(|violation| violation.status.as_u16())?;
        }
    }
    Ok(head.filter(|head| head.body.is_done()).map(|_| body_from))
}

fn whole(request: &[u8]) -> Result<Option<usize>, u16> {
    outcome(&[request])
}

/// Requests and their answers; `0` is a complete request.
const HEADS: &[(&str, u16)] = &[
    ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0),
    ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 0),
    ("GET http://a/b?c HTTP/1.1\r\nHost: x\r\n\r\n", 0),
    ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 0),
    ("GET / HTTP/1.0\r\n\r\n", 0),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: \u{e9}\r\n\r\n", 0),
    ("GET /?q=\"{|} HTTP/1.1\r\nHost: a\r\n\r\n", 0),
    ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET http:/// HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    ("GET / HTTP/1.1\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ("GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX(: x\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n", 400),
    ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET / x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET /\r\n\r\n", 400),
    ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
    ("GET / http/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET /\u{1} HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
    ("GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
    ("\u{16}\u{3}\u{1}", 400),
];

/// Bodies behind a sound request line and Host field.
const BODIES: &[(&str, u16)] = &[
    ("Content-Length: 3\r\n\r\nabc", 0),
    ("Content-Length: 0\r\n\r\n", 0),
    ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 0),
    ("Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n", 0),
    ("Transfer-Encoding: chunked\r\n\r\n3;a=\"b\"\r\nabc\r\n0\r\nX: y\r\n\r\n", 0),
    ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400),
    ("Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
    ("Content-Length: 3, 3\r\n\r\nabc", 400),
    ("Content-Length: +3\r\n\r\nabc", 400),
    ("Content-Length: -3\r\n\r\nabc", 400),
    ("Content-Length: 0x3\r\n\r\nabc", 400),
    ("Content-Length: \r\n\r\nabc", 400),
    ("Content-Length: 9223372036854775808\r\n\r\n", 400),
    ("Content-Length: 99999999999999999999999\r\n\r\n", 400),
    ("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    ("Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 501),
    ("Transfer-Encoding: identity\r\n\r\n", 501),
    ("Transfer-Encoding: xchunked\r\n\r\n", 501),
    ("Transfer-Encoding: \u{b}chunked\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ("Transfer-Encoding:\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n 3\r\nabc\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n\r\nabc\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n;a\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n3;a\nb\r\nabc\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n3;a\rb\r\nabc\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n0\r\nX y\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n0\r\n X: y\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n0\r\nX: a\0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n0\r\n\n", 400),
];

fn table() -> Vec<(String, u16)> {
    let heads = HEADS.iter().map(|(request, status)| ((*request).to_owned(), *status));
    let bodies = BODIES.iter().map(|(rest, status)| (format!("POST / HTTP/1.1\r\nHost: a\r\n{rest}"), *status));
    heads.chain(bodies).collect()
}

#[test]
fn each_request_gets_its_answer() {
    for (request, status) in table() {
        let expected = if status == 0 { Ok(Some(request.len())) } else { Err(status) };
        assert_eq!(whole(request.as_bytes()), expected, "{request:?}");
    }
}

#[test]
fn limits_are_kept_and_no_more() {
    let target = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(length - 1));
    assert!(matches!(whole(target(8192).as_bytes()), Ok(Some(_))));
    assert_eq!(whole(target(8193).as_bytes()), Err(414));
    assert_eq!(whole(format!("GET /{}", "x".repeat(9000)).as_bytes()), Err(414));
    let fields = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
    assert!(matches!(whole(fields(100).as_bytes()), Ok(Some(_))));
    assert_eq!(whole(fields(101).as_bytes()), Err(431));
    let field = |length: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(length));
    assert!(matches!(whole(field(32 * 1024 - 33).as_bytes()), Ok(Some(_))));
    assert_eq!(whole(field(32 * 1024).as_bytes()), Err(431));
    let extension = format!("Transfer-Encoding: chunked\r\n\r\n1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(1025));
    assert_eq!(whole(format!("POST / HTTP/1.1\r\nHost: a\r\n{extension}").as_bytes()), Err(400));
    let many = format!("1;{}\r\nx\r\n", "e".repeat(1000)).repeat(17);
    assert_eq!(
        whole(format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{many}").as_bytes()),
        Err(400)
    );
}

#[test]
fn what_follows_the_body_is_the_next_request() {
    let first = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    assert_eq!(whole(format!("{first}GET / HTTP/1.1\r\n").as_bytes()), Ok(Some(first.len())));
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    assert_eq!(whole(format!("{chunked}GET / HTTP/1.1\r\n").as_bytes()), Ok(Some(chunked.len())));
}

#[test]
fn an_absolute_target_gives_the_host() {
    let request = b"GET HTTP://a.example:8080?q HTTP/1.1\r\nHost: b\r\n\r\n";
    let head = RequestScanner::default().scan(request, &Limits::default()).unwrap().unwrap();
    assert_eq!(head.authority.as_deref(), Some("a.example:8080"));
    assert_eq!(head.target, "/?q");
}

fn any_request() -> impl Strategy<Value = Vec<u8>> {
    let known = proptest::sample::select(table()).prop_map(|(request, _)| request.into_bytes());
    let noise = proptest::collection::vec(proptest::sample::select(b"GET / HTP1.\r\n:;0afX\0 \t".to_vec()), 0..80);
    // A known request with one byte changed reaches deeper than noise does.
    let changed = (known.clone(), any::<proptest::sample::Index>(), any::<u8>()).prop_map(|(mut bytes, at, byte)| {
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes
    });
    prop_oneof![known, noise, changed]
}

proptest! {
    #[test]
    fn the_cuts_between_reads_make_no_difference(
        request in any_request(),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(request.len() + 1)).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for cut in cuts {
            pieces.push(&request[from..cut]);
            from = cut;
        }
        pieces.push(&request[from..]);
        prop_assert_eq!(outcome(&pieces), whole(&request));
    }
}

#[test]
fn a_value_is_judged_alike_wherever_its_bytes_stand() {
    for byte in 0..=u8::MAX {
        for other in [b'a', b' ', 0xff] {
            for length in 1..20 {
                for at in 0..length {
                    let mut value = vec![other; length];
                    value[at] = byte;
                    assert_eq!(is_value(&value), is_value_byte(byte), "{value:?}");
                }
            }
        }
    }
}
