//! Flags of `serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;
use landfall_model::ObjectKey;
use landfall_shared::admin;
use landfall_shared::telemetry::LogArgs;

use super::{ModelArgs, object_key, seconds};
use crate::acme::settings::AcmeArgs;
use crate::engine::Carrier;
use crate::memory::MemoryLimit;

/// The labels of the pods of the ingress, as the chart gives them.
pub(crate) const PODS: &str = "app.kubernetes.io/name=landfall,app.kubernetes.io/component=ingress";

/// `serve`.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// Serve from this folder of Kubernetes YAML instead of from an API server.
    #[arg(long, env = "LANDFALL_MANIFESTS", value_name = "DIR")]
    pub manifests: Option<PathBuf>,
    /// Where to listen for HTTP; `[::]` takes IPv4 too.
    #[arg(long, env = "LANDFALL_HTTP", value_name = "ADDR:PORT", value_delimiter = ',', default_value = "[::]:80")]
    pub http: Vec<SocketAddr>,
    /// Where to listen for HTTPS; `[::]` takes IPv4 too.
    #[arg(long, env = "LANDFALL_HTTPS", value_name = "ADDR:PORT", value_delimiter = ',', default_value = "[::]:443")]
    pub https: Vec<SocketAddr>,
    /// Where to answer /healthz, /readyz, /metrics and /status, and to show the page.
    #[arg(long, env = "LANDFALL_ADMIN", value_name = "ADDR:PORT", default_value = "[::]:10254")]
    pub admin: SocketAddr,
    /// Which Ingresses are ours.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Publish this Service's addresses in the status of the Ingresses.
    #[arg(long, env = "LANDFALL_PUBLISH_SERVICE", value_name = "NS/NAME", value_parser = object_key,
          conflicts_with = "publish_status_address")]
    pub publish_service: Option<ObjectKey>,
    /// Publish these addresses or host names in the status of the Ingresses.
    #[arg(long, env = "LANDFALL_PUBLISH_STATUS_ADDRESS", value_name = "LIST", value_delimiter = ',')]
    pub publish_status_address: Vec<String>,
    /// The pods of the ingress itself, whose nodes' addresses are published when neither a Service nor addresses
    /// are given.
    #[arg(long, env = "LANDFALL_POD_SELECTOR", value_name = "LABELS", default_value = PODS)]
    pub pod_selector: String,
    /// Write no status, no Events and no Lease; for running beside another controller.
    #[arg(long, env = "LANDFALL_NO_STATUS")]
    pub no_status: bool,
    /// Watch this namespace only; repeatable.
    #[arg(long = "watch-namespace", env = "LANDFALL_WATCH_NAMESPACE", value_name = "NAME", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// Give the metrics under the names that ingress-nginx has for them, too.
    #[arg(long, env = "LANDFALL_METRICS_COMPATIBILITY", value_enum, default_value_t = MetricNames::None)]
    pub metrics_compatibility: MetricNames,
    /// Our own namespace, for the Lease; by default `POD_NAMESPACE`, else that of the service account, else default.
    #[arg(long, env = "LANDFALL_NAMESPACE", value_name = "NAME")]
    pub namespace: Option<String>,
    /// The name of the Lease whose holder writes status.
    #[arg(long, env = "LANDFALL_LEASE", value_name = "NAME", default_value = "landfall-ingress")]
    pub lease: String,
    /// The name of this replica in the Lease; by default `POD_NAME`, else the host name and a random suffix.
    #[arg(long, env = "LANDFALL_IDENTITY", value_name = "NAME")]
    pub identity: Option<String>,
    /// Automatic certificates.
    #[command(flatten)]
    pub acme: AcmeArgs,
    /// How traffic is carried.
    #[command(flatten)]
    pub traffic: TrafficArgs,
    /// The page of the admin port.
    #[command(flatten)]
    pub page: PageArgs,
    /// What is logged.
    #[command(flatten)]
    pub log: LogArgs,
}

/// The page of the admin port.
#[derive(Args, Debug)]
pub struct PageArgs {
    /// Who may see it.
    #[command(flatten)]
    pub access: admin::PageAccess,
    /// A Service whose pods, this ingress's own, may see the page: the one of an Ingress that asks for a password.
    #[arg(long, env = "LANDFALL_PAGE_SERVICE", value_name = "NS/NAME", value_parser = object_key)]
    pub page_service: Option<ObjectKey>,
    /// Show the values of queries among the live requests, too; links to reset a password have their secret there.
    #[arg(long, env = "LANDFALL_PAGE_SHOW_QUERIES")]
    pub page_show_queries: bool,
}

/// Under which names there are metrics besides our own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum MetricNames {
    /// None.
    None,
    /// Those of ingress-nginx.
    Nginx,
}

/// Limits and times of the data plane.
#[derive(Args, Debug)]
pub struct TrafficArgs {
    /// Data worker threads; 0 is one for each core.
    #[arg(long, env = "LANDFALL_WORKERS", value_name = "N", default_value_t = 0)]
    pub workers: usize,
    /// What carries requests to backends; `pingora` is there for comparison and as a way back.
    #[arg(long, env = "LANDFALL_ENGINE", value_name = "ENGINE", value_enum, default_value_t)]
    pub engine: Carrier,
    /// Connections from clients at one time; more are closed at once. Fewer where the limit of open files allows no
    /// more.
    #[arg(long, env = "LANDFALL_MAX_CONNECTIONS", value_name = "N", default_value_t = 65_536)]
    pub max_connections: usize,
    /// Connections from one client address at one time; 0 is no limit.
    #[arg(long, env = "LANDFALL_MAX_CONNECTIONS_PER_CLIENT", value_name = "N", default_value_t = 0)]
    pub max_connections_per_client: usize,
    /// What the process may have resident: auto is three quarters of the limit of its control group (a container's), 0 no
    /// limit, else bytes as in 256Mi. From four fifths on less is read at a time; near the limit nothing new is begun.
    #[arg(long, env = "LANDFALL_MEMORY_LIMIT", value_name = "BYTES", default_value_t = MemoryLimit::Auto)]
    pub memory_limit: MemoryLimit,
    /// Bytes a second that a client has to send of a body or to take of an answer, on average over a minute in which it is
    /// waited for; 0 is no such limit.
    #[arg(long, env = "LANDFALL_MIN_RATE", value_name = "BYTES", default_value_t = 100)]
    pub min_rate: u64,
    /// Peers that must begin each connection with a PROXY header, version 1 or 2.
    #[arg(long, env = "LANDFALL_PROXY_PROTOCOL", value_name = "CIDR", value_delimiter = ',')]
    pub proxy_protocol: Vec<IpNet>,
    /// Proxies in front whose X-Forwarded-* headers are trusted.
    #[arg(long, env = "LANDFALL_TRUSTED_PROXIES", value_name = "CIDR", value_delimiter = ',')]
    pub trusted_proxies: Vec<IpNet>,
    /// Idle connections kept to backends, for each worker.
    #[arg(long, env = "LANDFALL_UPSTREAM_KEEPALIVE", value_name = "N", default_value_t = 320)]
    pub upstream_keepalive: usize,
    /// Time after SIGTERM in which connections are still accepted, so that no client is sent to a closed port.
    #[arg(long, env = "LANDFALL_LAME_DUCK", value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub lame_duck: Duration,
    /// Time after the lame-duck period in which new connections get no answer instead of a refusal: clients try again
    /// after a second, when an address that followed this pod has moved to another node.
    #[arg(long, env = "LANDFALL_HANDOVER", value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    pub handover: Duration,
    /// Time after the lame-duck period in which open requests and WebSockets may finish.
    #[arg(long, env = "LANDFALL_DRAIN_TIMEOUT", value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub drain_timeout: Duration,
    /// Log no access line for each request.
    #[arg(long, env = "LANDFALL_NO_ACCESS_LOG")]
    pub no_access_log: bool,
}
