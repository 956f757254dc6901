//! From linked Ingresses to certificates: which one answers which server name.

use std::sync::Arc;

use landfall_model::{ObjectKey, ObjectRef, Problem};

use super::annotations::PREFIX;
use super::ingress::Age;
use super::link::Claim;
use super::notes::Contest;
use super::tables::same;
use super::{Compiler, Effects};
use crate::host::HostPattern;
use crate::reason;
use crate::table::Dialect;
use crate::tls::{Certificate, CertificateTable};

/// What is decided about a name.
#[derive(Debug)]
enum Chosen {
    /// The wildcard over it decides, then the default.
    Nothing,
    /// The default decides: the wildcard's certificate is somebody else's, or the oldest Ingress has none.
    Closed,
    Certificate(Arc<Certificate>),
}

impl Compiler {
    /// Why TLS is not passed through as an Ingress asks for it.
    pub(super) fn passthrough_problem(&self, key: &ObjectKey, has_auth: bool) -> Option<Problem> {
        let (cause, remedy) = if !self.settings.ssl_passthrough {
            ("TLS ends here, since the flag that allows anything else is not given", "give --enable-ssl-passthrough")
        } else if has_auth {
            (
                "the routes want to know who asks, which can't be seen within TLS, so no connection is passed through",
                "remove one of the two and let the endpoints ask",
            )
        } else {
            return None;
        };
        let object = ObjectRef::new("Ingress", key.clone());
        let field = format!("metadata.annotations[{PREFIX}ssl-passthrough]");
        let problem = Problem::new(object, reason::UNSUPPORTED_ANNOTATION, cause).at(field, "true");
        Some(problem.remedy(remedy).warning())
    }

    /// The certificates, if any of them changed.
    pub(super) fn rebuild_certificates(&mut self, effects: &mut Effects) -> Option<CertificateTable> {
        let old = self.table.certificates.clone();
        let mut table: Option<CertificateTable> = None;
        let copy = || CertificateTable {
            exact: old.exact.clone(),
            wildcard: old.wildcard.clone(),
            closed: old.closed.clone(),
            addresses: old.addresses.clone(),
            default: old.default.clone(),
        };
        for name in std::mem::take(&mut effects.names) {
            let chosen = self.choose(&name, effects);
            if old.holds(&name, &chosen) {
                continue;
            }
            table.get_or_insert_with(copy).set(name, chosen);
        }
        if effects.default_certificate
            && let Some(secret) = self.settings.default_certificate.clone()
        {
            let default = self.secrets.certificate(&secret, Dialect::IngressNginx);
            self.default_certificate_problem = default.as_ref().err().map(|fault| {
                let cause = format!("--default-ssl-certificate names it, but it can't be used: {}", fault.cause);
                let problem = Problem::new(ObjectRef::new("Secret", secret.clone()), fault.reason, cause);
                problem.at("metadata.name", secret.name()).remedy(fault.remedy.clone())
            });
            effects.problems = true;
            if !same(old.default.as_ref(), default.as_ref().ok()) {
                table.get_or_insert_with(copy).default = default.ok();
            }
        }
        table
    }

    /// The certificate of a name: that of the oldest Ingress which has one that can be used and may speak for it.
    ///
    /// In ingress-nginx the oldest Ingress with a TLS entry decides even where it has none: then the default answers.
    fn choose(&mut self, name: &HostPattern, effects: &mut Effects) -> Chosen {
        let mut winner: Option<(&Age, Option<&Arc<Certificate>>)> = None;
        let mut problems = Vec::new();
        for (age, claim) in self.claims(name) {
            let certificate = claim.certificate.as_ref();
            if !self.is_entitled(age, name) {
                let ruling = self.owner(name).or_else(|| self.ruling(name)?.first());
                let refused = ruling.filter(|_| certificate.is_some());
                problems.extend(refused.map(|ruling| not_entitled(&age.key, claim, &ruling.key)));
                continue;
            }
            match (winner, certificate) {
                (None, None) if !self.decides(age, name) => {}
                (None, _) => winner = Some((age, certificate)),
                (Some((first, Some(used))), Some(certificate)) if used.secret != certificate.secret => {
                    problems.push(lost(&age.key, claim, certificate, &first.key, used));
                }
                (Some((first, None)), Some(_)) => problems.push(shadowed(&age.key, claim, &first.key)),
                (Some(_), _) => {}
            }
        }
        let chosen = match winner {
            Some((_, Some(certificate))) => Chosen::Certificate(certificate.clone()),
            // Behind a wildcard there is nothing but the default.
            Some((_, None)) if matches!(name, HostPattern::Exact(_)) => Chosen::Closed,
            Some((_, None)) => Chosen::Nothing,
            None => self.choose_by_wildcard(name, &mut problems),
        };
        self.note(&Contest::Name(name.clone()), problems, effects);
        chosen
    }

    /// Whether an Ingress decides about the certificate of a name that it has none for.
    fn decides(&self, age: &Age, name: &HostPattern) -> bool {
        let is_nginx = self.linked.get(&age.key).is_some_and(|linked| linked.dialect == Dialect::IngressNginx);
        is_nginx && self.hosts.get(name).is_some_and(|ages| ages.contains(age))
    }

    /// For a name without a certificate of its own: whether the wildcard's may be used for it.
    fn choose_by_wildcard(&self, name: &HostPattern, problems: &mut Vec<Problem>) -> Chosen {
        let HostPattern::Exact(host) = name else { return Chosen::Nothing };
        // Where nobody has a rule for the name, everybody may speak for it.
        let Some(ruling) = self.owner(name).or_else(|| self.ruling(name)?.first()) else { return Chosen::Nothing };
        let Some(wildcard) = host.wildcard().filter(|wildcard| self.names.contains_key(wildcard)) else {
            return Chosen::Nothing;
        };
        let entitled_to = |name: &HostPattern| {
            let mut claims = self.usable_claims(&wildcard).filter(|(age, ..)| self.is_entitled(age, name));
            claims.next().map(|(age, _, certificate)| (age, certificate.clone()))
        };
        match (entitled_to(&wildcard), entitled_to(name)) {
            (Some((_, shared)), Some((_, own))) if Arc::ptr_eq(&shared, &own) => Chosen::Nothing,
            (_, Some((_, own))) => Chosen::Certificate(own),
            (Some((claimer, shared)), None) => {
                problems.push(closed(name, &ruling.key, &claimer.key, &shared));
                Chosen::Closed
            }
            (None, None) => Chosen::Nothing,
        }
    }

    /// Claims to a name, the oldest Ingress first.
    fn claims(&self, name: &HostPattern) -> impl Iterator<Item = (&Age, &Claim)> {
        self.names.get(name).into_iter().flatten().flat_map(move |age| {
            let claims = self.linked.get(&age.key).map(|linked| linked.claims_to(name)).unwrap_or_default();
            claims.iter().map(move |claim| (age, claim))
        })
    }

    /// Claims to a name that have a certificate, the oldest Ingress first.
    fn usable_claims(&self, name: &HostPattern) -> impl Iterator<Item = (&Age, &Claim, &Arc<Certificate>)> {
        self.claims(name).filter_map(|(age, claim)| Some((age, claim, claim.certificate.as_ref()?)))
    }
}

impl CertificateTable {
    /// Whether that is what is decided about the name already.
    fn holds(&self, name: &HostPattern, chosen: &Chosen) -> bool {
        let (before, closed) = match name {
            HostPattern::Exact(name) => (self.exact.get(name), self.closed.contains(name)),
            HostPattern::Wildcard(domain) => (self.wildcard.get(domain), false),
            HostPattern::Any => return true,
        };
        match chosen {
            Chosen::Nothing => before.is_none() && !closed,
            Chosen::Closed => closed,
            Chosen::Certificate(certificate) => !closed && same(before, Some(certificate)),
        }
    }

    fn set(&mut self, name: HostPattern, chosen: Chosen) {
        let host = match name {
            HostPattern::Exact(host) => host,
            // Behind a wildcard there is nothing but the default, so nothing is closed; and the domain may be, by itself.
            HostPattern::Wildcard(domain) => {
                match chosen {
                    Chosen::Certificate(certificate) => self.wildcard.insert(domain, certificate),
                    Chosen::Nothing | Chosen::Closed => self.wildcard.remove(&domain),
                };
                return;
            }
            HostPattern::Any => return,
        };
        self.exact.remove(&host);
        self.addresses.remove(&host);
        self.closed.remove(&host);
        match chosen {
            Chosen::Certificate(certificate) => {
                if host.address().is_some() {
                    self.addresses.insert(host.clone());
                }
                self.exact.insert(host, certificate);
            }
            Chosen::Closed => {
                self.closed.insert(host);
            }
            Chosen::Nothing => {}
        }
    }
}

fn lost(
    loser: &ObjectKey,
    claim: &Claim,
    certificate: &Certificate,
    winner: &ObjectKey,
    used: &Certificate,
) -> Problem {
    let name = &claim.name;
    let cause = if winner == loser {
        format!("host {name} has Secret {:?} by an earlier entry", used.secret.name())
    } else {
        format!("host {name} has Secret {} by ingress {winner}, which is older", used.secret)
    };
    let problem = Problem::new(ObjectRef::new("Ingress", loser.clone()), reason::TLS_CONFLICT, cause);
    let problem = problem.at(format!("spec.tls[{}].secretName", claim.index), certificate.secret.name());
    problem.remedy("use one Secret for one host").warning()
}

/// That a certificate is not used, since an older Ingress has none.
fn shadowed(loser: &ObjectKey, claim: &Claim, winner: &ObjectKey) -> Problem {
    let name = &claim.name;
    let cause = if winner == loser {
        format!("an earlier entry for host {name} has no certificate, so the default certificate answers")
    } else {
        format!(
            "ingress {winner}, which is older, has TLS entries and no certificate for host {name}, so the default \
             certificate answers"
        )
    };
    let problem = Problem::new(ObjectRef::new("Ingress", loser.clone()), reason::TLS_CONFLICT, cause);
    let problem = problem.at(format!("spec.tls[{}].secretName", claim.index), name.to_string());
    problem.remedy("have the older entry name a Secret that can be used").warning()
}

/// That the wildcard's certificate is not used for a host; the owner of the host is told.
fn closed(name: &HostPattern, ruling: &ObjectKey, claimer: &ObjectKey, certificate: &Certificate) -> Problem {
    let cause = format!(
        "the certificate in Secret {} covers host {name}, but ingress {claimer} in another namespace names it, so the \
         default certificate answers",
        certificate.secret
    );
    let problem = Problem::new(ObjectRef::new("Ingress", ruling.clone()), reason::HOST_NOT_OWNED, cause);
    let remedy =
        "to serve the host by HTTPS, name a certificate in spec.tls of this Ingress, or make it the default one";
    problem.at("spec.tls", name.to_string()).remedy(remedy).warning()
}

fn not_entitled(loser: &ObjectKey, claim: &Claim, ruling: &ObjectKey) -> Problem {
    let cause = format!(
        "the rules for host {} are those of ingress {ruling} in another namespace, and this namespace has none that \
         count, so this certificate is not used for it",
        claim.name
    );
    let problem = Problem::new(ObjectRef::new("Ingress", loser.clone()), reason::HOST_NOT_OWNED, cause);
    let problem = problem.at(format!("spec.tls[{}].hosts", claim.index), claim.name.to_string());
    problem.remedy("remove the host from spec.tls, or name the certificate in the namespace of the rules").warning()
}
