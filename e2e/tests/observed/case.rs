//! The recording, and how its placeholders are filled in.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use regex::{Captures, Regex};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

/// The class of every Ingress.
pub(crate) const CLASS: &str = "nginx";

/// Everything that was recorded.
#[derive(Debug, Deserialize)]
pub(crate) struct Recording {
    fixtures: BTreeMap<String, Vec<Value>>,
    #[serde(rename = "cases")]
    raw: Vec<Value>,
    #[serde(skip)]
    pub(crate) cases: Vec<Case>,
}

/// Cases that live in one program.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) fixtures: Vec<Value>,
    pub(crate) configmap: Option<BTreeMap<String, String>>,
    pub(crate) flags: Vec<String>,
    pub(crate) cases: Vec<Template>,
}

/// A case before its placeholders are filled in.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    pub(crate) raw: Value,
    pub(crate) case: Case,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) family: String,
    pub(crate) world: String,
    #[serde(default)]
    pub(crate) note: String,
    #[serde(rename = "mark")]
    _mark: IgnoredAny,
    #[serde(default, rename = "why")]
    _why: IgnoredAny,
    #[serde(default, rename = "oracle")]
    _oracle: IgnoredAny,
    configmap: Option<BTreeMap<String, String>>,
    #[serde(default)]
    flags: Vec<String>,
    pub(crate) objects: Vec<Value>,
    pub(crate) requests: Vec<Request>,
    /// What the objects are replaced by, one state after the other.
    #[serde(default)]
    pub(crate) then: Vec<State>,
    /// Whether equal requests must reach one pod.
    #[serde(default)]
    pub(crate) same_pod: bool,
    /// How many pods must be reached at least.
    #[serde(default)]
    pub(crate) spread: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    pub(crate) objects: Vec<Value>,
    pub(crate) requests: Vec<Request>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "it is the form of the recording")]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) method: Option<String>,
    /// In the Host field.
    #[serde(default)]
    pub(crate) host: Name,
    #[serde(default)]
    headers: Value,
    pub(crate) body: Option<String>,
    #[serde(default)]
    pub(crate) chunked: bool,
    pub(crate) version: Option<String>,
    pub(crate) raw: Option<String>,
    #[serde(default)]
    pub(crate) tls: bool,
    /// In the handshake.
    #[serde(default)]
    pub(crate) sni: Name,
    #[serde(default)]
    pub(crate) alpn: Vec<String>,
    pub(crate) max_tls: Option<String>,
    /// Common name, and the name of the authority.
    pub(crate) client_cert: Option<(String, String)>,
    pub(crate) preface: Option<String>,
    pub(crate) from: Option<Whence>,
    /// In seconds.
    pub(crate) timeout: Option<f64>,
    pub(crate) times: Option<usize>,
    #[serde(default)]
    pub(crate) keep_cookie: bool,
    #[serde(default)]
    pub(crate) with_cookie: bool,
    #[serde(default)]
    pub(crate) handshake_only: bool,
    pub(crate) expect: Said,
    #[serde(default)]
    pub(crate) accept: Vec<Said>,
    #[serde(default, rename = "recorded")]
    _recorded: IgnoredAny,
}

/// A name that a request has, unless it is the usual one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "Option<String>")]
pub(crate) enum Name {
    #[default]
    Usual,
    None,
    Given(String),
}

impl From<Option<String>> for Name {
    fn from(name: Option<String>) -> Self {
        name.map_or(Self::None, Self::Given)
    }
}

impl Name {
    pub(crate) fn or<'a>(&'a self, usual: Option<&'a str>) -> Option<&'a str> {
        match self {
            Self::Usual => usual,
            Self::None => None,
            Self::Given(name) => Some(name),
        }
    }
}

/// Where a client is.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Whence {
    Far,
}

/// What is expected, with its text.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Value")]
pub(crate) struct Said {
    pub(crate) text: String,
    pub(crate) meant: Expect,
}

impl TryFrom<Value> for Said {
    type Error = serde_json::Error;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        Ok(Self { text: value.to_string(), meant: Expect::deserialize(value)? })
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Expect {
    pub(crate) status: Option<Statuses>,
    pub(crate) headers: BTreeMap<String, Value>,
    pub(crate) served_by: Option<String>,
    pub(crate) upstream_path: Option<String>,
    pub(crate) upstream_method: Option<String>,
    pub(crate) upstream_headers: BTreeMap<String, Value>,
    pub(crate) no_other_upstream_headers: bool,
    pub(crate) others_saw: Option<BTreeMap<String, Vec<Saw>>>,
    pub(crate) others_saw_any: bool,
    pub(crate) certificate: Option<String>,
    pub(crate) certificate_cn: Option<String>,
    pub(crate) alpn: Option<String>,
    pub(crate) body: Option<String>,
    pub(crate) took_ms: Option<u64>,
    pub(crate) error: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Statuses {
    One(u16),
    Any(Vec<u16>),
}

/// What another service was asked.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Saw {
    pub(crate) method: String,
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, Value>,
    /// Of the body.
    pub(crate) length: Option<usize>,
}

impl Recording {
    /// The recording, or the file that `LANDFALL_OBSERVED_FILE` names.
    pub(crate) fn read() -> Result<Self> {
        match std::env::var("LANDFALL_OBSERVED_FILE") {
            Ok(path) => Self::parse(&std::fs::read_to_string(&path).with_context(|| path.clone())?),
            Err(_) => Self::parse(include_str!("answers.json")),
        }
    }

    /// Cases that stand beside recorded ones.
    pub(crate) fn neighbours() -> Result<Self> {
        Self::parse(include_str!("neighbours.json"))
    }

    fn parse(text: &str) -> Result<Self> {
        let mut recording: Self = serde_json::from_str(text)?;
        recording.cases = recording.raw.iter().map(Case::read).collect::<Result<_>>()?;
        Ok(recording)
    }

    /// The cases by world, in their order. A world whose settings differ among its cases is several.
    pub(crate) fn worlds(&self) -> Vec<World> {
        let mut worlds: Vec<(String, World)> = Vec::new();
        for (raw, case) in self.raw.iter().zip(&self.cases) {
            let template = Template { raw: raw.clone(), case: case.clone() };
            let found = worlds.iter_mut().find(|(name, world)| {
                *name == case.world && world.configmap == case.configmap && world.flags == case.flags
            });
            if let Some((_, world)) = found {
                world.cases.push(template);
                continue;
            }
            let world = World {
                fixtures: self.fixtures.get(&case.world).cloned().unwrap_or_default(),
                configmap: case.configmap.clone(),
                flags: case.flags.clone(),
                cases: vec![template],
            };
            worlds.push((case.world.clone(), world));
        }
        worlds.into_iter().map(|(_, world)| world).collect()
    }
}

impl Case {
    pub(crate) fn read(value: &Value) -> Result<Self> {
        Self::deserialize(value).with_context(|| format!("case {}", value["id"]))
    }

    /// What the `ConfigMap` of its world has.
    pub(crate) fn configmap(&self) -> Option<&BTreeMap<String, String>> {
        self.configmap.as_ref()
    }

    /// The objects and requests of each state, the first one included.
    pub(crate) fn states(&self) -> impl Iterator<Item = (&[Value], &[Request])> {
        let first = (self.objects.as_slice(), self.requests.as_slice());
        let later = self.then.iter().map(|state| (state.objects.as_slice(), state.requests.as_slice()));
        std::iter::once(first).chain(later)
    }
}

impl Request {
    pub(crate) fn method(&self) -> &str {
        self.method.as_deref().unwrap_or("GET")
    }

    /// The header fields to send, besides those that every request has.
    pub(crate) fn fields(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match &self.headers {
            Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
            Value::Array(pairs) => pairs.iter().map(|pair| (text(&pair[0]), text(&pair[1]))).collect(),
            _ => Vec::new(),
        }
    }
}

/// What placeholders stand for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(pub(crate) BTreeMap<String, String>);

impl Names {
    pub(crate) fn set(&mut self, name: &str, value: &impl ToString) {
        self.0.insert(name.to_owned(), value.to_string());
    }

    /// `value` with placeholders filled in. A text that is nothing but a port becomes a number.
    pub(crate) fn fill(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => {
                let filled = self.fill_text(text);
                let port = text.starts_with("{port:") && text.ends_with('}');
                match filled.parse::<u16>() {
                    Ok(number) if port => number.into(),
                    _ => filled.into(),
                }
            }
            Value::Array(items) => items.iter().map(|item| self.fill(item)).collect(),
            Value::Object(fields) => {
                let fields = fields.iter().map(|(name, value)| (name.clone(), self.fill(value)));
                Value::Object(fields.collect::<Map<_, _>>())
            }
            other => other.clone(),
        }
    }

    /// The same for a text. What is no placeholder stays as it is.
    pub(crate) fn fill_text(&self, text: &str) -> String {
        let placeholder = Regex::new(r"\{(?:rep:([^{}:]):([0-9]+)|([a-z0-9]+(?::[a-z0-9]+)?))\}").expect("it compiles");
        let filled = placeholder.replace_all(text, |found: &Captures<'_>| {
            if let (Some(what), Some(times)) = (found.get(1), found.get(2)) {
                return what.as_str().repeat(times.as_str().parse().unwrap_or_default());
            }
            self.0.get(&found[3]).cloned().unwrap_or_else(|| found[0].to_owned())
        });
        filled.into_owned()
    }
}
