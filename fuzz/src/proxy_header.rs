//! The PROXY header, versions 1 and 2.

use std::net::SocketAddr;

use crate::ingress::listener::proxy_protocol::{Addresses, Progress, parse};

pub(crate) fn run(bytes: &[u8]) {
    let whole = parse(bytes);
    match whole {
        Ok(Progress::Partial) => {}
        // Nothing that follows makes a broken header whole.
        Err(error) => assert_eq!(parse(&[bytes, b"\r\n"].concat()), Err(error)),
        Ok(Progress::Complete { length, addresses }) => {
            assert!(length <= bytes.len());
            for cut in 0..length {
                assert_eq!(parse(&bytes[..cut]), Ok(Progress::Partial), "{cut} bytes");
            }
            assert_eq!(parse(&bytes[..length]), whole, "what follows is not looked at");
            if let Some(addresses) = addresses {
                again(addresses);
            }
        }
    }
}

/// The addresses are read again as they were, in both versions.
fn again(addresses: Addresses) {
    for bytes in [line(addresses), binary(addresses)] {
        let expected = Progress::Complete { length: bytes.len(), addresses: Some(addresses) };
        assert_eq!(parse(&bytes), Ok(expected), "{bytes:?}");
    }
}

fn line(Addresses { source, destination }: Addresses) -> Vec<u8> {
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
}

fn binary(Addresses { source, destination }: Addresses) -> Vec<u8> {
    let mut block = Vec::new();
    for end in [source, destination] {
        match end {
            SocketAddr::V4(end) => block.extend(end.ip().octets()),
            SocketAddr::V6(end) => block.extend(end.ip().octets()),
        }
    }
    block.extend(source.port().to_be_bytes());
    block.extend(destination.port().to_be_bytes());
    let family = if source.is_ipv4() { 0x11 } else { 0x21 };
    let length = u8::try_from(block.len()).unwrap();
    [b"\r\n\r\n\0\r\nQUIT\n\x21", &[family, 0, length][..], &block].concat()
}
