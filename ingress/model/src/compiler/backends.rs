//! Backends: from a Service and its endpoints to the state that a running table points to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use landfall_model::{ObjectKey, ObjectRef, Problem, Reason};

use super::endpoints::{EndpointStore, Found};
use super::external::NameRules;
use super::service::{ParsedService, Port};
use super::set::SmallSet;
use super::store::Store;
use super::suggest::{alternatives, nearest};
use crate::backend::{Affinity, Backend, BackendKey, BackendState, Balance, PortRef, Protocol, Target, Transport};
use crate::policy::{CookieAffinity, HashBy};
use crate::reason;
use crate::settings::Settings;
use crate::table::Dialect;

/// What one [`Backend`] is made for: a port of a Service, and a protocol where an annotation says one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct PoolKey {
    pub(crate) key: BackendKey,
    pub(crate) transport: Transport,
    pub(crate) protocol: Option<Protocol>,
    /// It decides about the port of a Service of type ExternalName.
    pub(crate) dialect: Dialect,
    /// Whether the address of the Service is asked rather than its endpoints.
    pub(crate) via_service: bool,
}

/// What is wrong with the way a backend is named; becomes a Problem of each Ingress that names it so.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Fault {
    pub(crate) reason: Reason,
    /// The field below the backend.
    pub(crate) field: &'static str,
    pub(crate) value: String,
    pub(crate) cause: String,
    pub(crate) remedy: String,
}

/// A backend and who uses it.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) backend: Arc<Backend>,
    pub(crate) state: Arc<BackendState>,
    pub(crate) fault: Option<Box<Fault>>,
    /// What is wrong with the Service and its endpoints.
    pub(crate) problems: Vec<Problem>,
    /// The Ingresses that use it.
    pub(crate) users: SmallSet<ObjectKey>,
    /// How endpoints are chosen, where an Ingress has said so.
    preference: Preference,
}

/// How endpoints are chosen for all routes to a Service, in the dialect of ingress-nginx.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Preference {
    pub(crate) balance: Option<Balance>,
    pub(crate) hash_by: Option<Arc<HashBy>>,
    pub(crate) cookie: Option<Arc<CookieAffinity>>,
}

/// The objects that backends are made from.
#[derive(Debug)]
pub(crate) struct Backends {
    pub(crate) services: Store<ParsedService>,
    pub(crate) endpoints: EndpointStore,
    names: NameRules,
    pools: BTreeMap<PoolKey, Pool>,
    /// How endpoints are chosen in the dialect of ingress-nginx where no Ingress says it.
    pub(crate) balance: Balance,
}

/// What came of computing a backend anew.
#[derive(Debug, Default)]
pub(crate) struct Refreshed {
    /// The new state, if it is another one.
    pub(crate) publish: Option<(Arc<Backend>, Arc<BackendState>)>,
    /// Whether there is something new to tell.
    pub(crate) news: bool,
}

struct Resolved {
    state: BackendState,
    fault: Option<Box<Fault>>,
    problems: Vec<Problem>,
}

impl Backends {
    pub(crate) fn new(settings: &Settings) -> Self {
        let endpoints = EndpointStore::new(settings.origin);
        Self {
            services: Store::default(),
            endpoints,
            names: NameRules::new(settings),
            pools: BTreeMap::new(),
            balance: Balance::default(),
        }
    }

    pub(crate) fn get(&self, key: &PoolKey) -> Option<&Pool> {
        self.pools.get(key)
    }

    /// The backend for `key`, used by `user` from now on.
    pub(crate) fn acquire(&mut self, key: &PoolKey, user: &ObjectKey) -> Arc<Backend> {
        if let Some(pool) = self.pools.get_mut(key) {
            pool.users.insert(user.clone());
            return pool.backend.clone();
        }
        let Resolved { mut state, fault, problems } = self.resolve(key, None);
        state.balance = self.balance_of(key);
        let state = Arc::new(state);
        let backend = Arc::new(Backend::new(key.key.clone(), state.clone()));
        let mut users = SmallSet::default();
        users.insert(user.clone());
        let preference = Preference::default();
        self.pools.insert(key.clone(), Pool { backend: backend.clone(), state, fault, problems, users, preference });
        backend
    }

    /// `user` no longer uses the backend; it stays until [`Backends::drop_unused`].
    pub(crate) fn release(&mut self, key: &PoolKey, user: &ObjectKey) {
        if let Some(pool) = self.pools.get_mut(key) {
            pool.users.remove(user);
        }
    }

    /// Forgets what nobody uses of the given backends.
    pub(crate) fn drop_unused(&mut self, released: &BTreeSet<PoolKey>) {
        for key in released {
            if self.pools.get(key).is_some_and(|pool| pool.users.is_empty()) {
                self.pools.remove(key);
            }
        }
    }

    /// The keys of the backends of a Service.
    pub(crate) fn of_service(&self, service: &ObjectKey) -> Vec<PoolKey> {
        let first = first_of(service.clone());
        let keys = self.pools.range(first..).map(|(key, _)| key);
        keys.take_while(|key| key.key.service == *service).cloned().collect()
    }

    /// The keys of the backends in a namespace whose Service is not known: their messages name similar ones.
    pub(crate) fn unknown_in(&self, namespace: &str) -> Vec<PoolKey> {
        let first = first_of(ObjectKey::new(namespace, ""));
        let pools = self.pools.range(first..).take_while(|(key, _)| key.key.service.namespace() == namespace);
        let unknown =
            pools.filter(|(_, pool)| pool.fault.as_ref().is_some_and(|fault| fault.reason == reason::UNKNOWN_SERVICE));
        unknown.map(|(key, _)| key.clone()).collect()
    }

    /// The preference that holds for a backend, and whoever uses it.
    pub(crate) fn preference(&self, key: &PoolKey) -> Option<(&Preference, &SmallSet<ObjectKey>)> {
        self.pools.get(key).map(|pool| (&pool.preference, &pool.users))
    }

    /// Has endpoints of a backend chosen in another way.
    pub(crate) fn prefer(&mut self, key: &PoolKey, preference: Preference) -> Refreshed {
        let Some(pool) = self.pools.get_mut(key) else { return Refreshed::default() };
        pool.preference = preference;
        self.refresh(key)
    }

    /// Computes a backend anew.
    pub(crate) fn refresh(&mut self, key: &PoolKey) -> Refreshed {
        let Some(previous) = self.pools.get(key).map(|pool| pool.state.clone()) else { return Refreshed::default() };
        let Resolved { mut state, fault, problems } = self.resolve(key, Some(&previous));
        let common = self.balance_of(key);
        let Some(pool) = self.pools.get_mut(key) else { return Refreshed::default() };
        let news = pool.fault != fault || pool.problems != problems;
        pool.fault = fault;
        pool.problems = problems;
        state.balance = pool.preference.balance.unwrap_or(common);
        state.hash_by.clone_from(&pool.preference.hash_by);
        state.cookie.clone_from(&pool.preference.cookie);
        if is_same(&pool.state, &state) {
            return Refreshed { publish: None, news };
        }
        pool.state = Arc::new(state);
        Refreshed { publish: Some((pool.backend.clone(), pool.state.clone())), news }
    }

    fn balance_of(&self, key: &PoolKey) -> Balance {
        if key.dialect == Dialect::IngressNginx { self.balance } else { Balance::default() }
    }

    fn resolve(&self, key: &PoolKey, previous: Option<&BackendState>) -> Resolved {
        let BackendKey { service: name, port: wanted } = &key.key;
        let Some(service) = self.services.get(name) else { return unresolved(self.unknown_service(name)) };
        if let Some(external) = &service.external_name {
            return self.external(key, service, external);
        }
        let Some(port) = service.port(wanted, key.transport) else {
            return unresolved(unknown_port(name, service, wanted));
        };
        if !port.is(key.transport) {
            return unresolved(Fault {
                reason: reason::UNSUPPORTED_PROTOCOL,
                field: port_field(wanted),
                value: wanted.to_string(),
                cause: format!("port {port} of service {name} is for {}, not for {}", port.protocol, key.transport),
                remedy: format!("name a {} port of the Service", key.transport),
            });
        }
        let mut problems = service.problems.to_vec();
        let protocol = self.protocol(key, port, &mut problems);
        let found = match service.cluster_ip.filter(|_| key.via_service) {
            // Whether somebody is behind it is up to those who made it.
            Some(address) => Found { addresses: [(address, port.number).into()].into(), ..Found::default() },
            None => self.endpoints.find(name, service, port),
        };
        let unavailable = found.addresses.is_empty().then(|| no_endpoints(service, port, &found));
        // Where every address was refused, that is said already, and mending it mends this.
        let is_said = found.all == 0 && !found.problems.is_empty();
        if let Some((cause, remedy)) = unavailable.as_ref().filter(|_| !is_said) {
            let problem = Problem::new(ObjectRef::new("Service", name.clone()), reason::NO_ENDPOINTS, cause.clone());
            problems.push(problem.at("spec.selector", &*service.selector).remedy(remedy.clone()).warning());
        }
        problems.extend(found.problems);
        // The same list stays where it is, so that whoever balances by it sees that it is the same.
        let addresses = match previous.map(|state| &state.target) {
            Some(Target::Endpoints(old)) if old.iter().eq(&found.addresses) => old.clone(),
            _ => found.addresses.into_iter().collect(),
        };
        let state = BackendState {
            protocol,
            affinity: service.affinity,
            balance: Balance::default(),
            hash_by: None,
            cookie: None,
            target: Target::Endpoints(addresses),
            unavailable: unavailable.map(|(cause, _)| format!("service {name}: {cause}").into()),
        };
        Resolved { state, fault: None, problems }
    }

    fn protocol(&self, key: &PoolKey, port: &Port, problems: &mut Vec<Problem>) -> Protocol {
        let known = port.app_protocol();
        if let (None, None, Some(value)) = (key.protocol, known, &port.app_protocol) {
            let object = ObjectRef::new("Service", key.key.service.clone());
            let cause = "this protocol is not known, so plain HTTP/1.1 is spoken";
            let remedy = "use http, https, kubernetes.io/h2c, kubernetes.io/ws or kubernetes.io/wss";
            let problem = Problem::new(object, reason::UNKNOWN_APP_PROTOCOL, cause);
            // The place of the port in the list, as the field's path says it.
            let service = self.services.get(&key.key.service);
            let index = service.and_then(|service| service.ports.iter().position(|other| other == port));
            let field = format!("spec.ports[{}].appProtocol", index.unwrap_or_default());
            problems.push(problem.at(field, &**value).remedy(remedy).warning());
        }
        key.protocol.or(known).unwrap_or_default()
    }

    /// A Service of type ExternalName needs no list of ports; where it has one, a name is looked up there.
    fn external(&self, key: &PoolKey, service: &ParsedService, external: &Arc<str>) -> Resolved {
        let BackendKey { service: name, port: wanted } = &key.key;
        let listed = service.port(wanted, key.transport);
        let number = match (wanted, listed) {
            // The specification knows no targetPort without pods; ingress-nginx connects to it.
            (_, Some(port)) if key.dialect == Dialect::IngressNginx => port.target.unwrap_or(port.number),
            (_, Some(port)) => port.number,
            (PortRef::Number(number), None) => *number,
            (PortRef::Name(_), None) => return unresolved(unknown_port(name, service, wanted)),
        };
        let mut problems = service.problems.to_vec();
        let refusal = self.names.refusal(name, external, key.dialect);
        problems.extend(refusal.as_ref().map(|refusal| refusal.problem(name, external)));
        let protocol = match listed {
            Some(port) => self.protocol(key, port, &mut problems),
            None => key.protocol.unwrap_or_default(),
        };
        let state = BackendState {
            protocol,
            affinity: Affinity::None,
            balance: Balance::default(),
            hash_by: None,
            cookie: None,
            target: Target::Dns { name: external.clone(), port: number },
            unavailable: refusal
                .map(|refusal| format!("service {name}: externalName {external:?}: {}", refusal.cause).into()),
        };
        Resolved { state, fault: None, problems }
    }

    fn unknown_service(&self, name: &ObjectKey) -> Fault {
        let near = nearest(name.name(), self.services.names_in(name.namespace()));
        let remedy = if near.is_empty() {
            format!("create the Service in namespace {:?} or correct the name", name.namespace())
        } else {
            format!("did you mean {}", alternatives(&near, ""))
        };
        Fault {
            reason: reason::UNKNOWN_SERVICE,
            field: "service.name",
            value: name.name().to_owned(),
            cause: format!("there is no service {name}, so this path answers 503"),
            remedy,
        }
    }
}

fn first_of(service: ObjectKey) -> PoolKey {
    PoolKey {
        key: BackendKey { service, port: PortRef::Number(0) },
        transport: Transport::Tcp,
        protocol: None,
        dialect: Dialect::Kubernetes,
        via_service: false,
    }
}

fn port_field(wanted: &PortRef) -> &'static str {
    match wanted {
        PortRef::Number(_) => "service.port.number",
        PortRef::Name(_) => "service.port.name",
    }
}

fn unknown_port(name: &ObjectKey, service: &ParsedService, wanted: &PortRef) -> Fault {
    let cause = match wanted {
        PortRef::Number(number) => format!("service {name} has no port {number}"),
        PortRef::Name(port) => format!("service {name} has no port named {port:?}"),
    };
    Fault {
        reason: reason::UNKNOWN_PORT,
        field: port_field(wanted),
        value: wanted.to_string(),
        cause: format!("{cause}, so this path answers 503"),
        remedy: match (&service.external_name, wanted) {
            (Some(_), PortRef::Name(_)) => "give the port's number, since the Service is of type ExternalName".into(),
            _ => format!("its ports are: {}", service.port_list()),
        },
    }
}

/// Why there is nobody to send to, and what to do.
fn no_endpoints(service: &ParsedService, port: &Port, found: &Found) -> (String, String) {
    if found.has_port {
        let cause = match found.all {
            0 => "it has no endpoint".to_owned(),
            1 => "its only endpoint is not ready".to_owned(),
            all => format!("none of its {all} endpoints is ready"),
        };
        return (cause, "look at the pods behind it".into());
    }
    if found.all > 0 {
        let cause = format!("its endpoints have no port for port {port}");
        return (cause, "give the ports of its EndpointSlices the names they have in the Service".into());
    }
    if service.selector.is_empty() {
        let cause = "it has no selector, and no EndpointSlice or Endpoints has an address for it";
        return (cause.into(), "give it a selector, or create an EndpointSlice for it".into());
    }
    let cause = if found.has_source { "its selector matches no pod" } else { "it has no EndpointSlice or Endpoints" };
    (cause.into(), "correct the selector, or start a pod that it matches".into())
}

/// A backend that is named wrongly answers 503.
fn unresolved(fault: Fault) -> Resolved {
    let state = BackendState {
        protocol: Protocol::default(),
        affinity: Affinity::None,
        balance: Balance::default(),
        hash_by: None,
        cookie: None,
        target: Target::Endpoints(Arc::default()),
        unavailable: Some(fault.cause.as_str().into()),
    };
    Resolved { state, fault: Some(Box::new(fault)), problems: Vec::new() }
}

fn is_same(old: &BackendState, new: &BackendState) -> bool {
    let target = match (&old.target, &new.target) {
        (Target::Endpoints(old), Target::Endpoints(new)) => old == new,
        (Target::Dns { name: old, port: old_port }, Target::Dns { name, port }) => old == name && old_port == port,
        _ => false,
    };
    target
        && old.protocol == new.protocol
        && old.affinity == new.affinity
        && old.balance == new.balance
        && old.hash_by == new.hash_by
        && old.cookie == new.cookie
        && old.unavailable == new.unavailable
}
