//! What the test makes in the cluster.

use anyhow::Context;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, PostParams};
use landfall_shared::look::Look;
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cli::TestArgs;

/// The label of the namespace: only what has it is ever removed.
pub(super) const MARK: &str = "landfall.dev/test";
/// The pods of the ingress.
pub(super) const INGRESS: &str = "app.kubernetes.io/name=landfall,app.kubernetes.io/component=ingress";
/// The host whose backend speaks HTTP/1.1; nobody has it (RFC 2606).
pub(super) const HOST: &str = "echo.landfall.test";
/// The host whose backend speaks HTTP/2 in the clear.
pub(super) const GRPC_HOST: &str = "grpc.landfall.test";

/// Key and certificate of the hosts.
pub(super) struct Keys {
    key: String,
    certificate: String,
    der: CertificateDer<'static>,
}

impl Keys {
    pub(super) fn generate() -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new([HOST.to_owned(), GRPC_HOST.to_owned()])?.self_signed(&key)?;
        Ok(Self { key: key.serialize_pem(), certificate: certificate.pem(), der: certificate.der().clone() })
    }

    pub(super) fn certificate(&self) -> CertificateDer<'static> {
        self.der.clone()
    }
}

/// Makes namespace, pods, Service, Secret and Ingress.
pub(super) async fn create(look: &Look, args: &TestArgs, image: &str, keys: &Keys) -> anyhow::Result<()> {
    let client = look.client();
    let namespace = &args.test_namespace;
    make::<Namespace>(&Api::all(client.clone()), &json!({"metadata": {"name": namespace, "labels": {MARK: "true"}}}))
        .await?;
    let secret = json!({"metadata": {"name": "echo"}, "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": keys.certificate, "tls.key": keys.key}});
    make::<Secret>(&Api::namespaced(client.clone(), namespace), &secret).await?;
    let service = json!({"metadata": {"name": "echo"}, "spec": {"selector": {"app": "echo"}, "ports": [
        {"name": "http", "port": 80, "targetPort": "http"},
        {"name": "grpc", "port": 81, "targetPort": "http", "appProtocol": "kubernetes.io/h2c"}]}});
    make::<Service>(&Api::namespaced(client.clone(), namespace), &service).await?;
    for name in ["echo-1", "echo-2"] {
        make::<Pod>(&Api::namespaced(client.clone(), namespace), &pod(name, image)).await?;
    }
    make::<Ingress>(&Api::namespaced(client.clone(), namespace), &ingress(&args.class)).await
}

/// A pod that every pod security profile takes.
fn pod(name: &str, image: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": "echo"}}, "spec": {
        "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "echo", "image": image, "args": ["echo"],
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 1},
            "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}}}]}})
}

fn ingress(class: &str) -> Value {
    let rule = |host: &str, port: &str| {
        json!({"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix",
        "backend": {"service": {"name": "echo", "port": {"name": port}}}}]}})
    };
    json!({"metadata": {"name": "echo", "annotations": {
            // Plain HTTP is tried, too, and bodies are as big as they are.
            "nginx.ingress.kubernetes.io/ssl-redirect": "false", "nginx.ingress.kubernetes.io/proxy-body-size": "0"}},
        "spec": {"ingressClassName": class, "tls": [{"hosts": [HOST, GRPC_HOST], "secretName": "echo"}],
            "rules": [rule(HOST, "http"), rule(GRPC_HOST, "grpc")]}})
}

async fn make<K>(api: &Api<K>, object: &Value) -> anyhow::Result<()>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Serialize,
{
    let kind = K::kind(&()).to_lowercase();
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let object: K = serde_json::from_value(object.clone())?;
    let made = api.create(&PostParams::default(), &object).await;
    made.map(drop).with_context(|| format!("cannot create {kind} {name}"))
}
