//! Plays the cases of one world, in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use landfall_e2e::ingress::{Ingress, Launch};
use landfall_e2e::{tools, wait};
use regex::Regex;
use serde_json::Value;

use crate::case::{Case, Name, Request, World};
use crate::client::{self, Exchange, Outcome as Came, Target};
use crate::echo::Seen;
use crate::judge::{self, Observed};
use crate::world::{CONFIG_MAP, Scene, Stage};

/// How long a start or a change of the folder may take, on a machine under load.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a request to another service may take to come, after the answer.
const LATE: Duration = Duration::from_millis(500);
/// Longer differences are cut.
const LONGEST: usize = 200;

/// Whether a case is met.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) id: String,
    pub(crate) family: String,
    pub(crate) note: String,
    /// The first one.
    pub(crate) difference: Option<String>,
}

/// Ids and families; `None` is everything.
#[derive(Clone, Debug)]
pub(crate) struct Selection(Option<BTreeSet<String>>);

impl Selection {
    pub(crate) fn from_environment(cases: &[Case]) -> Result<Self> {
        let Ok(text) = std::env::var("LANDFALL_OBSERVED_ONLY") else { return Ok(Self(None)) };
        let selected: BTreeSet<String> = text.split(',').map(|word| word.trim().to_owned()).collect();
        for word in &selected {
            let known = cases.iter().any(|case| case.id == *word || case.family == *word);
            ensure!(known, "LANDFALL_OBSERVED_ONLY: there is no case and no family {word:?}");
        }
        Ok(Self(Some(selected)))
    }

    pub(crate) fn all() -> Self {
        Self(None)
    }

    /// Whether it leaves something out; what it has is then shown in full.
    pub(crate) fn is_partial(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn touches(&self, world: &World) -> bool {
        world.cases.iter().any(|template| self.has(&template.case))
    }

    fn has(&self, case: &Case) -> bool {
        self.0.as_ref().is_none_or(|selected| selected.contains(&case.id) || selected.contains(&case.family))
    }
}

/// Plays the selected cases of a world; the others are there too.
pub(crate) async fn world(world: World, selection: Selection) -> Result<Vec<Outcome>> {
    let stage = Stage::build(&world).await?;
    let mut ingress = launch(&world, &stage)?.spawn()?;
    let refused = match ingress.ready(PATIENCE).await {
        Ok(_) => None,
        Err(error) => {
            let log = ingress.log();
            let line = log.lines().find(|line| line.starts_with("error")).or(log.lines().last()).unwrap_or_default();
            Some(format!("no start: {error:#}: {line}"))
        }
    };
    let hsts = world.configmap.as_ref().is_none_or(|data| data.keys().all(|key| !key.starts_with("hsts")));
    let mut outcomes = Vec::new();
    for scene in stage.scenes.iter().filter(|scene| selection.has(&scene.case)) {
        let Case { id, family, note, .. } = scene.case.clone();
        let difference = if let Some(refused) = &refused {
            Some(refused.clone())
        } else {
            let (verbose, text) = (selection.is_partial(), String::new());
            let mut play = Play { stage: &stage, scene, ingress: &ingress, hsts, verbose, text };
            let difference = play.all().await.with_context(|| id.clone())?;
            // In one piece: other worlds print too.
            print!("{}", play.text);
            difference
        };
        outcomes.push(Outcome { id, family, note, difference: difference.map(|difference| stable(&difference)) });
    }
    Ok(outcomes)
}

fn launch(world: &World, stage: &Stage) -> Result<Launch> {
    let flags: Vec<&str> = world.flags.iter().map(String::as_str).collect();
    let launch = Launch::manifests(stage.folder.path()).args(&["--no-access-log"]).args(&flags);
    if world.configmap.is_none() {
        return Ok(launch);
    }
    Ok(launch.args(&[config_map_flag()?, &format!("{}/{}", CONFIG_MAP.0, CONFIG_MAP.1)]))
}

/// The flag by the name that the program has for it.
fn config_map_flag() -> Result<&'static str> {
    static HELP: OnceLock<String> = OnceLock::new();
    let help = if let Some(help) = HELP.get() {
        help
    } else {
        let help = tools::run(Command::new(tools::program("landfall-ingress")?).args(["serve", "--help"]))?;
        HELP.get_or_init(|| help)
    };
    Ok(if help.contains("--configmap") { "--configmap" } else { "--config-map" })
}

/// A difference without what is another one in each run.
fn stable(difference: &str) -> String {
    let ports = Regex::new(r":[0-9]{5}\b").expect("it compiles");
    let ids = Regex::new(r"\b[0-9a-f]{32}\b").expect("it compiles");
    let text = ids.replace_all(&ports.replace_all(difference, ":PORT"), "ID").replace('\n', " ");
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// One case on its stage.
struct Play<'a> {
    stage: &'a Stage,
    scene: &'a Scene,
    ingress: &'a Ingress,
    hsts: bool,
    verbose: bool,
    /// What is printed of the case.
    text: String,
}

/// Which pods answered which request.
type Pods = BTreeMap<String, BTreeSet<std::net::SocketAddr>>;

impl Play<'_> {
    /// All requests of all states, up to the first difference.
    async fn all(&mut self) -> Result<Option<String>> {
        let (mut cookies, mut pods) = (BTreeMap::new(), Pods::new());
        let mut first = None;
        for (number, (_, requests)) in self.scene.case.states().enumerate() {
            if number > 0 {
                self.change(number).await?;
            }
            for request in requests {
                for _ in 0..request.times.unwrap_or(1) {
                    let difference = self.one(request, &mut cookies, &mut pods).await?;
                    first = first.or_else(|| difference.map(|text| format!("{}: {text}", title(request))));
                    if first.is_some() && !self.verbose {
                        return Ok(first);
                    }
                }
            }
        }
        Ok(first.or_else(|| self.pods(&pods)))
    }

    /// Replaces the objects, and waits until that is in effect.
    async fn change(&self, state: usize) -> Result<()> {
        let marker = self.stage.show(self.scene, state)?;
        let id = &self.scene.case.id;
        wait::until(PATIENCE, &format!("{id}/{marker}"), || async {
            let status = self.ingress.status().await?;
            let mut known = status["ingresses"].as_array().into_iter().flatten();
            let is_it = |ingress: &Value| ingress["namespace"] == *id && ingress["name"] == *marker;
            ensure!(known.any(is_it), "it is not known");
            Ok(())
        })
        .await?;
        Ok(())
    }

    async fn one(
        &mut self,
        request: &Request,
        cookies: &mut BTreeMap<String, String>,
        pods: &mut Pods,
    ) -> Result<Option<String>> {
        self.stage.log.clear();
        let target = Target { http: self.ingress.http, https: self.ingress.https };
        let host = format!("{}.test", self.scene.case.id);
        let exchange = client::ask(target, request, &host, cookies, &self.stage.pki).await?;
        let (difference, seen) = self.judged(request, &exchange).await;
        if self.has_copies() {
            // A copy may come after its answer, and must not count for the next request.
            tokio::time::sleep(LATE / 10).await;
        }
        if let Came::Answer(answer) = &exchange.result {
            if request.keep_cookie {
                for pair in answer.values("set-cookie").filter_map(|value| value.split(';').next()?.split_once('=')) {
                    cookies.insert(pair.0.to_owned(), pair.1.to_owned());
                }
            }
            let pod = judge::answered(answer, &seen).map(|seen| seen.pod);
            pods.entry(full(request)).or_default().extend(pod);
        }
        if self.verbose {
            self.print(request, &exchange, &seen, difference.as_deref());
        }
        Ok(difference)
    }

    /// Whether copies of requests are made.
    fn has_copies(&self) -> bool {
        self.scene.case.objects.iter().any(|object| object.to_string().contains("mirror-target"))
    }

    /// What services saw; those of other cases go by their full names.
    fn seen(&self) -> Vec<Seen> {
        let mut seen = self.stage.log.seen();
        let is_own = |seen: &Seen| *seen.namespace == *self.scene.case.id || self.stage.is_shared(&seen.service);
        for seen in seen.iter_mut().filter(|seen| !is_own(seen)) {
            seen.service = format!("{}/{}", seen.namespace, seen.service).into();
        }
        seen
    }

    /// Looks again for a while where other services are asked: a mirror may be so after the answer.
    async fn judged(&self, request: &Request, exchange: &Exchange) -> (Option<String>, Vec<Seen>) {
        let begun = Instant::now();
        let asks_others = request.expect.meant.others_saw.is_some();
        loop {
            let seen = self.seen();
            let observed = Observed { exchange, seen: &seen, pki: &self.stage.pki, hsts: self.hsts };
            let difference = judge::difference(request, &observed);
            if difference.is_none() || !asks_others || begun.elapsed() > LATE {
                return (difference, seen);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Whether pods were chosen as they should be.
    fn pods(&self, pods: &Pods) -> Option<String> {
        let several = pods.iter().find(|(_, pods)| self.scene.case.same_pod && pods.len() > 1);
        if let Some((request, pods)) = several {
            return Some(format!("{request}: {} pods instead of one", pods.len()));
        }
        let reached = pods.values().flatten().collect::<BTreeSet<_>>().len();
        let wanted = self.scene.case.spread;
        (reached < wanted).then(|| format!("{reached} pods are reached instead of {wanted}"))
    }

    fn print(&mut self, request: &Request, exchange: &Exchange, seen: &[Seen], difference: Option<&str>) {
        let mut lines = vec![format!("{} {}", self.scene.case.id, full(request))];
        lines.push(format!("  expected {}", request.expect.text));
        lines.extend(request.accept.iter().map(|other| format!("  or {}", other.text)));
        match &exchange.result {
            Came::Answer(answer) => {
                lines.push(format!("  answered {} {:?}", answer.status, answer.headers));
                lines.push(format!("  body {}", String::from_utf8_lossy(&answer.body).trim_end()));
            }
            other => lines.push(format!("  {other:?}")),
        }
        for Seen { namespace, service, method, path, headers, .. } in seen {
            lines.push(format!("  {namespace}/{service} saw {method} {path} {headers:?}"));
        }
        let verdict = difference.map_or_else(|| "as it should be".to_owned(), |text| format!("DIFFERS: {text}"));
        lines.push(format!("  {verdict}\n"));
        self.text.push_str(&lines.join("\n"));
    }
}

/// A request in few words.
fn title(request: &Request) -> String {
    let scheme = if request.tls { "https " } else { "" };
    let host = match &request.host {
        Name::Usual => String::new(),
        Name::None => " of no host".to_owned(),
        Name::Given(host) => format!(" of {host}"),
    };
    match &request.raw {
        Some(raw) => format!("{raw:?}"),
        None => format!("{scheme}{} {}{host}", request.method(), request.path),
    }
}

/// The same with its header fields.
fn full(request: &Request) -> String {
    let fields = request.fields();
    let fields: Vec<_> = fields.iter().map(|(name, value)| format!(" ({name}: {value})")).collect();
    title(request) + &fields.concat()
}
