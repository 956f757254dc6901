//! Headers and what they come to.

use proptest::prelude::*;

use super::*;

#[expect(clippy::unnecessary_wraps, reason = "the tables compare results")]
fn complete(length: usize, addresses: Option<(&str, &str)>) -> Result<Progress, Malformed> {
    let addresses = addresses.map(|(source, destination)| Addresses {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    });
    Ok(Progress::Complete { length, addresses })
}

fn binary(version_command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let mut bytes = V2_SIGNATURE.to_vec();
    bytes.extend([version_command, family]);
    bytes.extend(u16::try_from(block.len()).unwrap().to_be_bytes());
    bytes.extend(block);
    bytes
}

#[test]
fn lines_of_version_1() {
    let pair = Some(("192.0.2.1:56324", "198.51.100.2:443"));
    let six = Some(("[2001:db8::1]:1", "[2001:db8::2]:65535"));
    let cases: &[(&str, Result<Progress, Malformed>)] = &[
        ("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\nGET", complete(45, pair)),
        ("PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", complete(44, six)),
        ("PROXY UNKNOWN\r\n", complete(15, None)),
        ("PROXY UNKNOWN whatever there is\r\n", complete(33, None)),
        ("", Ok(Progress::Partial)),
        ("PRO", Ok(Progress::Partial)),
        ("PROXY TCP4 192.0.2.1", Ok(Progress::Partial)),
        ("GET / HTTP/1.1\r\n", Err(Malformed::Missing)),
        ("PROXX", Err(Malformed::Missing)),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\n", Err(Malformed::Line)),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n", Err(Malformed::Line)),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 1\r\n", Err(Malformed::Line)),
        ("PROXY TCP4  192.0.2.1 198.51.100.2 56324 443\r\n", Err(Malformed::Line)),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n", Err(Malformed::Line)),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 +1 443\r\n", Err(Malformed::Line)),
        ("PROXY TCP4 192.0.2.1 198.51.100.2 01 443\r\n", Err(Malformed::Line)),
        ("PROXY TCP4 2001:db8::1 198.51.100.2 1 443\r\n", Err(Malformed::Line)),
        ("PROXY TCP6 192.0.2.1 198.51.100.2 1 443\r\n", Err(Malformed::Line)),
        ("PROXY UDP4 192.0.2.1 198.51.100.2 1 443\r\n", Err(Malformed::Line)),
        ("PROXY \r\n", Err(Malformed::Line)),
    ];
    for (line, expected) in cases {
        assert_eq!(parse(line.as_bytes()), *expected, "{line:?}");
    }
    assert_eq!(parse(format!("PROXY UNKNOWN {}", "x".repeat(200)).as_bytes()), Err(Malformed::Line));
}

#[test]
fn headers_of_version_2() {
    let four = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 4, 1, 187];
    let pair = Some(("192.0.2.1:56324", "198.51.100.2:443"));
    let mut six = [0; 36];
    six[15] = 1;
    six[31] = 2;
    six[33] = 3;
    six[35] = 4;
    let with_tlv = [&four[..], &[0x20, 0, 1, 0]].concat();
    let cases: Vec<(Vec<u8>, Result<Progress, Malformed>)> = vec![
        (binary(0x21, 0x11, &four), complete(28, pair)),
        (binary(0x21, 0x11, &with_tlv), complete(32, pair)),
        (binary(0x21, 0x21, &six), complete(52, Some(("[::1]:3", "[::2]:4")))),
        (binary(0x20, 0x00, &[]), complete(16, None)),
        (binary(0x20, 0x11, &four), complete(28, None)),
        (binary(0x21, 0x00, &[1, 2, 3]), complete(19, None)),
        (V2_SIGNATURE.to_vec(), Ok(Progress::Partial)),
        (binary(0x21, 0x11, &four)[..20].to_vec(), Ok(Progress::Partial)),
        (binary(0x11, 0x11, &four), Err(Malformed::Binary)),
        (binary(0x22, 0x11, &four), Err(Malformed::Binary)),
        (binary(0x21, 0x12, &four), Err(Malformed::Binary)),
        (binary(0x21, 0x31, &[0; 216]), Err(Malformed::Binary)),
        (binary(0x21, 0x11, &four[..11]), Err(Malformed::Binary)),
        (binary(0x21, 0x21, &four), Err(Malformed::Binary)),
        (binary(0x21, 0x11, &[0; 5000]), Err(Malformed::Binary)),
        (b"\r\n\r\n\0\r\nQUIX\n".to_vec(), Err(Malformed::Missing)),
    ];
    for (bytes, expected) in cases {
        assert_eq!(parse(&bytes), expected, "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        version in prop_oneof![Just(V1_SIGNATURE.to_vec()), Just(V2_SIGNATURE.to_vec()), Just(Vec::new())],
        rest in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let bytes = [version, rest].concat();
        let whole = parse(&bytes);
        if let Ok(Progress::Complete { length, .. }) = whole {
            prop_assert!(length <= bytes.len());
            prop_assert_eq!(parse(&bytes[..length - 1]), Ok(Progress::Partial));
            prop_assert_eq!(parse(&bytes[..length]), whole);
        }
    }
}
