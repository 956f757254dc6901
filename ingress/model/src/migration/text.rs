//! A report as text.

use std::fmt::{self, Formatter};

use super::comparison::Comparison;
use super::findings::{Finding, Verdict};
use super::report::{ControllerReport, Effect, IngressReport, Report, Setting, Summary, Tally};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.summary.fmt(f)?;
        writeln!(f)?;
        self.controller.fmt(f)?;
        for verdict in [Verdict::Refused, Verdict::Differs, Verdict::Alike] {
            for ingress in self.ingresses.iter().filter(|ingress| ingress.verdict == verdict) {
                writeln!(f)?;
                ingress.fmt(f)?;
            }
        }
        if !self.foreign.is_empty() {
            writeln!(f, "\nnot ingress-nginx's:")?;
        }
        for foreign in &self.foreign {
            writeln!(f, "  {}/{}: {}", foreign.namespace, foreign.name, foreign.reason)?;
        }
        for problem in &self.problems {
            writeln!(f, "\n{}", problem.message())?;
        }
        match &self.comparison {
            Some(comparison) => write!(f, "\n{comparison}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} Ingresses of ingress-nginx: {} alike, {} differ, {} refused",
            self.ingresses, self.alike, self.differs, self.refused
        )?;
        writeln!(f, "  {} rest on quirks, {} have something broken already", self.with_quirks, self.with_broken)?;
        writeln!(f, "  {} of {} paths reach an endpoint", self.live_routes, self.routes)?;
        writeln!(f, "annotations: {}", self.annotations)?;
        writeln!(f, "ConfigMap keys: {}", self.options)?;
        writeln!(f, "command-line flags: {}", self.flags)?;
        if self.foreign > 0 {
            writeln!(f, "{} Ingresses belong to others", self.foreign)?;
        }
        for (reason, count) in &self.reasons {
            writeln!(f, "  {count} x {reason}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { served, needless, differs, refused, invalid, unknown } = self;
        write!(f, "{served} served, {needless} needless, {differs} differ, {refused} refused")?;
        for (count, word) in [(invalid, "invalid"), (unknown, "unknown")] {
            if *count > 0 {
                write!(f, ", {count} {word}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for ControllerReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (&self.workload, &self.image) {
            (Some(workload), Some(image)) => writeln!(f, "ingress-nginx: {workload} ({image})")?,
            _ => writeln!(f, "ingress-nginx: not among the objects; name it by --nginx-workload or --nginx-flag")?,
        }
        for other in &self.others {
            writeln!(f, "  another one: {other}; report on it by --nginx-workload {other}")?;
        }
        match (&self.config_map, self.config_map_found) {
            (Some(map), true) => writeln!(f, "  ConfigMap {map}")?,
            (Some(map), false) => writeln!(f, "  ConfigMap {map}: not there, so its defaults hold")?,
            (None, _) => {}
        }
        for (what, settings) in [("option", &self.options), ("flag", &self.flags)] {
            let told = settings.iter().filter(|setting| !matches!(setting.effect, Effect::Served | Effect::Needless));
            for setting in told {
                write!(f, "  {what} ")?;
                setting.fmt(f)?;
            }
        }
        if !self.start_with.is_empty() {
            writeln!(f, "  start landfall-ingress with: {}", self.start_with.join(" "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: {}: {}", self.name, short(&self.value), self.effect.as_str(), self.text)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        writeln!(f)
    }
}

impl fmt::Display for IngressReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}/{}: {}", self.namespace, self.name, self.verdict.as_str())?;
        for (word, findings) in
            [("refused", &self.refused), ("differs", &self.differs), ("broken", &self.broken), ("quirk", &self.quirks)]
        {
            for finding in findings {
                writeln!(f, "  {word}: {finding}")?;
            }
        }
        for route in self.routes.iter().filter(|route| !route.fault.is_empty()) {
            writeln!(f, "  {}{}: {}", route.host, route.path, route.fault)?;
        }
        Ok(())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.subject)?;
        if !self.value.is_empty() {
            write!(f, " {:?}", short(&self.value))?;
        }
        write!(f, ": {}", self.text)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        write!(f, " [{}]", self.code)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "compared {} with {}: {} requests to each", self.old, self.new, self.asked)?;
        if self.left_out > 0 {
            let why = if self.out_of_time { "since the time was up" } else { "by --max-requests" };
            writeln!(f, "  {} more were left out {why}", self.left_out)?;
        }
        for difference in &self.differences {
            let ingress = difference.ingress.as_deref().map(|key| format!(" ({key})")).unwrap_or_default();
            let (old, new) = (shown(&difference.old), shown(&difference.new));
            writeln!(f, "  {} {}{ingress}: {}: {old} -> {new}", difference.method, difference.url, difference.what)?;
        }
        match self.differences.len() {
            0 => writeln!(f, "  no difference"),
            1 => writeln!(f, "  1 difference"),
            count => writeln!(f, "  {count} differences"),
        }
    }
}

fn shown(value: &str) -> &str {
    if value.is_empty() { "(none)" } else { value }
}

/// The first line of a value, which may be a whole snippet.
pub(super) fn short(value: &str) -> String {
    const MOST: usize = 80;
    let line = value.lines().next().unwrap_or_default();
    let cut: String = line.chars().take(MOST).collect();
    if cut.len() < value.trim().len() { format!("{cut}...") } else { cut }
}
