//! What a backend learns of a request's way, from an ingress with default flags: every field, printed whole.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use http::Request;
use landfall_e2e::client::{Client, empty};
use landfall_e2e::echo::Echo;
use landfall_e2e::figures;
use landfall_e2e::ingress::{Ingress, Launch};
use landfall_e2e::manifests::{self, Folder};
use landfall_e2e::tls::Trust;
use landfall_e2e::tools;

/// The host of the quickstart's certificate.
const HOST: &str = "shop.localhost";
/// The path of the Ingress of class nginx.
const NGINX: &str = "/nginx";

struct Setup {
    ingress: Ingress,
    trust: Trust,
    _folder: Folder,
    _keys: tempfile::TempDir,
    _echo: Echo,
}

async fn start() -> Result<Setup> {
    let echo = Echo::local("web").await?;
    let folder = Folder::new()?;
    let keys = tempfile::TempDir::new()?;
    tools::run(Command::new(tools::checkout().join("hack/quickstart-pki")).arg(keys.path()).arg(folder.path()))?;
    let trust = Trust::from_file(&keys.path().join("ca.crt"))?;
    let tls = format!("  tls: [{{hosts: [{HOST}], secretName: shop-tls}}]\n  rules:");
    let landfall = manifests::ingress("shop", HOST, &[("/", "web")]).replace("  rules:", &tls);
    // Otherwise a request in the clear would be redirected.
    let plain = "metadata: {name: old, annotations: {nginx.ingress.kubernetes.io/ssl-redirect: \"false\"}}";
    let nginx = manifests::ingress("old", HOST, &[(NGINX, "web")])
        .replace("metadata: {name: old}", plain)
        .replace("ingressClassName: landfall", "ingressClassName: nginx");
    let class = manifests::class().replace("{name: landfall}", "{name: nginx}");
    let class = class.replace("landfall.dev/ingress", "k8s.io/ingress-nginx");
    let classes = manifests::class() + &class;
    folder.write("shop.yaml", &(classes + &landfall + &nginx + &manifests::service("web", &[echo.addr])))?;
    let ingress = Launch::manifests(folder.path()).start().await?;
    Ok(Setup { ingress, trust, _folder: folder, _keys: keys, _echo: echo })
}

impl Setup {
    /// Each way to ask, with its scheme.
    async fn clients(&self) -> Result<[(&'static str, &'static str, Client); 4]> {
        let (http, https, trust) = (self.ingress.http, self.ingress.https, &self.trust);
        Ok([
            ("HTTP/1.1", "http", Client::http1(http).await?),
            ("HTTP/2", "http", Client::http2(http).await?),
            ("HTTP/1.1 over TLS", "https", Client::https1(https, HOST, trust).await?),
            ("HTTP/2 over TLS", "https", Client::https2(https, HOST, trust).await?),
        ])
    }
}

/// The fields that the backend got, sorted, but for the request id, which is returned by itself.
fn fields(said: &str) -> Result<(Vec<String>, String)> {
    let mut lines: Vec<_> = said.lines().skip(2).map(str::to_owned).collect();
    lines.sort();
    let at = lines.iter().position(|line| line.starts_with("x-request-id: ")).context("no request id")?;
    let id = lines.remove(at);
    Ok((lines, id.trim_start_matches("x-request-id: ").to_owned()))
}

/// The fields that a backend gets with a request of `host` that has none of its own.
fn expected(host: &str, scheme: &str, port: &str, path: &str) -> Vec<String> {
    let mut lines = vec![
        format!("host: {host}"),
        "x-forwarded-for: 127.0.0.1".to_owned(),
        format!("x-forwarded-host: {host}"),
        format!("x-forwarded-port: {port}"),
        format!("x-forwarded-proto: {scheme}"),
        "x-real-ip: 127.0.0.1".to_owned(),
    ];
    if path == NGINX {
        lines.extend([format!("x-forwarded-scheme: {scheme}"), format!("x-scheme: {scheme}")]);
    }
    lines.sort();
    lines
}

#[tokio::test]
async fn a_backend_gets_these_fields_and_no_other() -> Result<()> {
    let setup = start().await?;
    for (name, scheme, mut client) in setup.clients().await? {
        let default = if scheme == "https" { "443" } else { "80" };
        for path in ["/", NGINX] {
            for (host, port) in [(HOST.to_owned(), default), (format!("{HOST}:30443"), "30443")] {
                let said = client.get(&host, path).await?.text();
                figures::print(&format!("{name}, {scheme}://{host}{path}, as the backend sees it:\n{said}"));
                ensure!(said.starts_with(&format!("web GET {path} HTTP/1.1\n")), "{name}: {said}");
                let (lines, id) = fields(&said)?;
                // ingress-nginx names the port of its own listener, whatever the client has written.
                let port = if path == NGINX { default } else { port };
                assert_eq!(lines, expected(&host, scheme, port, path), "{name}: {host}{path}");
                ensure!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}: {id}");
            }
        }
    }
    Ok(())
}

/// Nobody in front is trusted by default, so what a client says of its way counts for nothing; `Forwarded` is not ours
/// and passes, and so does a request id.
#[tokio::test]
async fn a_client_can_say_nothing_of_its_own_way() -> Result<()> {
    let setup = start().await?;
    let claims = [
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Port", "6666"),
        ("X-Forwarded-Proto", "gopher"),
        ("X-Forwarded-Scheme", "gopher"),
        ("X-Scheme", "gopher"),
        ("X-Real-IP", "6.6.6.6"),
        ("X_Forwarded_For", "6.6.6.6"),
        ("Proxy", "http://evil.example"),
    ];
    for (name, scheme, mut client) in setup.clients().await? {
        let default = if scheme == "https" { "443" } else { "80" };
        for path in ["/", NGINX] {
            let mut request = Request::get(path).header("Forwarded", "for=6.6.6.6").header("X-Request-ID", "mine-1");
            for (field, value) in claims {
                request = request.header(field, value);
            }
            let said = client.send(HOST, request.body(empty())?).await?.text();
            let (lines, id) = fields(&said)?;
            let mut wanted = expected(HOST, scheme, default, path);
            wanted.push("forwarded: for=6.6.6.6".to_owned());
            if path == NGINX {
                // ingress-nginx passes on what was claimed, under names that say so.
                wanted.push("x-original-forwarded-for: 6.6.6.6".to_owned());
                wanted.push("x-original-forwarded-host: evil.example".to_owned());
            }
            wanted.sort();
            assert_eq!(lines, wanted, "{name}: {path}");
            assert_eq!(id, "mine-1", "{name}: {path}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_ingress_can_be_left_out_of_the_access_log() -> Result<()> {
    let echo = Echo::local("web").await?;
    let folder = Folder::new()?;
    let quiet = "metadata: {name: quiet, annotations: {nginx.ingress.kubernetes.io/enable-access-log: \"false\"}}";
    let quiet = manifests::ingress("quiet", HOST, &[("/quiet", "web")]).replace("metadata: {name: quiet}", quiet);
    let loud = manifests::ingress("loud", HOST, &[("/loud", "web")]);
    let service = manifests::service("web", &[echo.addr]);
    folder.write("all.yaml", &(manifests::class() + &quiet + &loud + &service))?;
    let ingress = Launch::manifests(folder.path()).start().await?;
    for path in ["/quiet", "/loud", "/quiet", "/loud"] {
        ensure!(ingress.get(HOST, path).await?.status == 200);
    }
    let lines = || ingress.log().lines().filter(|line| line.contains("/loud")).count();
    landfall_e2e::wait::until(std::time::Duration::from_secs(10), "lines of the access log", || async {
        ensure!(lines() == 2, "{}", ingress.log());
        Ok(())
    })
    .await?;
    ensure!(!ingress.log().contains("/quiet"), "{}", ingress.log());
    Ok(())
}

#[tokio::test]
async fn the_access_log_has_the_form_that_the_config_map_gives() -> Result<()> {
    let echo = Echo::local("web").await?;
    let folder = Folder::new()?;
    let options =
        |data: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: options}}\ndata:\n{data}---\n");
    let form = "  log-format-upstream: '$remote_addr \"$request\" $status [$proxy_upstream_name] $http_x_tenant;'\n";
    let shop = manifests::ingress("shop", HOST, &[("/", "web")]) + &manifests::service("web", &[echo.addr]);
    folder.write("shop.yaml", &(manifests::class() + &shop))?;
    folder.write("options.yaml", &options(&format!("{form}  skip-access-log-urls: /silent\n")))?;
    let ingress = Launch::manifests(folder.path()).args(&["--config-map", "default/options"]).start().await?;
    for path in ["/silent", "/a?b"] {
        let request = Request::get(path).header("x-tenant", "acme");
        let mut client = Client::http1(ingress.http).await?;
        ensure!(client.send(HOST, request.body(empty())?).await?.status == 200);
    }
    let has = async |line: &str| {
        landfall_e2e::wait::until(std::time::Duration::from_secs(10), line, || async {
            ensure!(ingress.log().lines().any(|said| said.contains(line)), "{}", ingress.log());
            Ok(())
        })
        .await
    };
    has("127.0.0.1 \"GET /a?b HTTP/1.1\" 200 [default-web-http] acme;").await?;
    ensure!(!ingress.log().contains("/silent"), "{}", ingress.log());

    // An edit counts at once; a name that is none is said, and the log keeps its own form.
    folder.write("options.yaml", &options("  log-format-upstream: '$nothing'\n"))?;
    landfall_e2e::wait::until(std::time::Duration::from_secs(10), "a line in our own form", || async {
        ingress.get(HOST, "/b").await?;
        ensure!(ingress.log().contains("path=\"/b\""), "{}", ingress.log());
        Ok(())
    })
    .await?;
    has("$nothing is no variable that is known here").await.map(drop)
}
