//! Arguments of the commands that look at what runs.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::Args;

use super::{Output, seconds};
use crate::replicas::ReplicaArgs;

/// `status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// Who is asked.
    #[command(flatten)]
    pub replicas: ReplicaArgs,
    /// Text or JSON.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// `tail`.
#[derive(Args, Debug)]
pub struct TailArgs {
    /// Who is asked.
    #[command(flatten)]
    pub replicas: ReplicaArgs,
    /// Text, or one JSON object a line.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Only requests whose host contains this.
    #[arg(long, value_name = "TEXT")]
    pub host: Option<String>,
    /// Only requests with one of these statuses or classes, as in 404,5xx.
    #[arg(long, value_name = "LIST")]
    pub status: Option<String>,
    /// Only requests of Ingresses whose namespace/name contains this.
    #[arg(long, value_name = "TEXT")]
    pub route: Option<String>,
    /// Only requests of this client or network.
    #[arg(long, value_name = "CIDR")]
    pub client: Option<String>,
    /// Only requests with this method.
    #[arg(long, value_name = "METHOD")]
    pub method: Option<String>,
    /// Only requests whose path contains this.
    #[arg(long, value_name = "TEXT")]
    pub path: Option<String>,
}

impl TailArgs {
    /// What is asked of the admin port.
    pub(crate) fn path(&self) -> String {
        let filters = [
            ("host", &self.host),
            ("status", &self.status),
            ("route", &self.route),
            ("client", &self.client),
            ("method", &self.method),
            ("path", &self.path),
        ];
        let given =
            filters.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded(value.as_deref()?))));
        let query: Vec<String> = given.collect();
        if query.is_empty() { "/status/live".to_owned() } else { format!("/status/live?{}", query.join("&")) }
    }
}

/// Everything but letters, digits and a few signs as `%41`.
fn encoded(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b',' | b':' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

/// `test`.
#[derive(Args, Debug)]
pub struct TestArgs {
    /// The namespace that is made, and removed with everything in it.
    #[arg(long, value_name = "NAME", default_value = "landfall-test")]
    pub test_namespace: String,
    /// The class of the Ingress.
    #[arg(long, value_name = "NAME", default_value = "landfall")]
    pub class: String,
    /// The image of the pods; by default that of the ingress that is installed.
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Where the ingress is asked; by default at the address in the status of the Ingress.
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<IpAddr>,
    /// The port of HTTP there.
    #[arg(long, value_name = "PORT", default_value_t = 80)]
    pub http_port: u16,
    /// The port of HTTPS there.
    #[arg(long, value_name = "PORT", default_value_t = 443)]
    pub https_port: u16,
    /// Bytes of a big body, in each direction.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20)]
    pub big_body: usize,
    /// Delete a pod of the ingress meanwhile, as a drain does, and count the requests that are lost.
    #[arg(long)]
    pub drain: bool,
    /// Kill the speaker that announces the address meanwhile, and count the requests that are lost.
    #[arg(long)]
    pub fail_over: bool,
    /// How long it may take until the ingress leads to the pods.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub patience: Duration,
    /// Text or JSON.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// `echo`.
#[derive(Args, Debug)]
pub struct EchoArgs {
    /// Where to listen.
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:8080")]
    pub listen: SocketAddr,
}

/// `completions`.
#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// The shell.
    pub shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Command};

    #[test]
    fn filters_of_tail_are_asked_for() {
        let words = ["landfall-ingress", "tail", "--host", "a b", "--status", "404,5xx", "--client", "192.0.2.0/24"];
        let Command::Tail(args) = Cli::parse_from(words).command else { panic!("tail") };
        assert_eq!(args.path(), "/status/live?host=a%20b&status=404,5xx&client=192.0.2.0/24");
        let Command::Tail(args) = Cli::parse_from(["landfall-ingress", "tail"]).command else { panic!("tail") };
        assert_eq!(args.path(), "/status/live");
    }
}
