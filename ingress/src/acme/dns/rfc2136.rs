//! Dynamic updates (RFC 2136) to a name server, signed by a key.

use std::net::SocketAddr;

use async_trait::async_trait;
use hickory_resolver::proto::op::{Message, ResponseCode, update_message};
use hickory_resolver::proto::rr::rdata::TXT;
use hickory_resolver::proto::rr::{Name, RData, RecordSet, RecordType};
use landfall_ingress_model::acme::dns;

use super::tsig::{Key, TsigError};
use super::{DnsError, Provider, TTL, Txt, ask, zones};
use crate::acme::names::{NameError, Names};
use crate::control::unix_now;

/// A name server that takes updates.
pub(super) struct Rfc2136 {
    names: Names,
    server: dns::Rfc2136,
    key: Key,
}

#[derive(Clone, Copy)]
enum Change {
    Add,
    Remove,
}

impl Rfc2136 {
    pub(super) fn new(names: Names, server: dns::Rfc2136, secret: &[u8]) -> Result<Self, DnsError> {
        let key = Key::new(&server.key_name, server.algorithm, secret.to_vec()).ok_or_else(|| {
            let cause = format!("dns.keyName {:?} of the issuer is no name", server.key_name);
            DnsError::Credentials { cause, remedy: "give the name of the key as the name server has it".to_owned() }
        })?;
        Ok(Self { names, server, key })
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, DnsError> {
        let server = self.server.server.as_str();
        if let Ok(address) = server.parse() {
            return Ok(vec![address]);
        }
        let (host, port) = match server.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') => (host, port.parse().unwrap_or(53)),
            _ => (server, 53),
        };
        let addresses = self.names.addresses(host).await.map_err(|error| match error {
            NameError::Missing(text) | NameError::Failed(text) => DnsError::Away(text),
        })?;
        Ok(addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect())
    }

    async fn update(&self, record: Txt<'_>, change: Change) -> Result<(), DnsError> {
        let zone = match &self.server.zone {
            Some(zone) => zone.trim_end_matches('.').to_ascii_lowercase(),
            None => zones::zone_of(&self.names, record.name).await?,
        };
        let message = message(record, &zone, change)?;
        let bytes = message.to_vec().map_err(|error| DnsError::Away(error.to_string()))?;
        let (signed, mac) = self.key.sign(&bytes, unix_now().as_secs());
        let mut last = DnsError::Away(format!("name server {} has no address", self.server.server));
        for address in self.addresses().await? {
            match ask::over_tcp(address, &signed).await {
                Ok(answer) => return self.judge(&answer, &mac, &zone),
                Err(error) => last = DnsError::Away(format!("name server {address} takes no update: {error}")),
            }
        }
        Err(last)
    }

    fn judge(&self, answer: &[u8], mac: &[u8], zone: &str) -> Result<(), DnsError> {
        let server = &self.server.server;
        let key = &self.server.key_name;
        let read = Message::from_vec(answer);
        let code =
            read.map_err(|error| DnsError::Away(format!("name server {server}: {error}")))?.metadata.response_code;
        let refused = |text: String, remedy| Err(DnsError::Refused(format!("name server {server}: {text}"), remedy));
        match self.key.verify(mac, answer, unix_now().as_secs()) {
            Ok(()) => {}
            // Knot answers so to what it refuses before it looks at the key.
            Err(TsigError::Unsigned) if code != ResponseCode::NoError => {}
            Err(TsigError::BadTime) => {
                return refused(
                    TsigError::BadTime.to_string(),
                    "set the clocks of this machine and of the name server",
                );
            }
            Err(error) => {
                let remedy = "correct dns.keyName, dns.algorithm and entry key of the issuer's Secret";
                return refused(format!("{error}, key {key}"), remedy);
            }
        }
        match code {
            ResponseCode::NoError => Ok(()),
            ResponseCode::Refused => refused(
                format!("key {key} may not change zone {zone} (REFUSED)"),
                "allow the key to change TXT records there: update-policy or allow-update in BIND, acl in Knot",
            ),
            ResponseCode::NotAuth | ResponseCode::NotZone => refused(
                format!("it takes no updates of zone {zone} ({code})"),
                "give the zone's primary name server as dns.server, and its zone as dns.zone",
            ),
            code => Err(DnsError::Away(format!("name server {server} answers {code} to an update of zone {zone}"))),
        }
    }
}

fn message(record: Txt<'_>, zone: &str, change: Change) -> Result<Message, DnsError> {
    let name = |text: &str| {
        Name::from_ascii(format!("{text}.")).map_err(|error| DnsError::Zone(format!("{text}: {error}"), String::new()))
    };
    let (zone, name) = (name(zone)?, name(record.name)?);
    if !zone.zone_of(&name) {
        let remedy = "correct dns.zone, or delegate the name by a CNAME record to one in the zone".to_owned();
        return Err(DnsError::Zone(format!("{} is not in zone {zone}", record.name), remedy));
    }
    let mut set = RecordSet::with_ttl(name, RecordType::TXT, TTL);
    set.add_rdata(RData::TXT(TXT::new(vec![record.value.to_owned()])));
    Ok(match change {
        Change::Add => update_message::append(set, zone, false, false),
        Change::Remove => update_message::delete_by_rdata(set, zone, false),
    })
}

#[async_trait]
impl Provider for Rfc2136 {
    /// To remove what is not there is allowed to whom it is allowed to remove anything.
    async fn check(&self, record: Txt<'_>) -> Result<(), DnsError> {
        self.update(record, Change::Remove).await
    }

    async fn set(&self, record: Txt<'_>) -> Result<(), DnsError> {
        self.update(record, Change::Add).await
    }

    async fn remove(&self, record: Txt<'_>) -> Result<(), DnsError> {
        self.update(record, Change::Remove).await
    }
}
