//! `status`: how the replicas that run stand, side by side.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::{Output, StatusArgs};
use crate::replicas::{self, Replica};

/// What a replica said of itself, or why it said nothing.
struct Said {
    replica: Replica,
    status: Result<Value, String>,
}

/// Prints it; exits with 1 if a replica is not ready or does not answer.
pub fn run(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let said = crate::once(async {
        let replicas = replicas::find(&args.replicas).await?;
        let asked = replicas.into_iter().map(|replica| async move {
            let status = async { Ok::<Value, anyhow::Error>(serde_json::from_str(&replica.get("/status").await?)?) };
            let status = status.await.map_err(|error| format!("{error:#}"));
            Said { replica, status }
        });
        Ok(futures::future::join_all(asked).await)
    })?;
    match args.output {
        Output::Text => print!("{}", text(&said)),
        Output::Json => println!("{}", serde_json::to_string_pretty(&to_json(&said))?),
    }
    let is_well = |said: &Said| said.status.as_ref().is_ok_and(|status| status["ready"] == true);
    Ok(if said.iter().all(is_well) { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn to_json(said: &[Said]) -> Value {
    let one = |said: &Said| match &said.status {
        Ok(status) => json!({"replica": said.replica.name, "node": said.replica.node, "status": status}),
        Err(error) => json!({"replica": said.replica.name, "node": said.replica.node, "error": error}),
    };
    json!({ "replicas": said.iter().map(one).collect::<Vec<_>>() })
}

fn text(said: &[Said]) -> String {
    let mut rows =
        vec![["REPLICA", "NODE", "READY", "GENERATION", "INGRESSES", "PROBLEMS", "CERTIFICATES"].map(str::to_owned)];
    let mut problems: BTreeSet<String> = BTreeSet::new();
    let mut errors = Vec::new();
    for Said { replica, status } in said {
        let (name, node) = (replica.name.clone(), replica.node.clone().unwrap_or_else(|| "-".to_owned()));
        let count = |value: &Value| value.as_array().map_or_else(|| "-".to_owned(), |list| list.len().to_string());
        match status {
            Ok(status) => {
                let ready = if status["ready"] == true { "yes" } else { "no" }.to_owned();
                let (found, certificates) = (count(&status["problems"]), certificates(&status["certificates"]));
                let generation = status["generation"].to_string();
                rows.push([name, node, ready, generation, count(&status["ingresses"]), found, certificates]);
                let list = status["problems"].as_array().into_iter().flatten();
                problems.extend(list.filter_map(|problem| {
                    Some(format!("{} [{}]", problem["message"].as_str()?, problem["reason"].as_str()?))
                }));
            }
            Err(error) => {
                errors.push(format!("{name}: {error}"));
                let unknown = || "?".to_owned();
                rows.push([name, node, unknown(), unknown(), unknown(), unknown(), unknown()]);
            }
        }
    }
    let mut text = table(&rows);
    for (title, lines) in [("does not answer", errors), ("problems", problems.into_iter().collect())] {
        if !lines.is_empty() {
            let _ = writeln!(text, "\n{title}:");
            for line in lines {
                let _ = writeln!(text, "  {line}");
            }
        }
    }
    text
}

/// How many there are, and how many of them are not as they should be.
fn certificates(list: &Value) -> String {
    let Some(list) = list.as_array() else { return "-".to_owned() };
    let is_well = |one: &&Value| matches!(one["state"].as_str(), Some("issued" | "foreign"));
    let unwell = list.len() - list.iter().filter(is_well).count();
    if unwell == 0 { list.len().to_string() } else { format!("{} ({unwell} not issued)", list.len()) }
}

/// Columns as wide as their widest cell.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().enumerate().map(|(column, cell)| format!("{cell:<width$}", width = width(column)));
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_stand_side_by_side_and_problems_are_said_once() {
        let problem = json!({"message": "ingress shop/web: no such service", "reason": "UnknownService"});
        let status = json!({"ready": true, "generation": 7, "ingresses": [{}, {}], "problems": [problem],
            "certificates": [{"state": "issued"}, {"state": "failed"}]});
        let said = |name: &str, status| {
            let replica = Replica::for_tests(name);
            Said { replica, status }
        };
        let text = text(&[said("a", Ok(status.clone())), said("b", Ok(status)), said("c", Err("timed out".into()))]);
        assert_eq!(
            text,
            "REPLICA  NODE  READY  GENERATION  INGRESSES  PROBLEMS  CERTIFICATES\n\
             a        -     yes    7           2          1         2 (1 not issued)\n\
             b        -     yes    7           2          1         2 (1 not issued)\n\
             c        -     ?      ?           ?          ?         ?\n\n\
             does not answer:\n  c: timed out\n\nproblems:\n  ingress shop/web: no such service [UnknownService]\n"
        );
    }
}
