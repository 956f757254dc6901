//! What runs before anything else is done with a request: `set`, `if`, `return`, `rewrite` and `break`, in their
//! order.

use std::fmt;

use http::StatusCode;
use regex::bytes::{Regex, RegexBuilder};

use super::memory::Memory;
use super::settings::Settings;
use super::value::{Name, Value};
use super::{Place, Scene, TooLong};

/// What a pattern of a snippet may take in memory once it is compiled.
const LARGEST_PATTERN: usize = 256 * 1024;

/// Directives that run, and settings that hold where they do.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Level {
    pub(super) script: Vec<Step>,
    pub(crate) settings: Settings,
}

/// One directive that runs.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Step {
    pub(super) at: Place,
    pub(super) action: Action,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) enum Action {
    Set(Name, Value),
    SetArguments(Value),
    If(Test, Box<Level>),
    Return(StatusCode, What),
    Rewrite(Box<Rewriting>),
    Break,
}

/// What `return` sends besides the status.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum What {
    Nothing,
    Text(Value),
    Location(Value),
}

#[derive(Clone, PartialEq, Debug)]
pub(super) enum Test {
    IsSet(Value),
    Equals { left: Value, right: Value, negated: bool },
    Matches { value: Value, pattern: Pattern, negated: bool },
}

/// A regular expression that is the same as another one by its text.
#[derive(Clone)]
pub(crate) struct Pattern(pub(super) Regex);

#[derive(Clone, PartialEq, Debug)]
pub(super) struct Rewriting {
    pub(super) pattern: Pattern,
    pub(super) path: Value,
    /// Behind the `?` of the replacement.
    pub(super) arguments: Option<Value>,
    /// Whether the arguments so far stand behind those.
    pub(super) keeps: bool,
    pub(super) then: Then,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Then {
    GoOn,
    Last,
    Break,
    Redirect(StatusCode),
}

/// How a script ended, and the settings of the last `if` that held.
pub(crate) struct Ran<'p> {
    pub(crate) end: End,
    pub(crate) settings: Option<&'p Settings>,
}

/// How a script ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// Everything ran.
    Through,
    /// By `last`, or by `break` and the flag of this name: nothing else of the rewrite phase runs.
    Stopped,
    /// The request is answered.
    Said(Said),
}

/// An answer of a snippet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    /// Where the directive stands.
    pub at: Place,
    /// The status.
    pub status: StatusCode,
    /// The text; without one the answer is a page of ours, if it is an error.
    pub text: Option<Vec<u8>>,
    /// Where the client is sent.
    pub location: Option<Vec<u8>>,
}

impl Level {
    /// Runs the directives. `memory` holds what they did, whichever way they end.
    pub(crate) fn run<'p>(&'p self, memory: &mut Memory, scene: &Scene<'_>) -> Result<Ran<'p>, TooLong> {
        let mut settings = None;
        for Step { at, action } in &self.script {
            let end = match action {
                Action::Set(name, value) => {
                    let value = value.text(memory, scene)?;
                    memory.set(name, value);
                    continue;
                }
                Action::SetArguments(value) => {
                    let value = value.text(memory, scene)?;
                    memory.set_arguments(value);
                    continue;
                }
                Action::If(test, level) => {
                    if !test.holds(memory, scene)? {
                        continue;
                    }
                    let inner = level.run(memory, scene)?;
                    settings = Some(&level.settings);
                    match inner.end {
                        End::Through => continue,
                        end => end,
                    }
                }
                Action::Return(status, what) => End::Said(said(*at, *status, what, memory, scene)?),
                Action::Rewrite(rewriting) => match rewriting.apply(*at, memory, scene)? {
                    Some(end) => end,
                    None => continue,
                },
                Action::Break => {
                    memory.seeks = false;
                    End::Stopped
                }
            };
            return Ok(Ran { end, settings });
        }
        Ok(Ran { end: End::Through, settings })
    }
}

impl Test {
    fn holds(&self, memory: &mut Memory, scene: &Scene<'_>) -> Result<bool, TooLong> {
        Ok(match self {
            // As in nginx nothing and 0 are false.
            Self::IsSet(value) => !matches!(value.text(memory, scene)?.as_slice(), b"" | b"0"),
            Self::Equals { left, right, negated } => {
                (left.text(memory, scene)? == right.text(memory, scene)?) != *negated
            }
            Self::Matches { value, pattern, negated } => {
                let text = value.text(memory, scene)?;
                pattern.matches(&text, memory) != *negated
            }
        })
    }
}

impl Pattern {
    /// `Err` is what is wrong with it, in one line.
    pub(super) fn new(text: &str, case_insensitive: bool) -> Result<Self, String> {
        let mut builder = RegexBuilder::new(text);
        builder.unicode(false).case_insensitive(case_insensitive).size_limit(LARGEST_PATTERN);
        let built = builder.build().map_err(|error| {
            let message = error.to_string();
            let last = message.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            format!("the regular expression can't be used ({last})")
        });
        built.map(Self)
    }

    /// Whether it matches; its groups are those of the request from now on.
    pub(super) fn matches(&self, text: &[u8], memory: &mut Memory) -> bool {
        let captures = self.0.captures(text);
        memory.set_groups(captures.as_ref());
        if let Some(captures) = &captures {
            for name in self.0.capture_names().flatten() {
                let value = captures.name(name).map(|group| group.as_bytes().to_vec()).unwrap_or_default();
                memory.set(&name.into(), value);
            }
        }
        captures.is_some()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.as_str())
    }
}

impl Rewriting {
    /// Rewrites the path if the pattern matches it; `None`: what stands behind it runs.
    fn apply(&self, at: Place, memory: &mut Memory, scene: &Scene<'_>) -> Result<Option<End>, TooLong> {
        let before = memory.path().to_vec();
        if !self.pattern.matches(&before, memory) {
            return Ok(None);
        }
        let mut arguments = match &self.arguments {
            Some(value) => value.written(memory, scene, |is_group, _, bytes, text| {
                if is_group { escape_argument(bytes, text) } else { text.extend_from_slice(bytes) }
            })?,
            None => Vec::new(),
        };
        if self.keeps && !memory.arguments().is_empty() {
            if self.arguments.is_some() {
                arguments.push(b'&');
            }
            arguments.extend_from_slice(memory.arguments());
        }
        if let Then::Redirect(status) = self.then {
            let mut place = self.path.written(memory, scene, |is_group, _, bytes, text| {
                if is_group { text.extend(super::escaped(bytes).into_bytes()) } else { text.extend_from_slice(bytes) }
            })?;
            if !arguments.is_empty() {
                place.push(b'?');
                place.extend_from_slice(&arguments);
            }
            memory.tell(|| format!("{at} redirects with {status}", status = status.as_u16()));
            return Ok(Some(End::Said(Said { at, status, text: None, location: Some(place) })));
        }
        let path = self.path.text(memory, scene)?;
        memory.tell(|| format!("{at} rewrites the path to {}", String::from_utf8_lossy(&path)));
        memory.set_path(path);
        memory.set_arguments(arguments);
        memory.seeks = self.then != Then::Break;
        Ok(match self.then {
            Then::GoOn => None,
            _ => Some(End::Stopped),
        })
    }
}

fn said(at: Place, status: StatusCode, what: &What, memory: &mut Memory, scene: &Scene<'_>) -> Result<Said, TooLong> {
    let (text, location) = match what {
        What::Nothing => (None, None),
        What::Text(value) => (Some(value.text(memory, scene)?), None),
        What::Location(value) => (None, Some(value.text(memory, scene)?)),
    };
    memory.tell(|| format!("{at} answers with {}", status.as_u16()));
    Ok(Said { at, status, text, location })
}

/// A group within a query: what would end or divide it is escaped (`NGX_ESCAPE_ARGS`).
fn escape_argument(bytes: &[u8], text: &mut Vec<u8>) {
    for &byte in bytes {
        if byte.is_ascii_graphic() && !b"#%&+;?\"<>".contains(&byte) {
            text.push(byte);
        } else {
            text.extend(format!("%{byte:02X}").into_bytes());
        }
    }
}
