//! Where names lead to, which zone they are in, and who answers for it.

use std::net::SocketAddr;

use hickory_resolver::proto::rr::{Name, RData, RecordType};
use landfall_ingress_model::acme::dns::{Dns, challenge_name};

use super::{DnsError, domains};
use crate::acme::names::{NameError, Names};

/// Delegations in a row that are followed.
const DELEGATIONS: usize = 8;

/// A name server.
pub(super) struct Server {
    pub(super) name: String,
    pub(super) addresses: Vec<SocketAddr>,
}

fn failed(error: NameError) -> DnsError {
    match error {
        NameError::Missing(text) | NameError::Failed(text) => DnsError::Away(text),
    }
}

fn text(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

/// The name at which a host is proven, behind all CNAME records.
pub(super) async fn target(names: &Names, host: &str) -> Result<String, DnsError> {
    let mut name = challenge_name(host).to_ascii_lowercase();
    for _ in 0..DELEGATIONS {
        let found = names.records(&name, RecordType::CNAME).await.map_err(failed)?;
        let next = found.iter().find_map(|record| match &record.data {
            RData::CNAME(to) if text(&record.name) == name => Some(text(&to.0)),
            _ => None,
        });
        match next {
            Some(next) => name = next,
            None => return Ok(name),
        }
    }
    let remedy = "let its CNAME records end at a name with no such record".to_owned();
    Err(DnsError::Zone(format!("{} is delegated in a circle", challenge_name(host)), remedy))
}

/// The zone that a name is in: the nearest domain above with an SOA record.
pub(super) async fn zone_of(names: &Names, name: &str) -> Result<String, DnsError> {
    for domain in std::iter::once(name).chain(domains(name)) {
        let found = names.records(domain, RecordType::SOA).await.map_err(failed)?;
        if found.iter().any(|record| matches!(record.data, RData::SOA(_)) && text(&record.name) == domain) {
            return Ok(domain.to_owned());
        }
    }
    let remedy = "see whether the domain is registered, or give the issuer dns.zone".to_owned();
    Err(DnsError::Zone(format!("no zone is found for {name}"), remedy))
}

/// All that have to show a record: those that the issuer names, else those of the name's zone.
pub(super) async fn servers(names: &Names, dns: &Dns, name: &str) -> Result<Vec<Server>, DnsError> {
    if !dns.nameservers.is_empty() {
        let server = |address: &SocketAddr| Server { name: address.to_string(), addresses: vec![*address] };
        return Ok(dns.nameservers.iter().map(server).collect());
    }
    let zone = zone_of(names, name).await?;
    let found = names.records(&zone, RecordType::NS).await.map_err(failed)?;
    let mut servers = Vec::new();
    for record in &found {
        let RData::NS(server) = &record.data else { continue };
        let name = text(&server.0);
        // One without an address can't be asked by the CA either.
        let addresses = names.addresses(&name).await.unwrap_or_default();
        let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, dns.port)).collect();
        servers.push(Server { name, addresses });
    }
    if servers.iter().all(|server| server.addresses.is_empty()) {
        let remedy = "see whether the zone's NS records are right, or give the issuer dns.nameservers".to_owned();
        return Err(DnsError::Zone(format!("zone {zone} has no name server with an address"), remedy));
    }
    Ok(servers)
}
