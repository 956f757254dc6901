use super::*;

fn scan(bytes: &[u8]) -> Result<Option<ResponseHead>, Malformed> {
    ResponseScanner::default().scan(&mut BytesMut::from(bytes), &Method::GET)
}

#[test]
fn how_a_body_is_delimited() {
    let chunked = || Body::Chunked(Box::default());
    let cases = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Body::Length(5), true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", Body::Length(5), true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", Body::Length(5), true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunked(), true),
        ("HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: Chunked\r\n\r\n", chunked(), true),
        ("HTTP/1.1 200 OK\r\n\r\n", Body::UntilEnd, false),
        ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", Body::Length(0), true),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", Body::Length(0), true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: x, Close\r\n\r\n", Body::Length(5), false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", Body::Length(5), false),
        ("HTTP/1.0 200 OK\nContent-Length: 5\nConnection: keep-alive\n\n", Body::Length(5), true),
    ];
    for (bytes, body, keeps_alive) in cases {
        let head = scan(bytes.as_bytes()).unwrap().unwrap();
        assert_eq!(head.body, body, "{bytes}");
        assert_eq!(head.keeps_alive(), keeps_alive, "{bytes}");
    }
}

#[test]
fn what_is_no_response_is_refused() {
    let cases = [
        "this is not HTTP\r\n",
        "HTTP/2 200 OK\r\n",
        "HTTP/1.1 20 OK\r\n",
        "HTTP/1.1 2000 OK\r\n",
        "HTTP/1.1 600 OK\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    ];
    for bytes in cases {
        assert!(scan(bytes.as_bytes()).is_err(), "{bytes}");
    }
}

#[test]
fn a_head_may_come_in_pieces() {
    let bytes = b"HTTP/1.1 200 OK\r\nX-A:  b \r\nContent-Length: 2\r\n\r\nok";
    for cut in 1..bytes.len() {
        let mut scanner = ResponseScanner::default();
        let mut input = BytesMut::from(bytes.get(..cut).unwrap());
        let early = scanner.scan(&mut input, &Method::GET).unwrap();
        let head = early.or_else(|| {
            input.extend_from_slice(&bytes[cut..]);
            scanner.scan(&mut input, &Method::GET).unwrap()
        });
        assert_eq!(head.unwrap().fields.to_map()["x-a"], "b", "{cut}");
    }
}
