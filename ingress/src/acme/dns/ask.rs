//! Messages to single name servers.

use std::io::{Error, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, MessageType, OpCode, Query};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(3);
/// The longest message over UDP that is taken.
const DATAGRAM: usize = 4096;

/// The values of the TXT records that a server has for a name.
pub(super) async fn values(server: SocketAddr, name: &Name) -> Result<Vec<String>, Error> {
    let id = rand::random();
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = false;
    message.add_query(Query::query(name.clone(), RecordType::TXT));
    let bad = |error: &dyn std::fmt::Display| Error::new(ErrorKind::InvalidData, error.to_string());
    let bytes = message.to_vec().map_err(|error| bad(&error))?;
    let read = |bytes: Vec<u8>| Message::from_vec(&bytes).map_err(|error| bad(&error));
    let mut answer = read(over_udp(server, &bytes).await?)?;
    if answer.metadata.truncation {
        answer = read(over_tcp(server, &bytes).await?)?;
    }
    let text = |data: &RData| match data {
        RData::TXT(text) => Some(text.txt_data.iter().map(|part| String::from_utf8_lossy(part)).collect()),
        _ => None,
    };
    Ok(answer.answers.iter().filter_map(|record| text(&record.data)).collect())
}

async fn over_udp(server: SocketAddr, message: &[u8]) -> Result<Vec<u8>, Error> {
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(message).await?;
    let mut buffer = vec![0; DATAGRAM];
    let receive = async {
        loop {
            let size = socket.recv(&mut buffer).await?;
            // Another number answers another question.
            if size >= 12 && buffer.get(..2) == message.get(..2) {
                return Ok::<_, Error>(size);
            }
        }
    };
    let size = timeout(ANSWER, receive).await.map_err(|_| Error::from(ErrorKind::TimedOut))??;
    buffer.truncate(size);
    Ok(buffer)
}

/// Sends a message over TCP (RFC 1035 section 4.2.2).
pub(super) async fn over_tcp(server: SocketAddr, message: &[u8]) -> Result<Vec<u8>, Error> {
    let exchange = async {
        let mut stream = TcpStream::connect(server).await?;
        let length = u16::try_from(message.len()).map_err(|_| Error::from(ErrorKind::InvalidInput))?;
        stream.write_all(&[&length.to_be_bytes(), message].concat()).await?;
        let length = stream.read_u16().await?;
        let mut answer = vec![0; length.into()];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    };
    timeout(ANSWER * 2, exchange).await.map_err(|_| Error::from(ErrorKind::TimedOut))?
}
