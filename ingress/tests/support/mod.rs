//! Ground for tests of the data plane: tables made by hand, backends of a few lines, clients on bare sockets.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

pub mod backend;
pub mod client;
pub mod dns;
pub mod frames;
pub mod plane;
