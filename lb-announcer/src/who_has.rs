//! `who-has` and `status`: which node announces an address, by what the API server knows and by what the LAN says.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::Context;
use landfall_lb_model::moved::Moved;
use landfall_lb_model::speakers::SpeakerRule;
use landfall_lb_model::whereabouts::{Holder, holder};
use landfall_model::{ObjectKey, Problem};
use landfall_shared::look::Look;
use serde_json::{Value, json};

use crate::check::cluster::{Seen, read};
use crate::cli::{Output, StatusArgs, WhoHasArgs};
use crate::probe;

/// What ARP says of an address.
enum Heard {
    /// These hosts answer.
    Hosts(Vec<String>),
    /// It could not be asked.
    Nothing(String),
}

/// Prints who has the address; exits with 1 if nobody announces it, or others answer for it than who does.
pub fn run(args: &WhoHasArgs) -> anyhow::Result<ExitCode> {
    crate::install_crypto();
    let runtime = crate::runtime().context("cannot start the runtime")?;
    let (seen, heard) = runtime.block_on(async {
        let look = Look::new().await?;
        let seen = read(&look, &args.namespace, &args.rules.rules(SpeakerRule::Seen)).await?;
        Ok::<_, anyhow::Error>((seen, hear(args.address).await))
    })?;
    let mut seen = seen;
    let holder = holder(args.address, &mut seen.world);
    let macs = seen.world.speakers().macs(holder.node.as_deref().unwrap_or_default());
    let strangers: Vec<&String> = match &heard {
        Heard::Hosts(hosts) => hosts.iter().filter(|host| !macs.iter().any(|mac| mac.to_string() == **host)).collect(),
        Heard::Nothing(_) => Vec::new(),
    };
    let is_well = holder.node.is_some() && strangers.is_empty();
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&to_json(&holder, &seen, &heard))?),
        Output::Text => print!("{}", text(&holder, &seen, &heard, !strangers.is_empty())),
    }
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn hear(address: IpAddr) -> Heard {
    let IpAddr::V4(ip) = address else {
        return Heard::Nothing("it is an IPv6 address, which ARP knows nothing of".to_owned());
    };
    match probe::ask(&[ip]).await {
        Ok(answers) => Heard::Hosts(answers.get(&ip).into_iter().flatten().map(ToString::to_string).collect()),
        Err(trouble) => Heard::Nothing(trouble.to_string()),
    }
}

fn macs(seen: &Seen, node: &str) -> Vec<String> {
    seen.world.speakers().macs(node).iter().map(ToString::to_string).collect()
}

/// Since when it is where it is, as RFC 3339 has it.
fn since(holder: &Holder) -> Option<String> {
    let millis = i64::try_from(holder.since_ms?).ok()?;
    jiff::Timestamp::from_millisecond(millis).ok().map(|time| time.to_string())
}

/// `from n1 (failover), and nobody announced it for 205 ms`; `None` where nothing is known of it.
fn way(moved: &Moved) -> Option<String> {
    let from = moved.from.as_ref().map(|from| format!("from {from}"));
    let cause = moved.cause.as_ref().map(|cause| if from.is_some() { format!(" ({cause})") } else { cause.clone() });
    let took = moved.took_ms.map(|took| format!(", and nobody announced it for {took} ms"));
    let text: String = [from, cause, took].into_iter().flatten().collect();
    (!text.is_empty()).then_some(text)
}

fn to_json(holder: &Holder, seen: &Seen, heard: &Heard) -> Value {
    let arp = match heard {
        Heard::Hosts(hosts) => json!({ "answers": hosts }),
        Heard::Nothing(why) => json!({ "notAsked": why }),
    };
    json!({
        "address": holder.ip, "pool": holder.pool, "services": holder.services, "node": holder.node,
        "macs": holder.node.as_deref().map(|node| macs(seen, node)), "interfaces": holder.interfaces,
        "since": since(holder), "move": holder.moved, "standbys": holder.standbys, "arp": arp,
    })
}

fn text(holder: &Holder, seen: &Seen, heard: &Heard, strange: bool) -> String {
    let mut text = String::new();
    let list = |keys: &[ObjectKey]| keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let pool = holder.pool.as_deref().map_or_else(|| "of no pool".to_owned(), |pool| format!("of pool {pool}"));
    let _ = writeln!(text, "{} {pool}", holder.ip);
    let services = if holder.services.is_empty() { "none".to_owned() } else { list(&holder.services) };
    let _ = writeln!(text, "  services   {services}");
    match &holder.node {
        Some(node) => {
            let interfaces =
                if holder.interfaces.is_empty() { "all of its".to_owned() } else { holder.interfaces.join(", ") };
            let _ = writeln!(text, "  node       {node}, on {interfaces} interfaces");
            let _ = writeln!(text, "  MAC        {}", macs(seen, node).join(", "));
            let _ = writeln!(text, "  since      {}", since(holder).as_deref().unwrap_or("unknown"));
            if let Some(way) = holder.moved.as_ref().and_then(way) {
                let _ = writeln!(text, "  came       {way}");
            }
        }
        None => text.push_str("  node       none announces it; landfall-lb-announcer check says why\n"),
    }
    let standbys = if holder.standbys.is_empty() { "none".to_owned() } else { holder.standbys.join(", ") };
    let _ = writeln!(text, "  standbys   {standbys}");
    let _ = match heard {
        Heard::Hosts(hosts) if hosts.is_empty() => writeln!(text, "  ARP        nobody answers"),
        Heard::Hosts(hosts) if strange => {
            let cause = "not all of that is the node's: a foreign host, or kube-proxy in mode ipvs without strictARP";
            writeln!(text, "  ARP        {} ({cause})", hosts.join(", "))
        }
        Heard::Hosts(hosts) => writeln!(text, "  ARP        {}", hosts.join(", ")),
        Heard::Nothing(why) => writeln!(text, "  ARP        not asked: {why}"),
    };
    text
}

/// Prints every address with its Service and node, and what is wrong; exits with 1 if an address is not announced.
pub fn status(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    crate::install_crypto();
    let runtime = crate::runtime().context("cannot start the runtime")?;
    let mut seen = runtime.block_on(async {
        let look = Look::new().await?;
        read(&look, &args.namespace, &args.rules.rules(SpeakerRule::Seen)).await
    })?;
    let findings = seen.judge();
    let mut ips: BTreeSet<IpAddr> = BTreeSet::new();
    ips.extend(seen.world.services().values().flat_map(|service| &service.status));
    let holders: Vec<Holder> = ips.iter().map(|ip| holder(*ip, &mut seen.world)).collect();
    let problems: Vec<&Problem> = findings.problems().collect();
    match args.output {
        Output::Json => {
            let addresses: Vec<Value> = holders
                .iter()
                .map(|holder| to_json(holder, &seen, &Heard::Nothing("status asks nobody".to_owned())))
                .collect();
            let speakers: Vec<Value> = seen
                .world
                .nodes()
                .keys()
                .map(|node| {
                    json!({
                        "node": &**node, "speaker": seen.world.speakers().has_state(node), "macs": macs(&seen, node),
                    })
                })
                .collect();
            let status = json!({"addresses": addresses, "nodes": speakers, "problems": problems});
            println!("{}", serde_json::to_string_pretty(&status)?);
        }
        Output::Text => {
            println!("{:<40} {:<16} {:<32} {:<20} STANDBYS", "ADDRESS", "POOL", "SERVICE", "NODE");
            for holder in &holders {
                let service = holder.services.first().map(ToString::to_string).unwrap_or_default();
                let (pool, node) = (holder.pool.as_deref().unwrap_or("-"), holder.node.as_deref().unwrap_or("nobody"));
                println!(
                    "{:<40} {pool:<16} {service:<32} {node:<20} {}",
                    holder.ip.to_string(),
                    holder.standbys.join(", ")
                );
            }
            let silent = seen.world.nodes().keys().filter(|node| !seen.world.speakers().has_state(node));
            let silent: Vec<&str> = silent.map(|node| &**node).collect();
            if !silent.is_empty() {
                println!("\nnodes without a speaker: {}", silent.join(", "));
            }
            if !problems.is_empty() {
                println!("\nproblems:");
                for problem in &problems {
                    println!("  {problem} [{}]", problem.reason);
                }
            }
        }
    }
    Ok(if holders.iter().all(|holder| holder.node.is_some()) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
