//! The pure model of the Ingress controller: Kubernetes objects in, routing table and problems out.
//!
//! Nothing here opens a socket, reads a clock or talks to an API server. The flow is
//! [`Input`](input::Input) -> [`Compiler`](compiler::Compiler) -> [`Built`](compiler::Built); what the data path
//! reads is the [`Table`](table::Table) in it, and what it does with a request is decided by
//! [`pipeline`].

pub mod access;
pub mod acme;
pub mod address;
pub mod authorities;
pub mod backend;
pub mod checkup;
pub mod compiler;
pub mod explain;
pub mod fields;
pub mod host;
pub mod input;
pub mod migration;
pub mod path;
pub mod pipeline;
pub mod policy;
pub mod reason;
pub mod settings;
pub mod shared_map;
pub mod status;
pub mod table;
pub mod tls;
