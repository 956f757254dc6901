//! What is told of certificates: in `/status`, by `certs`, and as Problems.

use landfall_model::{ObjectKey, ObjectRef, Problem};
use serde::Serialize;

use super::certificate::MANAGED;
use super::plan::Verdict;
use super::trouble::{Kind, Trouble};
use super::world::{Desired, World};
use crate::reason;

/// How a certificate stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// It is there, for all hosts.
    Issued,
    /// An order is under way.
    Ordering,
    /// An order waits for others to end.
    Queued,
    /// It is not there, and is tried again later.
    Failed,
    /// It is there, but not for all hosts, or could not be renewed.
    Degraded,
    /// The Secret is somebody else's.
    Foreign,
    /// It can't be ordered before somebody mends something.
    Blocked,
}

impl Phase {
    /// All, for metrics.
    pub const ALL: [Self; 7] =
        [Self::Issued, Self::Ordering, Self::Queued, Self::Failed, Self::Degraded, Self::Foreign, Self::Blocked];

    /// The word in metrics and in `/status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Ordering => "ordering",
            Self::Queued => "queued",
            Self::Failed => "failed",
            Self::Degraded => "degraded",
            Self::Foreign => "foreign",
            Self::Blocked => "blocked",
        }
    }
}

/// One certificate. Times are seconds since the epoch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// The namespace of the Secret.
    pub namespace: String,
    /// Its name.
    pub secret: String,
    /// The issuer.
    pub issuer: String,
    /// Who asks.
    pub ingresses: Vec<ObjectKey>,
    /// How it stands.
    pub state: Phase,
    /// What is waited for, in words.
    pub waiting_for: Option<String>,
    /// When something is tried next.
    pub next_try: Option<u64>,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// When the certificate that is served expires.
    pub expires: Option<u64>,
    /// When it is renewed.
    pub renews_at: Option<u64>,
    /// Whether the CA has revoked it, or somebody wants it to be replaced.
    pub is_revoked: bool,
    /// Each host.
    pub hosts: Vec<HostView>,
}

/// One host of a certificate.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostView {
    /// The host.
    pub host: String,
    /// Whether the certificate that is served is for it.
    pub is_covered: bool,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// What to do about it.
    pub remedy: Option<String>,
    /// Failures in a row.
    pub failures: u32,
    /// When it is tried again.
    pub next_try: Option<u64>,
}

impl World {
    pub(super) fn view(
        &self,
        desired: &Desired,
        verdict: &Verdict,
        now: u64,
        is_running: bool,
        is_queued: bool,
    ) -> View {
        let existing = self.existing(&desired.secret);
        let facts = existing.and_then(|existing| existing.certificate.as_ref());
        let state = self.remembered(&desired.secret);
        let hosts: Vec<HostView> = desired
            .hosts
            .iter()
            .map(|host| {
                let trouble = state.and_then(|state| state.hosts.get(host));
                let refusal = self.issuers.get(&desired.issuer).and_then(|issuer| issuer.refusal(host));
                let (cause, way_out) = refusal.map(|refusal| (refusal.cause, refusal.remedy)).unzip();
                let remedy = trouble.map(|trouble| trouble.remedy.clone()).filter(|remedy| !remedy.is_empty());
                HostView {
                    host: host.clone(),
                    is_covered: facts.is_some_and(|facts| facts.covers(host) && now < facts.not_after),
                    last_error: trouble.map(|trouble| trouble.error.clone()).or(cause),
                    remedy: remedy.or(way_out),
                    failures: trouble.map_or(0, |trouble| trouble.failures),
                    next_try: trouble.map(|trouble| trouble.next),
                }
            })
            .collect();
        let whole = self.whole_trouble(desired);
        let failing = hosts.iter().find(|host| host.failures > 0);
        let is_troubled = whole.is_some() || failing.is_some();
        let phase = match verdict {
            Verdict::Foreign => Phase::Foreign,
            Verdict::NoIssuer => Phase::Blocked,
            _ if is_running => Phase::Ordering,
            _ if is_queued => Phase::Queued,
            Verdict::Order(_) => Phase::Ordering,
            Verdict::Wait(_) if hosts.iter().all(|host| host.is_covered) && !is_troubled => Phase::Issued,
            Verdict::Wait(_) if hosts.iter().any(|host| host.is_covered) => Phase::Degraded,
            Verdict::Wait(_) if is_troubled => Phase::Failed,
            Verdict::Wait(_) => Phase::Blocked,
        };
        let waiting_for = match (verdict, whole, failing) {
            (Verdict::Foreign, ..) => Some("somebody to hand the Secret over".to_owned()),
            (Verdict::NoIssuer, ..) => Some(format!("an issuer called {}", desired.issuer)),
            _ if is_running || matches!(verdict, Verdict::Order(_)) && !is_queued => Some("the CA".to_owned()),
            _ if is_queued => Some("other orders to end".to_owned()),
            (_, Some(_), _) => Some("the next try".to_owned()),
            (_, None, Some(host)) => Some(format!("the next try of {}", host.host)),
            _ => None,
        };
        View {
            namespace: desired.secret.namespace().to_owned(),
            secret: desired.secret.name().to_owned(),
            issuer: desired.issuer.clone(),
            ingresses: desired.ingresses.clone(),
            state: phase,
            waiting_for,
            next_try: if is_troubled { next_try(verdict) } else { None },
            last_error: whole.map(|trouble| trouble.error.clone()).or_else(|| failing?.last_error.clone()),
            expires: facts.map(|facts| facts.not_after),
            renews_at: facts
                .filter(|_| existing.is_some_and(|existing| existing.is_managed))
                .map(|facts| self.renews_at(&desired.secret, facts)),
            is_revoked: self.is_revoked(&desired.secret),
            hosts,
        }
    }

    /// What is wrong with more than single hosts.
    fn whole_trouble(&self, desired: &Desired) -> Option<&Trouble> {
        let of_order = self.remembered(&desired.secret).and_then(|state| state.trouble.as_ref());
        of_order.or_else(|| self.state.issuers.get(&desired.issuer))
    }

    pub(super) fn problems(&self, desired: &Desired, verdict: &Verdict) -> Vec<Problem> {
        let Some(ingress) = desired.ingresses.first() else { return Vec::new() };
        let problem = |reason, cause: String| Problem::new(ObjectRef::new("Ingress", ingress.clone()), reason, cause);
        let secret = &desired.secret;
        match verdict {
            Verdict::Foreign if desired.is_explicit => {
                let cause = format!("Secret {secret} is there and is not ours, so it is neither replaced nor renewed");
                let remedy = format!(
                    "delete it, hand it over by kubectl -n {} label secret {} landfall.dev/acme={MANAGED}, or remove the \
                     annotation from the Ingress",
                    secret.namespace(),
                    secret.name()
                );
                return vec![
                    problem(reason::ACME_FOREIGN_SECRET, cause).at("spec.tls", secret.name()).remedy(remedy).warning(),
                ];
            }
            // Who has not asked by name has brought a certificate along.
            Verdict::Foreign => return Vec::new(),
            Verdict::NoIssuer => {
                let cause =
                    format!("there is no issuer called {:?}; there are: {}", desired.issuer, self.issuer_names());
                let remedy = "name one of those, or add it to the ConfigMap of --acme-issuers";
                return vec![problem(reason::ACME_UNKNOWN_ISSUER, cause).remedy(remedy)];
            }
            Verdict::Wait(_) | Verdict::Order(_) => {}
        }
        let mut problems = Vec::new();
        let issuer = self.issuers.get(&desired.issuer);
        for (host, refusal) in desired.hosts.iter().filter_map(|host| Some((host, issuer?.refusal(host)?))) {
            let problem = problem(reason::ACME_UNPROVABLE_HOST, refusal.cause);
            problems.push(problem.at("spec.tls", host).remedy(refusal.remedy));
        }
        let told = |trouble: &Trouble, subject: String| {
            let cause = match trouble.kind {
                Kind::SelfCheck => format!("the CA could not reach {subject}: {}", trouble.error),
                Kind::Dns => format!("{subject} can't be proven by dns-01: {}", trouble.error),
                Kind::Storing => format!("the certificate for {subject} can't be stored: {}", trouble.error),
                Kind::Unreachable => format!("issuer {} can't be reached: {}", desired.issuer, trouble.error),
                Kind::Authority => format!("the CA of issuer {} can't be used: {}", desired.issuer, trouble.error),
                _ => format!("issuer {} says of {subject}: {}", desired.issuer, trouble.error),
            };
            problem(trouble.kind.reason(), cause).remedy(trouble.remedy.clone())
        };
        if let Some(trouble) = self.state.account_keys.get(&desired.issuer) {
            let cause = format!(
                "the key of the account at issuer {} can't be changed, so the former one is used: {}",
                desired.issuer, trouble.error
            );
            problems.push(
                problem(reason::ACME_ACCOUNT_KEY_KEPT, cause)
                    .remedy("see what the CA says, or remove accountKey")
                    .warning(),
            );
        }
        problems.extend(self.other_chain(desired).map(|(cause, remedy)| {
            problem(reason::ACME_CHAIN_NOT_OFFERED, cause).at("spec.tls", secret.name()).remedy(remedy).warning()
        }));
        if let Some(trouble) = self.whole_trouble(desired) {
            problems.push(told(trouble, secret.to_string()));
        }
        for (host, trouble) in self.remembered(secret).into_iter().flat_map(|state| &state.hosts) {
            if desired.hosts.contains(host) {
                problems.push(told(trouble, host.clone()).at("spec.tls", host));
            }
        }
        problems
    }
}

impl World {
    /// What to say of a certificate whose chain ends elsewhere than its issuer prefers, though it was asked for.
    fn other_chain(&self, desired: &Desired) -> Option<(String, String)> {
        let (existing, issuer) = (self.existing(&desired.secret)?, self.issuers.get(&desired.issuer)?);
        let (facts, preferred) = (existing.certificate.as_ref()?, issuer.preferred_chain.as_ref()?);
        if issuer.internal.is_some() || !self.is_of(existing, issuer) || facts.ends_at.contains(preferred) {
            return None;
        }
        let cause = format!(
            "issuer {} offers no chain that ends at {preferred:?}, so the certificate in Secret {} has its first one, \
             which ends at {:?}",
            issuer.name,
            desired.secret,
            facts.ends_at.first().map_or("-", String::as_str)
        );
        let remedy =
            "correct preferredChain (--acme-preferred-chain): the common name of a root of the CA, letter by letter";
        Some((cause, remedy.to_owned()))
    }
}

fn next_try(verdict: &Verdict) -> Option<u64> {
    match verdict {
        Verdict::Wait(at) => *at,
        _ => None,
    }
}
