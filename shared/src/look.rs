//! One look at a cluster, for commands that print something and end. Nothing is ever written.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Client, Resource};
use landfall_model::{Findings, ObjectKey, checkup};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::source::{Object, kubernetes, trim};

/// Objects per page of a list, as client-go has it.
const PAGE: u32 = 500;

/// How long an admin port may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a command waits before it looks again.
const AGAIN: Duration = Duration::from_secs(1);

/// Reads objects, and remembers what could not be read.
#[derive(Clone)]
pub struct Look {
    client: Client,
    missing: Arc<Mutex<Vec<String>>>,
}

impl std::fmt::Debug for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Look").finish_non_exhaustive()
    }
}

impl Look {
    /// At the cluster of `KUBECONFIG`, or that of this pod.
    pub async fn new() -> anyhow::Result<Self> {
        let client = kubernetes::client().await.context(
            "no folder of manifests is given and no API server is configured; use --manifests DIR or set KUBECONFIG",
        )?;
        Ok(Self { client, missing: Arc::default() })
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// All objects of a kind that `parameters` select.
    ///
    /// `None` if they may not be read or the kind does not exist; an API server that can't be reached is an error.
    pub async fn list<K: Object>(&self, parameters: ListParams) -> anyhow::Result<Option<Vec<Arc<K>>>> {
        self.list_of(Api::all(self.client.clone()), parameters).await
    }

    /// The same within one namespace.
    pub async fn list_in<K>(&self, namespace: &str, parameters: ListParams) -> anyhow::Result<Option<Vec<Arc<K>>>>
    where
        K: Object + Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    {
        self.list_of(Api::namespaced(self.client.clone(), namespace), parameters).await
    }

    async fn list_of<K: Object>(&self, api: Api<K>, mut parameters: ListParams) -> anyhow::Result<Option<Vec<Arc<K>>>> {
        parameters.limit = Some(PAGE);
        let mut objects = Vec::new();
        loop {
            let page = match api.list(&parameters).await {
                Ok(page) => page,
                Err(error) => return self.lenient(error, &K::plural(&())).map(|()| None),
            };
            objects.extend(page.items.into_iter().map(|mut object| {
                trim(&mut object);
                Arc::new(object)
            }));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters.continue_token = Some(token),
                None => return Ok(Some(objects)),
            }
        }
    }

    /// One object; `None` if it isn't there or may not be read.
    pub async fn get<K>(&self, key: &ObjectKey) -> anyhow::Result<Option<Arc<K>>>
    where
        K: Object + Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), key.namespace());
        match api.get_opt(key.name()).await {
            Ok(found) => Ok(found.map(Arc::new)),
            Err(error) => self.lenient(error, &format!("{} {key}", K::plural(&()))).map(|()| None),
        }
    }

    /// One cluster-scoped object; `None` if it isn't there or may not be read.
    pub async fn get_cluster<K>(&self, name: &str) -> anyhow::Result<Option<Arc<K>>>
    where
        K: Object + Resource<Scope = k8s_openapi::ClusterResourceScope>,
    {
        let api: Api<K> = Api::all(self.client.clone());
        match api.get_opt(name).await {
            Ok(found) => Ok(found.map(Arc::new)),
            Err(error) => self.lenient(error, &format!("{} {name}", K::plural(&()))).map(|()| None),
        }
    }

    /// What the API server says of its version.
    pub async fn version(&self) -> anyhow::Result<Findings> {
        let version = self.client.apiserver_version().await.context("cannot reach the API server")?;
        Ok(checkup::version(&version.major, &version.minor))
    }

    /// `GET path` of a pod's port.
    ///
    /// Through the API server's proxy, which is one plain request (right: get pods/proxy); what listens on loopback
    /// only, or answers this machine only, is reached by a port-forward (right: create pods/portforward).
    pub async fn pod(&self, pod: &ObjectKey, port: u16, path: &str) -> anyhow::Result<String> {
        let uri = format!("/api/v1/namespaces/{}/pods/{}:{port}/proxy{path}", pod.namespace(), pod.name());
        let proxied = self.client.request_text(http::Request::get(uri).body(Vec::new())?).await;
        let refused = match proxied {
            Ok(text) => return Ok(text),
            Err(error) => error,
        };
        let forwarded = async { whole(self.forward(pod, port).await?, path).await };
        forwarded.await.with_context(|| {
            format!("pod {pod} does not answer at port {port}, neither through the API server's proxy ({refused})")
        })
    }

    /// A connection to a pod's port, as `kubectl port-forward` makes it.
    pub async fn forward(&self, pod: &ObjectKey, port: u16) -> anyhow::Result<Box<dyn Pipe>> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), pod.namespace());
        let mut forwarder = api
            .portforward(pod.name(), &[port])
            .await
            .with_context(|| format!("cannot forward to port {port} of pod {pod}"))?;
        let stream = forwarder.take_stream(port).context("the API server forwards nothing")?;
        Ok(Box::new(stream))
    }

    /// What could not be read, as a finding; nothing where all could.
    pub fn missing(&self) -> Findings {
        let mut findings = Findings::new();
        let missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if !missing.is_empty() {
            findings.unknown("rights", format!("not looked at, since you may not read them: {}", missing.join(", ")));
        }
        findings
    }

    /// An object that may not be read, or whose kind isn't served, is done without.
    fn lenient(&self, error: kube::Error, what: &str) -> anyhow::Result<()> {
        match &error {
            kube::Error::Api(status) if status.code == 404 => Ok(()),
            kube::Error::Api(status) if status.code == 403 => {
                let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
                if !missing.iter().any(|known| known == what) {
                    missing.push(what.to_owned());
                }
                Ok(())
            }
            _ => Err(error).with_context(|| format!("cannot read {what} from the API server")),
        }
    }
}

/// Looks until nothing fails or the time is over, and returns what was found last.
///
/// An API server that can't be reached is an error only when the time is over.
pub async fn until_well<F, Fut>(patience: Option<Duration>, look: F) -> anyhow::Result<Findings>
where
    F: Fn() -> Fut,
    Fut: Future<Output = anyhow::Result<Findings>>,
{
    let deadline = patience.map(|patience| Instant::now() + patience);
    loop {
        let found = look().await;
        let is_over = deadline.is_none_or(|deadline| Instant::now() >= deadline);
        match found {
            Ok(findings) if is_over || !findings.fails() => return Ok(findings),
            Err(error) if is_over => return Err(error),
            _ => tokio::time::sleep(AGAIN).await,
        }
    }
}

/// Bytes in both directions.
pub trait Pipe: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Pipe for T {}

/// `GET path` of an admin port, in the clear and without an API server.
pub async fn admin(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let ask = async { whole(TcpStream::connect(address).await?, path).await };
    let answer = tokio::time::timeout(PATIENCE, ask).await.unwrap_or_else(|_| bail!("no answer within {PATIENCE:?}"));
    answer.with_context(|| format!("cannot ask {address}"))
}

async fn whole(pipe: impl Pipe, path: &str) -> anyhow::Result<String> {
    let mut answer = String::new();
    open(pipe, path).await?.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Asks for `path`; what can be read from the result is the body of the answer, as it comes.
///
/// HTTP/1.0, so that a body that has no end yet comes as it is.
pub async fn open<P: Pipe>(pipe: P, path: &str) -> anyhow::Result<BufReader<P>> {
    let mut pipe = BufReader::new(pipe);
    let head = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    pipe.write_all(head.as_bytes()).await?;
    pipe.flush().await?;
    let mut line = String::new();
    pipe.read_line(&mut line).await?;
    let status = line.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let first = line.trim_end().to_owned();
    loop {
        line.clear();
        if pipe.read_line(&mut line).await? == 0 {
            bail!("the answer is cut off");
        }
        if line.trim_end().is_empty() {
            break;
        }
    }
    if status != "200" {
        let mut why = String::new();
        // Whatever it says, in a few lines; an answer that never ends says nothing.
        let _ = tokio::time::timeout(PATIENCE, (&mut pipe).take(1024).read_to_string(&mut why)).await;
        bail!("the answer is {first:?}: {}", why.trim_end());
    }
    Ok(pipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer(said: &'static str) -> anyhow::Result<String> {
        let (here, mut there) = tokio::io::duplex(4096);
        let server = async move {
            let mut request = [0; 512];
            let length = there.read(&mut request).await.unwrap();
            assert!(request[..length].starts_with(b"GET /status HTTP/1.0\r\n"));
            there.write_all(said.as_bytes()).await.unwrap();
        };
        tokio::join!(whole(here, "/status"), server).0
    }

    #[tokio::test]
    async fn an_answer_is_read_and_a_refusal_says_why() {
        assert_eq!(answer("HTTP/1.0 200 OK\r\na: b\r\n\r\nyes\n\nyes").await.unwrap(), "yes\n\nyes");
        let refused = answer("HTTP/1.0 403 Forbidden\r\n\r\nthis machine only\n").await.unwrap_err().to_string();
        assert!(refused.contains("403") && refused.contains("this machine only"), "{refused}");
        assert!(answer("HTTP/1.0 200 OK\r\n").await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_when_all_is_well_or_the_time_is_over() {
        use landfall_model::{ObjectRef, Problem, Reason};
        let left = std::cell::Cell::new(3);
        let look = || {
            left.set(left.get() - 1);
            let mut findings = Findings::new();
            if left.get() > 0 {
                let about = ObjectRef::new("Node", ObjectKey::cluster("n"));
                findings.bad("nodes", Problem::new(about, Reason::new("Odd"), "is odd"));
            }
            async { Ok(findings) }
        };
        assert!(until_well(None, look).await.unwrap().fails(), "without patience the first look counts");
        assert!(!until_well(Some(Duration::from_mins(1)), look).await.unwrap().fails());
        assert_eq!(left.get(), 0);
    }
}
