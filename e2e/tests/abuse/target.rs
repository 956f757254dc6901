//! Who is attacked: the ingress, and those that it is compared with.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use landfall_e2e::ingress::{Ingress, Launch};
use landfall_e2e::manifests::{self, Folder};
use landfall_e2e::{client, tools, wait};
use tempfile::TempDir;

use crate::scene::{GOOD, HOST};

/// A program that is attacked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Nginx,
    Haproxy,
    Landfall,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Landfall => "landfall",
        }
    }

    /// Those that are attacked: the ingress alone, unless a comparison is asked for.
    pub(crate) fn all() -> &'static [Self] {
        match std::env::var_os("LANDFALL_ABUSE_ALONE") {
            Some(_) => &[Self::Landfall],
            None => &[Self::Nginx, Self::Haproxy, Self::Landfall],
        }
    }
}

/// One that runs.
pub(crate) struct Target {
    /// Where it takes HTTP/1.1.
    pub(crate) http: SocketAddr,
    /// Where it takes HTTP/2 in the clear.
    pub(crate) h2: SocketAddr,
    running: Running,
}

enum Running {
    Landfall { ingress: Ingress, _folder: Folder },
    Peer { child: Child, folder: TempDir },
}

impl Target {
    /// Starts one in front of two backends, and waits until it answers.
    pub(crate) async fn start(kind: Kind, web: SocketAddr, good: SocketAddr) -> Result<Self> {
        let target = match kind {
            Kind::Landfall => landfall(web, good).await?,
            Kind::Nginx => peer("nginx", include_str!("nginx.conf"), web, good)?,
            Kind::Haproxy => peer("haproxy", include_str!("haproxy.cfg"), web, good)?,
        };
        wait::until(Duration::from_secs(20), &format!("{} to answer", kind.name()), || async {
            let answer = client::get(target.http, GOOD, "/").await?;
            ensure!(answer.status == 200, "{answer}");
            Ok(())
        })
        .await?;
        Ok(target)
    }

    /// Its processes.
    fn family(&self) -> Vec<u32> {
        let pid = match &self.running {
            Running::Landfall { ingress, .. } => ingress.pid(),
            Running::Peer { child, .. } => child.id(),
        };
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        std::iter::once(pid).chain(children.split_whitespace().filter_map(|pid| pid.parse().ok())).collect()
    }

    /// What reads its resident memory, from any thread.
    pub(crate) fn memory(&self) -> impl Fn() -> u64 + Send + 'static {
        let family = self.family();
        move || {
            let one = |pid: &u32| landfall_e2e::figures::resident(*pid).map_or(0, |memory| memory.resident);
            family.iter().map(one).sum()
        }
    }

    /// Whether it is still there, with all of its processes.
    pub(crate) fn is_whole(&self) -> bool {
        self.family()
            .iter()
            .all(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")))
    }

    /// Processor time used so far.
    pub(crate) fn cpu(&self) -> Duration {
        let tasks = self.family().into_iter().filter_map(|pid| std::fs::read_dir(format!("/proc/{pid}/task")).ok());
        let nanos = tasks.flatten().filter_map(|task| {
            let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }
}

async fn landfall(web: SocketAddr, good: SocketAddr) -> Result<Target> {
    let folder = Folder::new()?;
    let rules = manifests::ingress("shop", HOST, &[("/", "web")]) + &manifests::ingress("good", GOOD, &[("/", "good")]);
    let services = manifests::service("web", &[web]) + &manifests::service("good", &[good]);
    folder.write("shop.yaml", &(manifests::class() + &rules + &services))?;
    let ingress = Launch::manifests(folder.path()).args(&["--no-access-log"]).start().await?;
    Ok(Target { http: ingress.http, h2: ingress.http, running: Running::Landfall { ingress, _folder: folder } })
}

fn peer(name: &str, template: &str, web: SocketAddr, good: SocketAddr) -> Result<Target> {
    let folder = TempDir::new()?;
    let [http, h2] = [tools::free_port()?, tools::free_port()?].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let mut text = template.replace("@DIR@", &folder.path().display().to_string());
    for (mark, address) in [("@HTTP@", http), ("@H2@", h2), ("@WEB@", web), ("@GOOD@", good)] {
        text = text.replace(mark, &address.port().to_string());
    }
    let config: PathBuf = folder.path().join("config");
    std::fs::write(&config, text)?;
    let mut command = Command::new(name);
    match name {
        "nginx" => command.arg("-e").arg(folder.path().join("log")).arg("-p").arg(folder.path()).arg("-c").arg(config),
        _ => command.arg("-db").arg("-f").arg(config),
    };
    let out = std::fs::File::create(folder.path().join("out"))?;
    command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
    let child = command.spawn().with_context(|| format!("{name} can't be started; hack/deps bench installs it"))?;
    Ok(Target { http, h2, running: Running::Peer { child, folder } })
}

impl Drop for Running {
    fn drop(&mut self) {
        use nix::sys::signal::{Signal, kill};
        let Self::Peer { child, folder } = self else { return };
        // SIGTERM, so that a master process takes its workers along.
        if let Ok(pid) = i32::try_from(child.id()) {
            let _ = kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM);
        }
        for _ in 0..100 {
            if matches!(child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(folder.path().join("out")).unwrap_or_default();
            tools::print_end("the peer", &log);
        }
    }
}
