//! `ca`: the root of the CA of our own, and how devices come to trust it.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use landfall_shared::source::kubernetes;

use crate::acme::ROOTS;
use crate::cli::{CaArgs, CaCommand, RootArgs, System};

const PATIENCE: Duration = Duration::from_secs(10);

/// Prints the root, or how to install it.
pub fn run(args: &CaArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        CaCommand::Root(args) => print!("{}", root(args)?),
        CaCommand::Install(args) => print!("{}", install(&args.systems)),
    }
    Ok(ExitCode::SUCCESS)
}

fn root(args: &RootArgs) -> anyhow::Result<String> {
    if let Some(folder) = &args.state_dir {
        let path = folder.join(ROOTS);
        return std::fs::read_to_string(&path).with_context(|| {
            format!(
                "cannot read {}, which is there once a certificate of issuer internal was asked for",
                path.display()
            )
        });
    }
    match &args.namespace {
        Some(namespace) => from_cluster(namespace, &args.lease),
        None => from_admin(args.admin).with_context(|| format!("cannot ask {}", args.admin)),
    }
}

fn from_cluster(namespace: &str, lease: &str) -> anyhow::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let name = format!("{lease}-ca");
    let found = runtime.block_on(async {
        // Fails only if somebody was faster, which is then the same provider.
        let _ = rustls::crypto::CryptoProvider::install_default((*crate::crypto_provider()).clone());
        let client = kubernetes::client().await.context("no API server is configured; set KUBECONFIG")?;
        let maps: Api<ConfigMap> = Api::namespaced(client, namespace);
        maps.get_opt(&name).await.with_context(|| format!("cannot read ConfigMap {namespace}/{name}"))
    });
    runtime.shutdown_background();
    let text = found?.and_then(|map| map.data?.remove(ROOTS));
    text.with_context(|| {
        format!(
            "there is no ConfigMap {namespace}/{name} with {ROOTS}; it is there once a certificate of issuer internal \
             was asked for"
        )
    })
}

/// `GET /ca.crt` of the admin port.
fn from_admin(admin: SocketAddr) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /ca.crt HTTP/1.0\r\nHost: admin\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is cut off")?;
    match head.split_whitespace().nth(1) {
        Some("200") => Ok(body.to_owned()),
        Some("404") => {
            bail!("it has no CA of its own; there is one once a certificate of issuer internal was asked for")
        }
        _ => bail!("the answer is {:?}", head.lines().next().unwrap_or_default()),
    }
}

/// How each system comes to trust `ca.crt`.
fn install(systems: &[System]) -> String {
    let all: Vec<System> = if systems.is_empty() { System::ALL.to_vec() } else { systems.to_vec() };
    let mut text =
        "# Each of these trusts the root in the file ca.crt, which `landfall-ingress ca root > ca.crt` writes. \
                    It vouches only\n# for the names that it was made for.\n"
            .to_owned();
    for system in all {
        text.push('\n');
        text.push_str(lines(system));
    }
    text
}

/// The file as it stands in docs/https.md, too.
const fn lines(system: System) -> &'static str {
    match system {
        System::Linux => include_str!("ca/linux.txt"),
        System::Macos => include_str!("ca/macos.txt"),
        System::Windows => include_str!("ca/windows.txt"),
        System::Ios => include_str!("ca/ios.txt"),
        System::Android => include_str!("ca/android.txt"),
        System::Firefox => include_str!("ca/firefox.txt"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_has_the_same_lines() {
        let guide = include_str!("../../docs/https.md");
        for system in System::ALL {
            for line in lines(system).lines().filter(|line| !line.starts_with('#')) {
                assert!(guide.contains(line.trim()), "docs/https.md lacks {line:?}");
            }
        }
    }

    #[test]
    fn systems_can_be_chosen() {
        let text = install(&[System::Firefox]);
        assert!(text.contains("about:preferences") && !text.contains("certutil -addstore"), "{text}");
        assert!(install(&[]).contains("certutil -addstore"));
    }
}
