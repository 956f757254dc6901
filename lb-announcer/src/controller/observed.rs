//! What was last seen of each Service's status and annotation, in the form that is compared with what is wanted.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use landfall_lb_model::plan::Grant;
use landfall_lb_model::reason;
use landfall_lb_model::service::{ALLOCATED_FROM_POOL, UNANNOUNCED};
use landfall_lb_model::world::Input;
use landfall_model::{Change, ObjectKey, Problem, Reason};
use serde_json::{Value, json};

/// The condition that says whether a Service has an address, and if not why not.
const ALLOCATED: &str = "landfall.dev/AddressAllocated";
/// The condition that says whether any node can announce the address, and if not why not.
const ANNOUNCEABLE: &str = "landfall.dev/Announceable";
/// The API's limit for a condition's message, in bytes.
const MESSAGE: usize = 32_768;

/// The Services of type `LoadBalancer` and those that were.
#[derive(Debug, Default)]
pub(super) struct Observations {
    services: BTreeMap<ObjectKey, Observed>,
}

impl Observations {
    /// Takes in a change before the world does. Says whether anything about a Service is different now, and which
    /// ones aren't there any more or are others under the same name.
    pub(super) fn note(&mut self, input: &Input) -> (bool, Vec<ObjectKey>) {
        let Input::Service(change) = input else { return (false, Vec::new()) };
        match change {
            Change::Replace(objects) => {
                let before = std::mem::take(&mut self.services);
                for object in objects {
                    self.insert(object);
                }
                let uid = |services: &BTreeMap<ObjectKey, Observed>, key: &ObjectKey| {
                    services.get(key).map(|observed| observed.uid.clone())
                };
                let gone = before.keys().filter(|key| uid(&before, key) != uid(&self.services, key)).cloned();
                (true, gone.collect())
            }
            Change::Apply(object) => self.insert(object),
            Change::Delete(key) => (self.services.remove(key).is_some(), vec![key.clone()]),
        }
    }

    fn insert(&mut self, service: &Service) -> (bool, Vec<ObjectKey>) {
        let meta = &service.metadata;
        let key = ObjectKey::of(meta);
        let balanced = service.spec.as_ref().and_then(|s| s.type_.as_deref()) == Some("LoadBalancer");
        let former = meta.annotations.as_ref().is_some_and(|a| a.contains_key(ALLOCATED_FROM_POOL));
        let before = self.services.remove(&key);
        if !(balanced || former) {
            return if before.is_some() { (true, vec![key]) } else { (false, Vec::new()) };
        }
        let observed = Observed::read(service);
        let another = before.as_ref().is_some_and(|before| before.uid != observed.uid);
        match before {
            Some(before) if before.value == observed.value && before.generation == observed.generation => {
                self.services.insert(key, before);
                (false, Vec::new())
            }
            _ => {
                self.services.insert(key.clone(), observed);
                (true, if another { vec![key] } else { Vec::new() })
            }
        }
    }

    pub(super) fn get_mut(&mut self, key: &ObjectKey) -> Option<&mut Observed> {
        self.services.get_mut(key)
    }

    /// Whatever was said of the Services counts as not said.
    pub(super) fn forget_said(&mut self) {
        self.services.values_mut().for_each(|observed| observed.said = None);
    }
}

/// What is wanted of a Service.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Wanted {
    /// What it is granted.
    pub(super) grant: Option<Grant>,
    /// Why it waits.
    pub(super) waiting: Option<Problem>,
    /// Why no node can announce it.
    pub(super) hindrance: Option<Problem>,
    /// What else uses an address that it keeps.
    pub(super) contested: Option<Problem>,
    /// What is worth knowing of it without being wrong.
    pub(super) remark: Option<String>,
    /// What it was given that no node has announced since.
    pub(super) unannounced: Vec<IpAddr>,
}

/// One Service.
#[derive(Debug)]
pub(super) struct Observed {
    uid: Option<String>,
    value: Value,
    conditions: Vec<Condition>,
    generation: Option<i64>,
    /// What was wanted of it as it is: in a large cluster most plans change nothing for most Services.
    said: Option<Wanted>,
}

impl Observed {
    /// Reads what is compared. Of each address only the IP: what the API server adds is not ours to want.
    fn read(service: &Service) -> Self {
        let status = service.status.clone().unwrap_or_default();
        let ingress = status.load_balancer.and_then(|l| l.ingress).unwrap_or_default();
        let ips: Vec<Value> = ingress.into_iter().filter_map(|i| i.ip).map(|ip| json!({"ip": ip})).collect();
        let ingress = if ips.is_empty() { Value::Null } else { Value::from(ips) };
        let annotation = service.metadata.annotations.as_ref().and_then(|a| a.get(ALLOCATED_FROM_POOL));
        let conditions = status.conditions.unwrap_or_default();
        let uid = service.metadata.uid.clone();
        let value = json!({
            "metadata": {"uid": uid, "annotations": {ALLOCATED_FROM_POOL: annotation}},
            "status": {"loadBalancer": {"ingress": ingress}, "conditions": conditions},
        });
        Self { uid, value: without_nulls(value), conditions, generation: service.metadata.generation, said: None }
    }

    /// Whether this wasn't already wanted of the Service as it is.
    pub(super) fn is_news(&mut self, wanted: &Wanted) -> bool {
        let news = self.said.as_ref() != Some(wanted);
        if news {
            self.said = Some(wanted.clone());
        }
        news
    }

    /// Whether the addresses in its status are these.
    pub(super) fn has(&self, grant: Option<&Grant>) -> bool {
        let ingress = &self.value["status"]["loadBalancer"]["ingress"];
        let observed = ingress.as_array().into_iter().flatten().map(|entry| entry["ip"].clone());
        observed.eq(grant.into_iter().flat_map(|g| &g.ips).map(|ip| json!(ip)))
    }

    /// A patch of this very Service: the API server refuses it for another one of the same name.
    fn patch(&self, mut patch: Value) -> Value {
        if let Some(uid) = &self.uid {
            patch["metadata"]["uid"] = uid.as_str().into();
        }
        patch
    }

    /// The patch of the annotation that names the pool.
    pub(super) fn annotation(&self, pool: Option<&str>) -> Value {
        self.patch(json!({"metadata": {"annotations": {ALLOCATED_FROM_POOL: pool}}}))
    }

    pub(super) fn value(&self) -> &Value {
        &self.value
    }

    /// The patch of the status of a Service that isn't ours any more.
    pub(super) fn cleared(&self) -> Value {
        let others: Vec<&Condition> = self.others().collect();
        self.patch(json!({"status": {"loadBalancer": {"ingress": null}, "conditions": others}}))
    }

    /// The patch of the status that gives the Service what it is granted, or says why it waits.
    pub(super) fn wanted_status(&self, wanted: &Wanted) -> Value {
        let Wanted { grant, waiting, hindrance, contested, remark, unannounced } = wanted;
        let ingress = match grant {
            Some(grant) => grant.ips.iter().map(|ip: &IpAddr| json!({"ip": ip})).collect(),
            None => Value::Null,
        };
        let allocated = match (grant, waiting, contested) {
            (Some(_), _, Some(problem)) => ("True", problem.reason, problem.message()),
            (Some(grant), ..) => {
                let from = format!("from pool {}", grant.pool);
                let text = remark.as_ref().map_or_else(|| from.clone(), |remark| format!("{from}, {remark}"));
                ("True", reason::IP_ALLOCATED, text)
            }
            (None, Some(problem), _) => ("False", problem.reason, problem.message()),
            (None, None, _) => ("Unknown", reason::ALLOCATION_FAILED, String::new()),
        };
        let announceable = match hindrance {
            // It can be announced; it only takes longer to move, or isn't announced where it had best be.
            Some(problem) if [reason::HEARTBEATS_BLOCKED, reason::NO_FIT_NODE].contains(&problem.reason) => {
                ("True", problem.reason, problem.message())
            }
            Some(problem) => ("False", problem.reason, problem.message()),
            None => ("True", reason::ELIGIBLE_NODES, String::new()),
        };
        let mut conditions: Vec<Value> = self.others().map(|c| json!(c)).collect();
        conditions.push(self.condition(ALLOCATED, allocated));
        if grant.is_some() {
            conditions.push(self.condition(ANNOUNCEABLE, announceable));
        }
        if !unannounced.is_empty() {
            // The addresses are read back from this text after a restart.
            let list: Vec<String> = unannounced.iter().map(IpAddr::to_string).collect();
            let text = format!(
                "no node has announced {} yet; should another host turn out to use it, the service gets another one",
                list.join(", ")
            );
            conditions.push(self.condition(UNANNOUNCED, ("True", reason::NOT_YET_ANNOUNCED, text)));
        }
        self.patch(json!({"status": {"loadBalancer": {"ingress": ingress}, "conditions": conditions}}))
    }

    fn others(&self) -> impl Iterator<Item = &Condition> {
        self.conditions.iter().filter(|c| ![ALLOCATED, ANNOUNCEABLE, UNANNOUNCED].contains(&&*c.type_))
    }

    fn condition(&self, kind: &str, (status, reason, message): (&str, Reason, String)) -> Value {
        let message = message.chars().take(MESSAGE / 4).collect::<String>();
        let before = self.conditions.iter().find(|c| c.type_ == kind);
        let since = before.filter(|c| c.status == status).map(|c| c.last_transition_time.0);
        let mut condition = json!({
            "type": kind, "status": status, "reason": reason.as_str(), "message": message,
            "lastTransitionTime": since.unwrap_or_else(now).to_string(),
        });
        // The same condition keeps the generation it was first seen with: a newer one alone is no news.
        let same = before.filter(|c| c.status == status && c.message == message && c.reason == reason.as_str());
        if let Some(generation) = same.map_or(self.generation, |c| c.observed_generation) {
            condition["observedGeneration"] = generation.into();
        }
        condition
    }
}

fn now() -> Timestamp {
    let now = Timestamp::now();
    // The API keeps whole seconds; anything finer would look different when it is read back.
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            fields.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect()
        }
        other => other,
    }
}

#[cfg(test)]
#[allow(clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn observe(status: &Value) -> Observed {
        let service = json!({"metadata": {"name": "web", "namespace": "shop", "generation": 3},
            "spec": {"type": "LoadBalancer"}, "status": status});
        Observed::read(&serde_json::from_value(service).unwrap())
    }

    #[test]
    fn conditions_of_others_stay_and_ours_keeps_its_time() {
        let other = json!({"type": "example.com/Other", "status": "True", "reason": "Fine", "message": "",
            "lastTransitionTime": "2020-01-01T00:00:00Z"});
        let grant = Some(Grant { ips: vec![[10, 0, 0, 8].into()], pool: "a".into() });
        let wanted = Wanted { grant, ..Wanted::default() };
        let first = observe(&json!({"conditions": [other]})).wanted_status(&wanted);
        assert_eq!(first["status"]["loadBalancer"]["ingress"], json!([{"ip": "10.0.0.8"}]));
        assert_eq!(first["status"]["conditions"][0]["type"], "example.com/Other");
        let again = observe(&first["status"]).wanted_status(&wanted);
        assert_eq!(again, first, "what was written is what is wanted");
    }

    #[test]
    fn what_was_never_announced_is_known_again_after_a_restart() {
        let ips: Vec<IpAddr> = vec![[10, 0, 0, 8].into(), "fd00::".parse().unwrap()];
        let grant = Some(Grant { ips: ips.clone(), pool: "a".into() });
        let wanted = Wanted { grant: grant.clone(), unannounced: ips.clone(), ..Wanted::default() };
        let read = |status: &Value| {
            let service = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"type": "LoadBalancer"},
                "status": status});
            match landfall_lb_model::service::read_service(&serde_json::from_value(service).unwrap(), None) {
                landfall_lb_model::service::Reading::Ours(facts, _) => facts.unannounced,
                other => panic!("{other:?}"),
            }
        };
        let first = observe(&json!({})).wanted_status(&wanted)["status"].clone();
        assert_eq!(read(&first), ips.into_iter().collect());
        let later = observe(&first).wanted_status(&Wanted { grant, ..Wanted::default() })["status"].clone();
        assert!(read(&later).is_empty(), "once announced it stays: {later}");
    }

    #[test]
    fn what_the_api_server_adds_to_an_address_is_not_compared() {
        let observed = observe(&json!({"loadBalancer": {"ingress": [{"ip": "10.0.0.8", "ipMode": "VIP"}]}}));
        assert_eq!(observed.value()["status"]["loadBalancer"]["ingress"], json!([{"ip": "10.0.0.8"}]));
    }
}
