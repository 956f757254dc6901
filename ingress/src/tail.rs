//! `tail`: requests as they happen, of all replicas in one stream.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::bail;
use landfall_shared::look;
use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};
use tokio::sync::mpsc;

use crate::cli::{Output, TailArgs};
use crate::replicas::{self, Replica};

/// Lines that may wait to be printed, for each replica.
const WAITING: usize = 256;

/// Prints requests until it is stopped or no replica is left.
pub fn run(args: &TailArgs) -> anyhow::Result<ExitCode> {
    crate::once(async {
        let path = args.path();
        let replicas = replicas::find(&args.replicas).await?;
        let several = replicas.len() > 1;
        let (sender, mut lines) = mpsc::channel(WAITING);
        for replica in replicas {
            let (sender, path, output) = (sender.clone(), path.clone(), args.output);
            tokio::spawn(async move {
                let outcome = follow(&replica, &path, |line| {
                    let sender = sender.clone();
                    let line = line.as_ref().map(|event| written(&replica, event, output, several));
                    async move {
                        match line {
                            Some(line) => sender.send(Ok(line)).await.is_ok(),
                            None => !sender.is_closed(),
                        }
                    }
                });
                if let Err(error) = outcome.await {
                    let _ = sender.send(Err(format!("{}: {error:#}", replica.name))).await;
                }
            });
        }
        drop(sender);
        let mut failed = false;
        let mut out = std::io::stdout();
        while let Some(line) = lines.recv().await {
            match line {
                // Whoever read has gone, as `head` does.
                Ok(line) if writeln!(out, "{line}").is_err() => return Ok(ExitCode::SUCCESS),
                Ok(_) => {}
                Err(error) => {
                    failed = true;
                    eprintln!("landfall-ingress: {error}");
                }
            }
        }
        if failed {
            bail!("no replica is left to watch");
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Watches one replica until it ends, or until `tell` wants no more; a comment is told as `None`.
async fn follow<F: Future<Output = bool>>(
    replica: &Replica,
    path: &str,
    tell: impl Fn(Option<Event>) -> F,
) -> anyhow::Result<()> {
    let mut body = look::open(replica.connect().await?, path).await?;
    while let Some(event) = next(&mut body).await? {
        if !tell(event).await {
            return Ok(());
        }
    }
    bail!("the replica has ended")
}

/// A server-sent event (HTML Standard, section 9.2.6).
#[derive(Debug, PartialEq)]
struct Event {
    kind: String,
    data: Value,
}

/// The next event; `Some(None)` for something that is to be left out, `None` at the end.
async fn next(body: &mut (impl AsyncBufRead + Unpin)) -> anyhow::Result<Option<Option<Event>>> {
    let (mut kind, mut data) = ("message".to_owned(), String::new());
    let mut line = String::new();
    loop {
        line.clear();
        if body.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let text = line.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            let data = serde_json::from_str(&data).ok();
            return Ok(Some(data.map(|data| Event { kind, data })));
        }
        let (name, value) = text.split_once(':').unwrap_or((text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut kind),
            "data" => data.push_str(value),
            _ => {}
        }
    }
}

fn written(replica: &Replica, event: &Event, output: Output, several: bool) -> String {
    if output == Output::Json {
        let mut data = event.data.clone();
        data["event"] = event.kind.as_str().into();
        data["replica"] = replica.name.as_str().into();
        return data.to_string();
    }
    let prefix = if several { format!("{} ", replica.name) } else { String::new() };
    let text = match event.kind.as_str() {
        "request" => request(&event.data),
        "dropped" => format!("… {} requests are not shown: there are more than can be", event.data["dropped"]),
        "replica" => format!("watching {}", event.data["replica"].as_str().unwrap_or(&replica.name)),
        other => format!("{other}: {}", event.data),
    };
    prefix + &text
}

/// `200 GET https://shop.example/cart 3.2 ms from 192.0.2.7 by shop/web to 10.0.0.7:8080`
fn request(data: &Value) -> String {
    let text = |name: &str| data[name].as_str().unwrap_or("-");
    let mut line = format!(
        "{} {} {}://{}{} {:.1} ms from {}",
        data["status"],
        text("method"),
        text("scheme"),
        text("host"),
        text("path"),
        data["duration_ms"].as_f64().unwrap_or_default(),
        text("client.addr"),
    );
    if let (Some(namespace), Some(name)) = (data["namespace"].as_str(), data["ingress"].as_str()) {
        let _ = write!(line, " by {namespace}/{name}");
    }
    if let Some(upstream) = data["upstream.addr"].as_str() {
        let _ = write!(line, " to {upstream}");
    }
    if let Some(error) = data["error"].as_str() {
        let _ = write!(line, ": {error}");
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn events_are_read_as_they_come() {
        let text = "event: replica\ndata: {\"replica\":\"a\"}\n\n: still here\n\nevent: request\r\ndata: {\"status\":200}\r\n\r\nevent: cut";
        let mut body = text.as_bytes();
        let event = |kind: &str, data| Some(Some(Event { kind: kind.to_owned(), data }));
        assert_eq!(next(&mut body).await.unwrap(), event("replica", json!({"replica": "a"})));
        assert_eq!(next(&mut body).await.unwrap(), Some(None));
        assert_eq!(next(&mut body).await.unwrap(), event("request", json!({"status": 200})));
        assert_eq!(next(&mut body).await.unwrap(), None);
    }

    #[test]
    fn a_request_is_one_line() {
        let data = json!({"status": 503, "method": "GET", "scheme": "https", "host": "shop.example", "path": "/cart?x=***",
            "duration_ms": 3.21, "client.addr": "192.0.2.7", "namespace": "shop", "ingress": "web", "error": "no endpoint"});
        assert_eq!(
            request(&data),
            "503 GET https://shop.example/cart?x=*** 3.2 ms from 192.0.2.7 by shop/web: no endpoint"
        );
    }
}
