//! The pages of both programs in Chromium, driven by `e2e/page/run.mjs`: what is seen, and whether it is as a page must
//! be. Pictures are kept in `target/page`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{figures, tools};

/// From opening a page to its first paint.
const FIRST_PAINT_MS: f64 = 500.0;
/// And on a machine that does other things, too.
const FIRST_PAINT_ANYWHERE_MS: f64 = 5000.0;
/// What counts as no layout shift (web.dev, "Cumulative Layout Shift": good is up to 0.1).
const SHIFT: f64 = 0.1;

/// How a page is looked at: in light, in dark, and on a phone's width.
pub const MODES: &[&str] = &["light", "dark", "phone"];

fn pictures() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| tools::checkout().join("target"), PathBuf::from);
    target.join("page")
}

/// The folder of what drives the browser, as `hack/deps browser` made it.
fn modules() -> Result<PathBuf> {
    let tools = tools::cache()?.join("tools");
    let folders = std::fs::read_dir(&tools).with_context(|| format!("cannot read {}", tools.display()))?;
    let mut found: Vec<PathBuf> = folders.filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("browser-")));
    found.retain(|path| path.join("node_modules/axe-core").is_dir());
    found.sort();
    found.pop().context("puppeteer-core and axe-core are missing; run hack/deps browser")
}

/// The command that opens each view in a browser, in each of `modes`.
pub fn browser(url: &str, prefix: &str, modes: &[&str], views: &Value) -> Result<Command> {
    let wanted = json!({ "url": url, "views": views, "modes": modes, "pictures": pictures(), "prefix": prefix });
    let mut command = Command::new("node");
    command.arg(tools::checkout().join("e2e/page/run.mjs")).arg(modules()?).arg(wanted.to_string());
    Ok(command)
}

/// Opens each view, and holds what was found against what a page must be.
pub async fn look(url: String, prefix: &'static str, modes: &'static [&'static str], views: Value) -> Result<Value> {
    let found = tokio::task::spawn_blocking(move || {
        let (output, said) = tools::run_any(&mut browser(&url, prefix, modes, &views)?)?;
        serde_json::from_slice(&output.stdout).with_context(|| said)
    });
    let found: Value = found.await??;
    judge(&found)?;
    Ok(found)
}

/// An error that says all that a page must not do: fail, complain, load from elsewhere, shift, be late or too wide, or
/// shut anybody out.
pub fn judge(found: &Value) -> Result<()> {
    let mut wrong = String::new();
    if let Some(failed) = found["failed"].as_str() {
        let _ = writeln!(wrong, "{failed}");
    }
    for (what, list) in [("the console says", &found["console"]), ("loaded from elsewhere", &found["elsewhere"])] {
        for one in list.as_array().into_iter().flatten() {
            let _ = writeln!(wrong, "{what}: {one}");
        }
    }
    for view in found["views"].as_array().into_iter().flatten() {
        let name = format!("{} ({})", view["view"], view["mode"]);
        for one in view["serious"].as_array().into_iter().flatten() {
            let _ = writeln!(wrong, "{name}: {one}");
        }
        let (shift, paint) = (view["shift"].as_f64().unwrap_or(1.0), view["paint"].as_f64());
        if shift > SHIFT {
            let _ = writeln!(wrong, "{name}: the layout shifts by {shift}");
        }
        // A busy browser may not have noted it by the time it is asked.
        let is_late = if figures::held_to_budgets() {
            paint.is_none_or(|paint| paint > FIRST_PAINT_MS)
        } else {
            paint.is_some_and(|paint| paint > FIRST_PAINT_ANYWHERE_MS)
        };
        if is_late {
            let _ = writeln!(wrong, "{name}: the first paint is at {paint:?} ms");
        }
        if view["wide"].as_u64() > view["width"].as_u64() {
            let _ = writeln!(wrong, "{name}: {} px wide, on {} px", view["wide"], view["width"]);
        }
    }
    ensure!(wrong.is_empty(), "{wrong}");
    Ok(())
}

/// What a view shows in light mode.
pub fn text<'a>(found: &'a Value, view: &str) -> &'a str {
    let of = |one: &&Value| one["view"] == view && one["mode"] == "light";
    found["views"].as_array().and_then(|views| views.iter().find(of)).and_then(|one| one["text"].as_str()).unwrap_or("")
}
