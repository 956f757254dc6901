//! Frames of HTTP/2 as bytes, for what no library would send.

use crate::scene::HOST;

/// What a client sends first (RFC 9113 section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const CONTINUATION: u8 = 9;

/// Length, type, flags, stream (RFC 9113 section 4.1) and payload.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// SETTINGS with this initial window (RFC 9113 section 6.5.2).
pub(crate) fn window(size: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&[0, 4][..], &size.to_be_bytes()].concat())
}

/// A GET of `/` at [`HOST`], without Huffman coding or a table (RFC 7541 section 6).
pub(crate) fn request() -> Vec<u8> {
    let mut block = vec![0x82, 0x84, 0x86, 0x01];
    string(HOST.as_bytes(), &mut block);
    block
}

/// A string as it is (RFC 7541 section 5.2).
pub(crate) fn string(text: &[u8], block: &mut Vec<u8>) {
    if text.len() < 127 {
        block.push(u8::try_from(text.len()).unwrap_or_default());
    } else {
        block.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            block.push(u8::try_from(rest % 128).unwrap_or_default() | 128);
            rest /= 128;
        }
        block.push(u8::try_from(rest).unwrap_or_default());
    }
    block.extend_from_slice(text);
}
