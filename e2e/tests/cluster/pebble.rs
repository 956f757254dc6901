//! Let's Encrypt's server for tests beside the cluster.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use landfall_e2e::acme::VERSION;
use landfall_e2e::testbed::{Host, PATIENCE, Testbed};
use landfall_e2e::{tools, wait};
use serde_json::json;

/// The client, where the ACME server and its DNS server run.
pub(crate) const ACME: &str = "192.168.77.100";
/// The port of the DNS server.
pub(crate) const NAMES: u16 = 8053;

/// The host that the ACME server issues nothing for.
pub(crate) const REFUSED: &str = "refused.faults.test";

/// The ACME server and its DNS server, on the client.
pub(crate) struct Pebble<'a> {
    testbed: &'a Testbed,
    children: Vec<Child>,
    /// Whose word the server's own TLS is.
    certificate: PathBuf,
    log: PathBuf,
}

impl<'a> Pebble<'a> {
    /// Starts both; every name has the address `ingress`.
    pub(crate) async fn start(testbed: &'a Testbed, folder: &Path, ingress: IpAddr) -> Result<Self> {
        let (key, certificate) = (folder.join("acme.key"), folder.join("acme.crt"));
        let names = format!("subjectAltName=IP:{ACME}");
        let mut make = Command::new("openssl");
        make.args(["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-days", "2"]);
        // A server shows no certificate of an authority, though this one is its own.
        make.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        make.args(["-subj", "/CN=acme", "-addext", &names, "-keyout"]).arg(&key).arg("-out").arg(&certificate);
        tools::run(&mut make)?;
        let programs = tools::cache()?.join(format!("tools/pebble-{VERSION}"));
        ensure!(programs.join("pebble").exists(), "{} has no pebble: `make deps` builds it", programs.display());
        let settings = folder.join("pebble.json");
        let written = json!({"pebble": {
            "listenAddress": format!("{ACME}:14000"), "managementListenAddress": format!("{ACME}:15000"),
            "certificate": certificate, "privateKey": key, "keyAlgorithm": "ecdsa", "httpPort": 80, "tlsPort": 443,
            "domainBlocklist": [REFUSED],
        }});
        std::fs::write(&settings, written.to_string())?;
        let log = folder.join("acme.log");
        let mut server = Self { testbed, children: Vec::new(), certificate, log };
        let resolver = format!("{ACME}:{NAMES}");
        let none = ["-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "", "-defaultIPv6", ""];
        let mut dns = testbed.on(Host::Client, &programs.join("pebble-challtestsrv").to_string_lossy());
        server.spawn(dns.args(["-dnsserver", &resolver, "-defaultIPv4", &ingress.to_string()]).args(none))?;
        let mut acme = testbed.on(Host::Client, &programs.join("pebble").to_string_lossy());
        acme.arg("-config").arg(&settings).args(["-dnsserver", &resolver]);
        // It sleeps at random before it asks, and refuses one nonce in twenty; neither is what is tested.
        server.spawn(acme.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "0"))?;
        wait::until(PATIENCE, "the ACME server to listen", || async { server.root() }).await?;
        Ok(server)
    }

    /// The certificate of the server's own TLS, in Base64, as an Issuer of cert-manager has it.
    pub(crate) fn authority(&self) -> Result<String> {
        tools::run(Command::new("base64").args(["-w", "0"]).arg(&self.certificate))
    }

    /// The same in PEM.
    pub(crate) fn bundle(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.certificate)?)
    }

    /// How many orders it was asked for.
    pub(crate) fn orders(&self) -> usize {
        self.log().matches("Added order").count()
    }

    fn spawn(&mut self, command: &mut Command) -> Result<()> {
        let log = std::fs::File::options().create(true).append(true).open(&self.log)?;
        let spawned = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        self.children.push(spawned.context("not runnable; `make deps` installs pebble")?);
        Ok(())
    }

    /// The certificate of the authority that it issues by, made anew at each start.
    pub(crate) fn root(&self) -> Result<String> {
        let mut command = self.testbed.on(Host::Client, "curl");
        tools::run(command.args(["-fsSk", &format!("https://{ACME}:15000/roots/0")]))
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Pebble<'_> {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
