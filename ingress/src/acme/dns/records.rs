//! The records of orders: noted, set, waited for, and always removed.

use std::collections::BTreeSet;

use futures::future::join_all;
use landfall_ingress_model::acme::challenges::Challenge;
use landfall_ingress_model::acme::issuer::Issuer;
use landfall_ingress_model::acme::plan::Order;
use landfall_ingress_model::acme::records::TxtRecord;
use landfall_ingress_model::acme::trouble::{Failure, Kind};
use landfall_model::ObjectKey;

use super::{DnsError, Txt, open, propagation, value, zones};
use crate::acme::edge::Edge;
use crate::control::unix_now;

/// What proves a host.
#[derive(Clone, Debug)]
pub(in crate::acme) struct Proof {
    /// The host, a wildcard with its `*.`.
    pub(in crate::acme) host: String,
    /// What proves the account (RFC 8555 section 8.1).
    pub(in crate::acme) key_authorization: String,
}

impl From<Challenge> for Proof {
    fn from(challenge: Challenge) -> Self {
        Self { host: challenge.host, key_authorization: challenge.key_authorization }
    }
}

/// The hosts for which a record could not be set, as far as that can be found out without setting one.
pub(in crate::acme) async fn check(edge: &Edge, issuer: &Issuer, hosts: &[String]) -> Vec<(String, Failure)> {
    if hosts.is_empty() {
        return Vec::new();
    }
    let provider = match open(edge, issuer).await {
        Ok(provider) => provider,
        Err(error) => return hosts.iter().map(|host| (host.clone(), error.clone().into())).collect(),
    };
    let mut failed = Vec::new();
    let bases: BTreeSet<&str> = hosts.iter().map(|host| bare(host)).collect();
    for base in bases {
        let checked = async {
            let name = zones::target(&edge.names, base).await?;
            let value = value(&format!("{:032x}", rand::random::<u128>()));
            provider.check(Txt { host: base, name: &name, value: &value }).await
        };
        if let Err(error) = checked.await {
            let all = hosts.iter().filter(|host| bare(host) == base);
            failed.extend(all.map(|host| (host.clone(), error.clone().into())));
        }
    }
    failed
}

/// Sets records and waits until they are seen. Fails with the hosts for which that did not work.
pub(in crate::acme) async fn set(edge: &Edge, order: &Order, proofs: &[Proof]) -> Result<(), Vec<(String, Failure)>> {
    if proofs.is_empty() {
        return Ok(());
    }
    let all = |failure: Failure| proofs.iter().map(|proof| (proof.host.clone(), failure.clone())).collect::<Vec<_>>();
    let provider = open(edge, &order.issuer).await.map_err(|error| all(error.into()))?;
    let found = join_all(proofs.iter().map(|proof| zones::target(&edge.names, bare(&proof.host)))).await;
    let (mut records, mut failed) = (Vec::new(), Vec::new());
    for (proof, name) in proofs.iter().zip(found) {
        match name {
            Ok(name) => records.push(record(order, proof, name)),
            Err(error) => failed.push((proof.host.clone(), error.into())),
        }
    }
    for record in &records {
        edge.memory().world.record_set(record.clone());
    }
    // What is set has to be known to a successor before it is there.
    let saved = edge.save().await;
    saved
        .map_err(|error| all(Failure::new(Kind::Storing, error.to_string(), "see what keeps it from being written")))?;
    let mut seen = Vec::new();
    for record in &records {
        let _turn = edge.zones.lock().await;
        match provider.set(txt(record)).await {
            Ok(()) => seen.push(record),
            Err(error) => failed.push((record.host.clone(), error.into())),
        }
    }
    let Some(dns) = &order.issuer.dns else { return Ok(()) };
    let waits = seen.iter().map(async |record| {
        let awaited = propagation::await_record(&edge.names, dns, txt(record)).await;
        awaited.map_err(|error| (record.host.clone(), Failure::from(error)))
    });
    failed.extend(join_all(waits).await.into_iter().filter_map(Result::err));
    if failed.is_empty() { Ok(()) } else { Err(failed) }
}

/// Removes the records of an order, whichever way it went.
pub(in crate::acme) async fn clean(edge: &Edge, secret: &ObjectKey) {
    let records = edge.memory().world.records_of(secret);
    clean_up(edge, &records).await;
}

/// Removes records. One that can't be removed now stays noted, and is tried again.
pub(in crate::acme) async fn clean_up(edge: &Edge, records: &[TxtRecord]) {
    for record in records {
        let issuer = edge.memory().world.issuer(&record.issuer).cloned();
        let removed = match &issuer {
            Some(issuer) => remove(edge, issuer, record).await,
            None => Err(DnsError::Away(format!("there is no issuer called {} any more", record.issuer))),
        };
        match removed {
            Ok(()) => edge.memory().world.record_removed(record),
            Err(error) => {
                let again = edge.memory().world.record_stays(record, unix_now().as_secs());
                let (name, value, issuer) = (&record.name, &record.value, &record.issuer);
                tracing::warn!(name, value, issuer, %error, again, "a TXT record can't be removed");
            }
        }
    }
}

async fn remove(edge: &Edge, issuer: &Issuer, record: &TxtRecord) -> Result<(), DnsError> {
    let provider = open(edge, issuer).await?;
    let _turn = edge.zones.lock().await;
    provider.remove(txt(record)).await
}

fn record(order: &Order, proof: &Proof, name: String) -> TxtRecord {
    TxtRecord {
        secret: order.secret.to_string(),
        issuer: order.issuer.name.clone(),
        host: proof.host.clone(),
        name,
        value: value(&proof.key_authorization),
        failures: 0,
        next: 0,
    }
}

fn txt(record: &TxtRecord) -> Txt<'_> {
    Txt { host: bare(&record.host), name: &record.name, value: &record.value }
}

fn bare(host: &str) -> &str {
    host.strip_prefix("*.").unwrap_or(host)
}
