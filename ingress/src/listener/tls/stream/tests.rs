//! Against another implementation of the same protocol, over a network that takes and gives some bytes at a time.

use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, duplex};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as ClientTls;

use super::super::hello;
use super::*;

type Server = TlsStream<Crumbs>;
type Client = ClientTls<DuplexStream>;

fn configs(version: &'static SupportedProtocolVersion) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a configuration");
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a root");
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

/// Takes and gives at most so many bytes at a time.
struct Crumbs(DuplexStream, usize);

impl AsyncRead for Crumbs {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut space = vec![0; self.1.min(buf.remaining())];
        let mut some = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut some))?;
        buf.put_slice(some.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Crumbs {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let some = data.len().min(self.1);
        Pin::new(&mut self.0).poll_write(cx, &data[..some])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Both ends of a connection over a network that gives the server `most` bytes at a time.
async fn joined(version: &'static SupportedProtocolVersion, most: usize) -> (Server, Client) {
    let (server, client) = configs(version);
    let (below, other) = duplex(4_000.max(most));
    let mut below = Crumbs(below, most);
    let name = ServerName::try_from("a.example").expect("a name");
    let accepting = async {
        let mut ahead = bytes::BytesMut::new();
        let accepted = hello::read(&mut below, &mut ahead, 65_536).await?;
        assert_eq!(accepted.client_hello().server_name(), Some("a.example"));
        Server::accept(below, server, &ahead).await
    };
    let connecting = TlsConnector::from(client).connect(name, other);
    let (server, client) = soon(async { tokio::join!(accepting, connecting) }).await;
    (server.expect("the server's side"), client.expect("the client's side"))
}

/// What happens at once or never.
#[track_caller]
fn soon<T>(what: impl Future<Output = T>) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move { timeout(Duration::from_secs(30), what).await.unwrap_or_else(|_| panic!("too late at {place}")) }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..=250_u8).cycle().zip((0..=240_u8).cycle()).map(|(one, other)| one ^ other).take(length).collect()
}

async fn whole<S: AsyncRead + Unpin>(mut from: ReadHalf<S>) -> Vec<u8> {
    let mut all = Vec::new();
    from.read_to_end(&mut all).await.expect("all of it");
    all
}

#[tokio::test]
async fn both_directions_at_once_through_crumbs_of_all_sizes() {
    for version in [&TLS12, &TLS13] {
        for (most, length) in [(1, 3_000), (7, 20_000), (1_000, 300_000), (16_406, 500_000), (200_000, 3_000_000)] {
            let (server, client) = joined(version, most).await;
            let (server_reads, mut server_writes) = tokio::io::split(server);
            let (client_reads, mut client_writes) = tokio::io::split(client);
            let sent = pattern(length);
            let to_client = async {
                server_writes.write_all(&sent).await.expect("written");
                server_writes.shutdown().await.expect("ended");
            };
            let to_server = async {
                client_writes.write_all(&sent).await.expect("written");
                client_writes.shutdown().await.expect("ended");
            };
            let all = async { tokio::join!(whole(server_reads), whole(client_reads), to_client, to_server) };
            let (at_server, at_client, (), ()) = soon(all).await;
            assert!(at_server == sent && at_client == sent, "{version:?} by {most} bytes");
        }
    }
}

#[tokio::test]
async fn nothing_is_held_once_all_is_taken() {
    for version in [&TLS12, &TLS13] {
        let (mut server, mut client) = joined(version, 100_000).await;
        client.write_all(&pattern(50_000)).await.expect("written");
        client.flush().await.expect("flushed");
        let mut taken = vec![0; 49_000];
        server.read_exact(&mut taken).await.expect("most of it");
        assert!(!server.plain.is_empty(), "the rest of a record waits");
        let mut rest = vec![0; 1_000];
        server.read_exact(&mut rest).await.expect("the rest");
        assert!([taken, rest].concat() == pattern(50_000));
        server.write_all(b"answer").await.expect("written");
        server.flush().await.expect("flushed");
        client.read_exact(&mut [0; 6]).await.expect("the answer");
        let held = [server.plain.len(), server.sealed.len(), server.partial.capacity()];
        assert_eq!(held, [0; 3], "{version:?}");
    }
}

#[tokio::test]
async fn what_is_written_together_is_one_record() {
    let (mut server, mut client) = joined(&TLS13, 100_000).await;
    let parts = [&b"head"[..], b"", b"body", b"tail"].map(IoSlice::new);
    assert_eq!(server.write_vectored(&parts).await.expect("written"), 12);
    let mut taken = [0; 100];
    // The client's side gives one record at a time.
    assert_eq!(client.read(&mut taken).await.expect("read"), 12);
    assert_eq!(&taken[..12], b"headbodytail");
}

#[tokio::test]
async fn an_end_that_nobody_announced_is_an_error() {
    let (mut server, mut client) = joined(&TLS13, 100_000).await;
    client.write_all(b"some").await.expect("written");
    client.flush().await.expect("flushed");
    drop(client);
    let mut all = Vec::new();
    let error = server.read_to_end(&mut all).await.expect_err("it was cut off");
    assert_eq!((all.as_slice(), error.kind()), (&b"some"[..], io::ErrorKind::UnexpectedEof));
}

#[tokio::test]
async fn whoever_breaks_the_protocol_gets_an_alert() {
    const ALERT: u8 = 21;
    // No hello: a client's message of another kind.
    let (mut below, mut other) = duplex(1_000);
    other.write_all(&[22, 3, 1, 0, 5, 1, 0, 0, 1, 0]).await.expect("written");
    let refused = soon(hello::read(&mut below, &mut bytes::BytesMut::new(), 65_536)).await;
    assert!(refused.is_err());
    assert_eq!(soon(other.read_u8()).await.expect("an alert"), ALERT);
    // A hello without anything in common, and rubbish behind a handshake.
    let (server, _) = configs(&TLS13);
    let (_, client) = configs(&TLS12);
    let (below, other) = duplex(10_000);
    let mut below = Crumbs(below, 10_000);
    let name = ServerName::try_from("a.example").expect("a name");
    let accepting = async {
        let mut ahead = bytes::BytesMut::new();
        hello::read(&mut below, &mut ahead, 65_536).await.expect("a hello");
        Server::accept(below, server, &ahead).await
    };
    let both = async { tokio::join!(accepting, TlsConnector::from(client).connect(name, other)) };
    let (accepted, connected) = soon(both).await;
    assert!(accepted.is_err());
    let error = connected.expect_err("no version in common").to_string();
    assert!(error.contains("alert"), "{error}");
    let (mut server, mut client) = joined(&TLS13, 10_000).await;
    client
        .get_mut()
        .0
        .write_all(&[23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0])
        .await
        .expect("written");
    assert_eq!(soon(server.read(&mut [0; 10])).await.expect_err("rubbish").kind(), io::ErrorKind::InvalidData);
    let told = soon(client.read(&mut [0; 10])).await.expect_err("an alert").to_string();
    assert!(told.contains("alert"), "{told}");
}
