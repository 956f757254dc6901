//! The command line as a contract: what `check`, `explain` and `serve` print and return.

use std::process::Command;

use anyhow::{Context, Result};
use landfall_e2e::echo::Echo;
use landfall_e2e::ingress::Launch;
use landfall_e2e::manifests::{self, Folder};
use landfall_e2e::tools;
use serde_json::Value;

/// Runs the ingress with `arguments`; returns the exit code and both streams as one text.
fn ingress(arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let mut command = Command::new(tools::program("landfall-ingress")?);
    let (output, said) = tools::run_any(command.args(arguments))?;
    Ok((output.status.code(), said))
}

fn shop() -> Result<Folder> {
    let folder = Folder::new()?;
    let web = ([127, 0, 0, 1], 18081).into();
    folder.write("shop.yaml", &manifests::ingress("shop", "shop.example", &[("/", "web"), ("/cart", "cart")]))?;
    folder.write("services.yaml", &(manifests::service("web", &[web]) + &manifests::service("cart", &[web])))?;
    Ok(folder)
}

#[test]
fn check_says_nothing_is_wrong_and_returns_0() -> Result<()> {
    let folder = shop()?;
    let path = folder.path().display().to_string();
    let (code, said) = ingress(&["check", "--manifests", &path])?;
    assert_eq!((code, said.trim()), (Some(0), "no problems"));
    let (code, said) = ingress(&["check", "--manifests", &path, "-o", "json"])?;
    assert_eq!(code, Some(0));
    assert_eq!(serde_json::from_str::<Value>(&said)?["problems"], serde_json::json!([]));
    Ok(())
}

#[test]
fn check_names_file_line_object_field_value_and_remedy() -> Result<()> {
    let folder = shop()?;
    folder.edit("shop.yaml", "name: cart,", "name: carts,")?;
    let (code, said) = ingress(&["check", "--manifests", &folder.path().display().to_string()])?;
    assert_eq!(code, Some(1), "{said}");
    for part in ["shop.yaml:", "error", "ingress default/shop", "paths[1]", "\"carts\"", "cart", "[UnknownService]"] {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
    Ok(())
}

#[test]
fn explain_names_the_rule_that_answers_and_why_the_others_do_not() -> Result<()> {
    let folder = shop()?;
    let path = folder.path().display().to_string();
    let rows: &[(&str, &[&str])] = &[
        ("http://shop.example/cart/items", &["default/shop", "cart", "127.0.0.1:18081"]),
        ("http://shop.example/", &["default/shop", "web"]),
        ("http://other.example/", &["404"]),
    ];
    for (url, parts) in rows {
        let (code, said) = ingress(&["explain", "--manifests", &path, url])?;
        assert!(code.is_some_and(|code| code <= 1), "{url}: {said}");
        for part in *parts {
            assert!(said.contains(part), "{url}: {part:?} is not in: {said}");
        }
        let (_, said) = ingress(&["explain", "--manifests", &path, "-o", "json", url])?;
        serde_json::from_str::<Value>(&said).with_context(|| format!("{url}: {said}"))?;
    }
    Ok(())
}

#[test]
fn wrong_arguments_are_explained_and_return_an_error() -> Result<()> {
    let rows: &[(&[&str], &str)] = &[
        (&["check", "--manifests", "/nonexistent"], "/nonexistent"),
        (&["check"], "--manifests"),
        (&["serve", "--http", "eighty"], "--http"),
        (&["serve", "--manifests", "/nonexistent", "--http", "127.0.0.1:0"], "/nonexistent"),
        (&["serve", "--default-backend-service", "web"], "--default-backend-service"),
        (&["explain", "--manifests", ".", "not a url"], "not a url"),
    ];
    for (arguments, part) in rows {
        let (code, said) = ingress(arguments)?;
        assert!(code.is_some_and(|code| code != 0), "{arguments:?} returned {code:?}: {said}");
        assert!(said.contains(part), "{arguments:?}: {part:?} is not in: {said}");
    }
    Ok(())
}

#[test]
fn every_flag_of_the_contract_has_its_environment_variable() -> Result<()> {
    let (code, help) = ingress(&["serve", "--help"])?;
    assert_eq!(code, Some(0));
    for flag in [
        "manifests",
        "http",
        "https",
        "admin",
        "controller-class",
        "ingress-class",
        "watch-ingress-without-class",
        "default-ssl-certificate",
        "default-backend-service",
        "publish-service",
        "publish-status-address",
        "config-map",
    ] {
        let variable = format!("LANDFALL_{}", flag.to_uppercase().replace('-', "_"));
        assert!(help.contains(&format!("--{flag}")), "{flag} is not in: {help}");
        assert!(help.contains(&variable), "{variable} is not in: {help}");
    }
    Ok(())
}

#[test]
fn every_shell_gets_its_completions() -> Result<()> {
    for program in ["landfall-ingress", "landfall-lb-announcer"] {
        for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
            let mut command = Command::new(tools::program(program)?);
            let said = tools::run(command.args(["completions", shell]))?;
            assert!(said.contains(program) && said.contains("manifests"), "{program} {shell}: {said}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn serve_takes_its_flags_from_the_environment() -> Result<()> {
    let echo = Echo::local("web").await?;
    let folder = Folder::new()?;
    folder.write("web.yaml", &manifests::service("web", &[echo.addr]))?;
    let launch = Launch::manifests(folder.path()).env("LANDFALL_DEFAULT_BACKEND_SERVICE", "default/web");
    let ingress = launch.start().await?;
    assert_eq!(ingress.get("any.example", "/").await?.backend(), "web");
    Ok(())
}

#[tokio::test]
async fn the_admin_port_answers_as_the_contract_says() -> Result<()> {
    let echo = Echo::local("web").await?;
    let folder = shop()?;
    folder.write("services.yaml", &(manifests::service("web", &[echo.addr]) + &manifests::service("cart", &[])))?;
    let ingress = Launch::manifests(folder.path()).args(&["--publish-status-address", "192.0.2.7"]).start().await?;
    ingress.get("shop.example", "/").await?;

    let get = |path: &'static str| landfall_e2e::client::get(ingress.admin, "admin", path);
    for path in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(get(path).await?.status, 200, "{path}");
    }
    assert_eq!(get("/nothing").await?.status, 404);
    let metrics = get("/metrics").await?.text();
    for name in ["landfall_build_info", "landfall_ingress_requests_total", "# EOF"] {
        assert!(metrics.contains(name), "{name} is not in: {metrics}");
    }
    let status = ingress.status().await?;
    assert_eq!(status["ready"], true);
    assert!(status["generation"].is_u64(), "{status}");
    let shop = &status["ingresses"][0];
    assert_eq!((&shop["namespace"], &shop["name"]), (&"default".into(), &"shop".into()), "{status}");
    assert_eq!(shop["addresses"], serde_json::json!(["192.0.2.7"]), "{status}");
    let problem = &status["problems"][0];
    assert_eq!(problem["reason"], "NoEndpoints", "{status}");
    assert!(["kind", "namespace", "name", "message"].iter().all(|field| problem[field].is_string()), "{status}");
    Ok(())
}
