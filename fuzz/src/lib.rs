//! What must hold of each parser, whatever bytes it is given.
//!
//! A target takes bytes and panics where a property does not hold: a codec gives back what it was given, a canonical
//! form is its own canonical form, pieces give what the whole gives, and where there is another parser of the same
//! format, both agree about what ours accepts. libFuzzer looks for such bytes (`hack/fuzz`); the tests run the seeds.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a target tells by a panic")]

mod annotations;
mod chunked;
mod frames;
mod heartbeat;
mod host;
mod manifests;
mod passwords;
mod path;
mod pieces;
mod proxy_header;
mod request_head;
mod response_head;
mod server_name;

// Parsers of the programs, as they are. They are private there; and the programs around them, which need not be seen
// into, would take many times as long to compile.
#[allow(dead_code, unused_imports, unreachable_pub, reason = "a target uses a part of this")]
#[path = "../../ingress/src"]
mod ingress {
    #[path = "engine"]
    pub(crate) mod engine {
        pub(crate) mod framing;
    }
    pub(crate) mod inputs;
    #[path = "listener"]
    pub(crate) mod listener {
        pub(crate) mod proxy_protocol;
        pub(crate) mod server_name;
    }
}
#[allow(dead_code, unused_imports, unreachable_pub, reason = "a target uses a part of this")]
#[path = "../../lb-announcer/model/src"]
mod announcer {
    pub(crate) mod wire;
}
use announcer::wire;

/// Takes bytes and panics where a property does not hold.
pub type Target = fn(&[u8]);

/// All targets by name. Each has seeds in `fuzz/seeds`.
pub const TARGETS: &[(&str, Target)] = &[
    ("annotations", annotations::run),
    ("arp", frames::arp),
    ("chunked", chunked::run),
    ("heartbeat", heartbeat::run),
    ("host", host::run),
    ("manifests", manifests::run),
    ("ndp", frames::ndp),
    ("passwords", passwords::run),
    ("path", path::run),
    ("proxy-header", proxy_header::run),
    ("request-head", request_head::run),
    ("response-head", response_head::run),
    ("segment", frames::segment),
    ("server-name", server_name::run),
    ("state", heartbeat::state),
];
