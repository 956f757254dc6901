//! The command line. Names and defaults are a contract: they are added to, never renamed.

mod ca;
mod looks;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use crate::acme::settings::AcmeArgs;
use crate::engine::Carrier;
use crate::memory::MemoryLimit;
pub use ca::{CaArgs, CaCommand, InstallArgs, RootArgs, System};
use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use landfall_ingress_model::acme::ask::Asking;
use landfall_ingress_model::settings::{ExternalNames, HostOwnership, Origin, Publish, Settings};
use landfall_model::ObjectKey;
use landfall_shared::admin;
use landfall_shared::telemetry::LogArgs;
pub use looks::{CompletionsArgs, EchoArgs, StatusArgs, TailArgs, TestArgs};

/// An Ingress controller for bare-metal Kubernetes.
#[derive(Parser, Debug)]
#[command(name = "landfall-ingress", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Serve traffic, from an API server or from a folder of manifests.
    Serve(Box<ServeArgs>),
    /// Print every problem in a folder of manifests, or all there is to say of a cluster; exit with 1 if there is a
    /// problem.
    Check(CheckArgs),
    /// Print which rule of a folder of manifests, or of a cluster, answers a URL, and why no other does.
    Explain(ExplainArgs),
    /// Print what changes for the Ingresses of ingress-nginx when they are served from here; exit with 1 if anything is
    /// refused or differs.
    Migrate(Box<MigrateArgs>),
    /// Print how the automatic certificates of a running ingress stand; exit with 1 if one is not as it should be.
    Certs(CertsArgs),
    /// The CA of our own, which the issuer internal signs by.
    Ca(CaArgs),
    /// Print how the replicas that run stand: generation, problems, certificates; exit with 1 if one is not ready.
    Status(StatusArgs),
    /// Print requests as they happen, of all replicas.
    Tail(TailArgs),
    /// Try every protocol through the ingress of a cluster, with pods in a namespace of their own, and remove them; exit
    /// with 1 if something does not work.
    Test(Box<TestArgs>),
    /// Be a pod of `test`: say what was sent.
    #[command(hide = true)]
    Echo(EchoArgs),
    /// Print the completions of a shell.
    Completions(CompletionsArgs),
}

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
    #[arg(
        long,
        env = "LANDFALL_POD_SELECTOR",
        value_name = "LABELS",
        default_value = "app.kubernetes.io/name=landfall,app.kubernetes.io/component=ingress"
    )]
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

/// How `check` and `explain` print.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// `check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// The folder; without it, the cluster of KUBECONFIG or of this pod is looked at.
    #[arg(long, env = "LANDFALL_MANIFESTS", value_name = "DIR")]
    pub manifests: Option<PathBuf>,
    /// Text or JSON.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Look again until nothing in the cluster fails, for so long at most.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "60", value_parser = seconds,
          conflicts_with = "manifests")]
    pub wait: Option<Duration>,
    /// Where the ingress is or will be; by default where one is found, else landfall-system.
    #[arg(long, env = "LANDFALL_NAMESPACE", value_name = "NAME")]
    pub namespace: Option<String>,
    /// Don't look hosts up in the DNS.
    #[arg(long)]
    pub no_dns: bool,
    /// Which Ingresses are ours; where an ingress is installed, what it was started with.
    #[command(flatten)]
    pub model: ModelArgs,
}

/// `certs`.
#[derive(Args, Debug)]
pub struct CertsArgs {
    /// The admin port of the ingress.
    #[arg(long, env = "LANDFALL_ADMIN", value_name = "ADDR:PORT", default_value = "127.0.0.1:10254")]
    pub admin: SocketAddr,
    /// Text or JSON.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// `explain`.
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// The folder; without it, the cluster of KUBECONFIG or of this pod is read.
    #[arg(long, env = "LANDFALL_MANIFESTS", value_name = "DIR")]
    pub manifests: Option<PathBuf>,
    /// Text or JSON.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// The URL a client would ask for.
    #[arg(value_name = "URL")]
    pub url: String,
    /// The method.
    #[arg(short = 'X', long, value_name = "METHOD", default_value_t = http::Method::GET)]
    pub method: http::Method,
    /// The client's address, for rules that are for some clients only.
    #[arg(long, value_name = "ADDRESS")]
    pub client: Option<IpAddr>,
    /// A request header. With one, the headers that the backend gets are printed. Host replaces the URL's host.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// Which Ingresses are ours.
    #[command(flatten)]
    pub model: ModelArgs,
}

/// How `migrate` prints.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReportOutput {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For people, as one page that needs nothing else.
    Html,
}

/// `migrate`.
#[derive(Args, Debug)]
pub struct MigrateArgs {
    /// The folder; without it, the cluster of KUBECONFIG is read.
    #[arg(long, env = "LANDFALL_MANIFESTS", value_name = "DIR")]
    pub manifests: Option<PathBuf>,
    /// Text, JSON or HTML.
    #[arg(short, long, value_enum, default_value_t = ReportOutput::Text)]
    pub output: ReportOutput,
    /// The Deployment or `DaemonSet` that runs ingress-nginx; the oldest one that is found by default.
    #[arg(long, env = "LANDFALL_NGINX_WORKLOAD", value_name = "NS/NAME", value_parser = object_key)]
    pub nginx_workload: Option<ObjectKey>,
    /// A flag that ingress-nginx runs with, such as --enable-ssl-passthrough; repeatable. Its workload's own ones are
    /// found.
    #[arg(long = "nginx-flag", env = "LANDFALL_NGINX_FLAG", value_name = "FLAG", allow_hyphen_values = true)]
    pub nginx_flags: Vec<String>,
    /// Ask ingress-nginx at this address and Landfall the same, and print where they differ: ADDRESS, or
    /// http://ADDRESS:PORT,https://ADDRESS:PORT. Only GET, HEAD and OPTIONS are sent.
    #[arg(long, env = "LANDFALL_COMPARE", value_name = "OLD-ADDRESS")]
    pub compare: Option<String>,
    /// Where Landfall is asked.
    #[arg(long, env = "LANDFALL_NEW", value_name = "NEW-ADDRESS", default_value = "127.0.0.1", requires = "compare")]
    pub new: String,
    /// Requests to each at most; those that differ are sent twice.
    #[arg(long, env = "LANDFALL_MAX_REQUESTS", value_name = "N", default_value_t = 1000, requires = "compare")]
    pub max_requests: usize,
    /// Requests to each in a second at most.
    #[arg(long, env = "LANDFALL_RATE", value_name = "N", default_value_t = 20, requires = "compare",
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rate: u32,
    /// How long one answer may take.
    #[arg(long, env = "LANDFALL_TIMEOUT", value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub timeout: Duration,
    /// How long all requests may take.
    #[arg(long, env = "LANDFALL_TIME_LIMIT", value_name = "SECONDS", default_value = "300", value_parser = seconds)]
    pub time_limit: Duration,
    /// Which Ingresses are ours; what ingress-nginx was started with is added.
    #[command(flatten)]
    pub model: ModelArgs,
}

fn object_key(text: &str) -> Result<ObjectKey, String> {
    ObjectKey::parse(text).ok_or_else(|| "not of the form namespace/name".into())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let text = text.strip_suffix('s').unwrap_or(text);
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds")?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "not a positive number of seconds".into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_long_flag_of_serve_has_an_environment_variable() {
        let command = Cli::command();
        let serve = command.find_subcommand("serve").expect("serve is a subcommand");
        for argument in serve.get_arguments() {
            let Some(long) = argument.get_long().filter(|long| *long != "help") else { continue };
            let variable = format!("LANDFALL_{}", long.replace('-', "_").to_uppercase());
            assert_eq!(argument.get_env().and_then(|name| name.to_str()), Some(variable.as_str()), "--{long}");
        }
    }

    #[test]
    fn the_domain_of_the_cluster_is_read_from_the_search_list() {
        let text = "nameserver 10.96.0.10\nsearch web.svc.home.lan svc.home.lan home.lan\noptions ndots:5\n";
        assert_eq!(domain_in(text).as_deref(), Some("home.lan"));
        assert_eq!(domain_in("nameserver 192.0.2.1\nsearch example.com\n"), None);
    }

    #[test]
    fn ingress_nginx_names_are_understood() {
        for given in ["--disable-svc-external-name", "--disable-svc-external-name=true"] {
            let Command::Serve(args) = Cli::parse_from(["landfall-ingress", "serve", given]).command else {
                panic!("serve")
            };
            assert_eq!(args.model.settings(Origin::Folder, Publish::Nothing).external_names, ExternalNames::None);
        }
        let given = "--disable-svc-external-name=false";
        let Command::Serve(args) = Cli::parse_from(["landfall-ingress", "serve", given]).command else {
            panic!("serve")
        };
        assert_eq!(args.model.settings(Origin::Folder, Publish::Nothing).external_names, ExternalNames::Outside);
    }

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let Command::Serve(args) = Cli::parse_from(["landfall-ingress", "serve"]).command else { panic!("serve") };
        assert_eq!(args.http, ["[::]:80".parse().unwrap()]);
        assert_eq!(args.https, ["[::]:443".parse().unwrap()]);
        assert_eq!(args.admin, "[::]:10254".parse().unwrap());
        assert_eq!(args.model.controller_classes, ["landfall.dev/ingress", "k8s.io/ingress-nginx"]);
        assert_eq!(args.model.ingress_classes, ["landfall", "nginx"]);
    }
}
