//! The log and the build information.

use clap::{Args, ValueEnum};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::TryInitError;

/// What is logged, and how.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    /// What is logged, as `RUST_LOG` writes it: a level, or `target=level` separated by commas.
    #[arg(long, env = "LANDFALL_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// Text for people or JSON for programs, one event a line.
    #[arg(long, env = "LANDFALL_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// The form of a log line.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// `2026-01-01T00:00:00Z INFO message field=value`
    Text,
    /// One JSON object a line.
    Json,
}

/// The filter could not be read, or a subscriber is there already.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is malformed.
    #[error("the log filter {filter:?} is malformed: {error}")]
    Filter {
        /// The filter as given.
        filter: String,
        /// What is wrong with it.
        error: tracing_subscriber::filter::ParseError,
    },
    /// A log is already running in this process.
    #[error(transparent)]
    Init(#[from] TryInitError),
}

/// What is logged by default. The client of the API server logs every failed request as an error, each retry anew;
/// whoever made the request says so in words of its own.
const DEFAULT: &str = "info,kube_client=off,tower=off";

impl LogArgs {
    /// Starts the log on standard output. `RUST_LOG` is used where no filter is given; the default is `info`.
    pub fn init(&self) -> Result<(), LogError> {
        self.init_without("")
    }

    /// [`Self::init`]; by default also filtered by `quiet`, for what the program says better itself.
    pub fn init_without(&self, quiet: &str) -> Result<(), LogError> {
        use tracing_subscriber::util::SubscriberInitExt;
        let text = self.log.clone().or_else(|| std::env::var("RUST_LOG").ok()).filter(|text| !text.is_empty());
        let text = text.unwrap_or_else(|| if quiet.is_empty() { DEFAULT.into() } else { format!("{DEFAULT},{quiet}") });
        let filter = EnvFilter::try_new(&text).map_err(|error| LogError::Filter { filter: text, error })?;
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stdout);
        match self.log_format {
            LogFormat::Text => builder.with_ansi(false).finish().try_init()?,
            LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).finish().try_init()?,
        }
        Ok(())
    }
}

/// Registers `landfall_build_info{version}`.
pub fn register_build_info(registry: &mut Registry) {
    let info = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("landfall_build", "The version that runs", info);
}
