//! How much one client may ask.

use std::any::Any;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::Arc;

use http::StatusCode;
use ipnet::IpNet;

/// Limits of an Ingress for each client, in each process.
#[derive(Clone, PartialEq, Debug)]
pub struct Limit {
    /// Tells the Ingress apart from others: all its routes count together.
    pub zone: u64,
    /// Requests in a second.
    pub per_second: Option<Rate>,
    /// Requests in a minute.
    pub per_minute: Option<Rate>,
    /// Requests at once.
    pub at_once: Option<u32>,
    /// Clients without limits.
    pub exempt: Box<[IpNet]>,
    /// The answer to requests that come too fast.
    pub status: StatusCode,
    /// The answer to a request that is one too many at once.
    pub crowded: StatusCode,
}

/// How fast the body of an answer is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// Bytes in a second.
    pub bytes_per_second: NonZeroU64,
    /// Bytes that are sent as fast as the client takes them.
    pub after: u64,
}

/// A rate, and how far it may be exceeded for a while.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Thousandths of a request in a second.
    pub milli: u64,
    /// Requests that may come at once besides the first.
    pub burst: u64,
}

impl Limit {
    /// Whether a client has no limits.
    pub fn exempts(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        self.exempt.iter().any(|net| net.contains(&client))
    }
}

/// Held for as long as a request counts as one that is under way.
pub type Permit = Arc<dyn Any + Send + Sync>;

/// Counts requests against limits.
pub trait Limiter: Sync {
    /// Counts a request; `Err` if it is one too many.
    fn admit(&self, limit: &Limit, client: IpAddr) -> Result<Option<Permit>, TooMuch>;
}

/// A client asks more than it may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TooMuch {
    /// Requests come too fast.
    Often,
    /// Too many are under way.
    AtOnce,
}

/// Counts nothing.
#[derive(Clone, Copy, Debug)]
pub struct Unlimited;

impl Limiter for Unlimited {
    fn admit(&self, _: &Limit, _: IpAddr) -> Result<Option<Permit>, TooMuch> {
        Ok(None)
    }
}
