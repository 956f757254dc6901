//! HTTP/2 by hand: frames that no library would send.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// Whether a frame is the last of its stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ends {
    Yes,
    No,
}

/// What a stream came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// A whole answer with this body.
    Answer(Vec<u8>),
    /// It was reset, or the connection ended.
    Reset,
}

/// A connection.
pub struct Frames {
    tcp: TcpStream,
}

impl Frames {
    pub fn connect(address: SocketAddr) -> Self {
        let mut tcp = TcpStream::connect(address).unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        tcp.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        let mut frames = Self { tcp };
        frames.frame(SETTINGS, 0, 0, &[]);
        frames
    }

    /// Whoever has closed the connection hears no more.
    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags];
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        let _ = self.tcp.write_all(&bytes);
    }

    /// A head: pseudo-fields and fields, each a literal.
    pub fn head(&mut self, stream: u32, fields: &[(&str, &str)], ends: Ends) {
        let flags = END_HEADERS | if ends == Ends::Yes { END_STREAM } else { 0 };
        self.frame(HEADERS, flags, stream, &block(fields));
    }

    /// Data, and so much padding.
    pub fn data(&mut self, stream: u32, data: &[u8], padding: Option<u8>, ends: Ends) {
        let last = if ends == Ends::Yes { END_STREAM } else { 0 };
        match padding {
            None => self.frame(DATA, last, stream, data),
            Some(padding) => {
                let mut payload = vec![padding];
                payload.extend(data);
                payload.extend(vec![0; usize::from(padding)]);
                self.frame(DATA, last | PADDED, stream, &payload);
            }
        }
    }

    pub fn reset(&mut self, stream: u32) {
        self.frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    }

    pub fn ping(&mut self) {
        self.frame(PING, 0, 0, &[0; 8]);
    }

    /// Reads until the stream has ended.
    pub fn outcome(&mut self, stream: u32) -> Outcome {
        let mut body = Vec::new();
        loop {
            let Some((kind, flags, of, payload)) = self.read() else { return Outcome::Reset };
            match kind {
                SETTINGS if flags & ACK == 0 => self.frame(SETTINGS, ACK, 0, &[]),
                PING if flags & ACK == 0 => self.frame(PING, ACK, 0, &payload),
                DATA if of == stream => {
                    body.extend(&payload);
                    let length = u32::try_from(payload.len()).unwrap();
                    if length > 0 {
                        self.frame(WINDOW_UPDATE, 0, 0, &length.to_be_bytes());
                    }
                }
                RST_STREAM if of == stream => return Outcome::Reset,
                _ => {}
            }
            if of == stream && matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                return Outcome::Answer(body);
            }
        }
    }

    /// The error code of the GOAWAY that ends the connection, if one does.
    pub fn goodbye(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some((kind, _, _, payload)) = self.read() {
            if kind == GOAWAY {
                code = payload.get(4..8).and_then(|code| code.try_into().ok()).map(u32::from_be_bytes);
            }
        }
        code
    }

    fn read(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.tcp.read_exact(&mut head).ok()?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        self.tcp.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some((head[3], head[4], stream, payload))
    }
}

/// Literals without indexing, with new names (RFC 7541 section 6.2.2).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "a length that fits into one byte");
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    block
}
