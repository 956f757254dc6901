//! Flags of the model: which Ingresses are ours, and what stands behind them.

use clap::{Args, ValueEnum};
use landfall_ingress_model::acme::ask::Asking;
use landfall_ingress_model::settings::{ExternalNames, HostOwnership, Origin, Publish, Settings};
use landfall_model::ObjectKey;

use super::object_key;

/// What decides which Ingresses are ours and what stands behind them.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
#[derive(Args, Clone, Debug)]
pub struct ModelArgs {
    /// A value of `IngressClass.spec.controller` that is served.
    #[arg(long = "controller-class", env = "LANDFALL_CONTROLLER_CLASS", value_name = "NAME", value_delimiter = ',',
          default_values = ["landfall.dev/ingress", "k8s.io/ingress-nginx"])]
    pub controller_classes: Vec<String>,
    /// A value of the annotation `kubernetes.io/ingress.class` that is served; also a class that is served while no
    /// `IngressClass` of that name exists.
    #[arg(long = "ingress-class", env = "LANDFALL_INGRESS_CLASS", value_name = "NAME", value_delimiter = ',',
          default_values = ["landfall", "nginx"])]
    pub ingress_classes: Vec<String>,
    /// Serve Ingresses that name no class.
    #[arg(long, env = "LANDFALL_WATCH_INGRESS_WITHOUT_CLASS")]
    pub watch_ingress_without_class: bool,
    /// The certificate for host names without one.
    #[arg(long, env = "LANDFALL_DEFAULT_SSL_CERTIFICATE", value_name = "NS/NAME", value_parser = object_key)]
    pub default_ssl_certificate: Option<ObjectKey>,
    /// The Service for requests that match no rule.
    #[arg(long, env = "LANDFALL_DEFAULT_BACKEND_SERVICE", value_name = "NS/NAME", value_parser = object_key)]
    pub default_backend_service: Option<ObjectKey>,
    /// Serve no Ingress of class nginx that has a default backend, as ingress-nginx's flag of this name does.
    #[arg(long, env = "LANDFALL_DISABLE_CATCH_ALL")]
    pub disable_catch_all: bool,
    /// Let Ingresses with the annotation ssl-passthrough have TLS end at their endpoints.
    #[arg(long, env = "LANDFALL_ENABLE_SSL_PASSTHROUGH")]
    pub enable_ssl_passthrough: bool,
    /// The `ConfigMap` with ingress-nginx's global options, for Ingresses of its dialect.
    #[arg(long, alias = "configmap", env = "LANDFALL_CONFIG_MAP", value_name = "NS/NAME", value_parser = object_key)]
    pub config_map: Option<ObjectKey>,
    /// The `ConfigMap` that names TCP ports and the Services that they lead to, as ingress-nginx reads it.
    #[arg(long, env = "LANDFALL_TCP_SERVICES_CONFIGMAP", value_name = "NS/NAME", value_parser = object_key)]
    pub tcp_services_configmap: Option<ObjectKey>,
    /// The same for UDP.
    #[arg(long, env = "LANDFALL_UDP_SERVICES_CONFIGMAP", value_name = "NS/NAME", value_parser = object_key)]
    pub udp_services_configmap: Option<ObjectKey>,
    /// Read Secrets of this namespace only; repeatable. Without it, those of all namespaces that are watched.
    #[arg(long = "secret-namespace", env = "LANDFALL_SECRET_NAMESPACE", value_name = "NAME", value_delimiter = ',')]
    pub secret_namespaces: Vec<String>,
    /// Whether a host belongs to the namespace of the oldest Ingress that names it; rules of others for it are refused.
    #[arg(long, env = "LANDFALL_HOST_OWNERSHIP", value_enum, default_value_t = Ownership::None)]
    pub host_ownership: Ownership,
    /// Which names Services of type ExternalName may have: outside allows names under the cluster's domain only in
    /// the Service's own namespace.
    #[arg(long, env = "LANDFALL_EXTERNAL_NAMES", value_enum, default_value_t = Names::Outside,
          conflicts_with = "disable_svc_external_name")]
    pub external_names: Names,
    /// The same as `--external-names none`.
    #[arg(long, env = "LANDFALL_DISABLE_SVC_EXTERNAL_NAME", num_args = 0..=1, require_equals = true,
          default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub disable_svc_external_name: bool,
    /// The domain of the cluster's own names; read from /etc/resolv.conf by default, else cluster.local.
    #[arg(long, env = "LANDFALL_CLUSTER_DOMAIN", value_name = "NAME")]
    pub cluster_domain: Option<String>,
}

/// TCP ports of the ingress itself, unless flags of `serve` say otherwise.
const DEFAULT_PORTS: [u16; 3] = [80, 443, 10254];

/// Whether a host belongs to somebody.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ownership {
    /// Ingresses of all namespaces may share a host.
    None,
    /// A host belongs to the namespace of the oldest Ingress that names it.
    Namespace,
}

/// Which names Services of type ExternalName may have.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Names {
    /// Such Services answer 503.
    None,
    /// Names outside of the cluster, and those of the Service's own namespace.
    Outside,
    /// Every name.
    All,
}

impl ModelArgs {
    /// The model's settings; what a folder may do differs from what a cluster may.
    pub fn settings(&self, origin: Origin, publish: Publish) -> Settings {
        Settings {
            controller_classes: self.controller_classes.clone(),
            ingress_classes: self.ingress_classes.clone(),
            watch_without_class: self.watch_ingress_without_class,
            default_certificate: self.default_ssl_certificate.clone(),
            default_backend: self.default_backend_service.clone(),
            config_map: self.config_map.clone(),
            tcp_services: self.tcp_services_configmap.clone(),
            udp_services: self.udp_services_configmap.clone(),
            reserved_ports: DEFAULT_PORTS.into(),
            disable_catch_all: self.disable_catch_all,
            ssl_passthrough: self.enable_ssl_passthrough,
            origin,
            // A folder's owner has read it all anyway.
            secret_namespaces: match origin {
                Origin::Cluster => self.secret_namespaces.clone(),
                Origin::Folder => Vec::new(),
            },
            host_ownership: match self.host_ownership {
                Ownership::None => HostOwnership::None,
                Ownership::Namespace => HostOwnership::Namespace,
            },
            external_names: match self.external_names {
                _ if self.disable_svc_external_name => ExternalNames::None,
                Names::None => ExternalNames::None,
                Names::Outside => ExternalNames::Outside,
                Names::All => ExternalNames::All,
            },
            cluster_domain: self.cluster_domain(origin),
            asking: Asking::Off,
            publish,
            crypto: crate::crypto_provider(),
        }
    }

    fn cluster_domain(&self, origin: Origin) -> String {
        // A folder is about another place than the machine that it is read on.
        let from_system = || match origin {
            Origin::Cluster => domain_in(&std::fs::read_to_string("/etc/resolv.conf").ok()?),
            Origin::Folder => None,
        };
        self.cluster_domain.clone().or_else(from_system).unwrap_or_else(|| "cluster.local".to_owned())
    }
}

/// The cluster's domain as the kubelet writes it into a pod: `search NAMESPACE.svc.DOMAIN svc.DOMAIN DOMAIN`.
fn domain_in(resolv_conf: &str) -> Option<String> {
    let searches = resolv_conf.lines().filter_map(|line| line.trim().strip_prefix("search"));
    let mut domains = searches.flat_map(str::split_whitespace).filter_map(|domain| domain.strip_prefix("svc."));
    domains.next().map(|domain| domain.trim_end_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_domain_of_the_cluster_is_read_from_the_search_list() {
        let text = "nameserver 10.96.0.10\nsearch web.svc.home.lan svc.home.lan home.lan\noptions ndots:5\n";
        assert_eq!(domain_in(text).as_deref(), Some("home.lan"));
        assert_eq!(domain_in("nameserver 192.0.2.1\nsearch example.com\n"), None);
    }
}
