//! The first message of a handshake, which says how to go on.

use std::io;

use bytes::BytesMut;
use rustls::server::{Accepted, Acceptor};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Reads until the whole message is in `ahead`, which may hold more than that then. Whoever sends something else is told
/// so by an alert.
///
/// # Errors
/// It is none, it is longer than `most` bytes, or the connection ended before.
pub(super) async fn read<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    ahead: &mut BytesMut,
    most: usize,
) -> io::Result<Accepted> {
    let mut acceptor = Acceptor::default();
    let mut read = 0;
    loop {
        while let Some(mut rest) = ahead.get(read..).filter(|rest| !rest.is_empty()) {
            read += acceptor.read_tls(&mut rest)?;
            match acceptor.accept() {
                Ok(Some(accepted)) => return Ok(accepted),
                Ok(None) => {}
                Err((error, mut alert)) => {
                    let mut bytes = Vec::new();
                    alert.write_all(&mut bytes)?;
                    let _ = stream.write_all(&bytes).await;
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            }
        }
        if ahead.len() > most {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the first message is too long"));
        }
        if stream.read_buf(ahead).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
