//! A message of HTTP/1.1 as it is read from a socket, by the letter and without any opinion.

use std::fmt;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;

/// How a body was delimited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Framing {
    None,
    Length,
    Chunked,
    UntilEnd,
}

/// A message, or as much of it as came.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub first: String,
    pub fields: Vec<(String, String)>,
    pub framing: Framing,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    pub whole: bool,
}

impl Message {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.fields.retain(|(found, _)| !found.eq_ignore_ascii_case(name));
    }

    pub(crate) fn status(&self) -> u16 {
        self.first.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}", self.first)?;
        for (name, value) in &self.fields {
            writeln!(f, "  {name}: {}", value.chars().take(80).collect::<String>().escape_debug())?;
        }
        let body = String::from_utf8_lossy(&self.body);
        let shown: String = body.chars().take(120).collect();
        write!(f, "  {:?}, {} bytes {shown:?}, trailers {:?}", self.framing, self.body.len(), self.trailers)?;
        write!(f, ", {}", if self.whole { "whole" } else { "cut off" })
    }
}

/// Why nothing more is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// The other side has closed.
    Closed,
    /// The other side has closed out of order, which throws away what was not yet read.
    Reset,
    /// Nothing came in time.
    Hung,
}

/// A socket and what was read ahead.
pub(crate) struct Reader {
    stream: TcpStream,
    ahead: Vec<u8>,
}

impl Reader {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, ahead: Vec::new() }
    }

    fn fill(&mut self) -> Result<(), Stop> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(Stop::Closed),
            Ok(read) => {
                self.ahead.extend_from_slice(&buffer[..read]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(Stop::Hung),
            Err(_) => Err(Stop::Reset),
        }
    }

    /// Without its end. Bytes become the characters of the same number.
    fn line(&mut self) -> Result<String, Stop> {
        let end = loop {
            match self.ahead.iter().position(|byte| *byte == b'\n') {
                Some(end) => break end,
                None => self.fill()?,
            }
        };
        let line: Vec<u8> = self.ahead.drain(..=end).collect();
        let line = line.strip_suffix(b"\r\n").unwrap_or(&line[..end]);
        Ok(line.iter().copied().map(char::from).collect())
    }

    fn fields(&mut self) -> Result<Vec<(String, String)>, Stop> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            match line.split_once(':') {
                Some((name, value)) => fields.push((name.to_owned(), value.trim().to_owned())),
                None if line.is_empty() => return Ok(fields),
                None => fields.push((line, "(no colon)".to_owned())),
            }
        }
    }

    /// The head of a request or a response. `Err` with `true` where something of it has come.
    pub(crate) fn head(&mut self) -> Result<Message, (Stop, bool)> {
        let first = self.line().map_err(|stop| (stop, !self.ahead.is_empty()))?;
        let fields = self.fields().map_err(|stop| (stop, true))?;
        let framing = Framing::None;
        Ok(Message { first, fields, framing, body: Vec::new(), trailers: Vec::new(), whole: false })
    }

    /// The body of a request.
    pub(crate) fn request_body(&mut self, message: &mut Message) -> Result<(), Stop> {
        message.framing = match (message.field("transfer-encoding"), message.field("content-length")) {
            (Some(_), _) => Framing::Chunked,
            (None, Some(_)) => Framing::Length,
            (None, None) => Framing::None,
        };
        self.body(message)
    }

    /// The body of a response to a `method` request.
    pub(crate) fn response_body(&mut self, message: &mut Message, method: &str) -> Result<(), Stop> {
        let bodiless = method == "HEAD" || message.status() < 200 || matches!(message.status(), 204 | 304);
        message.framing = match (message.field("transfer-encoding"), message.field("content-length")) {
            _ if bodiless => Framing::None,
            (Some(_), _) => Framing::Chunked,
            (None, Some(_)) => Framing::Length,
            (None, None) => Framing::UntilEnd,
        };
        self.body(message)
    }

    fn body(&mut self, message: &mut Message) -> Result<(), Stop> {
        match message.framing {
            Framing::None => {}
            Framing::Length => {
                let length = message.field("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
                self.take(length, &mut message.body)?;
            }
            Framing::Chunked => {
                loop {
                    let line = self.line()?;
                    let digits = line.split(';').next().unwrap_or_default();
                    let size = usize::from_str_radix(digits, 16).map_err(|_| Stop::Closed)?;
                    if size == 0 {
                        break;
                    }
                    self.take(size, &mut message.body)?;
                    self.line()?;
                }
                message.trailers = self.fields()?;
            }
            Framing::UntilEnd => loop {
                message.body.append(&mut self.ahead);
                match self.fill() {
                    Ok(()) => {}
                    Err(Stop::Closed) => break,
                    Err(stop) => return Err(stop),
                }
            },
        }
        message.whole = true;
        Ok(())
    }

    fn take(&mut self, mut length: usize, body: &mut Vec<u8>) -> Result<(), Stop> {
        loop {
            let part = length.min(self.ahead.len());
            body.extend(self.ahead.drain(..part));
            length -= part;
            if length == 0 {
                return Ok(());
            }
            self.fill()?;
        }
    }
}
