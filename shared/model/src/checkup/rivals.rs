//! Other programs that do the same work.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::RIVAL;
use crate::{Findings, ObjectKey, ObjectRef, Problem};

/// What a program does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// It serves Ingresses.
    Ingress,
    /// It gives or announces addresses of Services.
    LoadBalancer,
}

/// A known program.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub role: Role,
    /// A part of its image's name, behind the registry.
    image: &'static str,
    /// A label that its workloads have.
    label: Option<(&'static str, Option<&'static str>)>,
    /// What to do about it.
    pub remedy: &'static str,
}

/// Programs that homes and labs have.
const PRODUCTS: &[Product] = &[
    Product {
        name: "ingress-nginx",
        role: Role::Ingress,
        image: "ingress-nginx/controller",
        label: Some(("app.kubernetes.io/name", Some("ingress-nginx"))),
        remedy: "set ingress.publish.enabled=false until it is gone: docs/migrate-ingress-nginx.md",
    },
    Product {
        name: "Traefik",
        role: Role::Ingress,
        image: "traefik",
        label: Some(("app.kubernetes.io/name", Some("traefik"))),
        remedy: "it serves Ingresses of its own class; on K3s start the servers with --disable=traefik",
    },
    Product {
        name: "HAProxy Ingress",
        role: Role::Ingress,
        image: "haproxy-ingress",
        label: None,
        remedy: "it serves Ingresses of its own class; remove it when yours have another",
    },
    Product {
        name: "Contour",
        role: Role::Ingress,
        image: "projectcontour/contour",
        label: None,
        remedy: "it serves Ingresses of its own class; remove it when yours have another",
    },
    Product {
        name: "MetalLB",
        role: Role::LoadBalancer,
        image: "metallb/speaker",
        label: Some(("app.kubernetes.io/name", Some("metallb"))),
        remedy: "remove it; the speakers wait for its port and start when it is gone: docs/migrate-metallb.md",
    },
    Product {
        name: "K3s' ServiceLB",
        role: Role::LoadBalancer,
        image: "klipper-lb",
        label: Some(("svccontroller.k3s.cattle.io/svcname", None)),
        remedy: "start the servers with --disable=servicelb, or set lbAnnouncer.loadBalancerClass and name that class \
                 in your Services",
    },
    Product {
        name: "kube-vip",
        role: Role::LoadBalancer,
        image: "kube-vip",
        label: None,
        remedy: "turn its Services off (svc_enable=false), or set lbAnnouncer.loadBalancerClass",
    },
    Product {
        name: "PureLB",
        role: Role::LoadBalancer,
        image: "purelb/lbnodeagent",
        label: None,
        remedy: "remove it, or set lbAnnouncer.loadBalancerClass and name that class in your Services",
    },
];

impl Product {
    fn is(&self, meta: &ObjectMeta, template: &PodTemplateSpec) -> bool {
        let labels = meta.labels.as_ref();
        let labelled = self.label.is_some_and(|(label, value)| {
            labels.and_then(|labels| labels.get(label)).is_some_and(|found| value.is_none_or(|value| found == value))
        });
        let containers = template.spec.iter().flat_map(|spec| &spec.containers);
        let image = |container: &k8s_openapi::api::core::v1::Container| {
            let image = container.image.as_deref().unwrap_or_default();
            let name = image.split('@').next().unwrap_or_default();
            // A tag follows the last slash, a port of the registry doesn't.
            let name = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(name, |(name, _)| name);
            name == self.image || name.ends_with(&format!("/{}", self.image))
        };
        labelled || containers.into_iter().any(image)
    }
}

/// Finds workloads of other programs with this role.
///
/// Several workloads of one program in one namespace are one finding.
pub fn rivals(role: Role, deployments: &[Arc<Deployment>], daemon_sets: &[Arc<DaemonSet>]) -> Findings {
    let deployments =
        deployments.iter().filter_map(|object| Some(("Deployment", &object.metadata, &object.spec.as_ref()?.template)));
    let daemon_sets =
        daemon_sets.iter().filter_map(|object| Some(("DaemonSet", &object.metadata, &object.spec.as_ref()?.template)));
    let workloads: Vec<(&str, &ObjectMeta, &PodTemplateSpec)> = deployments.chain(daemon_sets).collect();
    let mut problems: Vec<Problem> = Vec::new();
    for product in PRODUCTS.iter().filter(|product| product.role == role) {
        let mut seen: Vec<&str> = Vec::new();
        for (kind, meta, _) in workloads.iter().filter(|(_, meta, template)| product.is(meta, template)) {
            let namespace = meta.namespace.as_deref().unwrap_or_default();
            if seen.contains(&namespace) {
                continue;
            }
            seen.push(namespace);
            let key = ObjectKey::new(namespace, meta.name.as_deref().unwrap_or_default());
            let work = match role {
                Role::Ingress => "serves Ingresses",
                Role::LoadBalancer => "gives addresses to Services",
            };
            let problem = Problem::new(ObjectRef::new(*kind, key), RIVAL, format!("{} {work} too", product.name));
            problems.push(problem.remedy(product.remedy).warning());
        }
    }
    let mut findings = Findings::new();
    match role {
        Role::Ingress => {
            findings.all("controllers", problems, "no other Ingress controller that is known runs here");
        }
        Role::LoadBalancer => {
            let good = "no other program that is known gives addresses to Services";
            findings.all("announcers", problems, good);
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn others_are_known_by_label_or_image() {
        let daemon_set = |labels: serde_json::Value, image: &str| -> Arc<DaemonSet> {
            let object = json!({
                "metadata": {"name": "d", "namespace": "x", "labels": labels},
                "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "c", "image": image}]}}},
            });
            Arc::new(serde_json::from_value(object).expect("a DaemonSet"))
        };
        let rows = [
            (json!({"app.kubernetes.io/name": "metallb"}), "mirror.example/speaker:1", Some("MetalLB")),
            (json!({}), "quay.io/metallb/speaker:v0.15.2", Some("MetalLB")),
            (json!({"svccontroller.k3s.cattle.io/svcname": "web"}), "rancher/x", Some("ServiceLB")),
            (json!({}), "registry.example:5000/kube-vip/kube-vip@sha256:1", Some("kube-vip")),
            (json!({}), "registry.example:5000/my-kube-vip:1", None),
            (json!({}), "landfall-lb-announcer:0.1.0", None),
        ];
        for (labels, image, expected) in rows {
            let found = rivals(Role::LoadBalancer, &[], &[daemon_set(labels, image)]);
            let says: Vec<String> = found.problems().map(Problem::message).collect();
            assert_eq!(says.len(), usize::from(expected.is_some()), "{image}: {says:?}");
            assert!(expected.is_none_or(|name| says.iter().any(|line| line.contains(name))), "{image}: {says:?}");
        }
        let nothing = rivals(Role::Ingress, &[], &[daemon_set(json!({}), "metallb/speaker")]);
        assert_eq!(nothing.problems().count(), 0);
    }
}
