//! The byte stream to an endpoint.

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::stream::Stream;

/// TCP, or TLS on it.
pub(in crate::engine) type UpstreamStream = Stream<TcpStream, TlsStream<TcpStream>>;

/// The TCP connection itself.
pub(super) fn tcp(stream: &UpstreamStream) -> &TcpStream {
    match stream {
        Stream::Plain(tcp) => tcp,
        Stream::Tls(tls) => tls.get_ref().0,
    }
}

/// Whether HTTP/2 was agreed on in the TLS handshake.
pub(super) fn speaks_h2(stream: &UpstreamStream) -> bool {
    matches!(stream, Stream::Tls(tls) if tls.get_ref().1.alpn_protocol() == Some(b"h2"))
}
