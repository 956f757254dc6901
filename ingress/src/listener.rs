//! The listener layer: sockets, the PROXY protocol, TLS and limits, up to a decrypted stream and who is behind it.

mod accept;
mod datagrams;
mod gate;
mod limits;
mod plane;
mod ports;
mod proxy_protocol;
mod server_name;
mod socket;
mod stream;
mod tcp_port;
mod tls;

pub use limits::ConnectionLimits;
pub use plane::{DataPlane, DataPlaneConfig};
pub use ports::{StreamPorts, Unopened};
pub(crate) use proxy_protocol::line as proxy_line;
pub use proxy_protocol::{Addresses, Malformed, Progress, parse as parse_proxy_header};
pub use socket::{BindError, Listener};
pub use stream::{ClientStream, Socket};
