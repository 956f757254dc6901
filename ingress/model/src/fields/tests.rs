use http::header::{ACCEPT, COOKIE, SET_COOKIE};

use super::*;

/// The fields of a head, found as a scanner finds them.
fn scanned(head: &'static str) -> Fields {
    let (mut lines, mut start) = (Vec::new(), 0);
    for line in head.split_inclusive('\n') {
        let (bare, tidy) = match line.strip_suffix("\r\n") {
            Some(bare) => (bare, true),
            None => (line.strip_suffix('\n').unwrap(), false),
        };
        let (name, rest) = bare.split_once(':').unwrap();
        let value = rest.trim();
        let place = start + name.len() + 1 + rest.find(value).unwrap();
        let tidy = tidy && rest.strip_prefix(' ') == Some(value);
        lines.push(FieldLine::new(start, name.as_bytes(), place, value.len(), tidy).unwrap());
        start += line.len();
    }
    Fields::new(Bytes::from_static(head.as_bytes()), lines)
}

fn written(head: &'static str, edits: &HeaderEdits) -> String {
    let mut out = BytesMut::new();
    scanned(head).write(edits, &mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn fields_are_found_in_every_spelling_and_in_their_order() {
    let fields = scanned("cookie: a=1\r\nACCEPT: x\r\nCookie: b=2\r\nx-c: caf\u{e9}\r\n");
    let cookies: Vec<_> = fields.get_all(COOKIE).map(|value| value.to_str().unwrap()).collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    assert_eq!(fields.get_all(&COOKIE).next_back().unwrap().as_bytes(), b"b=2");
    assert_eq!(fields.get(ACCEPT).unwrap().to_value(), "x");
    assert!(fields.contains(ACCEPT) && !fields.contains(SET_COOKIE));
    assert_eq!(fields.get(HeaderName::from_static("x-c")).unwrap().to_str(), Err(NotText));
    assert_eq!((fields.len(), fields.names().next()), (4, Some(&b"cookie"[..])));
}

#[test]
fn a_name_with_the_mark_of_another_one_is_not_taken_for_it() {
    let name = HeaderName::from_static("x-abcd");
    let other = HeaderName::from_static("x-efgh");
    assert_eq!(mark(name.as_str().as_bytes()), mark(other.as_str().as_bytes()));
    let fields = Fields::from_iter([(name.clone(), HeaderValue::from_static("1"))]);
    assert!(fields.contains(name) && !fields.contains(other));
}

#[test]
fn lines_are_ours_however_they_were_written() {
    let head = "A: 1\r\nB:2\r\nC: \t 3 \r\nD: 4\r\nX-Gone: 5\r\nE:\r\nF: 6 \nG:\t7\r\nH: 8\n";
    let mut edits = HeaderEdits { remove: vec![HeaderName::from_static("x-gone")], ..HeaderEdits::default() };
    let plain = "A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nE: \r\nF: 6\r\nG: 7\r\nH: 8\r\n";
    assert_eq!(written(head, &edits), plain);
    edits.set.push((HeaderName::from_static("d"), HeaderValue::from_static("x")));
    assert_eq!(written(head, &edits), plain.replace("D: 4\r\n", "") + "D: x\r\n");
}

#[test]
fn what_was_edited_is_left_out_in_every_spelling() {
    let mut edits = HeaderEdits::default();
    edits.set.push((HeaderName::from_static("user-agent"), HeaderValue::from_static("me")));
    edits.remove.push(HeaderName::from_static("x-one"));
    let head = "Content-Length: 5\r\nuser-agent: a\r\nKEEP: 1\r\nX-ONE: 2\r\nTransfer-encoding: x\r\nUser-Agent: b\r\n";
    assert_eq!(written(head, &edits), "KEEP: 1\r\nUser-Agent: me\r\n");
    let map = scanned(head).edited(&edits);
    assert_eq!(
        map,
        HeaderMap::from_iter(
            [("keep", "1"), ("user-agent", "me")]
                .map(|(name, value)| { (HeaderName::from_static(name), HeaderValue::from_static(value)) })
        )
    );
}

#[test]
fn a_map_and_its_fields_are_the_same() {
    let mut map = HeaderMap::new();
    map.append(COOKIE, HeaderValue::from_static("a=1"));
    map.append(ACCEPT, HeaderValue::from_static(""));
    map.append(COOKIE, HeaderValue::from_bytes(b"caf\xe9").unwrap());
    assert_eq!(Fields::from(&map).to_map(), map);
}

#[test]
fn what_has_no_place_is_refused() {
    assert_eq!(FieldLine::new(0, &vec![b'a'; 1 << 16], 0, 0, true), Err(TooLong));
    assert_eq!(FieldLine::new(usize::MAX, b"a", 0, 0, true), Err(TooLong));
    assert_eq!(FieldLine::new(0, b"a", u32::MAX as usize - 1, 0, true), Err(TooLong));
}
