//! An explanation as text.

use std::fmt;

use super::{Explanation, Rejected, Winner};

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}://{}{}", self.scheme, self.host, self.path)?;
        if let Some(certificate) = &self.certificate {
            writeln!(f, "  certificate: {certificate}")?;
        }
        match (&self.refused, &self.winner) {
            (Some(refused), _) => writeln!(f, "  answer: 400: {refused}")?,
            (None, None) if self.answer.is_some() => {
                writeln!(f, "  answer: {}", self.answer.as_deref().unwrap_or_default())?;
            }
            (None, None) => writeln!(f, "  answer: 404: no Ingress has a rule for this host and path")?,
            (None, Some(winner)) => winner.fmt(f)?,
        }
        if !self.steps.is_empty() {
            writeln!(f, "steps:")?;
            for step in &self.steps {
                let by = step.by.as_ref().map(|by| format!(" ({by})")).unwrap_or_default();
                writeln!(f, "  {}{by}: {}", step.step, step.outcome.as_str())?;
            }
        }
        if !self.rejected.is_empty() {
            writeln!(f, "rejected:")?;
            for rejected in &self.rejected {
                rejected.fmt(f)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Winner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  ingress: {}/{} ({} dialect)", self.namespace, self.ingress, self.dialect)?;
        writeln!(f, "  rule: {} {}", self.host, self.path)?;
        if let Some(backend) = &self.backend {
            let none = self.endpoints.is_empty();
            let endpoints = if none { "no endpoint".to_owned() } else { self.endpoints.join(", ") };
            writeln!(f, "  backend: {backend} -> {endpoints}")?;
        }
        if let Some(access) = &self.access {
            writeln!(f, "  clients: {access}")?;
        }
        if let Some(answer) = &self.answer {
            writeln!(f, "  answer: {answer}")?;
        }
        for snippet in &self.snippets {
            writeln!(f, "  snippet: {snippet}")?;
        }
        if !self.headers.is_empty() {
            writeln!(f, "  the backend gets:")?;
        }
        for line in &self.headers {
            writeln!(f, "    {line}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {}/{}", self.namespace, self.ingress)?;
        for part in [&self.host, &self.path] {
            if !part.is_empty() {
                write!(f, " {part}")?;
            }
        }
        writeln!(f, ": {}", self.reason)
    }
}
