//! Faults that people have, made on a real cluster one after the other: `check` names each by object and remedy, and
//! says nothing any more once it is undone.

mod addresses;
mod deed;
mod ingresses;
mod scene;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use landfall_e2e::testbed::{Namespace, PATIENCE};
use landfall_e2e::{figures, wait};

use crate::stage::{Stage, play};
use deed::{Deed, undo};
use scene::{Check, Scene};

pub(crate) const NAMESPACE: &str = "faults";
/// How long one check may take.
const BUDGET: Duration = Duration::from_secs(3);
/// The same on a machine that is busy with other things too.
const ANYWHERE: Duration = Duration::from_secs(20);
/// So many of the faults have to be named.
const NAMED: usize = 28;

/// One fault.
pub(crate) struct Fault {
    /// What is wrong, in a few words.
    what: &'static str,
    deeds: Vec<Deed>,
    /// The program whose `check` is asked.
    program: &'static str,
    /// Parts of one line that it prints: the object, what to do, and the word that the documentation explains.
    line: [&'static str; 3],
}

/// What can't be made here, with the reason.
const NOT_MADE: &[(&str, &str)] = &[
    ("a Kubernetes that is too old", "a cluster of 1.28 or older would be needed; the model's tests judge versions"),
    ("IPVS itself", "the kernel need not have it, so kube-proxy's configuration alone says so"),
];

#[tokio::test(flavor = "multi_thread")]
async fn check_names_every_fault_and_what_to_do() -> Result<()> {
    play(NAMESPACE, scenario).await
}

async fn scenario(stage: &Stage, namespace: &Namespace<'_>) -> Result<()> {
    let scene = Scene::set(stage, namespace).await?;
    let mut record = Record::default();
    for program in [ingresses::PROGRAM, addresses::PROGRAM] {
        scene.clean(program).await?;
    }
    let faults = ingresses::faults().into_iter().chain(addresses::faults());
    for fault in faults.filter(|fault| wanted(fault.what)) {
        record.play(&scene, &fault).await?;
    }
    let authority = scene.order_certificates().await?;
    for fault in ingresses::faults_of_certificates().iter().filter(|fault| wanted(fault.what)) {
        record.play(&scene, fault).await?;
    }
    drop(authority);
    record.conclude(scene.slowest())
}

/// `LANDFALL_FAULT` chooses some by a part of their names.
fn wanted(what: &str) -> bool {
    std::env::var("LANDFALL_FAULT").map_or(true, |part| what.contains(&part))
}

/// What was said of each.
#[derive(Default)]
struct Record {
    named: Vec<(&'static str, String)>,
    wrong: Vec<String>,
}

impl Record {
    /// Makes the fault, waits until it is named, undoes it, and waits until nothing is wrong.
    async fn play(&mut self, scene: &Scene<'_>, fault: &Fault) -> Result<()> {
        let testbed = &scene.stage.testbed;
        let mut undos = Vec::new();
        let mut made = Ok(());
        for deed in &fault.deeds {
            match deed.done(testbed) {
                Ok(undo) => undos.push(undo),
                Err(error) => {
                    made = Err(error.context(format!("{}: {deed:?}", fault.what)));
                    break;
                }
            }
        }
        let said = match made {
            Ok(()) => said(scene, fault).await,
            Err(error) => Err(error),
        };
        undo(testbed, undos).await.with_context(|| format!("{}: undoing it", fault.what))?;
        match said {
            Ok(line) => {
                println!("{}\n    {line}", fault.what);
                self.named.push((fault.what, line));
            }
            Err(error) => {
                println!("{}\n    NOT NAMED: {error:#}", fault.what);
                self.wrong.push(format!("{}: {error:#}", fault.what));
            }
        }
        let clean = scene.clean(fault.program).await;
        if let Err(error) = clean {
            println!("{}: after it was undone: {error:#}", fault.what);
            self.wrong.push(format!("{}: after it was undone: {error:#}", fault.what));
        }
        Ok(())
    }

    fn conclude(self, slowest: Duration) -> Result<()> {
        let all = self.named.len() + self.wrong.len();
        for (what, line) in &self.named {
            println!("| {what} | {line} |");
        }
        for (what, why) in NOT_MADE {
            println!("| {what} | not made: {why} |");
        }
        figures::print(&format!(
            "faults on a real cluster that check names: {} of {all}; the slowest look took {} ms",
            self.named.len(),
            slowest.as_millis()
        ));
        ensure!(self.wrong.is_empty(), "{}", self.wrong.join("\n"));
        ensure!(
            self.named.len() >= NAMED || std::env::var("LANDFALL_FAULT").is_ok(),
            "{} were named",
            self.named.len()
        );
        figures::within(slowest, BUDGET, ANYWHERE)
    }
}

/// Waits for the line that names a fault.
async fn said(scene: &Scene<'_>, fault: &Fault) -> Result<String> {
    let (line, _) = wait::until(PATIENCE, "its line", || async {
        let Check { lines, .. } = scene.check(fault.program).await?;
        let holds = |line: &&String| line.starts_with(['✗', '!']) && fault.line.iter().all(|part| line.contains(part));
        lines.iter().find(holds).cloned().with_context(|| format!("{:?} is not in\n{}", fault.line, lines.join("\n")))
    })
    .await?;
    Ok(line)
}
