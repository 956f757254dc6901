//! What is asked of a CA of our own.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `ca`.
#[derive(Args, Debug)]
pub struct CaArgs {
    /// What to print.
    #[command(subcommand)]
    pub command: CaCommand,
}

/// What is printed of a CA.
#[derive(Subcommand, Debug)]
pub enum CaCommand {
    /// Print the root that devices are to trust, in PEM form: from the admin port of a running ingress, from its state
    /// folder, or from a cluster.
    Root(RootArgs),
    /// Print the lines by which devices and browsers come to trust it.
    Install(InstallArgs),
}

/// `ca root`.
#[derive(Args, Debug)]
pub struct RootArgs {
    /// The admin port of the ingress.
    #[arg(long, env = "LANDFALL_ADMIN", value_name = "ADDR:PORT", default_value = "127.0.0.1:10254")]
    pub admin: SocketAddr,
    /// The state folder of an ingress with --manifests.
    #[arg(long, value_name = "DIR", conflicts_with = "namespace")]
    pub state_dir: Option<PathBuf>,
    /// The namespace of the ingress in the cluster of KUBECONFIG.
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// The name of its Lease.
    #[arg(long, value_name = "NAME", default_value = "landfall-ingress", requires = "namespace")]
    pub lease: String,
}

/// `ca install`.
#[derive(Args, Debug)]
pub struct InstallArgs {
    /// For which systems; all by default.
    #[arg(value_enum, value_name = "SYSTEM")]
    pub systems: Vec<System>,
}

/// What can come to trust a root.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum System {
    /// Linux.
    Linux,
    /// macOS.
    Macos,
    /// Windows.
    Windows,
    /// iOS and iPadOS.
    Ios,
    /// Android.
    Android,
    /// Firefox.
    Firefox,
}

impl System {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Linux, Self::Macos, Self::Windows, Self::Ios, Self::Android, Self::Firefox];
}
