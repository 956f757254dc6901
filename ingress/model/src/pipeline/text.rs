//! Values of fields that are made for every request, without the machinery of `format!`.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use http::HeaderValue;

/// `192.0.2.1`, at most 15 characters.
pub(super) fn address(address: IpAddr) -> HeaderValue {
    let made = match address {
        IpAddr::V4(address) => ipv4(address),
        IpAddr::V6(address) => HeaderValue::from_str(&address.to_string()),
    };
    made.expect("an address is visible ASCII")
}

fn ipv4(address: Ipv4Addr) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
    let mut text = Short { bytes: [b'.'; 15], length: 0 };
    let (bytes, at) = (&mut text.bytes, &mut text.length);
    for (index, octet) in address.octets().into_iter().enumerate() {
        // The dots are there already.
        *at += usize::from(index > 0);
        for (least, unit) in [(100, 100), (10, 10), (0, 1)] {
            if octet >= least {
                bytes[*at] = b'0' + octet / unit % 10;
                *at += 1;
            }
        }
    }
    // Owned, so that the fields that name the client share it.
    HeaderValue::from_maybe_shared(Bytes::from_owner(text))
}

/// An IPv4 address in words.
struct Short {
    bytes: [u8; 15],
    length: usize,
}

impl AsRef<[u8]> for Short {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// A port; those that nearly every request has are at hand.
pub(super) fn port(port: u16) -> HeaderValue {
    match port {
        80 => HeaderValue::from_static("80"),
        443 => HeaderValue::from_static("443"),
        _ => HeaderValue::from(port),
    }
}

/// Every byte in two hexadecimal digits.
static PAIRS: [[u8; 2]; 256] = {
    let (digits, mut pairs, mut byte) = (b"0123456789abcdef", [[0; 2]; 256], 0);
    while byte < 256 {
        pairs[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    pairs
};

/// 32 hexadecimal digits.
pub(super) fn hexadecimal(number: u128) -> HeaderValue {
    let mut text = [0; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        pair.copy_from_slice(&PAIRS[usize::from(byte)]);
    }
    // Owned, so that the copies for the log and the answer share it.
    HeaderValue::from_maybe_shared(Bytes::from_owner(text)).expect("hexadecimal digits are visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_read_as_the_standard_library_writes_them() {
        for octet in 0..=255 {
            for other in [0, 1, 9, 10, 99, 100, 199, 255] {
                let ip = IpAddr::from([octet, other, octet, other]);
                assert_eq!(address(ip), ip.to_string());
            }
        }
        let ip: IpAddr = "2001:db8::1".parse().unwrap();
        assert_eq!(address(ip), "2001:db8::1");
        for number in [0, 80, 443, 8443, u16::MAX] {
            assert_eq!(port(number), number.to_string());
        }
        for number in [0, 1, u128::MAX, 0x0123_4567_89ab_cdef << 60] {
            assert_eq!(hexadecimal(number), format!("{number:032x}"));
        }
    }
}
