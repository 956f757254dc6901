//! What the tests share: running the program, a certificate, and a backend that speaks TLS.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};
use landfall_e2e::tools;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// Exit status, standard output, and both streams.
pub(crate) type Outcome = (Option<i32>, String, String);

/// Runs `landfall-ingress migrate`.
pub(crate) fn migrate(arguments: &[&str], environment: &[(&str, &Path)]) -> Result<Outcome> {
    let mut command = Command::new(tools::program("landfall-ingress")?);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LANDFALL_")) {
        command.env_remove(name);
    }
    command.env_remove("KUBECONFIG").arg("migrate").args(arguments).envs(environment.iter().copied());
    let (output, said) = tools::run_any(&mut command)?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned(), said))
}

/// The report about a folder, as data.
pub(crate) fn report_on(folder: &Path) -> Result<Value> {
    let (_, out, said) = migrate(&["-o", "json", "--manifests", &folder.display().to_string()], &[])?;
    serde_json::from_str(&out).with_context(|| said)
}

/// An authority and a certificate by it.
#[derive(Debug)]
pub(crate) struct Pki {
    pub(crate) authority: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Pki {
    pub(crate) fn new(names: &[&str]) -> Result<Self> {
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate()?;
        let authority_pem = authority.self_signed(&authority_key)?.pem();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate()?;
        let issuer = Issuer::new(authority, authority_key);
        let certificate = CertificateParams::new(names)?.signed_by(&key, &issuer)?;
        Ok(Self { authority: authority_pem, certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// A Secret with all of it.
    pub(crate) fn secret(&self, namespace: &str, name: &str, kind: &str) -> String {
        let block = |text: &str| text.lines().flat_map(|line| ["    ", line, "\n"]).collect::<String>();
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\ntype: {kind}\n\
             stringData:\n  tls.crt: |\n{}  tls.key: |\n{}  ca.crt: |\n{}",
            block(&self.certificate),
            block(&self.key),
            block(&self.authority)
        )
    }
}

/// A backend that speaks TLS and hands on to one that does not.
#[derive(Debug)]
pub(crate) struct Secure {
    pub(crate) addr: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Secure {
    pub(crate) async fn before(plain: SocketAddr, pki: &Pki) -> Result<Self> {
        let chain = vec![CertificateDer::from_pem_slice(pki.certificate.as_bytes())?];
        let key = PrivateKeyDer::from_pem_slice(pki.key.as_bytes())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = config.with_no_client_auth().with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut client = acceptor.accept(stream).await?;
                    let mut server = TcpStream::connect(plain).await?;
                    copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
        Ok(Self { addr, accepting })
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
