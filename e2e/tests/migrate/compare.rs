//! `--compare`: two controllers are asked the same.

use std::time::Instant;

use anyhow::Result;
use landfall_e2e::echo::Echo;
use landfall_e2e::ingress::{Ingress, Launch};
use landfall_e2e::manifests::{self, Folder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::scene::migrate;

const INGRESSES: &str = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: shop
  annotations: {nginx.ingress.kubernetes.io/enable-cors: \"true\"}
spec:
  ingressClassName: nginx
  tls: [{hosts: [shop.example]}]
  rules:
  - host: shop.example
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}
      - {path: /docs/, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: moved
  annotations: {nginx.ingress.kubernetes.io/permanent-redirect: \"https://new.example\"}
spec:
  ingressClassName: nginx
  rules:
  - host: old.example
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: sticky
  annotations: {nginx.ingress.kubernetes.io/affinity: cookie, nginx.ingress.kubernetes.io/session-cookie-name: one}
spec:
  ingressClassName: nginx
  rules:
  - host: sticky.example
    http:
      paths:
      - {path: /app, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}
";

struct Side {
    folder: Folder,
    ingress: Ingress,
}

impl Side {
    async fn start(echo: &Echo, edit: impl Fn(&str) -> String) -> Result<Self> {
        let folder = Folder::new()?;
        folder.write("services.yaml", &manifests::service("web", &[echo.addr]))?;
        folder.write("ingresses.yaml", &edit(INGRESSES))?;
        let ingress = Launch::manifests(folder.path()).start().await?;
        Ok(Self { folder, ingress })
    }

    fn address(&self) -> String {
        format!("http://{},https://{}", self.ingress.http, self.ingress.https)
    }
}

async fn compared(old: &Side, new: &Side, more: &[&str]) -> Result<(Option<i32>, String)> {
    let (path, old, new) = (old.folder.path().display().to_string(), old.address(), new.address());
    let mut arguments: Vec<String> =
        ["--manifests", &path, "--compare", &old, "--new", &new, "--rate", "1000"].map(str::to_owned).to_vec();
    arguments.extend(more.iter().map(ToString::to_string));
    // The servers run on this thread's runtime.
    let outcome = tokio::task::spawn_blocking(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        migrate(&arguments, &[])
    });
    let (code, out, said) = outcome.await??;
    anyhow::ensure!(out.contains("compared "), "{said}");
    Ok((code, out))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_controllers_answer_differently_is_printed() -> Result<()> {
    let echo = Echo::local("web").await?;
    let old = Side::start(&echo, str::to_owned).await?;
    let same = Side::start(&echo, str::to_owned).await?;
    let (code, out) = compared(&old, &same, &[]).await?;
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("no difference"), "{out}");

    let new = Side::start(&echo, |text| {
        text.replace("https://new.example", "https://newer.example")
            .replace("session-cookie-name: one", "session-cookie-name: two")
            .replace("/docs/", "/docs")
            .replace("enable-cors: \"true\"", "enable-cors: \"false\"")
    })
    .await?;
    let (code, out) = compared(&old, &new, &[]).await?;
    assert_eq!(code, Some(1), "{out}");
    for part in [
        "GET http://old.example/ (default/moved): location: https://new.example -> https://newer.example",
        "GET http://sticky.example/app (default/sticky): cookies: one -> two",
        "GET https://shop.example/docs (default/shop): status: 301 -> 200",
        "OPTIONS https://shop.example/ (default/shop): status: 204 -> 200",
        "access-control-allow-origin: * -> (none)",
    ] {
        assert!(out.contains(part), "{part:?} is not in: {out}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_and_time_are_bounded() -> Result<()> {
    let echo = Echo::local("web").await?;
    let (old, new) = (Side::start(&echo, str::to_owned).await?, Side::start(&echo, str::to_owned).await?);
    let (_, out) = compared(&old, &new, &["--max-requests", "5"]).await?;
    assert!(out.contains(": 5 requests to each") && out.contains("more were left out by --max-requests"), "{out}");
    let (_, out) = compared(&old, &new, &["--time-limit", "0"]).await?;
    assert!(out.contains(": 0 requests to each") && out.contains("since the time was up"), "{out}");
    let begun = Instant::now();
    // Five in a second, the first at once.
    let path = old.folder.path().display().to_string();
    let (a, b) = (old.address(), new.address());
    let arguments = ["--manifests", &path, "--compare", &a, "--new", &b, "--rate", "5", "--max-requests", "6"];
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    tokio::task::spawn_blocking(move || migrate(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), &[]))
        .await??;
    assert!(begun.elapsed().as_millis() >= 1000, "six requests at five in a second took {:?}", begun.elapsed());
    Ok(())
}

/// Answers every request with 204, and tells its first line.
async fn recorder() -> Result<(String, mpsc::UnboundedReceiver<String>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}", listener.local_addr()?);
    let (told, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let told = told.clone();
            tokio::spawn(async move {
                let mut bytes = vec![0; 4096];
                let count = stream.read(&mut bytes).await.unwrap_or_default();
                let request = String::from_utf8_lossy(&bytes[..count]).into_owned();
                let _ = told.send(request);
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
            });
        }
    });
    Ok((address, heard))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_requests_that_change_nothing_are_sent() -> Result<()> {
    let folder = Folder::new()?;
    folder.write("ingresses.yaml", INGRESSES)?;
    let ((old, mut heard), (new, _other)) = (recorder().await?, recorder().await?);
    let path = folder.path().display().to_string();
    let outcome = tokio::task::spawn_blocking(move || {
        migrate(&["--manifests", &path, "--compare", &old, "--new", &new, "--rate", "1000"], &[])
    });
    let (code, out, said) = outcome.await??;
    assert_eq!(code, Some(0), "{said}");
    assert!(out.contains("no difference"), "{out}");
    let mut heads = Vec::new();
    while let Ok(head) = heard.try_recv() {
        heads.push(head);
    }
    assert!(heads.len() >= 10, "{heads:?}");
    for head in &heads {
        let safe = ["GET ", "HEAD ", "OPTIONS "].iter().any(|method| head.starts_with(method));
        let bare = !head.to_ascii_lowercase().contains("content-length") && head.ends_with("\r\n\r\n");
        assert!(safe && bare && head.contains("User-Agent: landfall-migrate/"), "{head}");
    }
    for line in ["GET / ", "HEAD / ", "OPTIONS / ", "GET /docs ", "GET /docs/ ", "GET /landfall-compare-unknown "] {
        assert!(heads.iter().any(|head| head.starts_with(line)), "{line} was not sent: {heads:?}");
    }
    assert!(heads.iter().any(|head| head.contains("Host: landfall-compare.invalid")), "{heads:?}");
    Ok(())
}
