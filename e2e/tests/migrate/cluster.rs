//! `migrate` reads a cluster by a real API server, with rights that write nothing.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use landfall_e2e::kube::Cluster;
use landfall_e2e::tools;
use serde_json::Value;

use super::scene::migrate;

/// Rights to read, as docs/migrate-ingress-nginx.md has them.
fn rights() -> Result<String> {
    let page = std::fs::read_to_string(tools::checkout().join("docs/migrate-ingress-nginx.md"))?;
    let from = page.find("apiVersion: rbac.authorization.k8s.io/v1").context("the page has a ClusterRole")?;
    let role = page[from..].split("```").next().unwrap_or_default();
    // The block may be indented, as part of a list.
    let indent = page[..from].rsplit('\n').next().map_or(0, str::len);
    let mut yaml = String::new();
    for line in role.lines() {
        let _ = writeln!(yaml, "{}", line.strip_prefix(&" ".repeat(indent)).unwrap_or(line));
    }
    Ok(yaml)
}

const OBJECTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: ingress-nginx}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: nginx}
spec: {controller: k8s.io/ingress-nginx}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: controller, namespace: ingress-nginx}
data: {use-gzip: \"true\", enable-modsecurity: \"true\", add-headers: ingress-nginx/fields}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: fields, namespace: ingress-nginx}
data: {X-Frame-Options: DENY}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: unrelated, namespace: default}
data: {use-gzip: \"true\"}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: controller, namespace: ingress-nginx}
spec:
  selector: {matchLabels: {app: nginx}}
  template:
    metadata: {labels: {app: nginx}}
    spec:
      containers:
      - name: controller
        image: registry.k8s.io/ingress-nginx/controller:v1.15.1
        args: [/nginx-ingress-controller, --configmap=$(POD_NAMESPACE)/controller, --enable-ssl-passthrough]
---
apiVersion: v1
kind: Secret
metadata: {name: users, namespace: default}
stringData: {auth: \"admin:{PLAIN}secret\"}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: None, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: \"\", port: 8080}]
endpoints: [{addresses: [192.0.2.1]}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: guarded
  namespace: default
  annotations: {nginx.ingress.kubernetes.io/auth-type: basic, nginx.ingress.kubernetes.io/auth-secret: users}
spec:
  ingressClassName: nginx
  tls: [{hosts: [a.example], secretName: gone}]
  rules:
  - host: a.example
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: open
  namespace: default
  annotations: {nginx.ingress.kubernetes.io/auth-secret: users}
spec:
  ingressClassName: nginx
  rules:
  - host: b.example
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
";

#[tokio::test]
async fn a_cluster_is_read_with_rights_that_write_nothing() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.apply(OBJECTS)?;
    cluster.apply(&rights()?)?;
    cluster.kubectl(&["create", "serviceaccount", "reader"])?;
    cluster.kubectl(&[
        "create",
        "clusterrolebinding",
        "reader",
        "--clusterrole=landfall-migrate",
        "--serviceaccount=default:reader",
    ])?;
    let kubeconfig = cluster.kubeconfig_of("default", "reader")?;

    let (code, out, said) = migrate(&["-o", "json"], &[("KUBECONFIG", &kubeconfig)])?;
    assert_eq!(code, Some(1), "{said}");
    let report: Value = serde_json::from_str(&out).with_context(|| said.clone())?;
    assert!(!said.contains("forbidden"), "{said}");
    let controller = &report["controller"];
    assert_eq!(controller["workload"], "DaemonSet ingress-nginx/controller", "{controller}");
    assert_eq!(controller["config_map"], "ingress-nginx/controller");
    let summary = &report["summary"];
    assert_eq!((&summary["options"]["served"], &summary["options"]["differs"]), (&2.into(), &1.into()), "{controller}");
    assert_eq!(
        (&summary["ingresses"], &summary["alike"], &summary["refused"]),
        (&2.into(), &1.into(), &1.into()),
        "{summary}"
    );
    let [guarded, open] = [0, 1].map(|number| &report["ingresses"][number]);
    // The Secret with the passwords is no certificate, and was asked for by its name.
    assert_eq!((&guarded["verdict"], &guarded["routes"][0]["fault"]), (&"alike".into(), &"".into()), "{guarded}");
    assert_eq!(guarded["broken"][0]["code"], "certificate", "{guarded}");
    assert_eq!((&open["verdict"], &open["broken"][0]["code"]), (&"refused".into(), &"fails-open".into()), "{open}");

    // Whoever may not read Secrets gets a report without what needs them.
    cluster.kubectl(&["create", "clusterrole", "fewer", "--verb=get,list",
        "--resource=ingresses.networking.k8s.io,ingressclasses.networking.k8s.io,services,endpoints,endpointslices.discovery.k8s.io,configmaps"])?;
    cluster.kubectl(&["create", "serviceaccount", "fewer"])?;
    cluster.kubectl(&[
        "create",
        "clusterrolebinding",
        "fewer",
        "--clusterrole=fewer",
        "--serviceaccount=default:fewer",
    ])?;
    let kubeconfig = cluster.kubeconfig_of("default", "fewer")?;
    let (code, out, said) = migrate(&["--config-map=ingress-nginx/controller"], &[("KUBECONFIG", &kubeconfig)])?;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cannot list secrets") && said.contains("cannot list deployments"), "{said}");
    assert!(out.contains("default/guarded: alike") && !out.contains("[certificate]"), "{out}");

    // And whoever may not read Ingresses gets none.
    cluster.kubectl(&["create", "serviceaccount", "nobody"])?;
    let kubeconfig = cluster.kubeconfig_of("default", "nobody")?;
    let (code, out, said) = migrate(&[], &[("KUBECONFIG", &kubeconfig)])?;
    assert_eq!((code, out.as_str()), (Some(2), ""), "{said}");
    Ok(())
}
