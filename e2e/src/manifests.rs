//! Kubernetes YAML for the scenarios, and a folder to put it into.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// A folder of manifests that goes away with the test.
#[derive(Debug)]
pub struct Folder(TempDir);

impl Folder {
    /// An empty one.
    pub fn new() -> Result<Self> {
        Ok(Self(TempDir::new()?))
    }

    /// A copy of the files of `source`, each changed by `edit`; folders in it are left out.
    pub fn copy_of(source: &Path, edit: impl Fn(String) -> String) -> Result<Self> {
        let folder = Self::new()?;
        for entry in std::fs::read_dir(source).with_context(|| source.display().to_string())? {
            let path = entry?.path();
            if let (true, Some(name)) = (path.is_file(), path.file_name()) {
                std::fs::write(folder.path().join(name), edit(std::fs::read_to_string(&path)?))?;
            }
        }
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file in place, as most editors do.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        Ok(std::fs::write(self.file(name), text)?)
    }

    /// Replaces text in a file.
    pub fn edit(&self, name: &str, from: &str, to: &str) -> Result<()> {
        let text = std::fs::read_to_string(self.file(name))?;
        anyhow::ensure!(text.contains(from), "{name} does not contain {from:?}");
        self.write(name, &text.replace(from, to))
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) -> Result<()> {
        Ok(std::fs::remove_file(self.file(name))?)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// A headless Service `name` with port 80, called `http`, and one EndpointSlice with `endpoints`.
///
/// Headless, because the API server makes Services with a cluster address ten times slower.
pub fn service(name: &str, endpoints: &[SocketAddr]) -> String {
    let mut yaml = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{clusterIP: None, ports: [{{name: http, port: 80}}]}}\n---\n"
    );
    yaml.push_str(&slice(name, endpoints));
    yaml
}

/// The EndpointSlice of [`service`] alone. All endpoints share the port of the first one.
pub fn slice(name: &str, endpoints: &[SocketAddr]) -> String {
    let port = endpoints.first().map_or(80, SocketAddr::port);
    let mut yaml = format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}\n\
         addressType: IPv4\nports: [{{name: http, port: {port}}}]\nendpoints:\n"
    );
    for endpoint in endpoints {
        let _ = writeln!(yaml, "- {{addresses: [{:?}], conditions: {{ready: true}}}}", endpoint.ip().to_string());
    }
    if endpoints.is_empty() {
        yaml = yaml.replace("endpoints:\n", "endpoints: []\n");
    }
    yaml.push_str("---\n");
    yaml
}

/// An Ingress of class `landfall` for `host`: each path is a Prefix to port `http` of a Service.
pub fn ingress(name: &str, host: &str, paths: &[(&str, &str)]) -> String {
    let mut yaml = format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}}}\n\
         spec:\n  ingressClassName: landfall\n  rules:\n  - host: {host:?}\n    http:\n      paths:\n"
    );
    for (path, service) in paths {
        let _ = writeln!(
            yaml,
            "      - {{path: {path:?}, pathType: Prefix, backend: {{service: {{name: {service}, port: {{name: http}}}}}}}}"
        );
    }
    yaml.push_str("---\n");
    yaml
}

/// The IngressClass `landfall`.
pub fn class() -> String {
    "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: landfall}\n\
     spec: {controller: landfall.dev/ingress}\n---\n"
        .to_owned()
}
