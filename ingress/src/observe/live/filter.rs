//! Which requests somebody wants to see.

use std::net::IpAddr;

use ipnet::IpNet;
use landfall_shared::admin::Query;

use crate::engine::Exchange;

/// Which requests somebody wants to see; what isn't named is not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Part of the host, in lower case.
    host: Option<Box<str>>,
    /// Any of these.
    statuses: Vec<Statuses>,
    /// The Ingress as `namespace/name`, or part of it.
    route: Option<Box<str>>,
    /// The client's network.
    client: Option<IpNet>,
    /// The method.
    method: Option<Box<str>>,
    /// Part of the path.
    path: Option<Box<str>>,
}

/// Statuses by number or by their first digit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Statuses {
    Number(u16),
    Class(u16),
}

/// A filter that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFilter {
    /// No status.
    #[error("status {0:?} is neither a number such as 404 nor a class such as 5xx; several are separated by commas")]
    Status(String),
    /// No address and no network.
    #[error("client {0:?} is neither an address nor a network such as 192.0.2.0/24")]
    Client(String),
}

impl Filter {
    /// Reads `host`, `status`, `route`, `client`, `method` and `path`.
    pub fn read(query: &Query) -> Result<Self, BadFilter> {
        let text = |name| query.get(name).map(str::trim).filter(|text| !text.is_empty());
        let statuses = text("status").unwrap_or_default().split(',').map(str::trim).filter(|text| !text.is_empty());
        Ok(Self {
            host: text("host").map(|host| host.to_ascii_lowercase().into()),
            statuses: statuses.map(Statuses::parse).collect::<Result<_, _>>()?,
            route: text("route").map(Into::into),
            client: text("client").map(network).transpose()?,
            method: text("method").map(|method| method.to_ascii_uppercase().into()),
            path: text("path").map(Into::into),
        })
    }

    /// Whether a request is one of those.
    pub(super) fn takes(&self, exchange: &Exchange<'_>) -> bool {
        (self.statuses.is_empty() || self.statuses.iter().any(|statuses| statuses.has(exchange.status)))
            && self.method.as_ref().is_none_or(|method| **method == *exchange.method)
            && self.client.is_none_or(|net| net.contains(&exchange.client.to_canonical()))
            && self.host.as_ref().is_none_or(|host| exchange.host.to_ascii_lowercase().contains(&**host))
            && self.path.as_ref().is_none_or(|path| path_of(&exchange.target).contains(&**path))
            && self.route.as_ref().is_none_or(|wanted| {
                exchange.route.as_ref().is_some_and(|route| route.id.ingress.to_string().contains(&**wanted))
            })
    }
}

/// Without the query, whose values are nobody's to guess at.
fn path_of(target: &str) -> &str {
    target.split('?').next().unwrap_or_default()
}

impl Statuses {
    fn parse(text: &str) -> Result<Self, BadFilter> {
        let bad = || BadFilter::Status(text.to_owned());
        match text.to_ascii_lowercase().strip_suffix("xx") {
            Some(class) => match class.parse() {
                Ok(class @ 1..=9) => Ok(Self::Class(class)),
                _ => Err(bad()),
            },
            None => text.parse().ok().filter(|number| (100..=999).contains(number)).map(Self::Number).ok_or_else(bad),
        }
    }

    fn has(self, status: u16) -> bool {
        match self {
            Self::Number(number) => status == number,
            Self::Class(class) => status / 100 == class,
        }
    }
}

fn network(text: &str) -> Result<IpNet, BadFilter> {
    let address = text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
    address.or_else(|_| text.parse()).map_err(|_| BadFilter::Client(text.to_owned()))
}
