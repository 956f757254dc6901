//! One world on this machine: its services run, and its objects are a folder of manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use landfall_e2e::manifests::Folder;
use regex::Regex;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::case::{CLASS, Case, Names, Template, World};
use crate::client::FAR;
use crate::echo::{Echo, Log, Place};
use crate::pki::{self, Pair, Pki};

/// Where pods are, and where nothing listens.
const PODS: [IpAddr; 3] = [loopback(1), loopback(2), loopback(3)];
const DEAD: IpAddr = loopback(99);
/// A name that leads to this machine without a name server.
const NAME: &str = "localhost";
/// The namespace and name of the `ConfigMap`.
pub(crate) const CONFIG_MAP: (&str, &str) = ("ingress-nginx", "ingress-nginx-controller");

const fn loopback(host: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 1, host))
}

/// A world whose services run.
pub(crate) struct Stage {
    pub(crate) folder: Folder,
    pub(crate) log: Arc<Log>,
    pub(crate) pki: Pki,
    pub(crate) scenes: Vec<Scene>,
    /// When objects were created: in the order in which they came first.
    ages: Mutex<BTreeMap<String, usize>>,
    /// The services that all cases share.
    shared: Services,
}

/// A case whose services run.
pub(crate) struct Scene {
    pub(crate) case: Case,
    names: Names,
    services: Services,
    /// It is bound and doesn't listen, so that nobody else does.
    _refusing: Socket,
}

/// The services of one namespace, by name.
struct Services {
    echoes: BTreeMap<String, Echo>,
    certificates: BTreeMap<String, Pair>,
}

impl Stage {
    pub(crate) async fn build(world: &World) -> Result<Self> {
        let (log, pki, folder) = (Arc::new(Log::default()), Pki::default(), Folder::new()?);
        let mut scenes = Vec::new();
        for template in &world.cases {
            scenes.push(Scene::build(template, &log).await.with_context(|| template.case.id.clone())?);
        }
        let mut shared = Services { echoes: BTreeMap::new(), certificates: BTreeMap::new() };
        for object in world.fixtures.iter().filter(|object| object.get("x-echo").is_some()) {
            shared.add(text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]), &log).await?;
        }
        let stage = Self { folder, log, pki, scenes, ages: Mutex::default(), shared };
        stage.write("0000", &stage.common(world)?)?;
        for scene in &stage.scenes {
            stage.show(scene, 0)?;
        }
        Ok(stage)
    }

    /// Writes the objects of one state of a case; the name of an Ingress that comes last is returned.
    pub(crate) fn show(&self, scene: &Scene, state: usize) -> Result<String> {
        let id = &scene.case.id;
        let (objects, _) = scene.case.states().nth(state).context("there is no such state")?;
        let mut manifests = self.complete(id, objects, &scene.services)?;
        let marker = format!("state-{state}");
        let service = json!({"service": {"name": "gone-marker", "port": {"number": 80}}});
        let paths = json!({"paths": [{"path": "/", "pathType": "Prefix", "backend": service}]});
        let rules = json!([{"host": format!("{marker}.{id}.marker.test"), "http": paths}]);
        if state > 0 {
            manifests.push(json!({
                "apiVersion": "networking.k8s.io/v1",
                "kind": "Ingress",
                "metadata": {"namespace": id, "name": marker},
                "spec": {"ingressClassName": CLASS, "rules": rules},
            }));
        }
        self.write(id, &manifests)?;
        Ok(marker)
    }

    /// Whether all cases share this service.
    pub(crate) fn is_shared(&self, service: &str) -> bool {
        self.shared.echoes.contains_key(service)
    }

    /// Classes, what all cases share, and the `ConfigMap`.
    fn common(&self, world: &World) -> Result<Vec<Value>> {
        let class = |name: &str, controller: &str| {
            json!({
                "apiVersion": "networking.k8s.io/v1",
                "kind": "IngressClass",
                "metadata": {"name": name},
                "spec": {"controller": controller},
            })
        };
        let mut objects = vec![class(CLASS, "k8s.io/ingress-nginx"), class("landfall", "landfall.dev/ingress")];
        objects.extend(self.complete("default", &world.fixtures, &self.shared)?);
        if let (Some(data), Some(scene)) = (&world.configmap, self.scenes.first()) {
            objects.push(json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"namespace": CONFIG_MAP.0, "name": CONFIG_MAP.1},
                "data": scene.names.fill(&json!(data)),
            }));
        }
        Ok(objects)
    }

    /// The objects as an API server would have them, with the Services that they name.
    fn complete(&self, namespace: &str, objects: &[Value], services: &Services) -> Result<Vec<Value>> {
        let mut manifests = Vec::new();
        let mut unnamed = (1..=9).rev();
        let mut written = BTreeSet::new();
        for object in objects {
            let mut object = object.clone();
            let meta = &mut object["metadata"];
            if meta.get("namespace").is_none() {
                meta["namespace"] = namespace.into();
            }
            if meta.get("name").is_none() {
                // A name says nothing of the age.
                meta["name"] = format!("ing-{}", unnamed.next().context("too many without a name")?).into();
            }
            let namespace = text(&meta["namespace"]).to_owned();
            let name = text(&meta["name"]).to_owned();
            let kind = text(&object["kind"]).to_owned();
            if object.get("x-echo").is_some() {
                manifests.extend(services.manifests(&namespace, &name));
            } else {
                let created = self.created(&format!("{kind} {namespace}/{name}"));
                object["metadata"]["creationTimestamp"] = created.into();
                self.generate(&mut object, services)?;
                manifests.push(object);
            }
            if kind == "Service" {
                written.insert(name);
            }
        }
        let named: BTreeSet<String> = objects.iter().flat_map(services_of).collect();
        for name in named.into_iter().filter(|name| !written.contains(name) && !name.starts_with("gone")) {
            manifests.extend(services.manifests(namespace, &name));
        }
        Ok(manifests)
    }

    /// Seconds after the first object, as a timestamp.
    fn created(&self, object: &str) -> String {
        let mut ages = self.ages.lock().unwrap_or_else(PoisonError::into_inner);
        let next = ages.len();
        let age = *ages.entry(object.to_owned()).or_insert(next);
        format!("2024-01-01T{:02}:{:02}:{:02}Z", age / 3600, age / 60 % 60, age % 60)
    }

    /// Fills in what the recording only describes.
    fn generate(&self, object: &mut Value, services: &Services) -> Result<()> {
        let Some(fields) = object.as_object_mut() else { return Ok(()) };
        let pem = |pair: &Pair| json!({"tls.crt": pair.certificate.pem(), "tls.key": pair.key.serialize_pem()});
        if let Some(wanted) = fields.remove("x-certificate") {
            let names = wanted["dns"].as_array().into_iter().flatten().map(|name| text(name).to_owned());
            let pair = self.pki.host(&names.collect::<Vec<_>>())?;
            fields.insert("stringData".into(), pem(&pair));
        }
        if let Some(name) = fields.remove("x-ca") {
            fields.insert("stringData".into(), json!({"ca.crt": self.pki.authority(text(&name))?}));
        }
        if let Some(service) = fields.remove("x-backend-ca") {
            let backend = services.certificates.get(text(&service)).context("no such service")?;
            let mut data = pem(&self.pki.client("ingress", "backends")?);
            data["ca.crt"] = backend.certificate.pem().into();
            fields.insert("stringData".into(), data);
        }
        Ok(())
    }

    /// Replaces a file at once: nobody sees a part of it.
    fn write(&self, name: &str, objects: &[Value]) -> Result<()> {
        let documents: Vec<String> = objects.iter().map(Value::to_string).collect();
        let path = |name: &str| self.folder.path().join(name);
        self.folder.write(".next", &documents.join("\n---\n"))?;
        Ok(std::fs::rename(path(".next"), path(&format!("{name}.yaml")))?)
    }
}

impl Scene {
    async fn build(template: &Template, log: &Arc<Log>) -> Result<Self> {
        let id = &template.case.id;
        let mut services = Services { echoes: BTreeMap::new(), certificates: BTreeMap::new() };
        for name in echoes_of(template) {
            services.add(id, &name, log).await?;
        }
        let refusing = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        refusing.bind(&SocketAddr::new(PODS[0], 0).into())?;
        let refused = refusing.local_addr()?.as_socket().context("not an address")?;
        let names = names(id, &services, refused);
        let case = Case::read(&names.fill(&template.raw))?;
        Ok(Self { case, names, services, _refusing: refusing })
    }
}

impl Services {
    async fn add(&mut self, namespace: &str, name: &str, log: &Arc<Log>) -> Result<()> {
        let localhost = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let addresses = match name {
            "many" => PODS.to_vec(),
            // It is asked by name too.
            "auth" => [PODS[0]].into_iter().chain(localhost).collect(),
            "outside" => vec![own_address()],
            _ => vec![PODS[0]],
        };
        let place = Place { namespace: namespace.into(), service: name.into() };
        let mut tls = None;
        if name.starts_with("secure") {
            let pair = pki::own(&[format!("{name}.backend.test")])?;
            tls = Some(pair.server()?);
            self.certificates.insert(name.to_owned(), pair);
        }
        let echo = Echo::start(place, &addresses, tls, log).await?;
        self.echoes.insert(name.to_owned(), echo);
        Ok(())
    }

    /// A Service and its EndpointSlice; without pods if no echo has its name.
    fn manifests(&self, namespace: &str, name: &str) -> [Value; 2] {
        let echo = self.echoes.get(name);
        let port = echo.map_or(80, |echo| echo.port);
        let pods = match echo {
            None => &[],
            Some(_) if name == "many" => &PODS[..],
            Some(_) => &PODS[..1],
        };
        let endpoint = |address| json!({"addresses": [address], "conditions": {"ready": true}});
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"ports": [{"name": "http", "port": 80, "targetPort": port}]},
        });
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "namespace": namespace,
                "name": format!("{name}-1"),
                "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
            "endpoints": pods.iter().map(endpoint).collect::<Vec<_>>(),
        });
        [service, slice]
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The services that an object names.
fn services_of(object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if object["kind"] == "Ingress" {
        backends(&object["spec"], &mut found);
        let annotation = &object["metadata"]["annotations"]["nginx.ingress.kubernetes.io/default-backend"];
        found.extend(annotation.as_str().map(str::to_owned));
    }
    found
}

fn backends(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(value["service"]["name"].as_str().map(str::to_owned));
            fields.values().for_each(|value| backends(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| backends(item, found)),
        _ => {}
    }
}

/// The services of a case that have pods of our own.
fn echoes_of(template: &Template) -> BTreeSet<String> {
    let raw = template.raw.to_string();
    let objects = || template.case.states().flat_map(|(objects, _)| objects);
    let by_hand = |object: &&Value| object["kind"] == "Service" && object.get("x-echo").is_none();
    let by_hand: BTreeSet<&str> = objects().filter(by_hand).map(|object| text(&object["metadata"]["name"])).collect();
    let mut found: BTreeSet<String> = objects().flat_map(services_of).collect();
    found.retain(|name| !name.starts_with("gone") && !name.starts_with("empty") && !by_hand.contains(&**name));
    let placeholder = Regex::new(r"\{(?:(mirror|auth)[a-z]*|port:([a-z0-9]+))\}").expect("it compiles");
    let placed = placeholder.captures_iter(&raw).filter_map(|found| found.get(1).or(found.get(2)));
    found.extend(placed.map(|name| name.as_str().to_owned()));
    let configured = template.case.configmap().is_some_and(|data| data.values().any(|value| value.contains("{auth")));
    found.extend(configured.then(|| "auth".to_owned()));
    found
}

fn names(id: &str, services: &Services, refused: SocketAddr) -> Names {
    let mut names = Names::default();
    for (name, echo) in &services.echoes {
        names.set(&format!("port:{name}"), &echo.port);
        let pod = SocketAddr::new(PODS[0], echo.port);
        match name.as_str() {
            "auth" => {
                names.set("auth", &format!("http://{pod}/auth"));
                names.set("authaddr", &pod);
                names.set("authport", &echo.port);
            }
            "mirror" => names.set("mirror", &format!("http://{pod}")),
            _ => {}
        }
    }
    names.set("h", &format!("{id}.test"));
    names.set("ns", &id);
    names.set("class", &CLASS);
    names.set("authname", &NAME);
    names.set("refused", &refused);
    names.set("pod1", &PODS[0]);
    names.set("pod2", &PODS[1]);
    names.set("dead", &DEAD);
    names.set("own", &own_address());
    names.set("farnet", &FAR.1);
    names
}

/// An address of this machine that is no loopback, if it has one.
fn own_address() -> IpAddr {
    let found = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        // Nothing is sent: it only chooses the way out.
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        Ok(socket.local_addr()?.ip())
    });
    found.ok().filter(|address| !address.is_loopback() && !address.is_unspecified()).unwrap_or(PODS[0])
}
