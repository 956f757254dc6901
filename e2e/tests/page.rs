//! The pages of both programs as people see them: in Chromium, in light and dark and on a phone's width.
//!
//! Pictures are kept in `target/page`. Needs `hack/deps browser`, and root for the announcer's network namespace.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use landfall_e2e::client;
use landfall_e2e::echo::Echo;
use landfall_e2e::figures;
use landfall_e2e::ingress::Launch;
use landfall_e2e::manifests::{self, Folder};
use landfall_e2e::pages::{self, MODES, judge, look, text};
use landfall_e2e::tools;
use serde_json::{Value, json};

/// Ingresses of a large cluster.
const MANY: usize = 5_000;

#[tokio::test]
async fn the_quickstart_is_seen_in_every_view() -> Result<()> {
    let echo = Echo::local("shop-a").await?;
    let folder = Folder::copy_of(&tools::checkout().join("examples/quickstart"), |text| {
        ["18081", "18082", "18083"].iter().fold(text, |text, port| text.replace(port, &echo.addr.port().to_string()))
    })?;
    let _ = folder.remove("shop-tls.secret.yaml");
    let keys = tempfile::TempDir::new()?;
    tools::run(Command::new(tools::checkout().join("hack/quickstart-pki")).arg(keys.path()).arg(folder.path()))?;
    let ingress = Launch::manifests(folder.path()).start().await?;
    for _ in 0..20 {
        ingress.get("shop.localhost", "/cart?secret=hidden").await?;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let request = |path: &str| json!(["get", format!("http://127.0.0.1:{}{path}", ingress.http.port()), {"host": "shop.localhost"}]);
    let views = json!([
        { "name": "overview", "shows": "shop.localhost" },
        { "name": "routes", "shows": "Prefix /cart" },
        { "name": "explain?url=https://shop.localhost/cart", "shows": "Rejected rules" },
        { "name": "live", "shows": "shop.localhost/cart?secret=***",
          "steps": [["type", "input[name=host]", "shop"], ["get", format!("http://{}/status/overview", ingress.admin), {}],
                    ["press", "Tab"], ["click", "input[name=route]"], ["wait", 700], request("/cart?secret=hidden")] },
        { "name": "certificates", "shows": "days left" },
    ]);
    let found = look(format!("http://{}/", ingress.admin), "quickstart", MODES, views).await?;
    let overview = text(&found, "overview");
    // The one Service of the example that has no endpoint.
    assert!(overview.contains("NoEndpoints") && overview.contains("p99"), "{overview}");
    assert!(text(&found, "explain?url=https://shop.localhost/cart").contains("to the backend"));
    assert!(!text(&found, "live").contains("hidden"));
    Ok(())
}

#[tokio::test]
async fn every_mistake_is_seen_with_what_to_do() -> Result<()> {
    let ingress = Launch::manifests(&tools::checkout().join("examples/mistakes")).start().await?;
    let views = json!([
        { "name": "overview", "shows": "To do:" },
        { "name": "problems", "shows": "To do:" },
        { "name": "routes", "shows": "503", "steps": [["click", "input[name=show]"]] },
    ]);
    let found = look(format!("http://{}/", ingress.admin), "mistakes", MODES, views).await?;
    let problems = text(&found, "problems");
    let said = problems.matches("To do:").count();
    assert!(said >= 50 && problems.contains(".yaml:"), "{said} of them\n{problems}");
    Ok(())
}

#[tokio::test]
async fn five_thousand_ingresses_are_searched_at_once() -> Result<()> {
    let echo = Echo::local("web").await?;
    let folder = Folder::new()?;
    let mut yaml = manifests::class() + &manifests::service("web", &[echo.addr]);
    for number in 0..MANY {
        yaml += &manifests::ingress(&format!("app-{number}"), &format!("app-{number}.example"), &[("/", "web")]);
    }
    folder.write("all.yaml", &yaml)?;
    let ingress = Launch::manifests(folder.path()).start().await?;
    let views = json!([
        { "name": "overview", "shows": "5,000" },
        { "name": "routes", "shows": "app-4321.example", "steps": [["type", "input[name=search]", "app-4321"]] },
    ]);
    let found = look(format!("http://{}/", ingress.admin), "many", MODES, views).await?;
    assert!(text(&found, "routes").contains("(of 5,000"), "{}", text(&found, "routes"));
    let paints = found["views"].as_array().into_iter().flatten().filter_map(|view| view["paint"].as_f64());
    figures::print(&format!("page: first paint at 5,000 Ingresses: {:.0} ms", paints.fold(0.0, f64::max)));
    Ok(())
}

#[test]
fn the_pages_words_for_numbers_and_times_are_right() -> Result<()> {
    tools::run(Command::new("node").arg("--test").arg(tools::checkout().join("e2e/page/words.test.mjs"))).map(drop)
}

#[tokio::test]
async fn who_may_not_see_the_page_is_told_how() -> Result<()> {
    let echo = Echo::local("web").await?;
    let folder = Folder::new()?;
    folder.write("all.yaml", &(manifests::class() + &manifests::service("web", &[echo.addr])))?;
    let ingress = Launch::manifests(folder.path()).start().await?;
    for path in ["/", "/status/live", "/status/routes", "/status/explain?url=http://a/"] {
        let answer = client::get(ingress.admin, "attacker.example", path).await?;
        assert_eq!(answer.status, 403, "{path}: {}", answer.text());
        assert!(answer.text().contains("--page-host"), "{}", answer.text());
        // The port for traffic knows nothing of it.
        assert_eq!(client::get(ingress.http, "localhost", path).await?.status, 404, "{path}");
    }
    assert_eq!(client::get(ingress.admin, "attacker.example", "/status").await?.status, 200);
    let page = client::get(ingress.admin, "localhost", "/").await?;
    let policy = page.headers["content-security-policy"].to_str()?.to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{policy}");
    Ok(())
}

/// Two standalone announcers would need a LAN; one in a namespace of its own shows everything but a failover.
struct Alone(Child);

impl Drop for Alone {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_announcers_addresses_are_seen() -> Result<()> {
    let folder = Folder::copy_of(&tools::checkout().join("examples/lab"), |text| text)?;
    let admin: SocketAddr = ([127, 0, 0, 1], 10254).into();
    let script = "ip link set lo up && ip link add lan0 address 02:00:00:00:00:01 type veth peer name far0 && \
                  ip addr add 192.168.88.11/24 dev lan0 && ip link set lan0 up && ip link set far0 up && exec \"$0\" \"$@\"";
    let announcer = Command::new("unshare")
        .args(["--net", "sh", "-c", script])
        .arg(tools::program("landfall-lb-announcer")?)
        .args(["standalone", "--node-name", "n1", "--admin", &admin.to_string(), "--manifests"])
        .arg(folder.path())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot make a network namespace; run this as root")?;
    let announcer = Alone(announcer);
    let views = json!([
        { "name": "overview", "shows": "standalone" },
        { "name": "addresses", "shows": "02:00:00:00:00:01" },
    ]);
    let inner = pages::browser(&format!("http://{admin}/"), "announcer", MODES, &views)?;
    let inside = |command: &Command| {
        let mut inside = Command::new("nsenter");
        inside.args(["--net", "--target", &announcer.0.id().to_string()]).arg(command.get_program());
        inside.args(command.get_args());
        inside
    };
    let begun = Instant::now();
    let ask = ["-fsS", &format!("http://{admin}/readyz")].map(str::to_owned);
    while !inside(Command::new("curl").args(&ask)).output()?.status.success() {
        if begun.elapsed() > Duration::from_secs(20) {
            bail!("the announcer isn't ready");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    // What is found out in the first seconds would move what stands below it.
    let mut last = Vec::new();
    loop {
        let now = inside(Command::new("curl").args(["-fsS", &format!("http://{admin}/status")])).output()?.stdout;
        if now == last || begun.elapsed() > Duration::from_secs(30) {
            break;
        }
        last = now;
        std::thread::sleep(Duration::from_secs(2));
    }
    let (output, said) = tools::run_any(&mut inside(&inner))?;
    let found: Value = serde_json::from_slice(&output.stdout).with_context(|| said)?;
    judge(&found)
}
