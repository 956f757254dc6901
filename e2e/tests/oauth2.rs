//! Sign-in by oauth2-proxy as its documentation has it for ingress-nginx, with an `OpenID` provider for tests, and by
//! a service that speaks as Authelia's documentation says.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::{Request, header};
use landfall_e2e::client::{Answer, Client, empty};
use landfall_e2e::echo::Echo;
use landfall_e2e::ingress::{Ingress, Launch};
use landfall_e2e::manifests::{Folder, service};
use landfall_e2e::{tools, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The version that is tested with; hack/deps builds it.
const VERSION: &str = "7.15.6";
const HOST: &str = "app.example";
const PATIENCE: Duration = Duration::from_secs(20);

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// oauth2-proxy and the provider that it asks.
struct SignIn {
    proxy: Option<Running>,
    _provider: Running,
    at: SocketAddr,
}

impl SignIn {
    async fn start(groups: usize) -> Result<Self> {
        let programs = tools::cache()?.join(format!("tools/oauth2-proxy-{VERSION}"));
        let there = programs.join("oauth2-proxy").exists() && programs.join("oidc").exists();
        ensure!(there, "{} has no oauth2-proxy: `hack/deps oauth2` builds it", programs.display());
        let issuer: SocketAddr = ([127, 0, 0, 1], tools::free_port()?).into();
        let at: SocketAddr = ([127, 0, 0, 1], tools::free_port()?).into();
        let mut provider = Command::new(programs.join("oidc"));
        provider.arg(format!("-address={issuer}")).arg(format!("-groups={groups}"));
        let provider = Running(provider.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        listens(issuer).await?;
        let mut proxy = Command::new(programs.join("oauth2-proxy"));
        proxy.args(["--provider=oidc", "--client-id=landfall", "--client-secret=secret", "--email-domain=*"]);
        proxy.args(["--cookie-secret=0123456789abcdef0123456789abcdef", "--cookie-secure=false"]);
        // Each session that is older than a second is renewed, so that its cookies come back by way of the question.
        proxy.args(["--cookie-refresh=1s", "--set-xauthrequest", "--reverse-proxy", "--upstream=static://202"]);
        proxy.args(["--skip-provider-button", "--code-challenge-method=S256", "--scope=openid email groups"]);
        proxy.arg(format!("--oidc-issuer-url=http://{issuer}/oidc")).arg(format!("--http-address={at}"));
        proxy.arg(format!("--redirect-url=http://{HOST}/oauth2/callback"));
        let proxy = Running(proxy.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        listens(at).await?;
        Ok(Self { proxy: Some(proxy), _provider: provider, at })
    }
}

async fn listens(at: SocketAddr) -> Result<()> {
    let connects = async || {
        tokio::net::TcpStream::connect(at).await?;
        Ok(())
    };
    wait::until(PATIENCE, &format!("{at} listens"), connects).await?;
    Ok(())
}

/// An Ingress of class nginx for [`HOST`].
fn ingress(name: &str, annotations: &[(&str, &str)], path: &str, service: &str) -> String {
    let annotation =
        |all, (name, value): &(&str, &str)| format!("{all}\n    nginx.ingress.kubernetes.io/{name}: {value:?}");
    let annotations = annotations.iter().fold(String::new(), annotation);
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: {name}\n  annotations:\n    a: b{annotations}\n\
         spec:\n  ingressClassName: nginx\n  rules:\n  - host: {HOST}\n    http:\n      paths:\n      - path: {path}\n        \
         pathType: Prefix\n        backend: {{service: {{name: {service}, port: {{name: http}}}}}}\n---\n"
    )
}

/// A browser as far as cookies go.
#[derive(Default)]
struct Browser(BTreeMap<String, String>);

impl Browser {
    async fn get(&mut self, at: SocketAddr, host: &str, path: &str, fields: &[(&str, &str)]) -> Result<Answer> {
        let mut request = Request::get(path);
        let cookies: Vec<String> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() && host == HOST {
            request = request.header(header::COOKIE, cookies.join("; "));
        }
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let answer = Client::http1(at).await?.send(host, request.body(empty())?).await?;
        for cookie in answer.headers.get_all(header::SET_COOKIE) {
            let pair = cookie.to_str()?.split(';').next().unwrap_or_default();
            let (name, value) = pair.split_once('=').context("a cookie without a value")?;
            if value.is_empty() {
                self.0.remove(name);
            } else {
                self.0.insert(name.to_owned(), value.to_owned());
            }
        }
        Ok(answer)
    }

    /// Signs in as oauth2-proxy's own links say, and returns where that leads.
    async fn sign_in(&mut self, ingress: &Ingress, start: &str) -> Result<String> {
        let (host, path) = parts(start)?;
        ensure!(host == HOST, "{start}");
        let started = self.get(ingress.http, HOST, path, &[]).await?;
        let (provider, path) = parts(location(&started)?)?;
        let agreed = self.get(provider.parse()?, provider, path, &[]).await?;
        let (host, path) = parts(location(&agreed)?)?;
        ensure!(host == HOST && path.starts_with("/oauth2/callback?"), "{agreed}");
        let signed = self.get(ingress.http, HOST, path, &[]).await?;
        ensure!(signed.status == 302, "{signed}");
        Ok(location(&signed)?.to_owned())
    }
}

fn location(answer: &Answer) -> Result<&str> {
    let location = answer.headers.get(header::LOCATION).with_context(|| format!("no Location: {answer}"))?;
    Ok(location.to_str()?)
}

/// Host with port, and the rest of a URL.
fn parts(url: &str) -> Result<(&str, &str)> {
    let rest = url.strip_prefix("http://").with_context(|| url.to_owned())?;
    let slash = rest.find('/').with_context(|| url.to_owned())?;
    Ok(rest.split_at(slash))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oauth2_proxy_signs_people_in_and_out() -> Result<()> {
    let mut sign_in = SignIn::start(400).await?;
    let (web, folder) = (Echo::local("web").await?, Folder::new()?);
    let question = format!("http://{}/oauth2/auth", sign_in.at);
    let guarded = [
        ("auth-url", question.as_str()),
        ("auth-signin", "http://$host/oauth2/start?rd=$escaped_request_uri"),
        ("auth-response-headers", "X-Auth-Request-User,X-Auth-Request-Email"),
    ];
    let cached = [("auth-cache-key", "$cookie__oauth2_proxy"), ("auth-cache-duration", "200 202 5m"), guarded[0]];
    folder.write("services.yaml", &(service("web", &[web.addr]) + &service("oauth2-proxy", &[sign_in.at])))?;
    let ingresses = [
        ingress("web", &guarded, "/", "web"),
        ingress("oauth2-proxy", &[("proxy-buffer-size", "64k")], "/oauth2", "oauth2-proxy"),
        ingress("api", &[guarded[0], guarded[2]], "/api", "web"),
        ingress("cached", &cached, "/cached", "web"),
    ];
    folder.write("ingresses.yaml", &ingresses.concat())?;
    let server = Launch::manifests(folder.path()).args(&["--no-access-log"]).start().await?;

    // A browser is sent to sign in, a program is told that it may not.
    let mut ada = Browser::default();
    let refused = ada.get(server.http, HOST, "/page?x=1&y=a%20b", &[]).await?;
    ensure!(refused.status == 302, "{refused}");
    let start = location(&refused)?.to_owned();
    ensure!(start == format!("http://{HOST}/oauth2/start?rd=%2Fpage%3Fx%3D1%26y%3Da%2520b"), "{start}");
    let refused = ada.get(server.http, HOST, "/api/things", &[("accept", "application/json")]).await?;
    ensure!(refused.status == 401 && refused.headers.get(header::LOCATION).is_none(), "{refused}");

    // Back where it wanted to be, and the backend learns who it is, whatever the client says of that.
    ensure!(ada.sign_in(&server, &start).await? == "/page?x=1&y=a%20b", "the way back");
    let spoof = [("x-auth-request-user", "root"), ("x-auth-request-email", "root@people.example")];
    for path in ["/page", "/api/things"] {
        let answer = ada.get(server.http, HOST, path, &spoof).await?;
        let text = answer.text();
        ensure!(answer.status == 200 && text.contains("ada@people.example") && !text.contains("root"), "{answer}");
    }

    // What is known of an answer holds without the service; nobody passes by what another one's cookie got.
    ensure!(ada.get(server.http, HOST, "/cached", &[]).await?.status == 200, "cached");

    // A session that is renewed comes back by the answer to the question.
    let before = ada.0.clone();
    wait::until(PATIENCE, "the session is renewed", async || {
        let mut again = Browser(before.clone());
        let answer = again.get(server.http, HOST, "/page", &[]).await?;
        ensure!(answer.status == 200 && again.0 != before, "no cookie: {answer}");
        Ok(())
    })
    .await?;

    // A session that takes several cookies.
    let mut grace = Browser::default();
    grace.sign_in(&server, &format!("http://{HOST}/oauth2/start?rd=%2F")).await?;
    let size: usize = grace.0.values().map(String::len).sum();
    ensure!(grace.0.len() > 1 && size > 4096, "{} cookies of {size} bytes", grace.0.len());
    let answer = grace.get(server.http, HOST, "/page", &[]).await?;
    ensure!(answer.status == 200 && answer.text().contains("grace@people.example"), "{answer}");

    // Whoever has signed out has to sign in again.
    let out = ada.get(server.http, HOST, "/oauth2/sign_out?rd=%2F", &[]).await?;
    ensure!(out.status == 302 && !ada.0.contains_key("_oauth2_proxy"), "{out}");
    ensure!(ada.get(server.http, HOST, "/page", &[]).await?.status == 302, "signed out");

    // Without the service nobody passes but those whose answer is known.
    sign_in.proxy = None;
    ensure!(grace.get(server.http, HOST, "/page", &[]).await?.status == 500, "the service is gone");
    let mut known = Browser(before);
    ensure!(known.get(server.http, HOST, "/cached", &[]).await?.status == 200, "the answer is kept");
    Ok(())
}

/// What Authelia's endpoint `/api/authz/auth-request` says, as its documentation has it: it goes by `X-Original-URL` and
/// `X-Original-Method`, and knows one session.
async fn authelia(listener: tokio::net::TcpListener) -> Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"\r\n\r\n") {
                let read = stream.read_buf(&mut bytes).await?;
                ensure!(read > 0, "it ends within a request");
            }
            let text = String::from_utf8(bytes)?;
            stream.write_all(opinion(&text).as_bytes()).await?;
            anyhow::Ok(())
        });
    }
}

fn opinion(request: &str) -> String {
    let field = |name: &str| {
        let mut lines = request.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    let asked = request.lines().next().unwrap_or_default();
    let (url, method) = (field("x-original-url"), field("x-original-method"));
    let answer = match (url, method) {
        (Some(url), Some(method)) if asked == "GET /api/authz/auth-request HTTP/1.1" => {
            let known = field("cookie").is_some_and(|cookie| cookie.contains("authelia_session=known"));
            let path = url.strip_prefix("http://app.example").unwrap_or_default();
            if !known {
                "401 Unauthorized\r\nLocation: https://auth.example/\r\nSet-Cookie: authelia_session=fresh".to_owned()
            } else if path.starts_with("/admin") || method == "DELETE" {
                "403 Forbidden".to_owned()
            } else {
                "200 OK\r\nRemote-User: john\r\nRemote-Groups: admins,dev\r\nRemote-Name: John Doe".to_owned()
            }
        }
        _ => "400 Bad Request".to_owned(),
    };
    format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_goes_by_the_original_url_decides() -> Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let question = format!("http://{}/api/authz/auth-request", listener.local_addr()?);
    tokio::spawn(authelia(listener));
    let (web, folder) = (Echo::local("web").await?, Folder::new()?);
    let annotations = [
        ("auth-method", "GET"),
        ("auth-url", question.as_str()),
        ("auth-signin", "https://auth.example?rm=$request_method"),
        ("auth-response-headers", "Remote-User,Remote-Name,Remote-Groups,Remote-Email"),
    ];
    folder.write("web.yaml", &(service("web", &[web.addr]) + "---\n" + &ingress("web", &annotations, "/", "web")))?;
    let server = Launch::manifests(folder.path()).args(&["--no-access-log"]).start().await?;

    let mut browser = Browser::default();
    let answer = browser.get(server.http, HOST, "/files/a?b=c", &[]).await?;
    ensure!(answer.status == 302, "{answer}");
    let place = format!("https://auth.example?rm=GET&rd=http://{HOST}%2Ffiles%2Fa%3Fb%3Dc");
    ensure!(location(&answer)? == place, "{answer}");
    ensure!(browser.0.get("authelia_session").is_some_and(|value| value == "fresh"), "the cookie is handed on");

    browser.0.insert("authelia_session".to_owned(), "known".to_owned());
    let spoof = [("remote-user", "root"), ("remote-email", "root@example")];
    let answer = browser.get(server.http, HOST, "/files/a?b=c", &spoof).await?;
    let text = answer.text();
    ensure!(answer.status == 200 && text.contains("John Doe") && text.contains("admins,dev"), "{answer}");
    ensure!(!text.contains("root"), "what the service says nothing of does not pass: {answer}");
    let answer = browser.get(server.http, HOST, "/admin/x", &[]).await?;
    ensure!(answer.status == 403 && answer.headers.get(header::LOCATION).is_none(), "{answer}");
    Ok(())
}
