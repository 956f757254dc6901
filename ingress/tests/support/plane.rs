//! A data plane with a table made by hand.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use landfall_ingress::balance::Balancers;
use landfall_ingress::engine::{Exchange, Handshake, Observer, Rejected, Scheme, StreamRecord};
use landfall_ingress::listener::{DataPlane, DataPlaneConfig};
use landfall_ingress::resolve::Resolver;
use landfall_ingress_model::backend::{
    Affinity, Backend, BackendKey, BackendState, Balance, PortRef, Protocol, Target,
};
use landfall_ingress_model::host::{HostName, HostPattern};
use landfall_ingress_model::settings::Origin;
use landfall_ingress_model::table::{
    Action, Attached, Dialect, HostRoutes, PathRule, Route, RouteId, RoutePolicy, Table, Written,
};
use landfall_ingress_model::tls::{Certificate, CertificateTable};
use landfall_model::ObjectKey;
use landfall_shared::drain::{Drain, DrainTimes, Drainer};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};

/// What the data plane told.
#[derive(Default)]
pub struct Heard {
    pub exchanges: Mutex<Vec<Exchange<'static>>>,
    pub rejected: Mutex<Vec<Rejected>>,
    pub handshakes: Mutex<Vec<Handshake>>,
    pub ejected: Mutex<Vec<SocketAddr>>,
    pub streams: Mutex<Vec<Passed>>,
}

/// A connection or session on the port of a Service that is over.
#[derive(Clone, Debug)]
pub struct Passed {
    pub client: SocketAddr,
    pub received: u64,
    pub sent: u64,
    pub tries: u32,
    pub rejected: Option<Rejected>,
}

impl Observer for Heard {
    fn stream_closed(&self, record: &StreamRecord<'_>) {
        let StreamRecord { client, received, sent, tries, rejected, .. } = *record;
        self.streams.lock().unwrap().push(Passed { client, received, sent, tries, rejected });
    }

    fn exchange(&self, exchange: &Exchange<'_>) {
        self.exchanges.lock().unwrap().push(exchange.clone().into_owned());
    }

    fn rejected(&self, _scheme: Scheme, why: Rejected, _peer: SocketAddr) {
        self.rejected.lock().unwrap().push(why);
    }

    fn handshake(&self, handshake: Handshake) {
        self.handshakes.lock().unwrap().push(handshake);
    }

    fn ejected(&self, _backend: &BackendKey, endpoint: SocketAddr) {
        self.ejected.lock().unwrap().push(endpoint);
    }
}

/// One rule: host (empty for any), prefix, backend.
pub struct Rule {
    pub host: &'static str,
    pub prefix: &'static str,
    pub endpoints: Vec<SocketAddr>,
    pub protocol: Protocol,
    pub policy: RoutePolicy,
    pub target: Option<Target>,
}

/// Everything below `prefix` of `host` to these endpoints.
pub fn rule(host: &'static str, prefix: &'static str, endpoints: &[SocketAddr]) -> Rule {
    Rule {
        host,
        prefix,
        endpoints: endpoints.to_vec(),
        protocol: Protocol::Http,
        policy: RoutePolicy::default(),
        target: None,
    }
}

impl Rule {
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    pub fn policy(mut self, change: impl FnOnce(&mut RoutePolicy)) -> Self {
        change(&mut self.policy);
        self
    }

    pub fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    fn route(self) -> (Option<HostName>, Box<str>, Arc<Route>) {
        let service = ObjectKey::new("test", format!("{}{}", self.host, self.prefix.replace('/', "-")));
        let unavailable = self.endpoints.is_empty() && self.target.is_none();
        let state = BackendState {
            protocol: self.protocol,
            affinity: Affinity::None,
            balance: Balance::RoundRobin,
            hash_by: None,
            cookie: None,
            target: self.target.unwrap_or_else(|| {
                Target::Endpoints(self.endpoints.iter().copied().collect::<BTreeSet<_>>().into_iter().collect())
            }),
            unavailable: unavailable.then(|| "there is no endpoint".into()),
        };
        let key = BackendKey { service: service.clone(), port: PortRef::Number(80) };
        let host = (!self.host.is_empty()).then(|| HostName::from_authority(self.host).unwrap());
        let prefix: Box<str> = self.prefix.trim_end_matches('/').into();
        let id = RouteId {
            ingress: service,
            host: host.clone().map_or(HostPattern::Any, HostPattern::Exact),
            path: Some(PathRule::Prefix(prefix.clone())),
        };
        let route = Route {
            id,
            dialect: Dialect::Kubernetes,
            action: Action::Forward(Arc::new(Backend::new(key, Arc::new(state)))),
            policy: Arc::new(self.policy),
            written: Written::default(),
            attached: Attached::default(),
        };
        (host, prefix, Arc::new(route))
    }
}

/// A table of these rules and certificates.
pub fn table(rules: Vec<Rule>, certificates: CertificateTable) -> Table {
    let mut exact: HashMap<HostName, HostRoutes> = HashMap::new();
    let mut any = HostRoutes::default();
    for rule in rules {
        let (host, prefix, route) = rule.route();
        let routes = match host {
            Some(host) => exact.entry(host).or_default(),
            None => &mut any,
        };
        routes.prefix.insert(prefix, route);
    }
    Table {
        generation: 1,
        exact: exact.into_iter().map(|(host, routes)| (host, Arc::new(routes))).collect(),
        any: Arc::new(any),
        certificates: Arc::new(certificates),
        ..Table::default()
    }
}

/// A certificate for a name, and its DER to recognise it by.
pub fn certificate(name: &str) -> (Arc<Certificate>, CertificateDer<'static>) {
    let issued = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let der = issued.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der()));
    let signer = landfall_ingress::crypto_provider().key_provider.load_private_key(key).unwrap();
    let certificate = Certificate {
        secret: ObjectKey::new("test", name),
        key: Arc::new(CertifiedKey::new(vec![der.clone()], signer)),
        names: vec![name.into()],
        not_after: UnixTime::since_unix_epoch(Duration::from_secs(u64::from(u32::MAX))),
    };
    (Arc::new(certificate), der)
}

/// A running data plane.
pub struct Plane {
    pub data: DataPlane,
    pub table: Arc<ArcSwap<Table>>,
    pub heard: Arc<Heard>,
    pub drainer: Drainer,
}

impl Plane {
    /// Starts with these rules.
    pub fn start(rules: Vec<Rule>) -> Self {
        Self::with(table(rules, CertificateTable::default()), |_| {})
    }

    /// Starts with this table and changed settings.
    pub fn with(table: Table, change: impl FnOnce(&mut DataPlaneConfig)) -> Self {
        let table = Arc::new(ArcSwap::from_pointee(table));
        let heard = Arc::new(Heard::default());
        let times = DrainTimes {
            lame_duck: Duration::from_millis(50),
            timeout: Duration::from_secs(5),
            ..DrainTimes::default()
        };
        let (drainer, drain) = Drain::new(times);
        let mut config = DataPlaneConfig::new(table.clone(), drain, heard.clone());
        config.http = vec!["127.0.0.1:0".parse().unwrap()];
        config.https = vec!["127.0.0.1:0".parse().unwrap()];
        config.workers = 1;
        config.balancers = Balancers::new(Arc::new(Resolver::new(Origin::Folder)));
        change(&mut config);
        Self { data: DataPlane::start(config).unwrap(), table, heard, drainer }
    }

    pub fn http(&self) -> SocketAddr {
        self.data.http()[0]
    }

    pub fn https(&self) -> SocketAddr {
        self.data.https()[0]
    }

    /// The record of the exchange number `index`, awaited.
    pub fn exchange(&self, index: usize) -> Exchange<'static> {
        wait_for(|| self.heard.exchanges.lock().unwrap().get(index).cloned())
    }
}

/// Waits for something to become true, for 10 seconds.
pub fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "what was awaited did not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}
