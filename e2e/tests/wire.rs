//! What goes over the wire as a client and a backend see it: framing, old clients, forwarding fields, PROXY headers.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::stream;
use http::Request;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use landfall_e2e::client::{Client, empty};
use landfall_e2e::echo::Echo;
use landfall_e2e::ingress::{Ingress, Launch};
use landfall_e2e::manifests::{self, Folder};
use landfall_e2e::tls::tcp;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const HOST: &str = "shop.example";
/// How long any single answer may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(10);

struct Setup {
    ingress: Ingress,
    _folder: Folder,
    _echo: Echo,
}

/// An ingress with an echo backend at `/` and, by the name `localhost`, at `/named`.
async fn start(arguments: &[&str]) -> Result<Setup> {
    let echo = Echo::local("web").await?;
    let folder = Folder::new()?;
    let named = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: named}}\n\
         spec: {{type: ExternalName, externalName: localhost, ports: [{{name: http, port: {}}}]}}\n",
        echo.addr.port()
    );
    folder.write("shop.yaml", &manifests::ingress("shop", HOST, &[("/", "web"), ("/named", "named")]))?;
    folder.write("services.yaml", &(manifests::service("web", &[echo.addr]) + &named))?;
    let ingress = Launch::manifests(folder.path()).args(arguments).start().await?;
    Ok(Setup { ingress, _folder: folder, _echo: echo })
}

/// A bare connection.
struct Wire {
    stream: TcpStream,
    ahead: Vec<u8>,
}

impl Wire {
    async fn open(addr: SocketAddr) -> Result<Self> {
        Ok(Self { stream: tcp(addr).await?, ahead: Vec::new() })
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        Ok(self.stream.write_all(bytes.as_ref()).await?)
    }

    async fn fill(&mut self) -> Result<usize> {
        Ok(timeout(PATIENCE, self.stream.read_buf(&mut self.ahead)).await.context("no answer in time")??)
    }

    /// The next head, in lower case, as far as the empty line.
    async fn head(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.ahead.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head: Vec<u8> = self.ahead.drain(..end + 4).collect();
                return Ok(String::from_utf8(head)?.to_lowercase());
            }
            ensure!(self.fill().await? > 0, "closed after {:?}", String::from_utf8_lossy(&self.ahead));
        }
    }

    /// The next `count` bytes.
    async fn bytes(&mut self, count: usize) -> Result<Vec<u8>> {
        while self.ahead.len() < count {
            ensure!(self.fill().await? > 0, "closed after {} of {count} bytes", self.ahead.len());
        }
        Ok(self.ahead.drain(..count).collect())
    }

    /// Everything until the server closes.
    async fn rest(&mut self) -> Result<String> {
        while self.fill().await? > 0 {}
        Ok(String::from_utf8(std::mem::take(&mut self.ahead))?)
    }
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_go_on() -> Result<()> {
    let setup = start(&[]).await?;
    let mut wire = Wire::open(setup.ingress.http).await?;
    wire.send(format!("POST /upload HTTP/1.1\r\nHost: {HOST}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"))
        .await?;
    // Nothing of the body is sent before this has come.
    let head = wire.head().await?;
    assert!(head.starts_with("http/1.1 100 "), "{head}");
    wire.send("hello").await?;
    let head = wire.head().await?;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    let said = "web received 5 bytes\n";
    assert_eq!(wire.bytes(said.len()).await?, said.as_bytes());
    Ok(())
}

#[tokio::test]
async fn an_http_1_0_client_gets_no_chunks_and_an_end() -> Result<()> {
    let setup = start(&[]).await?;
    let mut wire = Wire::open(setup.ingress.http).await?;
    wire.send(format!("GET /chunks/3 HTTP/1.0\r\nHost: {HOST}\r\n\r\n")).await?;
    let head = wire.head().await?;
    assert!(head.contains(" 200 ") && !head.contains("transfer-encoding"), "{head}");
    assert_eq!(wire.rest().await?, "line 0\nline 1\nline 2\n");
    Ok(())
}

#[tokio::test]
async fn an_answer_to_head_has_a_length_and_no_body() -> Result<()> {
    let setup = start(&[]).await?;
    let mut wire = Wire::open(setup.ingress.http).await?;
    wire.send(format!("HEAD /bytes/1000 HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await?;
    let head = wire.head().await?;
    assert!(head.starts_with("http/1.1 200 ") && head.contains("content-length: 1000\r\n"), "{head}");
    // A body would stand where the next head is read.
    wire.send(format!("GET /bytes/4 HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await?;
    let head = wire.head().await?;
    assert!(head.starts_with("http/1.1 200 ") && head.contains("content-length: 4\r\n"), "{head}");
    assert_eq!(wire.bytes(4).await?, b"xxxx");
    Ok(())
}

#[tokio::test]
async fn bodies_without_a_length_pass_both_ways() -> Result<()> {
    let Setup { ingress, .. } = &start(&[]).await?;
    for mut client in [Client::http1(ingress.http).await?, Client::http2(ingress.http).await?] {
        let pieces = stream::iter((0..500).map(|_| Ok(Frame::data(Bytes::from_static(&[b'x'; 1_000])))));
        let request = Request::post("/upload").body(StreamBody::new(pieces).boxed_unsync())?;
        assert_eq!(client.send(HOST, request).await?.text(), "web received 500000 bytes\n");

        let answer = client.get(HOST, "/chunks/2000").await?;
        assert!(!answer.headers.contains_key("content-length"), "{:?}", answer.headers);
        assert_eq!(answer.text().lines().count(), 2_000);
        assert!(answer.text().ends_with("line 1999\n"));
    }
    Ok(())
}

/// What the backend saw of a request.
async fn seen(client: &mut Client, fields: &[(&str, &str)]) -> Result<Value> {
    let mut request = Request::get("/seen").header("accept", "application/json");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let answer = client.send(HOST, request.body(empty())?).await?;
    Ok(serde_json::from_slice::<Value>(&answer.body).with_context(|| answer.to_string())?["headers"].take())
}

#[tokio::test]
async fn the_backend_is_told_who_asked_for_what() -> Result<()> {
    let lies = [
        ("x-forwarded-for", "198.51.100.9"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "elsewhere.example"),
        ("x-real-ip", "198.51.100.9"),
        ("forwarded", "for=198.51.100.9"),
    ];
    let setup = start(&[]).await?;
    for mut client in [Client::http1(setup.ingress.http).await?, Client::http2(setup.ingress.http).await?] {
        let headers = seen(&mut client, &lies).await?;
        let rows = [
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", HOST),
            // The client's, as its Host says; what the program listens on is nobody's business.
            ("x-forwarded-port", "80"),
            ("x-real-ip", "127.0.0.1"),
            ("host", HOST),
            ("forwarded", "for=198.51.100.9"),
        ];
        for (name, value) in rows {
            assert_eq!(headers[name], value, "{name} in {headers}");
        }
        assert!(headers["x-request-id"].as_str().is_some_and(|id| id.len() >= 16), "{headers}");
    }

    let setup = start(&["--trusted-proxies", "127.0.0.0/8"]).await?;
    let headers = seen(&mut Client::http1(setup.ingress.http).await?, &lies).await?;
    let chain = headers["x-forwarded-for"].as_str().unwrap_or_default();
    assert!(chain.starts_with("198.51.100.9"), "{headers}");
    assert_eq!(headers["x-forwarded-proto"], "https", "{headers}");
    Ok(())
}

#[tokio::test]
async fn a_proxy_header_of_either_version_names_the_client() -> Result<()> {
    let setup = start(&["--proxy-protocol", "127.0.0.0/8"]).await?;
    // Version 2, PROXY, TCP over IPv4, 12 bytes: source, destination, their ports.
    let mut second = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    second.extend_from_slice(&[203, 0, 113, 7, 192, 0, 2, 1]);
    second.extend_from_slice(&[4_000_u16.to_be_bytes(), 80_u16.to_be_bytes()].concat());
    let rows = [
        (b"PROXY TCP4 203.0.113.7 192.0.2.1 4000 80\r\n".to_vec(), "203.0.113.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 4000 80\r\n".to_vec(), "2001:db8::7"),
        (second, "203.0.113.7"),
    ];
    for (header, client) in rows {
        let mut wire = Wire::open(setup.ingress.http).await?;
        wire.send(header).await?;
        wire.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n")).await?;
        let said = wire.rest().await?;
        assert!(said.starts_with("HTTP/1.1 200 "), "{client}: {said}");
        for field in ["x-forwarded-for", "x-real-ip"] {
            assert!(said.contains(&format!("\n{field}: {client}\n")), "{field} of {client}: {said}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_service_may_be_a_name() -> Result<()> {
    let setup = start(&[]).await?;
    let answer = setup.ingress.get(HOST, "/named").await?;
    assert_eq!((answer.status, answer.backend().as_str()), (200, "web"), "{answer}");
    Ok(())
}
