//! The command line. Names and defaults are a contract: they are added to, never renamed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use landfall_lb_model::node::ExcludeLabel;
use landfall_lb_model::speakers::SpeakerRule;
use landfall_lb_model::wire::heartbeat::Key;
use landfall_lb_model::world::Rules;
use landfall_shared::admin::PageAccess;
use landfall_shared::telemetry::LogArgs;

use crate::edge::links::Selection;

/// Addresses for Services of type `LoadBalancer`, announced by ARP and NDP.
#[derive(Parser, Debug)]
#[command(name = "landfall-lb-announcer", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Give addresses to Services. Several replicas are safe: one leads.
    Controller(Box<ControllerArgs>),
    /// Announce the addresses for which this node is elected.
    Speaker(Box<SpeakerArgs>),
    /// Both in one process, from a folder of manifests, without a cluster.
    Standalone(Box<StandaloneArgs>),
    /// Report every problem in a folder of manifests, or in a cluster; exit with 1 if there is one.
    Check(CheckArgs),
    /// Print every address of a cluster with its Service and node, and what is wrong; exit with 1 if one is announced by
    /// nobody.
    Status(StatusArgs),
    /// Print which node announces an address, and what the LAN says; exit with 1 if that is not one and the same host.
    WhoHas(WhoHasArgs),
    /// Print the custom resource definitions as JSON.
    Crds,
    /// Print the completions of a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Which objects are ours and how they are read.
#[derive(Args, Clone, Debug)]
pub struct RuleArgs {
    /// The `spec.loadBalancerClass` of our Services; without it: those that have none.
    #[arg(long, env = "LANDFALL_LB_CLASS", value_name = "CLASS")]
    pub lb_class: Option<String>,
    /// Announce also from nodes labelled `node.kubernetes.io/exclude-from-external-load-balancers`.
    #[arg(long, env = "LANDFALL_IGNORE_EXCLUDE_LB")]
    pub ignore_exclude_lb: bool,
}

impl RuleArgs {
    /// The model's rules.
    pub fn rules(&self, speakers: SpeakerRule) -> Rules {
        Rules {
            class: self.lb_class.as_deref().map(Arc::from),
            exclude: if self.ignore_exclude_lb { ExcludeLabel::Ignore } else { ExcludeLabel::Heed },
            speakers,
        }
    }
}

/// Where the admin port listens, and the log.
#[derive(Args, Clone, Debug)]
pub struct AdminArgs {
    /// Health, metrics, status and the page.
    #[arg(long, env = "LANDFALL_ADMIN", value_name = "ADDR:PORT", default_value = "[::]:10254")]
    pub admin: SocketAddr,
    /// Who may see the page.
    #[command(flatten)]
    pub page: PageAccess,
    /// What is logged, and how.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Where the objects of a cluster stand.
#[derive(Args, Clone, Debug)]
pub struct ClusterArgs {
    /// The announcer's own namespace; pools and advertisements are read from it and from metallb-system.
    #[arg(long, env = "LANDFALL_NAMESPACE", value_name = "NAMESPACE", default_value = "landfall-system")]
    pub namespace: String,
    /// This pod's name: in whose name Events are written and the Lease is held.
    #[arg(long, env = "LANDFALL_POD_NAME", value_name = "NAME")]
    pub pod_name: Option<String>,
    /// This pod's uid: it owns the objects that the program creates, so that they are deleted with the pod.
    #[arg(long, env = "LANDFALL_POD_UID", value_name = "UID")]
    pub pod_uid: Option<String>,
    /// The labels of the speakers' pods, which run in the announcer's own namespace.
    #[arg(
        long,
        env = "LANDFALL_SPEAKER_SELECTOR",
        value_name = "LABELS",
        default_value = "app.kubernetes.io/component=speaker"
    )]
    pub speaker_selector: String,
    /// The Secret with the key of the heartbeats.
    #[arg(long, env = "LANDFALL_HEARTBEAT_SECRET", value_name = "NAME", default_value = "landfall-heartbeat")]
    pub heartbeat_secret: String,
}

impl ClusterArgs {
    /// The namespaces that configuration is read from.
    pub fn namespaces(&self) -> [String; 2] {
        [self.namespace.clone(), "metallb-system".to_owned()]
    }

    /// The name of this instance.
    pub fn identity(&self) -> String {
        let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").map(|h| h.trim().to_owned());
        self.pod_name.clone().or_else(|| host().ok()).unwrap_or_else(|| "landfall-lb-announcer".to_owned())
    }
}

/// What announcing needs.
#[derive(Args, Clone, Debug)]
pub struct WireArgs {
    /// The name of this node, as its Node object has it.
    #[arg(long, env = "LANDFALL_NODE_NAME", value_name = "NAME")]
    pub node_name: String,
    /// Announce only on interfaces whose whole name matches; several may be given.
    #[arg(long = "interface", env = "LANDFALL_INTERFACE", value_name = "REGEX", value_delimiter = ',')]
    pub interfaces: Vec<String>,
    /// Never announce on interfaces whose name matches, where no --interface is given; several may be. The default
    /// is `MetalLB`'s list of container and tunnel interfaces.
    #[arg(long = "exclude-interface", env = "LANDFALL_EXCLUDE_INTERFACE", value_name = "REGEX", value_delimiter = ',')]
    pub excluded: Vec<String>,
    /// Where heartbeats are received; peers are sent to at the same port.
    #[arg(long, env = "LANDFALL_HEARTBEAT", value_name = "ADDR:PORT", default_value = "[::]:7946")]
    pub heartbeat: SocketAddr,
    /// The shared key: 64 hexadecimal digits, or @FILE.
    #[arg(long, env = "LANDFALL_HEARTBEAT_KEY", value_name = "KEY|@FILE", hide_env_values = true)]
    pub heartbeat_key: Option<String>,
    /// How many free addresses of each pool are looked at ahead of time; 0 turns that off.
    #[arg(long, env = "LANDFALL_LOOK_AHEAD", value_name = "COUNT", default_value_t = 4)]
    pub look_ahead: usize,
    /// The longest time that handing over may take when the process is asked to end.
    #[arg(long, env = "LANDFALL_DRAIN_TIMEOUT", value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub drain_timeout: Duration,
}

impl WireArgs {
    /// The key, if one is given.
    pub fn key(&self) -> anyhow::Result<Option<Key>> {
        let Some(given) = &self.heartbeat_key else { return Ok(None) };
        let text = match given.strip_prefix('@') {
            Some(file) => {
                std::fs::read_to_string(file).with_context(|| format!("cannot read the heartbeat key from {file}"))?
            }
            None => given.clone(),
        };
        let Some(key) = Key::parse(&text) else { bail!("the heartbeat key is not 64 hexadecimal digits") };
        Ok(Some(key))
    }

    /// Which interfaces are announced on.
    pub fn selection(&self) -> anyhow::Result<Selection> {
        let selection = if self.excluded.is_empty() {
            Selection::new(&self.interfaces)
        } else {
            Selection::with_exclusions(&self.interfaces, &self.excluded)
        };
        selection.context("--interface or --exclude-interface is not a regular expression")
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.trim_end_matches('s').parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(number).map_err(|error| error.to_string())
}

/// Arguments of `controller`.
#[derive(Args, Clone, Debug)]
pub struct ControllerArgs {
    /// What is ours.
    #[command(flatten)]
    pub rules: RuleArgs,
    /// Where the objects stand.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// The admin port.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Arguments of `speaker`.
#[derive(Args, Clone, Debug)]
pub struct SpeakerArgs {
    /// What is ours.
    #[command(flatten)]
    pub rules: RuleArgs,
    /// Where the objects stand.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// The network.
    #[command(flatten)]
    pub wire: WireArgs,
    /// The admin port.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Arguments of `standalone`.
#[derive(Args, Clone, Debug)]
pub struct StandaloneArgs {
    /// The folder of manifests.
    #[arg(long, env = "LANDFALL_MANIFESTS", value_name = "DIR")]
    pub manifests: PathBuf,
    /// What is ours.
    #[command(flatten)]
    pub rules: RuleArgs,
    /// The network.
    #[command(flatten)]
    pub wire: WireArgs,
    /// The admin port.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Arguments of `check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// The folder of manifests; without it, the cluster of KUBECONFIG or of this pod is looked at.
    #[arg(long, env = "LANDFALL_MANIFESTS", value_name = "DIR")]
    pub manifests: Option<PathBuf>,
    /// Look again until nothing in the cluster fails, for so long at most.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "60", value_parser = seconds,
          conflicts_with = "manifests")]
    pub wait: Option<Duration>,
    /// What is ours; where a controller is installed, what it was started with.
    #[command(flatten)]
    pub rules: RuleArgs,
    /// The namespace that the announcer is to run in: pools and advertisements elsewhere are a problem, except in
    /// metallb-system.
    #[arg(long, env = "LANDFALL_NAMESPACE", value_name = "NAMESPACE", default_value = "landfall-system")]
    pub namespace: String,
    /// The form of the answer.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Arguments of `status`.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// What is ours; where a controller is installed, what it was started with.
    #[command(flatten)]
    pub rules: RuleArgs,
    /// The announcer's own namespace.
    #[arg(long, env = "LANDFALL_NAMESPACE", value_name = "NAMESPACE", default_value = "landfall-system")]
    pub namespace: String,
    /// The form of the answer.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Arguments of `who-has`.
#[derive(Args, Clone, Debug)]
pub struct WhoHasArgs {
    /// The address.
    #[arg(value_name = "ADDRESS")]
    pub address: std::net::IpAddr,
    /// What is ours; where a controller is installed, what it was started with.
    #[command(flatten)]
    pub rules: RuleArgs,
    /// The announcer's own namespace.
    #[arg(long, env = "LANDFALL_NAMESPACE", value_name = "NAMESPACE", default_value = "landfall-system")]
    pub namespace: String,
    /// The form of the answer.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// The form of an answer.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}
