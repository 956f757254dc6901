//! The server name in the first bytes of a client, which decides who ends its TLS.

use landfall_ingress_model::host::HostName;
use rustls::server::Acceptor;

/// What the first bytes of a client say of the server name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    /// More bytes are needed.
    Unknown,
    /// The name, or none.
    Name(Option<HostName>),
}

/// Reads the server name in the first bytes of a client.
pub(crate) fn asked_name(bytes: &[u8]) -> Asked {
    let mut acceptor = Acceptor::default();
    if acceptor.read_tls(&mut &bytes[..]).is_err() {
        return Asked::Name(None);
    }
    match acceptor.accept() {
        Ok(None) => Asked::Unknown,
        Ok(Some(accepted)) => {
            let hello = accepted.client_hello();
            Asked::Name(hello.server_name().and_then(|name| HostName::from_authority(name).ok()))
        }
        Err(_) => Asked::Name(None),
    }
}
