//! What a user has to mend, said once and shown everywhere: Event, log line, metric label, `/status`, `check`.

use std::fmt;
use std::sync::Arc;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::ObjectRef;

/// A reason code in `UpperCamelCase`: the same word in the Event, the log line and the metric label.
///
/// Each model crate lists its codes as constants, so the set of metric labels is bounded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Reason(&'static str);

impl Reason {
    /// A reason code; `code` is the word users grep for.
    pub const fn new(code: &'static str) -> Self {
        Self(code)
    }

    /// The word itself.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// How bad a Problem is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// Something the user wrote has no effect or soon will have none; traffic flows as it would without it.
    Warning,
    /// Something the user asked for does not work.
    Error,
}

/// Where in a folder of manifests a Problem stands.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Location {
    /// Path of the file, relative to the folder.
    pub file: Arc<str>,
    /// Line, counted from 1; 0 when it isn't known.
    pub line: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 { f.write_str(&self.file) } else { write!(f, "{}:{}", self.file, self.line) }
    }
}

/// One thing that is wrong with one object, and what to do about it.
///
/// A Problem never stops its neighbours: a model returns its result and a list of these.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Problem {
    /// The object to mend.
    pub object: ObjectRef,
    /// The reason code.
    pub reason: Reason,
    /// How bad it is.
    pub severity: Severity,
    /// The field, as a path: `spec.rules[0].host`. Empty when the whole object is meant.
    pub field: String,
    /// The offending value as the user wrote it; empty when there is none.
    pub value: String,
    /// What is wrong, in lower case and without a full stop.
    pub cause: String,
    /// What to do, as an imperative; empty only when `cause` says it already.
    pub remedy: String,
    /// Where the object stands in a folder of manifests.
    pub location: Option<Location>,
}

impl Problem {
    /// A Problem of severity [`Severity::Error`] that says what is wrong with `object`.
    pub fn new(object: ObjectRef, reason: Reason, cause: impl Into<String>) -> Self {
        Self {
            object,
            reason,
            severity: Severity::Error,
            field: String::new(),
            value: String::new(),
            cause: cause.into(),
            remedy: String::new(),
            location: None,
        }
    }

    /// Names the field and the value it has.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>, value: impl Into<String>) -> Self {
        self.field = field.into();
        self.value = value.into();
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// Makes it a [`Severity::Warning`].
    #[must_use]
    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// Says where the object stands.
    #[must_use]
    pub fn in_file(mut self, location: Location) -> Self {
        self.location = Some(location);
        self
    }

    /// The whole sentence: object, field, value, cause, remedy.
    ///
    /// `ingress shop/web: spec.rules[0].host "a_b": not a DNS name; use letters, digits, "-" and "."`
    pub fn message(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.object)?;
        match (self.field.is_empty(), self.value.is_empty()) {
            (true, true) => {}
            (true, false) => write!(f, "{:?}: ", self.value)?,
            (false, true) => write!(f, "{}: ", self.field)?,
            (false, false) => write!(f, "{} {:?}: ", self.field, self.value)?,
        }
        f.write_str(&self.cause)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

impl Serialize for Problem {
    /// `{"kind","namespace","name","reason","severity","message","field","value","remedy"[,"file","line"]}`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", &*self.object.kind)?;
        map.serialize_entry("namespace", self.object.key.namespace())?;
        map.serialize_entry("name", self.object.key.name())?;
        map.serialize_entry("reason", self.reason.as_str())?;
        map.serialize_entry(
            "severity",
            match self.severity {
                Severity::Warning => "warning",
                Severity::Error => "error",
            },
        )?;
        map.serialize_entry("message", &self.message())?;
        map.serialize_entry("field", &self.field)?;
        map.serialize_entry("value", &self.value)?;
        map.serialize_entry("remedy", &self.remedy)?;
        if let Some(location) = &self.location {
            map.serialize_entry("file", &*location.file)?;
            map.serialize_entry("line", &location.line)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ObjectKey;

    #[test]
    fn the_message_names_object_field_value_cause_and_remedy() {
        let object = ObjectRef::new("Ingress", ObjectKey::new("shop", "web"));
        let problem = Problem::new(object, Reason::new("InvalidHost"), "not a DNS name")
            .at("spec.rules[0].host", "a_b")
            .remedy("use letters, digits, \"-\" and \".\"");
        assert_eq!(
            problem.message(),
            "ingress shop/web: spec.rules[0].host \"a_b\": not a DNS name; use letters, digits, \"-\" and \".\""
        );
        let json = serde_json::to_value(&problem).expect("a Problem is plain data");
        assert_eq!(json["reason"], "InvalidHost");
        assert_eq!(json["namespace"], "shop");
        assert_eq!(json["severity"], "error");
    }
}
