//! The documentation's links lead somewhere, and every word that a program says is explained.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use landfall_e2e::tools;
use regex::Regex;

/// Every file below `folder` whose name ends in `suffix`.
fn files(folder: &Path, suffix: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            found.extend(files(&path, suffix)?);
        } else if name.ends_with(suffix) {
            found.push(path);
        }
    }
    Ok(found)
}

/// The anchors of a page: those that are written, and those that GitHub makes of headings.
fn anchors(text: &str) -> Result<BTreeSet<String>> {
    let written = Regex::new("<a id=\"([^\"]+)\"></a>")?;
    let mut found: BTreeSet<String> = written.captures_iter(text).map(|found| found[1].to_owned()).collect();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut in_code = false;
    for line in text.lines() {
        in_code ^= line.trim_start().starts_with("```");
        let Some(heading) = line.strip_prefix('#').filter(|_| !in_code) else { continue };
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let name: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let count = seen.entry(name.clone()).or_default();
        found.insert(if *count == 0 { name.clone() } else { format!("{name}-{count}") });
        *count += 1;
    }
    Ok(found)
}

#[test]
fn every_link_between_pages_leads_somewhere() -> Result<()> {
    let root = tools::checkout();
    let link = Regex::new(r"\]\(([^)\s]+)\)")?;
    let mut pages = files(&root.join("docs"), ".md")?;
    pages.extend(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(|name| root.join(name)));
    let mut broken = Vec::new();
    for page in pages {
        let text = std::fs::read_to_string(&page)?;
        for target in link.captures_iter(&text).map(|found| found[1].to_owned()) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let file = if file.is_empty() { page.clone() } else { page.parent().context("a folder")?.join(file) };
            let is_there =
                file.exists() && (anchor.is_empty() || anchors(&std::fs::read_to_string(&file)?)?.contains(anchor));
            if !is_there {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    ensure!(broken.is_empty(), "these lead nowhere: {broken:#?}");
    Ok(())
}

/// The words in the sources of our programs: reason codes, and topics of `check`.
fn words() -> Result<BTreeSet<String>> {
    let root = tools::checkout();
    let code = Regex::new(r#"pub (?:\(crate\) )?const \w+: Reason = Reason::new\("(\w+)"\)"#)?;
    let listed = Regex::new(r#"(?m)^    [A-Z_]+ = "(\w+)";"#)?;
    let topic = Regex::new(r#"(?:\.good|\.unknown|\.bad|\.all)\(\s*"([a-z-]+)","#)?;
    let mut words = BTreeSet::new();
    for folder in ["shared", "ingress", "lb-announcer"] {
        for file in files(&root.join(folder), ".rs")? {
            let text = std::fs::read_to_string(&file)?;
            // A test may say anything.
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
            words.extend(code.captures_iter(&text).map(|found| found[1].to_owned()));
            if file.ends_with("ingress/model/src/reason.rs") {
                words.extend(listed.captures_iter(&text).map(|found| found[1].to_owned()));
            }
            if file.to_string_lossy().contains("checkup")
                || file.to_string_lossy().contains("/check")
                || file.ends_with("shared/src/look.rs")
            {
                words.extend(topic.captures_iter(&text).map(|found| found[1].to_owned()));
            }
        }
    }
    Ok(words)
}

#[test]
fn every_word_that_a_program_says_is_explained() -> Result<()> {
    let page = std::fs::read_to_string(tools::checkout().join("docs/troubleshooting.md"))?;
    let anchors = anchors(&page)?;
    let words = words()?;
    ensure!(words.len() > 130, "the words were not found: {words:?}");
    let missing: Vec<_> = words.iter().filter(|word| !anchors.contains(&word.to_lowercase())).collect();
    ensure!(missing.is_empty(), "docs/troubleshooting.md explains none of {missing:?}");
    // What no program says any more is not to be looked for.
    let explained = Regex::new("<a id=\"[^\"]+\"></a>`(\\w[\\w-]*)`")?;
    let alerts = alerts()?;
    let known = |word: &str| words.contains(word) || alerts.contains(&word.to_owned());
    let stale: Vec<_> =
        explained.captures_iter(&page).map(|found| found[1].to_owned()).filter(|word| !known(word)).collect();
    ensure!(stale.is_empty(), "nothing says {stale:?}");
    Ok(())
}

/// The names of the chart's alerts.
fn alerts() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for file in files(&tools::checkout().join("charts/landfall/alerts"), ".yaml")? {
        let text = std::fs::read_to_string(file)?;
        names.extend(text.lines().filter_map(|line| line.strip_prefix("- alert: ")).map(str::to_owned));
    }
    Ok(names)
}

#[test]
fn every_alert_has_a_runbook() -> Result<()> {
    let root = tools::checkout();
    let anchors = anchors(&std::fs::read_to_string(root.join("docs/troubleshooting.md"))?)?;
    for file in files(&root.join("charts/landfall/alerts"), ".yaml")? {
        let text = std::fs::read_to_string(&file)?;
        for alert in text.split("- alert: ").skip(1) {
            let name = alert.lines().next().unwrap_or_default();
            let url = alert.lines().find_map(|line| line.trim().strip_prefix("runbook_url: "));
            let anchor = url.and_then(|url| url.strip_prefix("docs/troubleshooting.md#"));
            ensure!(anchor.is_some_and(|anchor| anchors.contains(anchor)), "{name}: {url:?}");
        }
    }
    Ok(())
}
