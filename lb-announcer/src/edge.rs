//! The announcer's edges: sockets, netlink and clocks, without any meaning of Kubernetes or of the protocol.
//!
//! Everything here moves bytes and facts between the kernel and the model: frames come in and go out whole, links
//! are described as the kernel describes them, datagrams carry what the model encoded. Opening the packet sockets
//! needs `CAP_NET_RAW` and nothing else does; all of them live in the network namespace of the thread that opens them.

pub mod arp;
pub mod clock;
mod filter;
pub mod groups;
pub mod heartbeat;
pub mod links;
pub mod ndp;
pub mod packet;
mod sys;
pub mod traffic;
