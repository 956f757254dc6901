//! The announcer program: controller, speaker and standalone.
//!
//! The edges (`arp`, `ndp`, `links`, `heartbeat` sockets), `examples/lab` and `e2e/lab` are in the hands of a second
//! engineer and need not be written again; the model's author wires them up here.

pub mod edge;
