//! Client certificates as curl and a browser show them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use landfall_e2e::browser::Browser;
use landfall_e2e::echo::Echo;
use landfall_e2e::ingress::{Ingress, Launch};
use landfall_e2e::manifests::{Folder, service};
use landfall_e2e::tools;
use serde_json::json;
use tempfile::TempDir;

const HOST: &str = "secure.lab.example";
/// What the backend says of a client whose certificate is right.
const SEEN: &str = "ssl-client-verify: SUCCESS";

/// Keys and certificates in files.
struct Pki(TempDir);

impl Pki {
    fn new() -> Result<Self> {
        let pki = Self(TempDir::new()?);
        for authority in ["lab", "strangers"] {
            let mut make = openssl(&["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"]);
            make.args(["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", &format!("/CN={authority} CA"), "-keyout"]);
            tools::run(make.arg(pki.file(authority, "key")).arg("-out").arg(pki.file(authority, "crt")))?;
        }
        pki.sign("lab", "server", &format!("subjectAltName=DNS:{HOST}"))?;
        pki.sign("lab", "ada", "extendedKeyUsage=clientAuth")?;
        pki.sign("strangers", "eve", "extendedKeyUsage=clientAuth")?;
        Ok(pki)
    }

    fn sign(&self, authority: &str, name: &str, extension: &str) -> Result<()> {
        let mut make = openssl(&["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"]);
        make.args(["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", &format!("/CN={name}"), "-addext", extension]);
        make.args(["-addext", "basicConstraints=critical,CA:FALSE", "-CA"]).arg(self.file(authority, "crt"));
        make.arg("-CAkey").arg(self.file(authority, "key")).arg("-keyout").arg(self.file(name, "key"));
        tools::run(make.arg("-out").arg(self.file(name, "crt")))?;
        Ok(())
    }

    /// The certificate and the key in one file, as a browser takes them.
    fn bundle(&self, name: &str) -> Result<PathBuf> {
        let file = self.file(name, "p12");
        let mut make = openssl(&["pkcs12", "-export", "-passout", "pass:", "-name", name, "-in"]);
        make.arg(self.file(name, "crt")).arg("-inkey").arg(self.file(name, "key"));
        tools::run(make.arg("-out").arg(&file))?;
        Ok(file)
    }

    fn file(&self, name: &str, kind: &str) -> PathBuf {
        self.0.path().join(format!("{name}.{kind}"))
    }

    fn encoded(&self, name: &str, kind: &str) -> Result<String> {
        tools::run(openssl(&["base64", "-A", "-in"]).arg(self.file(name, kind)))
    }
}

fn openssl(arguments: &[&str]) -> Command {
    let mut openssl = Command::new("openssl");
    openssl.args(arguments);
    openssl
}

async fn start(pki: &Pki, folder: &Folder) -> Result<Ingress> {
    let certificate = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "crt"}, "type": "kubernetes.io/tls",
        "data": {"tls.crt": pki.encoded("server", "crt")?, "tls.key": pki.encoded("server", "key")?},
    });
    let authority = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ca"},
        "data": {"ca.crt": pki.encoded("lab", "crt")?},
    });
    let backend = json!({"service": {"name": "web", "port": {"name": "http"}}});
    let ingress = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": "web", "annotations": {"nginx.ingress.kubernetes.io/auth-tls-secret": "default/ca"}},
        "spec": {
            "ingressClassName": "nginx", "tls": [{"hosts": [HOST], "secretName": "crt"}],
            "rules": [{"host": HOST, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}],
        },
    });
    folder.write("web.yaml", &format!("{certificate}\n---\n{authority}\n---\n{ingress}\n"))?;
    Launch::manifests(folder.path()).args(&["--no-access-log"]).start().await
}

/// The status that curl gets, with the certificate of `name` if there is one.
fn curl(pki: &Pki, port: u16, name: Option<&str>) -> Result<String> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--write-out", "%{http_code}", "--resolve", &format!("{HOST}:{port}:127.0.0.1")]);
    curl.arg("--cacert").arg(pki.file("lab", "crt"));
    if let Some(name) = name {
        let of = |kind: &str| pki.file(name, kind);
        curl.arg("--cert").arg(of("crt")).arg("--key").arg(of("key"));
    }
    tools::run(curl.arg(format!("https://{HOST}:{port}/who")))
}

async fn document(browser: &Browser, port: u16) -> Result<String> {
    browser.document(&format!("https://{HOST}:{port}/who")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_and_a_browser_are_let_in_by_their_certificates() -> Result<()> {
    let (pki, web, folder) = (Pki::new()?, Echo::local("web").await?, Folder::new()?);
    folder.write("services.yaml", &service("web", &[web.addr]))?;
    let server = start(&pki, &folder).await?;
    let port = server.https.port();

    for name in [None, Some("eve")] {
        let said = curl(&pki, port, name)?;
        ensure!(said.ends_with("400"), "{name:?}: {said}");
    }
    let said = curl(&pki, port, Some("ada"))?;
    ensure!(said.ends_with("200") && said.contains(SEEN) && said.contains("CN=ada"), "{said}");

    let root: &Path = &pki.file("lab", "crt");
    let (stranger, mut ada) = (Browser::new(&[HOST])?, Browser::new(&[HOST])?);
    stranger.trust(root)?;
    let page = document(&stranger, port).await?;
    ensure!(page.contains("400") && !page.contains(SEEN), "{page}");
    ada.trust(root)?;
    ada.identify(&pki.bundle("ada")?, &format!("https://{HOST}:{port}"))?;
    let page = document(&ada, port).await?;
    ensure!(page.contains(SEEN) && page.contains("CN=ada"), "{page}");
    Ok(())
}
