//! Backends on loopback: a thread for each connection, HTTP/1 by hand.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// A running backend. It ends with the test's process.
#[derive(Clone)]
pub struct Backend {
    pub address: SocketAddr,
    /// Connections that were accepted.
    pub connections: Arc<AtomicUsize>,
    /// Requests of which the last byte has come.
    pub requests: Arc<AtomicUsize>,
}

/// A request as a backend sees it.
#[derive(Default)]
pub struct Request {
    pub line: String,
    pub fields: Vec<(String, String)>,
    /// The body's first bytes; how many there were in all is `length`.
    pub body: Vec<u8>,
    pub length: u64,
    pub trailers: Vec<(String, String)>,
}

impl Request {
    pub fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl Backend {
    /// Answers as [`echo`] does.
    pub fn echo() -> Self {
        Self::start(echo)
    }

    /// Gives each request to `answer`, which says whether the connection stays open.
    pub fn start(answer: impl Fn(&Request, &mut TcpStream) -> std::io::Result<bool> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let backend =
            Self { address: listener.local_addr().unwrap(), connections: Arc::default(), requests: Arc::default() };
        let (counts, answer) = (backend.clone(), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counts.connections.fetch_add(1, Ordering::SeqCst);
                let (counts, answer) = (counts.clone(), answer.clone());
                thread::spawn(move || {
                    let _ = serve(stream, &counts, &*answer);
                });
            }
        });
        backend
    }

    /// An address that refuses connections.
    pub fn refusing() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn serve(
    stream: TcpStream,
    counts: &Backend,
    answer: &dyn Fn(&Request, &mut TcpStream) -> std::io::Result<bool>,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    while let Some(request) = read_request(&mut reader, &mut writer)? {
        counts.requests.fetch_add(1, Ordering::SeqCst);
        if !answer(&request, &mut writer)? {
            break;
        }
    }
    Ok(())
}

fn read_request(reader: &mut BufReader<TcpStream>, writer: &mut TcpStream) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut request = Request { line: line.trim_end().to_owned(), fields: read_fields(reader)?, ..Request::default() };
    if request.field("expect").is_some() {
        writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    if request.field("transfer-encoding").is_some() {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size)?;
            let size = u64::from_str_radix(size.trim_end(), 16).map_err(std::io::Error::other)?;
            if size == 0 {
                request.trailers = read_fields(reader)?;
                break;
            }
            take(reader, size, &mut request)?;
            reader.read_line(&mut String::new())?;
        }
    } else if let Some(length) = request.field("content-length") {
        let length = length.parse().map_err(std::io::Error::other)?;
        take(reader, length, &mut request)?;
    }
    Ok(Some(request))
}

/// Field lines up to the empty one.
fn read_fields(reader: &mut BufReader<TcpStream>) -> std::io::Result<Vec<(String, String)>> {
    let mut fields = Vec::new();
    loop {
        let mut field = String::new();
        reader.read_line(&mut field)?;
        match field.trim_end().split_once(':') {
            Some((name, value)) => fields.push((name.to_owned(), value.trim().to_owned())),
            None => return Ok(fields),
        }
    }
}

/// Reads `length` bytes of the body and keeps the first.
fn take(reader: &mut BufReader<TcpStream>, length: u64, request: &mut Request) -> std::io::Result<()> {
    let mut left = length;
    let mut buffer = vec![0; 64 * 1024];
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let read = reader.read(&mut buffer[..want])?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if request.body.len() < 64 * 1024 {
            request.body.extend_from_slice(&buffer[..read]);
        }
        left -= read as u64;
        request.length += read as u64;
    }
    Ok(())
}

/// A plain answer.
pub fn respond(stream: &mut TcpStream, body: &str) -> std::io::Result<bool> {
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    Ok(true)
}

/// What was received, as text; some paths do something else.
pub fn echo(request: &Request, stream: &mut TcpStream) -> std::io::Result<bool> {
    let path = request.path().to_owned();
    let number = || path.rsplit('/').next().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    if path.starts_with("/sleep/") {
        thread::sleep(Duration::from_millis(number()));
    }
    if path.starts_with("/close") {
        return Ok(false);
    }
    if path.starts_with("/garbage") {
        stream.write_all(b"this is not HTTP\r\n\r\n")?;
        return Ok(false);
    }
    if path.starts_with("/short") {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")?;
        return Ok(false);
    }
    if path.starts_with("/chunked") {
        stream.write_all(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        )?;
        return Ok(true);
    }
    if path.starts_with("/until-close") {
        stream.write_all(b"HTTP/1.1 200 OK\r\nX-Kind: close\r\n\r\nuntil the end")?;
        return Ok(false);
    }
    if path.starts_with("/hints") {
        stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n")?;
    }
    if path.starts_with("/hop") {
        stream.write_all(b"HTTP/1.1 200 OK\r\nServer: own\r\nX-One: 1\r\nConnection: X-One\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(true);
    }
    if path.starts_with("/download/") {
        let mut left = number();
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {left}\r\n\r\n")?;
        let block = vec![b'd'; 64 * 1024];
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
            stream.write_all(&block[..part])?;
            left -= part as u64;
        }
        return Ok(true);
    }
    if request.field("upgrade").is_some() {
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = stream.read(&mut buffer)?;
            if read == 0 {
                return Ok(false);
            }
            stream.write_all(&buffer[..read])?;
        }
    }
    let mut body = format!("{}\n", request.line);
    for (name, value) in &request.fields {
        let _ = writeln!(body, "{name}: {value}");
    }
    let _ = write!(body, "\nbody {}: {}", request.length, String::from_utf8_lossy(&request.body));
    if request.line.starts_with("HEAD ") {
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len())?;
        return Ok(true);
    }
    respond(stream, &body)
}
