//! What a backend is told about its client by an installation with nothing but defaults.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use http::Request;
use http::header::ACCEPT;
use landfall_e2e::client::{self, Answer, Client};
use landfall_e2e::testbed::{Host, Namespace};
use landfall_e2e::tls::Trust;
use landfall_e2e::tools;
use serde_json::Value;

use crate::stage::{Stage, play};

const APP: &str = include_str!("zero_drop.yaml");
/// The host of the certificates that `hack/quickstart-pki` makes.
const HOST: &str = "shop.localhost";
const CLIENT: &str = "192.168.77.100";
/// What a client must not make a backend believe.
const FORGED: [(&str, &str); 4] = [
    ("x-forwarded-for", "203.0.113.9"),
    ("x-forwarded-proto", "gopher"),
    ("x-forwarded-host", "evil.test"),
    ("x-forwarded-port", "70"),
];

/// How a request reaches the ingress.
#[derive(Clone, Copy, Debug)]
enum Way {
    Http1,
    Https1,
    Https2,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_is_told_the_truth() -> Result<()> {
    play("headers", scenario).await
}

async fn scenario(stage: &Stage, namespace: &Namespace<'_>) -> Result<()> {
    let keys = tempfile::TempDir::new()?;
    tools::run(Command::new(tools::checkout().join("hack/quickstart-pki")).args([keys.path(), keys.path()]))?;
    namespace.apply(&std::fs::read_to_string(keys.path().join("shop-tls.secret.yaml"))?)?;
    namespace.apply(APP)?;
    stage.testbed.rolled_out(namespace.name(), "deployment/app")?;
    stage.get_until(stage.ingress, 80, (HOST, "/"), |answer| answer.status == 200).await?;
    let trust = Trust::from_file(&keys.path().join("ca.crt"))?;
    for (way, scheme, port) in
        [(Way::Http1, "http", "80"), (Way::Https1, "https", "443"), (Way::Https2, "https", "443")]
    {
        let (ingress, trust) = (stage.ingress, trust.clone());
        let answer = stage.testbed.run_on(Host::Client, move || ask(ingress, way, trust)).await?;
        let seen: Value = serde_json::from_slice(&answer.body).context("the backend's answer")?;
        println!("{way:?}: the backend sees {seen:#}\nand the client gets {} {:#?}", answer.status, answer.headers);
        let headers = &seen["headers"];
        for (name, expected) in [
            ("x-forwarded-for", CLIENT),
            ("x-forwarded-proto", scheme),
            ("x-forwarded-host", HOST),
            ("x-forwarded-port", port),
            ("host", HOST),
        ] {
            ensure!(headers[name] == expected, "{way:?}: {name} is {}, not {expected}", headers[name]);
        }
        ensure!(!headers.to_string().contains("203.0.113.9"), "{way:?}: a forged address came through: {headers}");
    }
    Ok(())
}

async fn ask(ingress: IpAddr, way: Way, trust: Trust) -> Result<Answer> {
    let at = |port| SocketAddr::new(ingress, port);
    let mut client = match way {
        Way::Http1 => Client::http1(at(80)).await?,
        Way::Https1 => Client::https1(at(443), HOST, &trust).await?,
        Way::Https2 => Client::https2(at(443), HOST, &trust).await?,
    };
    let mut request = Request::get("/as/seen?by=the+backend").header(ACCEPT, "application/json");
    for (name, value) in FORGED {
        request = request.header(name, value);
    }
    client.send(HOST, request.body(client::empty())?).await
}
