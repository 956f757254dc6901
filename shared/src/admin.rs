//! The admin port: health, metrics, status and debugging by plain HTTP.
//!
//! `/healthz` and `/livez` answer 200 as long as the process runs; `/readyz` answers 200, or 503 with what is
//! awaited, one a line; `/metrics` is Prometheus text; `/status` is JSON; `/debug/` lists
//! what else there is, where a program has more. `/` is a page for people, and what its script asks for; who may see it
//! is decided in `access`.

mod access;
mod page;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use hyper::body::Incoming;
use hyper::header::{ALLOW, HOST, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::readiness::Readiness;

pub use access::PageAccess;
pub use page::{Answer, Asset, Query};

use access::Access;
use page::{Body, Handler, TEXT, respond, whole};

/// Connections at one time. Probes, one scraper and a few people fit; more wait.
const CONNECTIONS: usize = 64;
/// Time for a request head, so that idle connections don't use up the places.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// What the metrics page is made from.
pub type SharedRegistry = Arc<Mutex<Registry>>;

type Text = Box<dyn Fn() -> String + Send + Sync>;
type File = (&'static str, Box<dyn Fn() -> Option<String> + Send + Sync>);

/// What the admin port shows. Build it, then [`Admin::serve`].
pub struct Admin {
    readiness: Readiness,
    registry: SharedRegistry,
    before_scrape: Vec<Box<dyn Fn() + Send + Sync>>,
    status: Box<dyn Fn() -> Value + Send + Sync>,
    debug: BTreeMap<&'static str, Text>,
    access: Access,
    assets: Vec<Asset>,
    questions: BTreeMap<&'static str, Handler>,
    files: BTreeMap<&'static str, File>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("readiness", &self.readiness).finish_non_exhaustive()
    }
}

impl Admin {
    /// An admin port for `readiness`, the metrics in `registry` and the JSON that `status` gives.
    pub fn new(
        readiness: Readiness,
        registry: SharedRegistry,
        status: impl Fn() -> Value + Send + Sync + 'static,
    ) -> Self {
        Self {
            readiness,
            registry,
            before_scrape: Vec::new(),
            status: Box::new(status),
            debug: BTreeMap::new(),
            access: Access::new(PageAccess::default(), None),
            assets: Vec::new(),
            questions: BTreeMap::new(),
            files: BTreeMap::new(),
        }
    }

    /// Runs `hook` before each scrape, to bring gauges up to date.
    #[must_use]
    pub fn before_scrape(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.before_scrape.push(Box::new(hook));
        self
    }

    /// Adds the page `/debug/<name>`.
    #[must_use]
    pub fn debug(mut self, name: &'static str, page: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.debug.insert(name, Box::new(page));
        self
    }

    /// Adds the page: its files, of which `/` is one, for those who may see it.
    #[must_use]
    pub fn page(mut self, args: PageAccess, assets: impl IntoIterator<Item = Asset>) -> Self {
        self.access = Access::new(args, None);
        self.assets = assets.into_iter().collect();
        self
    }

    /// Shows the page to these peers, too, where their own clients asked for one of the page's hosts. To be called after [`Self::page`].
    #[must_use]
    pub fn page_for(mut self, args: PageAccess, peers: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        self.access = Access::new(args, Some(Box::new(peers)));
        self
    }

    /// Adds a question that the page asks at `path`, as in `/status/routes`. Only who may see the page is answered.
    #[must_use]
    pub fn question(
        mut self,
        path: &'static str,
        answer: impl Fn(Query) -> BoxFuture<'static, Answer> + Send + Sync + 'static,
    ) -> Self {
        self.questions.insert(path, Box::new(answer));
        self
    }

    /// Adds a page of this media type at `path`, which is answered with 404 as long as there is nothing in it.
    #[must_use]
    pub fn file(
        mut self,
        path: &'static str,
        media_type: &'static str,
        content: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.files.insert(path, (media_type, Box::new(content)));
        self
    }

    /// Binds `address`, starts serving on the current runtime, and returns the address bound (port 0 is allowed).
    ///
    /// Where there is no IPv6, `[::]` becomes `0.0.0.0`.
    pub async fn serve(self, address: SocketAddr) -> io::Result<SocketAddr> {
        Arc::new(self).serve_again(address).await
    }

    /// The same for a port that may be taken: it can be called again.
    pub async fn serve_again(self: Arc<Self>, address: SocketAddr) -> io::Result<SocketAddr> {
        let listener = match TcpListener::bind(address).await {
            Err(error) if address.ip().is_unspecified() && address.is_ipv6() && no_ipv6(&error) => {
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await?
            }
            other => other?,
        };
        let bound = listener.local_addr()?;
        tokio::spawn(self.accept(listener));
        Ok(bound)
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let (stream, peer) = match listener.accept().await {
                Ok((stream, peer)) => (stream, peer.ip()),
                Err(error) => {
                    // Out of file descriptors, most likely: others have to close some first.
                    tracing::warn!(%error, "admin port cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let admin = self.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let admin = admin.clone();
                    async move { Ok::<_, Infallible>(admin.answer(&request, peer).await) }
                });
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service);
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "admin connection ended");
                }
                drop(place);
            });
        }
    }

    async fn answer(&self, request: &Request<Incoming>, peer: IpAddr) -> Response<Body> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = whole(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match request.uri().path() {
            "/healthz" | "/livez" => whole(StatusCode::OK, TEXT, "ok\n"),
            "/readyz" => self.ready(),
            "/metrics" => self.metrics(),
            "/status" => whole(StatusCode::OK, "application/json", format!("{}\n", (self.status)())),
            "/debug" | "/debug/" if !self.debug.is_empty() => whole(StatusCode::OK, TEXT, self.debug_pages()),
            path if self.files.contains_key(path) => {
                let found = self.files.get(path).and_then(|(kind, content)| Some((*kind, content()?)));
                match found {
                    Some((kind, text)) => whole(StatusCode::OK, kind, text),
                    None => whole(StatusCode::NOT_FOUND, TEXT, "there is nothing here yet\n"),
                }
            }
            path => match path.strip_prefix("/debug/").and_then(|name| self.debug.get(name)) {
                Some(text) => whole(StatusCode::OK, TEXT, text()),
                None => self.of_page(request, peer).await,
            },
        }
    }

    /// What belongs to the page.
    async fn of_page(&self, request: &Request<Incoming>, peer: IpAddr) -> Response<Body> {
        let path = request.uri().path();
        let (asset, question) = (self.assets.iter().find(|asset| asset.path == path), self.questions.get(path));
        if asset.is_none() && question.is_none() {
            return match path {
                "/" => whole(StatusCode::OK, TEXT, self.all_pages()),
                _ => whole(StatusCode::NOT_FOUND, TEXT, "no such page; / lists them\n"),
            };
        }
        let host = request.headers().get(HOST).map(|host| host.to_str().unwrap_or_default());
        let forwarded = request.headers().get("x-forwarded-host").and_then(|host| host.to_str().ok());
        if let Err(why) = self.access.check(peer, host, forwarded) {
            let listed = if path == "/" { self.all_pages() + "\n" } else { String::new() };
            return whole(StatusCode::FORBIDDEN, TEXT, listed + &why);
        }
        match (asset, question) {
            (Some(asset), _) => whole(StatusCode::OK, asset.kind, asset.text),
            (None, Some(question)) => respond(question(Query::parse(request.uri().query().unwrap_or_default())).await),
            (None, None) => whole(StatusCode::NOT_FOUND, TEXT, "no such page; / lists them\n"),
        }
    }

    fn all_pages(&self) -> String {
        let questions = self.questions.keys().fold(String::new(), |names, name| names + name + "\n");
        format!("/healthz\n/livez\n/readyz\n/metrics\n/status\n{questions}{}{}", self.file_pages(), self.debug_pages())
    }

    fn debug_pages(&self) -> String {
        self.debug.keys().fold(String::new(), |names, name| names + "/debug/" + name + "\n")
    }

    fn ready(&self) -> Response<Body> {
        let awaited = self.readiness.awaited();
        if awaited.is_empty() {
            whole(StatusCode::OK, TEXT, "ok\n")
        } else {
            whole(StatusCode::SERVICE_UNAVAILABLE, TEXT, awaited.join("\n") + "\n")
        }
    }

    fn file_pages(&self) -> String {
        self.files.keys().flat_map(|path| [path, "\n"]).collect()
    }

    fn metrics(&self) -> Response<Body> {
        for hook in &self.before_scrape {
            hook();
        }
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        match encode(&mut text, &registry) {
            Ok(()) => whole(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", text),
            Err(error) => whole(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
        }
    }
}

/// Whether binding failed because this host has no IPv6: `EAFNOSUPPORT` or `EADDRNOTAVAIL`.
fn no_ipv6(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(97)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn get(address: SocketAddr, request: &str) -> String {
        get_as(address, request, "localhost").await
    }

    async fn get_as(address: SocketAddr, request: &str, host: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let text = format!("{request} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_pages_answer() {
        let readiness = Readiness::new();
        let block = readiness.block("ingress table");
        let registry = SharedRegistry::default();
        crate::telemetry::register_build_info(&mut registry.lock().unwrap());
        let index = Asset { path: "/index", kind: "text/html; charset=utf-8", text: "<!doctype html>" };
        let admin = Admin::new(readiness, registry, || serde_json::json!({ "ready": false }))
            .debug("table", || "one route\n".into())
            .page(PageAccess::default(), [index])
            .question("/status/echo", |query| {
                Box::pin(async move { Answer::Json(query.get("text").unwrap_or("nothing").to_owned()) })
            })
            .file("/ca.crt", "application/x-x509-ca-cert", || Some("the root\n".into()))
            .file("/later", "text/plain", || None);
        let address = admin.serve("127.0.0.1:0".parse().unwrap()).await.unwrap();

        assert!(get(address, "GET /healthz").await.starts_with("HTTP/1.1 200"));
        let waiting = get(address, "GET /readyz").await;
        assert!(waiting.starts_with("HTTP/1.1 503") && waiting.contains("ingress table"));
        drop(block);
        assert!(get(address, "GET /readyz").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "GET /metrics").await.contains("landfall_build_info{version="));
        assert!(get(address, "GET /status").await.contains("\"ready\":false"));
        for index in ["/", "/debug/"] {
            assert!(get(address, &format!("GET {index}")).await.contains("/debug/table"));
        }
        assert!(get(address, "GET /debug/table").await.contains("one route"));
        let page = get(address, "GET /index").await;
        assert!(page.contains("content-security-policy: default-src 'none';") && page.contains("nosniff"), "{page}");
        assert!(get(address, "GET /status/echo?text=a+b").await.ends_with("a b"));
        let elsewhere = get_as(address, "GET /status/echo", "attacker.example").await;
        assert!(elsewhere.starts_with("HTTP/1.1 403") && elsewhere.contains("--page-host"), "{elsewhere}");
        assert!(get(address, "GET /").await.contains("/ca.crt\n"));
        let file = get(address, "GET /ca.crt").await;
        assert!(file.contains("the root") && file.contains("content-type: application/x-x509-ca-cert"), "{file}");
        assert!(get(address, "GET /later").await.starts_with("HTTP/1.1 404"));
        assert!(get(address, "GET /nothing").await.starts_with("HTTP/1.1 404"));
        assert!(get(address, "POST /status").await.starts_with("HTTP/1.1 405"));
        let head = get(address, "HEAD /healthz").await;
        assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"));
    }
}
