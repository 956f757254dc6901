//! A report as one page of HTML that needs nothing else.

use std::fmt::{self, Formatter, Write};

use super::comparison::Comparison;
use super::findings::Finding;
use super::report::{ControllerReport, IngressReport, Report, Setting, Summary};
use super::text::short;

/// Prints a report as HTML.
#[derive(Clone, Copy, Debug)]
pub struct Html<'a>(pub &'a Report);

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;\
color:#1c1c1c;background:#fff}table{border-collapse:collapse;width:100%;margin:.5rem 0}td,th{text-align:left;\
padding:.25rem .6rem;border-bottom:1px solid #ddd;vertical-align:top;overflow-wrap:anywhere}code{font-size:.92em}\
summary{cursor:pointer;padding:.2rem 0}details{border-bottom:1px solid #eee}.alike,.served,.needless{color:#1a6b2f}\
.differs,.invalid,.unknown{color:#8a5a00}.refused{color:#a31515}.broken{color:#6b1a6b}.quirk{color:#2a4d8f}\
.word{font-weight:600;white-space:nowrap}@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#161616}\
td,th,details{border-color:#333}.alike,.served,.needless{color:#6fcf87}.differs,.invalid,.unknown{color:#e0b050}\
.refused{color:#ff8080}.broken{color:#d79ad7}.quirk{color:#8fb4ff}}";

impl fmt::Display for Html<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let report = self.0;
        writeln!(f, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">")?;
        writeln!(f, "<meta name=\"viewport\" content=\"width=device-width\"><title>From ingress-nginx</title>")?;
        writeln!(f, "<style>{STYLE}</style></head><body>\n<h1>From ingress-nginx</h1>")?;
        summary(f, &report.summary)?;
        controller(f, &report.controller)?;
        if let Some(comparison) = &report.comparison {
            compared(f, comparison)?;
        }
        writeln!(f, "<h2>Ingresses</h2>")?;
        let mut ingresses: Vec<&IngressReport> = report.ingresses.iter().collect();
        ingresses.sort_by_key(|ingress| std::cmp::Reverse(ingress.verdict));
        for one in ingresses {
            ingress(f, one)?;
        }
        if !report.foreign.is_empty() {
            writeln!(f, "<h2>Ingresses of others</h2>\n<table>")?;
        }
        for foreign in &report.foreign {
            row(f, &[&format!("{}/{}", foreign.namespace, foreign.name), &foreign.reason])?;
        }
        if !report.foreign.is_empty() {
            writeln!(f, "</table>")?;
        }
        writeln!(f, "</body></html>")
    }
}

fn summary(f: &mut Formatter<'_>, summary: &Summary) -> fmt::Result {
    writeln!(f, "<table>")?;
    let rows = [
        (
            "Ingresses",
            format!(
                "{}: {} alike, {} differ, {} refused",
                summary.ingresses, summary.alike, summary.differs, summary.refused
            ),
        ),
        ("Resting on quirks", summary.with_quirks.to_string()),
        ("Broken already", summary.with_broken.to_string()),
        ("Paths that reach an endpoint", format!("{} of {}", summary.live_routes, summary.routes)),
        ("Annotations", summary.annotations.to_string()),
        ("ConfigMap keys", summary.options.to_string()),
        ("Command-line flags", summary.flags.to_string()),
        ("Ingresses of others", summary.foreign.to_string()),
    ];
    for (name, value) in rows {
        row(f, &[name, &value])?;
    }
    for (reason, count) in &summary.reasons {
        row(f, &[reason, &format!("{count} times")])?;
    }
    writeln!(f, "</table>")
}

fn controller(f: &mut Formatter<'_>, found: &ControllerReport) -> fmt::Result {
    writeln!(f, "<h2>The controller</h2>\n<table>")?;
    row(f, &["Workload", found.workload.as_deref().unwrap_or("not among the objects")])?;
    row(f, &["Image", found.image.as_deref().unwrap_or_default()])?;
    row(f, &["ConfigMap", found.config_map.as_deref().unwrap_or("none")])?;
    row(f, &["Start landfall-ingress with", &found.start_with.join(" ")])?;
    for other in &found.others {
        row(f, &["Another one", other])?;
    }
    writeln!(f, "</table>")?;
    for (title, settings) in [("ConfigMap keys", &found.options), ("Flags", &found.flags)] {
        if settings.is_empty() {
            continue;
        }
        writeln!(f, "<details><summary>{title}: {}</summary><table>", settings.len())?;
        for Setting { name, value, effect, text, remedy } in settings {
            let word = effect.as_str();
            write!(f, "<tr><td class=\"word {word}\">{word}</td>")?;
            writeln!(
                f,
                "<td><code>{} {}</code></td><td>{}</td><td>{}</td></tr>",
                Escaped(name),
                Escaped(&short(value)),
                Escaped(text),
                Escaped(remedy)
            )?;
        }
        writeln!(f, "</table></details>")?;
    }
    Ok(())
}

fn compared(f: &mut Formatter<'_>, comparison: &Comparison) -> fmt::Result {
    let Comparison { old, new, asked, left_out, differences, .. } = comparison;
    writeln!(f, "<h2>Compared</h2>")?;
    writeln!(
        f,
        "<p>{} and {}: {asked} requests to each, {left_out} left out, {} differences.</p><table>",
        Escaped(old),
        Escaped(new),
        differences.len()
    )?;
    for one in differences {
        let asked = format!("{} {}", one.method, one.url);
        row(f, &[&asked, one.ingress.as_deref().unwrap_or_default(), &one.what, &one.old, &one.new])?;
    }
    writeln!(f, "</table>")
}

fn ingress(f: &mut Formatter<'_>, one: &IngressReport) -> fmt::Result {
    let word = one.verdict.as_str();
    let open = if word == "alike" { "" } else { " open" };
    write!(f, "<details{open}><summary><span class=\"word {word}\">{word}</span> ")?;
    write!(f, "{}/{}", Escaped(&one.namespace), Escaped(&one.name))?;
    for (what, findings) in [("broken", &one.broken), ("quirk", &one.quirks)] {
        if !findings.is_empty() {
            write!(f, " <span class=\"{what}\">{} {what}</span>", findings.len())?;
        }
    }
    writeln!(f, "</summary><table>")?;
    let lists = [("refused", &one.refused), ("differs", &one.differs), ("broken", &one.broken), ("quirk", &one.quirks)];
    for (word, findings) in lists {
        for finding in findings {
            found(f, word, finding)?;
        }
    }
    for annotation in one.annotations.iter().filter(|one| matches!(one.effect.as_str(), "served" | "needless")) {
        let word = annotation.effect.as_str();
        writeln!(
            f,
            "<tr><td class=\"word {word}\">{word}</td><td><code>{}: {}</code></td><td>{}</td></tr>",
            Escaped(&annotation.name),
            Escaped(&short(&annotation.value)),
            Escaped(&annotation.text)
        )?;
    }
    for route in &one.routes {
        let state = if route.fault.is_empty() { "reaches an endpoint" } else { &route.fault };
        let backend = format!("{} ({} endpoints): {state}", route.backend, route.endpoints);
        row(f, &[route.path_type, &format!("{}{}", route.host, route.path), &backend])?;
    }
    writeln!(f, "</table></details>")
}

fn found(f: &mut Formatter<'_>, word: &str, finding: &Finding) -> fmt::Result {
    let remedy = if finding.remedy.is_empty() { String::new() } else { format!("; {}", finding.remedy) };
    writeln!(
        f,
        "<tr><td class=\"word {word}\">{word}</td><td><code>{} {}</code></td><td>{}{} <code>[{}]</code></td></tr>",
        Escaped(&finding.subject),
        Escaped(&short(&finding.value)),
        Escaped(&finding.text),
        Escaped(&remedy),
        finding.code
    )
}

fn row(f: &mut Formatter<'_>, cells: &[&str]) -> fmt::Result {
    f.write_str("<tr>")?;
    for cell in cells {
        write!(f, "<td>{}</td>", Escaped(cell))?;
    }
    writeln!(f, "</tr>")
}

/// Text in HTML: values come from objects that anybody in a cluster may write.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_an_object_becomes_markup() {
        assert_eq!(Escaped("<script>\"&'").to_string(), "&lt;script&gt;&quot;&amp;&#39;");
    }
}
