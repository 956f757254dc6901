//! `examples/mistakes`: every mistake gives the problem that its file announces, and what is right serves.
//!
//! A file announces `# Problem: REASON KIND/NAME FIELD`, with `*` for an object that can't be named and `-` for no
//! field. A new mistake needs no Rust.

use std::process::Command;

use anyhow::{Context, Result};
use landfall_e2e::echo::Echo;
use landfall_e2e::ingress::Launch;
use landfall_e2e::manifests::Folder;
use landfall_e2e::tools;
use serde_json::Value;

/// At least this many different mistakes are shown.
const AT_LEAST: usize = 32;

/// Where the only endpoint of the examples listens.
const BACKEND: &str = "port: 18081";

#[derive(Debug)]
struct Announced {
    file: String,
    reason: String,
    object: String,
    field: String,
}

fn announced() -> Result<Vec<Announced>> {
    let mut all = Vec::new();
    let mut entries: Vec<_> = std::fs::read_dir(folder())?.collect::<Result<_, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let file = entry.file_name().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(entry.path())?;
        let lines: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# Problem: ")).collect();
        assert_eq!(lines.is_empty(), file == "00-healthy.yaml", "{file} announces no problem");
        for line in lines {
            let mut words = line.split_whitespace().map(str::to_owned);
            let mut word = || words.next().with_context(|| format!("{file}: {line:?} has three words"));
            all.push(Announced { reason: word()?, object: word()?, field: word()?, file: file.clone() });
        }
    }
    Ok(all)
}

fn folder() -> std::path::PathBuf {
    tools::checkout().join("examples/mistakes")
}

fn text<'a>(problem: &'a Value, field: &str) -> &'a str {
    problem[field].as_str().unwrap_or_default()
}

/// Whether a problem is the announced one.
fn is(announced: &Announced, problem: &Value) -> bool {
    let object = format!("{}/{}", text(problem, "kind"), text(problem, "name"));
    let field = if announced.field == "-" { "" } else { &announced.field };
    text(problem, "file") == announced.file
        && text(problem, "reason") == announced.reason
        && (announced.object == "*" || object == announced.object)
        && (text(problem, "field") == field || announced.field == "-")
}

#[test]
fn check_finds_what_each_file_announces_and_nothing_else() -> Result<()> {
    let mut command = Command::new(tools::program("landfall-ingress")?);
    let (output, said) = tools::run_any(command.args(["check", "-o", "json", "--manifests"]).arg(folder()))?;
    assert_eq!(output.status.code(), Some(1), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).with_context(|| said.clone())?;
    let problems = report["problems"].as_array().context("no list of problems")?;
    let announced = announced()?;
    assert!(announced.len() >= AT_LEAST, "only {} mistakes", announced.len());

    let mut wrong = Vec::new();
    for one in &announced {
        if !problems.iter().any(|problem| is(one, problem)) {
            wrong.push(format!("missing: {one:?}"));
        }
    }
    for problem in problems {
        let shown = format!("{}: {} [{}]", text(problem, "file"), text(problem, "message"), text(problem, "reason"));
        if !announced.iter().any(|one| is(one, problem)) {
            wrong.push(format!("not announced: {shown}"));
        }
        if text(problem, "remedy").is_empty() {
            wrong.push(format!("without a remedy: {shown}"));
        }
        if problem["line"].as_u64().unwrap_or_default() == 0 {
            wrong.push(format!("without a line: {shown}"));
        }
    }
    assert!(wrong.is_empty(), "{}\nof {} problems", wrong.join("\n"), problems.len());
    Ok(())
}

#[tokio::test]
async fn what_is_right_serves_beside_every_mistake() -> Result<()> {
    let echo = Echo::local("web").await?;
    let mistakes = Folder::copy_of(&folder(), |text| text.replace(BACKEND, &format!("port: {}", echo.addr.port())))?;
    let ingress = Launch::manifests(mistakes.path()).start().await?;

    // A mistake in one rule takes nothing else down, so these answer although something is wrong with them.
    let rows = [
        ("healthy.example", "/", 200),
        ("m01.example", "/", 503),
        ("m02.example", "/", 503),
        ("m05.example", "/", 200),
        ("m11.example", "/", 200),
        ("m15.example", "/", 503),
        ("m25.example", "/", 200),
        ("m30.example", "/", 200),
        ("m33.example", "/", 200),
        ("m49.example", "/", 503),
    ];
    for (host, path, status) in rows {
        // Two Ingresses of the folder want what no rule takes, so an unknown host answers too.
        let answer = ingress.get(host, path).await?;
        assert_eq!(answer.status, status, "{host}{path}: {answer}");
    }
    let status = ingress.status().await?;
    let problems = status["problems"].as_array().context("no list of problems")?;
    assert!(problems.len() >= AT_LEAST, "{problems:?}");
    Ok(())
}
