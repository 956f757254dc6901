//! The command line. Names and defaults are a contract: they are added to, never renamed.

mod ca;
mod inherited;
mod looks;
mod model;
mod serve;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use crate::acme::settings::AcmeArgs;
pub use ca::{CaArgs, CaCommand, InstallArgs, RootArgs, System};
use clap::{Args, Parser, Subcommand, ValueEnum};
use landfall_model::ObjectKey;
pub use looks::{CompletionsArgs, EchoArgs, StatusArgs, TailArgs, TestArgs};
pub use model::{ModelArgs, Names, Ownership};
pub(crate) use serve::PODS;
pub use serve::{MetricNames, PageArgs, ServeArgs, TrafficArgs};

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
    use landfall_ingress_model::settings::{ExternalNames, Origin, Publish};

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
