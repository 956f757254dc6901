//! Waiting until all name servers of a zone show a record.
//!
//! A CA asks from several places and whichever server it likes, so each of them has to have it.

use std::time::Duration;

use hickory_resolver::proto::rr::Name;
use landfall_ingress_model::acme::dns::Dns;
use tokio::time::{Instant, sleep};

use super::zones::{self, Server};
use super::{DnsError, Txt, ask};
use crate::acme::names::Names;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// Looks after which a server that gives no answer at all is left to the CA, which may reach it.
const SILENT: u32 = 3;

/// What a server says.
enum Said {
    /// It shows the record.
    Yes,
    /// It answers without.
    No,
    /// It does not answer.
    Nothing,
}

/// Waits until all servers show the record.
pub(super) async fn await_record(names: &Names, dns: &Dns, record: Txt<'_>) -> Result<(), DnsError> {
    let until = Instant::now() + Duration::from_secs(dns.propagation);
    let name = Name::from_ascii(format!("{}.", record.name))
        .map_err(|error| DnsError::Zone(format!("{}: {error}", record.name), String::new()))?;
    let mut waiting: Vec<(Server, u32)> =
        zones::servers(names, dns, record.name).await?.into_iter().map(|server| (server, 0)).collect();
    let mut has_shown = false;
    loop {
        let mut left = Vec::new();
        for (server, silences) in waiting {
            match look(&server, &name, record.value).await {
                Said::Yes => has_shown = true,
                Said::No => left.push((server, 0)),
                Said::Nothing => left.push((server, silences + 1)),
            }
        }
        waiting = left;
        let is_silent = waiting.iter().all(|(_, silences)| *silences >= SILENT);
        if waiting.is_empty() || (has_shown && is_silent) {
            for (server, _) in &waiting {
                tracing::warn!(server = server.name, record = record.name, "a name server can't be asked for a record");
            }
            return Ok(());
        }
        if Instant::now() >= until {
            let servers: Vec<&str> = waiting.iter().map(|(server, _)| server.name.as_str()).collect();
            let (servers, limit) = (servers.join(", "), dns.propagation);
            let cause = format!("the TXT record at {} is not at {servers} within {limit} s", record.name);
            return Err(DnsError::Hidden(cause));
        }
        sleep(PAUSE).await;
    }
}

async fn look(server: &Server, name: &Name, value: &str) -> Said {
    let mut said = Said::Nothing;
    for address in &server.addresses {
        match ask::values(*address, name).await {
            Ok(values) if values.iter().any(|found| found == value) => said = Said::Yes,
            Ok(_) => return Said::No,
            Err(error) => tracing::debug!(%address, %error, "a name server does not answer"),
        }
    }
    said
}
