//! Everything that is known about certificates, and how it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use landfall_model::{Change, ObjectKey, Problem};

use super::ask::Asked;
use super::certificate::Existing;
use super::internal::INTERNAL;
use super::issuer::{self, Issuer};
use super::plan::AT_ONCE;
use super::state::{CertificateState, OrderState, Recalls, Renewal, State};
use super::trouble::{Failure, Kind, Trouble};
use crate::compiler::store::Store;
use crate::host::HostPattern;

/// How long, in seconds, what was issued may take to come back through the watch.
const SETTLING: u64 = 5;

/// Where certificates come back from once they are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Place {
    /// By the watch of all Secrets.
    #[default]
    Watched,
    /// They are kept beside the folder of manifests.
    Stored,
}

/// What is known.
#[derive(Debug, Default)]
pub struct World {
    place: Place,
    pub(super) asked: Arc<[Asked]>,
    /// The Secrets of the source.
    existing: Store<Existing>,
    /// Those that are kept beside a folder of manifests.
    kept: Store<Existing>,
    pub(super) issuers: BTreeMap<String, Issuer>,
    /// The issuers of the flags.
    own: Vec<Issuer>,
    pub(super) issuer_problems: Vec<Problem>,
    pub(super) state: State,
    /// The root that certificates of a CA of our own end at now, by issuer, as far as it is known.
    roots: BTreeMap<String, String>,
    /// Until when what was issued is not ordered again, whatever the watch says.
    pub(super) settling: BTreeMap<ObjectKey, u64>,
    /// Orders under way at one time; `None`: [`AT_ONCE`].
    at_once: Option<NonZeroUsize>,
}

/// One certificate that is wanted: what all TLS entries ask for that name its Secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Desired {
    /// Where it is to stand.
    pub secret: ObjectKey,
    /// The name of the issuer.
    pub issuer: String,
    /// The hosts, wildcards with their `*.`.
    pub hosts: BTreeSet<String>,
    /// Who asks, the oldest first.
    pub ingresses: Vec<ObjectKey>,
    /// Whether one of them says so itself.
    pub is_explicit: bool,
}

/// How an order went.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// Hosts that could not be proven.
    pub hosts: Vec<(String, Failure)>,
    /// What went wrong with the order as a whole.
    pub whole: Option<Failure>,
    /// What was issued and stored.
    pub issued: Option<Existing>,
    /// Whether the order is of no use any more.
    pub is_over: bool,
    /// The account that the CA did not know any more, where another one was opened in its place.
    pub lost_account: Option<String>,
}

impl World {
    /// A world with the issuers that flags describe.
    pub fn new(own: impl IntoIterator<Item = Issuer>, place: Place) -> Self {
        let mut world = Self { place, own: own.into_iter().collect(), ..Self::default() };
        world.set_issuers(None);
        world
    }

    /// Has so many orders under way at one time.
    #[must_use]
    pub fn with_at_once(mut self, at_once: NonZeroUsize) -> Self {
        self.at_once = Some(at_once);
        self
    }

    /// How many orders may be under way at one time.
    pub fn at_once(&self) -> usize {
        self.at_once.map_or(AT_ONCE, NonZeroUsize::get)
    }

    /// Takes in what Ingresses ask for.
    pub fn ask(&mut self, asked: Arc<[Asked]>) {
        self.asked = asked;
    }

    /// Takes in a change of Secrets.
    pub fn secrets(&mut self, change: Change<Secret>) {
        self.forget_credentials(&change);
        self.existing.apply(change, |secret| &secret.metadata, |secret, _| Existing::read(secret));
    }

    /// Takes in a Secret that is kept beside a folder of manifests.
    pub fn keep(&mut self, secret: &Secret) {
        self.kept.put(ObjectKey::of(&secret.metadata), Existing::read(secret));
    }

    /// The Secret; one of the source goes before one that is kept.
    pub(super) fn existing(&self, key: &ObjectKey) -> Option<&Existing> {
        self.existing.get(key).or_else(|| self.kept.get(key))
    }

    /// Takes in the issuers of a `ConfigMap`; `None`: there is no such map. Those of the flags stay unless the map has
    /// one of their name.
    pub fn set_issuers(&mut self, map: Option<(&ObjectKey, &BTreeMap<String, String>)>) {
        let (mut issuers, problems) = map.map(|(key, data)| issuer::read(key, data)).unwrap_or_default();
        for own in &self.own {
            issuers.entry(own.name.clone()).or_insert_with(|| own.clone());
        }
        // An issuer that was mended is asked at once.
        let changed = |name: &str| issuers.get(name) != self.issuers.get(name);
        if !self.issuers.is_empty() {
            self.state.issuers.retain(|name, _| !changed(name));
            self.state.account_keys.retain(|name, _| !changed(name));
            let mended: Vec<String> = issuers.keys().filter(|name| changed(name)).cloned().collect();
            self.forget_dns(&mended);
        }
        self.issuers = issuers;
        self.issuer_problems = problems;
    }

    /// Records that could not be set are tried again at once where the credentials have changed.
    fn forget_credentials(&mut self, change: &Change<Secret>) {
        let Change::Apply(secret) = change else { return };
        let key = Some(ObjectKey::of(&secret.metadata));
        let names_it = |issuer: &&Issuer| issuer.dns.as_ref().is_some_and(|dns| dns.secret == key);
        let mended: Vec<String> = self.issuers.values().filter(names_it).map(|issuer| issuer.name.clone()).collect();
        self.forget_dns(&mended);
    }

    fn forget_dns(&mut self, issuers: &[String]) {
        if issuers.is_empty() {
            return;
        }
        for desired in self.desired().values().filter(|desired| issuers.contains(&desired.issuer)) {
            if let Some(state) = self.state.certificates.get_mut(&desired.secret.to_string()) {
                state.hosts.retain(|_, trouble| trouble.kind != Kind::Dns);
            }
        }
    }

    /// Takes in which root the certificates of a CA of our own end at.
    pub fn rooted(&mut self, issuer: &str, root: &str) {
        self.roots.insert(issuer.to_owned(), root.to_owned());
    }

    /// The issuers with a CA of our own that is to be there: `default` is the issuer of Ingresses that name none. The
    /// one called `internal` is there without being asked for, and so makes nothing before it is.
    pub fn authorities_in_use(&self, default: Option<&str>) -> Vec<Issuer> {
        let mut own: Vec<&Issuer> = self.issuers.values().filter(|issuer| issuer.internal.is_some()).collect();
        if default != Some(INTERNAL) && own.iter().any(|issuer| issuer.name == INTERNAL) {
            let is_asked = self.desired().values().any(|desired| desired.issuer == INTERNAL);
            own.retain(|issuer| is_asked || issuer.name != INTERNAL);
        }
        own.into_iter().cloned().collect()
    }

    /// Whether a certificate is what the issuer would make of the same names today.
    pub(super) fn is_of(&self, existing: &Existing, issuer: &Issuer) -> bool {
        let rest = existing.fingerprint.as_deref().and_then(|noted| noted.strip_prefix(&issuer.fingerprint()));
        let is_same = match (rest, &issuer.internal) {
            (Some(rest), Some(_)) => match self.roots.get(&issuer.name) {
                Some(root) => rest.strip_prefix(' ') == Some(root),
                None => rest.is_empty() || rest.starts_with(' '),
            },
            (rest, _) => rest == Some(""),
        };
        is_same && existing.issuer.as_deref() == Some(&*issuer.name)
    }

    /// Takes over what others have tried.
    pub fn load(&mut self, state: State) {
        self.state = state;
    }

    /// What was tried.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// An issuer.
    pub fn issuer(&self, name: &str) -> Option<&Issuer> {
        self.issuers.get(name)
    }

    /// The names of the issuers.
    pub(super) fn issuer_names(&self) -> String {
        let names: Vec<&str> = self.issuers.keys().map(String::as_str).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }

    /// What is wanted, by Secret.
    pub fn desired(&self) -> BTreeMap<ObjectKey, Desired> {
        let mut all: BTreeMap<ObjectKey, Desired> = BTreeMap::new();
        for asked in self.asked.iter() {
            let desired = all.entry(asked.secret.clone()).or_insert_with(|| Desired {
                secret: asked.secret.clone(),
                issuer: asked.issuer.as_deref().map_or_else(|| self.default_issuer(), str::to_owned),
                hosts: BTreeSet::new(),
                ingresses: Vec::new(),
                is_explicit: false,
            });
            // Addresses of IPv6 have brackets in requests, but not in certificates.
            let bare = |host: &HostPattern| host.to_string().trim_matches(['[', ']']).to_owned();
            desired.hosts.extend(asked.hosts.iter().map(bare));
            desired.is_explicit |= asked.is_explicit;
            if !desired.ingresses.contains(&asked.ingress) {
                desired.ingresses.push(asked.ingress.clone());
            }
        }
        all
    }

    /// The issuer that is meant where none is named: the one called `default`, else the only one. The one called
    /// `internal` is always there, and is meant where there is no other.
    fn default_issuer(&self) -> String {
        let mut others = self.issuers.keys().filter(|name| *name != INTERNAL);
        match (others.next(), others.next()) {
            (Some(only), None) => only.clone(),
            (None, _) if self.issuers.contains_key(INTERNAL) => INTERNAL.to_owned(),
            _ => issuer::DEFAULT.to_owned(),
        }
    }

    /// Forgets what is about certificates and hosts that nobody wants any more.
    pub fn tidy(&mut self, running: &BTreeSet<ObjectKey>) {
        let desired = self.desired();
        self.state.certificates.retain(|name, state| {
            let Some(key) = ObjectKey::parse(name) else { return false };
            let wanted = desired.get(&key);
            state.hosts.retain(|host, _| wanted.is_some_and(|wanted| wanted.hosts.contains(host)));
            (wanted.is_some() || running.contains(&key)) && !state.is_empty()
        });
        let issuers = &self.issuers;
        self.state.issuers.retain(|name, _| issuers.contains_key(name));
        self.state.account_keys.retain(|name, _| issuers.contains_key(name));
    }

    /// The issuers whose account is to have a certain key, and which may be asked to change it now; and when others may
    /// be.
    pub fn account_keys_wanted(&self, now: u64) -> (Vec<Issuer>, Option<u64>) {
        let wanted = self.issuers.values().filter(|issuer| issuer.internal.is_none() && issuer.account_key.is_some());
        let later = |issuer: &&Issuer| self.state.account_keys.get(&issuer.name).filter(|trouble| trouble.next > now);
        let next = wanted.clone().filter_map(|issuer| later(&issuer)).map(|trouble| trouble.next).min();
        (wanted.filter(|issuer| later(issuer).is_none()).cloned().collect(), next)
    }

    /// The key of an issuer's account was changed, or could not be.
    pub fn account_key_changed(&mut self, issuer: &str, failure: Option<Failure>, now: u64) {
        let Some(failure) = failure else {
            self.state.account_keys.remove(issuer);
            return;
        };
        let trouble = Trouble::after(self.state.account_keys.get(issuer), failure, issuer, now);
        self.state.account_keys.insert(issuer.to_owned(), trouble);
    }

    /// The CA knows an order.
    pub fn began(&mut self, key: &ObjectKey, order: OrderState) {
        self.certificate(key).order = Some(order);
    }

    /// An order has ended, well or not.
    pub fn ended(&mut self, key: &ObjectKey, issuer: &str, outcome: Outcome, now: u64) {
        let Outcome { hosts, whole, issued, is_over, lost_account: _ } = outcome;
        if let Some(existing) = &issued {
            let was_revoked = self.is_revoked_by_ca(key);
            self.settling.insert(key.clone(), now + SETTLING);
            self.state.issuers.remove(issuer);
            let state = self.certificate(key);
            state.trouble = None;
            state.renewal = None;
            if was_revoked {
                state.recalls = Some(Recalls::after(state.recalls, now));
            }
            if let Some(facts) = &existing.certificate {
                state.hosts.retain(|host, _| !facts.covers(host));
            }
        }
        if let Some(existing) = issued {
            match self.place {
                Place::Watched => self.existing.put(key.clone(), existing),
                Place::Stored => self.kept.put(key.clone(), existing),
            }
        }
        let name = key.to_string();
        let state = self.state.certificates.entry(name.clone()).or_default();
        for (host, failure) in hosts {
            let before = state.hosts.get(&host);
            let trouble = Trouble::after(before, failure, &host, now);
            state.hosts.insert(host, trouble);
        }
        if is_over {
            state.order = None;
        }
        match whole {
            Some(failure) if matches!(failure.kind, Kind::Unreachable | Kind::Account | Kind::Authority) => {
                let before = self.state.issuers.get(issuer);
                // Several orders that fail together are one failure of the CA's.
                if before.is_none_or(|before| before.next <= now) {
                    let trouble = Trouble::after(before, failure, issuer, now);
                    self.state.issuers.insert(issuer.to_owned(), trouble);
                }
            }
            Some(failure) => state.trouble = Some(Trouble::after(state.trouble.as_ref(), failure, &name, now)),
            None => {}
        }
    }

    /// The CA has answered, so it can be reached.
    pub fn reached(&mut self, issuer: &str) {
        if self.state.issuers.get(issuer).is_some_and(|trouble| trouble.kind == Kind::Unreachable) {
            self.state.issuers.remove(issuer);
        }
    }

    /// The CA has said when to renew a certificate.
    pub fn renewal(&mut self, key: &ObjectKey, renewal: Renewal) {
        self.certificate(key).renewal = Some(renewal);
    }

    fn certificate(&mut self, key: &ObjectKey) -> &mut CertificateState {
        self.state.certificates.entry(key.to_string()).or_default()
    }
}
