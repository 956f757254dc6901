//! The command line: forms and exit statuses.

use anyhow::Result;
use landfall_e2e::manifests::Folder;
use serde_json::Value;

use super::scene::migrate;

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n---\n\
    apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
    metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}\naddressType: IPv4\nports: [{port: 8080}]\n\
    endpoints: [{addresses: [10.0.0.1]}]\n---\n";

fn ingress(annotation: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\n\
         metadata: {{name: shop, annotations: {{nginx.ingress.kubernetes.io/{annotation}}}}}\n\
         spec:\n  ingressClassName: nginx\n  rules:\n  - host: shop.example\n    http: {{paths: [{{path: /, pathType: Prefix, \
         backend: {{service: {{name: web, port: {{number: 80}}}}}}}}]}}\n---\n"
    )
}

fn folder(annotation: &str) -> Result<(Folder, String)> {
    let folder = Folder::new()?;
    folder.write("all.yaml", &(SERVICE.to_owned() + &ingress(annotation)))?;
    let path = folder.path().display().to_string();
    Ok((folder, path))
}

#[test]
fn the_exit_status_says_whether_anything_differs() -> Result<()> {
    let rows = [
        ("proxy-body-size: 8m", Some(0), "shop: alike"),
        // What is broken in ingress-nginx stays as it is, so it is alike.
        ("proxy-read-timeout: 30s", Some(0), "broken: proxy-read-timeout"),
        ("enable-modsecurity: \"true\"", Some(1), "differs: enable-modsecurity"),
        ("modsecurity-snippet: SecRuleEngine On", Some(1), "refused: modsecurity-snippet"),
        ("auth-secret: users", Some(1), "everybody is let in"),
    ];
    for (annotation, expected, part) in rows {
        let (_folder, path) = folder(annotation)?;
        let (code, out, said) = migrate(&["--manifests", &path], &[])?;
        assert_eq!(code, expected, "{annotation}: {said}");
        assert!(out.contains(part), "{annotation}: {part:?} is not in: {out}");
    }
    Ok(())
}

#[test]
fn what_cannot_be_read_returns_2_and_a_broken_file_1() -> Result<()> {
    for arguments in [&["--manifests", "/nonexistent"][..], &[]] {
        let (code, out, said) = migrate(arguments, &[])?;
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}: {said}");
        assert!(said.contains(if arguments.is_empty() { "KUBECONFIG" } else { "/nonexistent" }), "{said}");
    }
    let (folder, path) = folder("proxy-body-size: 8m")?;
    for wrong in ["--compare=ftp://192.0.2.1", "--compare="] {
        let (code, _, said) = migrate(&["--manifests", &path, wrong], &[])?;
        assert_eq!(code, Some(2), "{wrong}: {said}");
    }
    folder.write("broken.yaml", "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: a}\nspec: 7\n")?;
    let (code, out, said) = migrate(&["--manifests", &path], &[])?;
    assert_eq!(code, Some(1), "{said}");
    assert!(out.contains("ingress default/a"), "{out}");
    Ok(())
}

#[test]
fn json_has_the_counts_and_every_finding() -> Result<()> {
    let (_folder, path) = folder("enable-modsecurity: \"true\"")?;
    let (_, out, said) = migrate(&["-o", "json", "--manifests", &path], &[])?;
    let report: Value = serde_json::from_str(&out).map_err(|error| anyhow::anyhow!("{error}: {said}"))?;
    assert_eq!(report["summary"]["differs"], 1, "{report}");
    let shop = &report["ingresses"][0];
    assert_eq!(
        (&shop["namespace"], &shop["name"], &shop["verdict"]),
        (&"default".into(), &"shop".into(), &"differs".into())
    );
    let finding = &shop["differs"][0];
    for (name, value) in [("subject", "enable-modsecurity"), ("value", "true"), ("code", "annotation")] {
        assert_eq!(finding[name], value, "{finding}");
    }
    assert!(finding["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{finding}");
    assert_eq!(shop["routes"][0]["endpoints"], 1, "{shop}");
    Ok(())
}

#[test]
fn html_is_one_page() -> Result<()> {
    let (_folder, path) = folder("load-balance: \"<script>alert(1)</script>\"")?;
    let (code, out, _) = migrate(&["-o", "html", "--manifests", &path], &[])?;
    assert_eq!(code, Some(1));
    assert!(out.starts_with("<!DOCTYPE html>") && out.trim_end().ends_with("</html>"), "{out}");
    assert!(out.contains("default/shop") && out.contains("&lt;script&gt;") && !out.contains("<script"), "{out}");
    Ok(())
}

#[test]
fn the_controller_may_be_named() -> Result<()> {
    let (folder, path) = folder("ssl-passthrough: \"true\"")?;
    let options =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: options}\ndata: {use-gzip: \"true\", http-snippet: x}\n";
    folder.write("options.yaml", options)?;
    let (code, out, _) = migrate(&["--manifests", &path], &[])?;
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("not among the objects") && out.contains("has no effect in ingress-nginx either"), "{out}");
    let flags = ["--nginx-flag=--enable-ssl-passthrough", "--config-map=default/options"];
    let (code, out, _) = migrate(&[&["--manifests", &path][..], &flags].concat(), &[])?;
    assert_eq!(code, Some(1), "{out}");
    assert!(
        out.contains("ConfigMap keys: 1 served, 0 needless, 1 differ") && out.contains("option http-snippet"),
        "{out}"
    );
    assert!(!out.contains("has no effect in ingress-nginx either"), "{out}");
    Ok(())
}
