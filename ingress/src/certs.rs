//! `certs`: how the automatic certificates of a running ingress stand.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::cli::{CertsArgs, Output};

const PATIENCE: Duration = Duration::from_secs(10);

/// Prints the certificates; exits with 1 if one is not as it should be.
pub fn run(args: &CertsArgs) -> anyhow::Result<ExitCode> {
    let mut status = status(args.admin).with_context(|| format!("cannot ask {}", args.admin))?;
    let certificates = status["certificates"].take();
    let list = certificates.as_array().context("this ingress says nothing of certificates")?;
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&certificates)?),
        Output::Text => print!("{}", text(list)),
    }
    let is_well = |one: &Value| matches!(one["state"].as_str(), Some("issued" | "foreign"));
    Ok(if list.iter().all(is_well) { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// `GET /status` of the admin port.
fn status(admin: SocketAddr) -> anyhow::Result<Value> {
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /status HTTP/1.0\r\nHost: admin\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is cut off")?;
    if head.split_whitespace().nth(1) != Some("200") {
        bail!("the answer is {:?}", head.lines().next().unwrap_or_default());
    }
    Ok(serde_json::from_str(body)?)
}

fn text(list: &[Value]) -> String {
    if list.is_empty() {
        return "no certificates are asked for\n".to_owned();
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut text = String::new();
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let when = |value: &Value| value.as_u64().map_or("-".to_owned(), |time| from_now(time, now));
    for one in list {
        let (namespace, secret) = (word(&one["namespace"]), word(&one["secret"]));
        let _ = write!(text, "{namespace}/{secret}: {}, issuer {}", word(&one["state"]), word(&one["issuer"]));
        let revoked = if one["isRevoked"] == true { ", revoked" } else { "" };
        let _ = writeln!(text, "{revoked}, expires {}, renews {}", when(&one["expires"]), when(&one["renewsAt"]));
        for (label, value) in [("waiting for", &one["waitingFor"]), ("last error", &one["lastError"])] {
            if let Some(value) = value.as_str() {
                let _ = writeln!(text, "  {label}: {value}");
            }
        }
        if one["nextTry"].is_u64() {
            let _ = writeln!(text, "  next try {}", when(&one["nextTry"]));
        }
        for host in one["hosts"].as_array().into_iter().flatten() {
            let covered = if host["isCovered"] == true { "has a certificate" } else { "has none" };
            let _ = write!(text, "  {}: {covered}", word(&host["host"]));
            if let Some(error) = host["lastError"].as_str() {
                let _ = match host["failures"].as_u64() {
                    // Nothing was tried: its issuer does not sign for it.
                    Some(0) | None => write!(text, ": {error}"),
                    Some(failures) => {
                        write!(text, "; failed {failures} times, next try {}: {error}", when(&host["nextTry"]))
                    }
                };
            }
            if let Some(remedy) = host["remedy"].as_str() {
                let _ = write!(text, "; {remedy}");
            }
            text.push('\n');
        }
    }
    text
}

/// A time in words: `in 12 d`, `5 min ago`.
fn from_now(time: u64, now: u64) -> String {
    let distance = time.abs_diff(now);
    let span = match distance {
        0..120 => format!("{distance} s"),
        120..7_200 => format!("{} min", distance / 60),
        7_200..172_800 => format!("{} h", distance / 3_600),
        _ => format!("{} d", distance / 86_400),
    };
    if time >= now { format!("in {span}") } else { format!("{span} ago") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_certificate_is_told_with_what_is_in_the_way() {
        let list = [json!({
            "namespace": "shop", "secret": "web", "issuer": "default", "state": "failed", "lastError": "no address",
            "waitingFor": "the next try of a.example", "nextTry": 5, "expires": null, "renewsAt": null,
            "hosts": [{"host": "a.example", "isCovered": false, "lastError": "no address", "remedy": "add a record",
                       "failures": 2, "nextTry": 5}],
        })];
        let said = text(&list);
        for part in
            ["shop/web: failed, issuer default", "last error: no address", "a.example: has none; failed 2 times"]
        {
            assert!(said.contains(part), "{said}");
        }
        assert!(said.contains("add a record"), "{said}");
    }

    #[test]
    fn times_are_told_from_now() {
        assert_eq!(from_now(1_000, 100), "in 15 min");
        assert_eq!(from_now(0, 10 * 86_400), "10 d ago");
    }
}
