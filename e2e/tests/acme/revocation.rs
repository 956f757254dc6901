//! Certificates that a CA has revoked, and keys that are renewed with them.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use landfall_e2e::{tools, wait};
use nix::sys::signal::Signal;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData, RevokedCertParams, SerialNumber, SigningKey,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::stage::{ALONE, PATIENCE, Stage, asked, becomes_secure, decode, ingress, serial, stands};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_certificate_is_replaced_at_once_and_gets_another_key_whatever_the_rotation() -> Result<()> {
    let _together = ALONE.read().await;
    let mut stage = Stage::new(json!({})).await?;
    stage.pebble = stage.pebble.env("PEBBLE_WFE_NONCEREJECT", "0");
    stage.pebble.start().await?;
    stage.pebble.lead_all_here()?;
    // What another CA has issued and revoked; only its list says so.
    stage.keep_a_revoked_one("listed").await?;
    let hosts = ["revoked", "old", "listed"];
    let all: String = hosts.iter().map(|name| ingress(name, &[&format!("{name}.test")], &asked())).collect();
    stage.folder.write("shops.yaml", &all)?;
    let mut first = stage.ingress(&["--acme-key-rotation", "never"]).await?;
    let trust = stage.pebble.trust()?;
    for name in hosts {
        becomes_secure(&first, &format!("{name}.test"), &trust, PATIENCE).await?;
    }
    assert!(first.log().contains("it stands on its list of revoked certificates"), "{}", first.log());
    assert_eq!(stage.pebble.orders(), 3);
    let before = serial(first.https, "revoked.test", &trust).await?;
    let key =
        |name: &str| Ok::<_, anyhow::Error>(stage.certificate(&format!("{name}-tls"))?["data"]["tls.key"].clone());
    let keys = [key("revoked")?, key("old")?];
    wait::until(PATIENCE, "the question when to renew", || async {
        let windows = stage.shared()?["state"]["certificates"].to_string().matches("\"window\":[").count();
        ensure!(windows == 3, "{windows}");
        Ok(())
    })
    .await?;

    // The CA says six hours later what it knows now; here the time of the next question is changed instead.
    first.signal(Signal::SIGKILL)?;
    first.ended(PATIENCE).await?;
    stage.revoke("revoked")?;
    let old = decode(stage.certificate("old-tls")?["data"]["tls.crt"].as_str().context("no certificate")?)?;
    let end = tools::run(Command::new("date").args(["-u", "-d", "+1 hour", "+%FT%TZ"]))?;
    stage.pebble.set_renewal(&old, "2020-01-01T00:00:00Z", end.trim())?;
    stage.ask_now()?;
    let second = stage.ingress(&["--acme-key-rotation", "never"]).await?;
    wait::until(PATIENCE, "another certificate", || async {
        ensure!(stage.pebble.orders() == 5, "{} orders", stage.pebble.orders());
        ensure!(serial(second.https, "revoked.test", &trust).await? != before, "it is the same");
        Ok(())
    })
    .await?;
    for name in hosts {
        stands(&second, &format!("{name}-tls"), |one| one["state"] == "issued" && one["isRevoked"] == false).await?;
    }
    assert!(second.log().contains("the CA has a certificate replaced"), "{}", second.log());
    assert_eq!(stage.pebble.log().matches("has been marked as replaced").count(), 2, "both say what they replace");
    assert_eq!(key("old")?, keys[1], "the same key goes on");
    assert_ne!(key("revoked")?, keys[0], "a key that somebody else may have does not");
    Ok(())
}

impl Stage {
    fn shared(&self) -> Result<Value> {
        Ok(serde_json::from_str(&std::fs::read_to_string(self.state.path().join("acme/shared.json"))?)?)
    }

    /// Has the CA asked about all certificates at the next start.
    fn ask_now(&self) -> Result<()> {
        let mut shared = self.shared()?;
        let certificates = shared["state"]["certificates"].as_object_mut().context("no certificates")?;
        for (_, state) in certificates {
            state["renewal"]["check"] = 0.into();
        }
        Ok(std::fs::write(self.state.path().join("acme/shared.json"), shared.to_string())?)
    }

    /// Revokes a certificate by its own key (RFC 8555 section 7.6), as anybody may who has it.
    fn revoke(&self, name: &str) -> Result<()> {
        let secret = self.certificate(&format!("{name}-tls"))?;
        let entry = |entry: &str| decode(secret["data"][entry].as_str().unwrap_or_default());
        let key = KeyPair::from_pem(&entry("tls.key")?)?;
        let (_, pem) = x509_parser::pem::parse_x509_pem(entry("tls.crt")?.as_bytes())?;
        let base = format!("https://127.0.0.1:{}", self.pebble.port);
        let head = tools::run(Command::new("curl").args(["-fsSkI", &format!("{base}/nonce-plz")]))?;
        let mut fields = head.lines().filter_map(|line| line.split_once(": "));
        let nonce = fields.find(|(name, _)| name.eq_ignore_ascii_case("replay-nonce")).context("no nonce")?.1.trim();
        let point = key.der_bytes();
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": url64(&point[1..33]), "y": url64(&point[33..])});
        let url = format!("{base}/revoke-cert");
        let protected = url64(json!({"alg": "ES256", "jwk": jwk, "nonce": nonce, "url": url}).to_string().as_bytes());
        let payload = url64(json!({"certificate": url64(&pem.contents), "reason": 1}).to_string().as_bytes());
        let signature = url64(&fixed(&key.sign(format!("{protected}.{payload}").as_bytes())?)?);
        let body = json!({"protected": protected, "payload": payload, "signature": signature}).to_string();
        let kind = "Content-Type: application/jose+json";
        tools::run(Command::new("curl").args(["-fsSk", "-H", kind, "-d", &body, &url])).map(drop)
    }

    /// Keeps a certificate as if it had been ordered before, which the CA that signed it has revoked.
    async fn keep_a_revoked_one(&self, name: &str) -> Result<()> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca_key = KeyPair::generate()?;
        let ca_pem = ca.self_signed(&ca_key)?.pem();
        let issuer = Issuer::new(ca, ca_key);
        let mut leaf = CertificateParams::new(vec![format!("{name}.test")])?;
        leaf.serial_number = Some(SerialNumber::from(7));
        leaf.use_authority_key_identifier_extension = true;
        let url = format!("http://{}/list.crl", listener.local_addr()?);
        leaf.crl_distribution_points = vec![CrlDistributionPoint { uris: vec![url] }];
        let key = KeyPair::generate()?;
        let chain = leaf.signed_by(&key, &issuer)?.pem() + &ca_pem;
        let list = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2026, 1, 1),
            next_update: rcgen::date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(7),
                revocation_time: rcgen::date_time_ymd(2026, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        serve(listener, list.signed_by(&issuer)?.der().to_vec());
        let annotations = json!({
            "landfall.dev/acme-issuer": "default",
            "landfall.dev/acme-fingerprint": format!("{} EcdsaP256 - -", self.pebble.directory()),
        });
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {
                "name": format!("{name}-tls"), "namespace": "default", "annotations": annotations,
                "labels": {"landfall.dev/acme": "managed"},
            },
            "data": BTreeMap::from([("tls.crt", base64(&chain)?), ("tls.key", base64(&key.serialize_pem())?)]),
        });
        let folder = self.state.path().join("acme/certificates/default");
        std::fs::create_dir_all(&folder)?;
        Ok(std::fs::write(folder.join(format!("{name}-tls.json")), secret.to_string())?)
    }
}

/// Answers every request with this list.
fn serve(listener: TcpListener, list: Vec<u8>) {
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = client.read(&mut request).await;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", list.len());
            let _ = client.write_all(&[head.as_bytes(), &list].concat()).await;
        }
    });
}

/// Base64 as Secrets have it.
fn base64(text: &str) -> Result<String> {
    let path = tempfile::NamedTempFile::new()?;
    std::fs::write(path.path(), text)?;
    Ok(tools::run(Command::new("base64").arg("-w0").arg(path.path()))?.trim().to_owned())
}

/// Base64 for URLs, without padding (RFC 4648 section 5).
fn url64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            let letter = usize::try_from(group >> (18 - 6 * place) & 63).unwrap_or_default();
            text.push(char::from(LETTERS[letter]));
        }
    }
    text
}

/// Both numbers of a signature in 32 bytes each (RFC 7518 section 3.4), from the form that certificates have.
fn fixed(der: &[u8]) -> Result<Vec<u8>> {
    let mut rest = der.get(2..).context("too short")?;
    let mut out = Vec::new();
    for _ in 0..2 {
        let length = usize::from(*rest.get(1).context("too short")?);
        let number = rest.get(2..2 + length).context("too short")?;
        let number = &number[number.len().saturating_sub(32)..];
        out.extend(std::iter::repeat_n(0, 32 - number.len()));
        out.extend_from_slice(number);
        rest = &rest[2 + length..];
    }
    Ok(out)
}
