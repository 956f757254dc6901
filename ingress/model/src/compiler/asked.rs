//! Which certificates Ingresses ask for.

use landfall_model::{ObjectRef, Problem};

use super::Compiler;
use super::ingress::{ParsedIngress, TlsSpec};
use crate::acme::ask::{ANNOTATION, Asked, Asking};
use crate::host::HostPattern;
use crate::reason;

impl Compiler {
    /// Brings the list of what is asked for up to date.
    pub(super) fn collect_asked(&mut self) {
        if self.settings.asking == Asking::Off {
            return;
        }
        let asking = self.askers.iter().filter_map(|age| self.linked.get(&age.key));
        let asked: Vec<Asked> = asking.flat_map(|linked| self.asked_of(&linked.parsed)).collect();
        if *self.asked != *asked {
            self.asked = asked.into();
        }
    }

    /// Whether the Ingress asks for certificates.
    pub(super) fn asks(&self, parsed: &ParsedIngress) -> bool {
        parsed.wish.issuer(&self.settings.asking).is_some()
    }

    /// A host that belongs to another namespace is not asked for: whoever has its certificate could pose as it.
    fn asked_of(&self, parsed: &ParsedIngress) -> impl Iterator<Item = Asked> {
        let issuer = parsed.wish.issuer(&self.settings.asking).flatten();
        parsed.tls.iter().filter_map(move |entry| {
            let hosts = entry.hosts.iter().filter(|host| self.may_ask(parsed, host)).cloned();
            let hosts: Vec<HostPattern> = hosts.collect();
            // What can't be seen once it is there would be ordered again and again.
            let secret = entry.secret.clone().filter(|secret| !hosts.is_empty() && self.secrets.is_read(secret))?;
            let ingress = parsed.age.key.clone();
            Some(Asked { ingress, secret, hosts, issuer: issuer.clone(), is_explicit: parsed.wish.is_explicit() })
        })
    }

    fn may_ask(&self, parsed: &ParsedIngress, host: &HostPattern) -> bool {
        *host != HostPattern::Any && self.is_entitled(&parsed.age, host)
    }

    /// What keeps the annotations of an Ingress from having an effect.
    pub(super) fn asked_problems(&self, parsed: &ParsedIngress) -> Vec<Problem> {
        if !parsed.wish.is_explicit() {
            return Vec::new();
        }
        let object = || ObjectRef::new("Ingress", parsed.age.key.clone());
        let field = format!("metadata.annotations[{ANNOTATION}]");
        if self.settings.asking == Asking::Off {
            // The common annotation may be meant for another program.
            let cause = "it asks for a certificate, but automatic certificates are off";
            let remedy = "set --acme-email and --acme-accept-terms (ingress.acme in the chart)";
            let problem = Problem::new(object(), reason::ACME_OFF, cause).at(field, "").remedy(remedy);
            return if parsed.wish.is_own() { vec![problem] } else { Vec::new() };
        }
        let incomplete = |entry: &&TlsSpec| entry.secret.is_none() || entry.without_hosts;
        if parsed.tls.is_empty() {
            let cause = "it asks for a certificate, but has no spec.tls that says for which hosts";
            let problem = Problem::new(object(), reason::ACME_INCOMPLETE, cause).at("spec.tls", "");
            return vec![problem.remedy("add an entry with hosts and a secretName")];
        }
        let told = |entry: &TlsSpec| {
            let cause = "no certificate is ordered for this entry, since it names no Secret or no hosts";
            let problem =
                Problem::new(object(), reason::ACME_INCOMPLETE, cause).at(format!("spec.tls[{}]", entry.index), "");
            problem.remedy("give it hosts and a secretName")
        };
        parsed.tls.iter().filter(incomplete).map(told).collect()
    }
}
