//! How changes become facts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Resource;
use landfall_model::{Change, ObjectKey, ObjectRef};

use crate::crd::ServiceL2Status;
use crate::metallb::Outdated;
use crate::node::{read_node, read_slice};
use crate::selector::labels_of;
use crate::service::{Reading, read_service};
use crate::speakers::Speakers;
use crate::world::{Changes, Input, World};

impl World {
    /// Takes over a change.
    pub fn apply(&mut self, input: Input) {
        match input {
            Input::Service(change) => self.services_changed(change),
            Input::EndpointSlice(change) => self.slices_changed(change),
            Input::Node(change) => self.nodes_changed(change),
            Input::SpeakerPod(change) => self.speakers_changed(change, Speakers::set_pod, Speakers::clear_pods),
            Input::ConfigurationState(change) => {
                self.speakers_changed(change, Speakers::set_state, Speakers::clear_states);
            }
            Input::L2Status(change) => self.announcements_changed(change),
            Input::Namespace(change) => {
                self.configuration_changed();
                each(change, |event| match event {
                    Event::Clear => self.namespaces.clear(),
                    Event::Set(key, namespace) => {
                        drop(self.namespaces.insert(key.name().into(), labels_of(namespace.metadata.labels.as_ref())));
                    }
                    Event::Gone(key) => drop(self.namespaces.remove(key.name())),
                });
            }
            Input::Pool(change) => {
                self.configuration_changed();
                keep(&mut self.pool_objects, change);
            }
            Input::L2Advertisement(change) => {
                self.configuration_changed();
                keep(&mut self.advert_objects, change);
            }
            Input::OldPool(change) => self.outdated_changed("AddressPool", change, |pool| Some(Outdated::pool(pool))),
            Input::ConfigMap(change) => self.outdated_changed("ConfigMap", change, Outdated::config),
            Input::BgpAdvertisement(change) => self.report_unserved("BGPAdvertisement", change),
            Input::BgpPeer(change) => self.report_unserved("BGPPeer", change),
            Input::BfdProfile(change) => self.report_unserved("BFDProfile", change),
            Input::Community(change) => self.report_unserved("Community", change),
        }
    }

    fn announcements_changed(&mut self, change: Change<ServiceL2Status>) {
        each(change, |event| match event {
            Event::Clear => self.announced.clear(),
            Event::Set(key, object) => self.announced.set(key, object),
            Event::Gone(key) => self.announced.gone(&key),
        });
        // Looked at once for all of them when a plan is made.
        self.changes.allocation = true;
    }

    fn configuration_changed(&mut self) {
        self.config_stale = true;
        self.changes = Changes { allocation: true, announcing: true };
    }

    fn slices_changed(&mut self, change: Change<EndpointSlice>) {
        let mut touched: BTreeSet<ObjectKey> = BTreeSet::new();
        each(change, |event| match event {
            Event::Clear => touched.extend(std::mem::take(&mut self.slices).into_values().map(|(service, _)| service)),
            Event::Set(key, slice) => {
                let facts = read_slice(slice);
                if self.slices.get(&key) == facts.as_ref() {
                    return;
                }
                let before = match facts {
                    Some(facts) => {
                        touched.insert(facts.0.clone());
                        self.slices.insert(key, facts)
                    }
                    None => self.slices.remove(&key),
                };
                touched.extend(before.map(|(service, _)| service));
            }
            Event::Gone(key) => touched.extend(self.slices.remove(&key).map(|(service, _)| service)),
        });
        self.changes.announcing |= touched.iter().any(|service| self.services.contains_key(service));
    }

    fn nodes_changed(&mut self, change: Change<Node>) {
        let before = matches!(change, Change::Replace(_)).then(|| self.nodes.clone());
        let mut changed = false;
        each(change, |event| match event {
            Event::Clear => self.nodes.clear(),
            Event::Set(key, node) => {
                let facts = read_node(node, self.rules.exclude);
                changed |= self.nodes.get(key.name()) != Some(&facts);
                self.nodes.insert(key.name().into(), facts);
            }
            Event::Gone(key) => changed |= self.nodes.remove(key.name()).is_some(),
        });
        if before.map_or(changed, |before| before != self.nodes) {
            self.changes = Changes { allocation: true, announcing: true };
        }
    }

    fn speakers_changed<K: Resource>(
        &mut self,
        change: Change<K>,
        set: fn(&mut Speakers, &ObjectKey, Option<&K>),
        clear: fn(&mut Speakers),
    ) {
        let before = self.speakers.clone();
        each(change, |event| match event {
            Event::Clear => clear(&mut self.speakers),
            Event::Set(key, object) => set(&mut self.speakers, &key, Some(object)),
            Event::Gone(key) => set(&mut self.speakers, &key, None),
        });
        if before != self.speakers {
            self.changes = Changes { allocation: true, announcing: true };
        }
    }

    fn services_changed(&mut self, change: Change<Service>) {
        let mut changed = matches!(change, Change::Replace(_));
        each(change, |event| match event {
            Event::Clear => {
                self.services.clear();
                self.service_problems.clear();
                self.former.clear();
                self.foreign.clear();
            }
            Event::Set(key, service) => match read_service(service, self.rules.class.as_deref()) {
                Reading::Ours(facts, problems) => {
                    let same = self.services.get(&key).is_some_and(|before| **before == *facts)
                        && self.service_problems.get(&key) == Some(&problems);
                    if !same {
                        self.forget_service(&key);
                        self.services.insert(key.clone(), Arc::from(facts));
                        self.service_problems.insert(key, problems);
                        changed = true;
                    }
                }
                Reading::Former(key) => {
                    changed |= self.forget_service(&key);
                    changed |= self.former.insert(key);
                }
                Reading::Foreign(ips) if !ips.is_empty() => {
                    if self.foreign.get(&key) != Some(&ips) {
                        self.forget_service(&key);
                        self.foreign.insert(key, ips);
                        changed = true;
                    }
                }
                Reading::Foreign(_) | Reading::Ignored => changed |= self.forget_service(&key),
            },
            Event::Gone(key) => changed |= self.forget_service(&key),
        });
        if changed {
            self.changes = Changes { allocation: true, announcing: true };
            // What Services hold counts where a pool's entries can't be read.
            self.config_stale |= self.memory.has_gaps();
        }
    }

    /// Says whether there was anything to forget.
    fn forget_service(&mut self, key: &ObjectKey) -> bool {
        self.service_problems.remove(key);
        let ours = self.services.remove(key).is_some();
        let former = self.former.remove(key);
        let foreign = self.foreign.remove(key).is_some();
        ours || former || foreign
    }

    fn outdated_changed<K: Resource>(&mut self, kind: &str, change: Change<K>, read: fn(&K) -> Option<Outdated>) {
        self.changes.announcing = true;
        each(change, |event| match event {
            Event::Clear => self.outdated.retain(|o, _| &*o.kind != kind),
            Event::Set(key, object) => {
                let about = ObjectRef::new(kind, key);
                match read(object) {
                    Some(outdated) => drop(self.outdated.insert(about, outdated)),
                    None => drop(self.outdated.remove(&about)),
                }
            }
            Event::Gone(key) => drop(self.outdated.remove(&ObjectRef::new(kind, key))),
        });
    }

    fn report_unserved<K: Resource>(&mut self, kind: &str, change: Change<K>) {
        self.changes.announcing = true;
        each(change, |event| match event {
            Event::Clear => self.unserved.retain(|o| &*o.kind != kind),
            Event::Set(key, _) => drop(self.unserved.insert(ObjectRef::new(kind, key))),
            Event::Gone(key) => drop(self.unserved.remove(&ObjectRef::new(kind, key))),
        });
    }
}

enum Event<'a, K> {
    Clear,
    Set(ObjectKey, &'a Arc<K>),
    Gone(ObjectKey),
}

fn each<K: Resource>(change: Change<K>, mut handle: impl FnMut(Event<'_, K>)) {
    match change {
        Change::Replace(objects) => {
            handle(Event::Clear);
            for object in &objects {
                handle(Event::Set(key_of(&**object), object));
            }
        }
        Change::Apply(object) => handle(Event::Set(key_of(&*object), &object)),
        Change::Delete(key) => handle(Event::Gone(key)),
    }
}

fn keep<K: Resource>(map: &mut BTreeMap<ObjectKey, Arc<K>>, change: Change<K>) {
    each(change, |event| match event {
        Event::Clear => map.clear(),
        Event::Set(key, object) => drop(map.insert(key, object.clone())),
        Event::Gone(key) => drop(map.remove(&key)),
    });
}

fn key_of<K: Resource>(object: &K) -> ObjectKey {
    ObjectKey::of(object.meta())
}
