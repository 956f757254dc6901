//! What holds where a snippet stands: fields of requests and responses, and who may ask.
//!
//! Nothing here runs in an order of its own. What holds for a request is put together of the server's settings, the
//! location's, and those of the last `if` that held, by the rules of inheritance of each directive.

use std::net::IpAddr;

use http::header::{CONTENT_TYPE, SERVER};
use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use super::effects::{Add, Effects, More};
use super::memory::Memory;
use super::value::{Name, Value};
use super::{Scene, TooLong};
use crate::fields::Fields;

/// The settings of one level.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Settings {
    /// `add_header`; the mark is `always`.
    pub(super) add: Vec<(HeaderName, Value, bool)>,
    /// `more_set_headers` and `more_clear_headers`.
    pub(super) more: Vec<Change>,
    /// `more_set_input_headers` and `more_clear_input_headers`.
    pub(super) input: Vec<Change>,
    pub(super) expires: Option<Expires>,
    /// `proxy_set_header`.
    pub(super) set: Vec<(HeaderName, Value)>,
    pub(super) hide: Vec<HeaderName>,
    pub(super) pass: Vec<HeaderName>,
    /// `allow` and `deny`, in their order.
    pub(super) access: Vec<(Verdict, Option<IpNet>)>,
    /// `auth_request_set`.
    pub(super) auth: Vec<(Name, Value)>,
    pub(super) default_type: Option<HeaderValue>,
}

/// One field that is set, added or cleared.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Change {
    pub(super) statuses: Box<[u16]>,
    pub(super) types: Box<[Box<str>]>,
    pub(super) manner: Manner,
    pub(super) field: Field,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Manner {
    Set,
    /// `-a`.
    Append,
    /// `-r`.
    Replace,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) enum Field {
    Set(HeaderName, Value),
    Clear(HeaderName),
    /// All whose names begin so, in lower case.
    ClearAll(Box<str>),
}

/// `expires`.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Expires {
    Fixed(Lifetime),
    /// To be read when the value is known.
    Variable(Value),
}

/// How long a response is fresh.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lifetime {
    Off,
    Epoch,
    Max,
    /// Seconds from now.
    Seconds(i64),
    /// Seconds from `Last-Modified`.
    Modified(i64),
}

/// What `allow` and `deny` say of a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It may.
    Allowed,
    /// It gets 403.
    Denied,
}

/// The settings that hold for a request.
#[derive(Clone, Copy, Default)]
pub(crate) struct Holding<'p> {
    pub(crate) server: Option<&'p Settings>,
    pub(crate) location: Option<&'p Settings>,
    /// Of the last `if` of the location that held.
    pub(crate) inner: Option<&'p Settings>,
}

impl Settings {
    /// The first rule that is about a client.
    pub(crate) fn verdict(&self, client: IpAddr) -> Option<Verdict> {
        let client = client.to_canonical();
        let rule = self.access.iter().find(|(_, net)| net.is_none_or(|net| net.contains(&client)));
        rule.map(|(verdict, _)| *verdict)
    }

    pub(crate) fn has_access_rules(&self) -> bool {
        !self.access.is_empty()
    }

    pub(crate) fn default_type(&self) -> Option<&HeaderValue> {
        self.default_type.as_ref()
    }

    /// The same with what another one says behind it.
    pub(super) fn extend(&mut self, other: &Self) {
        self.add.extend(other.add.iter().cloned());
        self.more.extend(other.more.iter().cloned());
        self.input.extend(other.input.iter().cloned());
        self.set.extend(other.set.iter().cloned());
        self.hide.extend(other.hide.iter().cloned());
        self.pass.extend(other.pass.iter().cloned());
        self.access.extend(other.access.iter().copied());
        self.auth.extend(other.auth.iter().cloned());
        self.expires = self.expires.take().or_else(|| other.expires.clone());
        self.default_type = self.default_type.take().or_else(|| other.default_type.clone());
    }
}

impl<'p> Holding<'p> {
    /// From the server inwards.
    fn levels(&self) -> impl DoubleEndedIterator<Item = &'p Settings> {
        [self.server, self.location, self.inner].into_iter().flatten()
    }

    /// What `allow` and `deny` say of a client: those of the location hold, or else those of the server.
    pub(crate) fn verdict(&self, client: IpAddr) -> Option<Verdict> {
        self.levels().rev().find(|settings| settings.has_access_rules())?.verdict(client)
    }

    /// `default_type`.
    pub(crate) fn default_type(&self) -> Option<&'p HeaderValue> {
        self.levels().rev().find_map(Settings::default_type)
    }

    /// Whether the fields of a request may be other ones from now on.
    pub(crate) fn changes_input(&self) -> bool {
        self.levels().any(|settings| !settings.input.is_empty())
    }

    /// The fields of the request as they are from now on, if any are other ones.
    pub(crate) fn input(
        &self,
        headers: &HeaderMap,
        memory: &Memory,
        scene: &Scene<'_>,
    ) -> Result<Option<HeaderMap>, TooLong> {
        let mut changed: Option<HeaderMap> = None;
        for change in self.levels().flat_map(|settings| &settings.input) {
            let now = changed.get_or_insert_with(|| headers.clone());
            if !change.is_for_type(now) {
                continue;
            }
            match &change.field {
                Field::Set(name, _) if change.manner == Manner::Replace && !now.contains_key(name) => {}
                Field::Set(name, value) => {
                    let (mut scene, fields) = (*scene, Fields::from(&*now));
                    scene.facts.headers = Some(&fields);
                    let value = value.text(memory, &scene)?;
                    match HeaderValue::from_bytes(&value) {
                        Ok(value) if !value.is_empty() => {
                            now.insert(name, value);
                        }
                        _ => {
                            now.remove(name);
                        }
                    }
                }
                Field::Clear(name) => {
                    now.remove(name);
                }
                Field::ClearAll(prefix) => clear_all(now, prefix),
            }
        }
        Ok(changed)
    }

    /// What becomes of the request and of its response.
    pub(crate) fn effects(&self, memory: &Memory, scene: &Scene<'_>, now: u64) -> Result<Effects, TooLong> {
        let auth: Vec<&(Name, Value)> = self.levels().flat_map(|settings| &settings.auth).collect();
        let names: Vec<&Name> = auth.iter().map(|(name, _)| name).collect();
        let fill = |value: &Value| value.fill(memory, scene, &names);
        let mut effects = Effects { now, told: memory.told().into(), ..Effects::default() };
        for (name, value) in auth.iter().copied() {
            effects.auth.push((name.clone(), fill(value)?));
        }
        for (name, value) in self.location.iter().flat_map(|settings| &settings.set) {
            effects.request.push((name.clone(), fill(value)?));
        }
        for change in self.levels().flat_map(|settings| &settings.more) {
            let value = match &change.field {
                Field::Set(_, value) => fill(value)?,
                Field::Clear(_) | Field::ClearAll(_) => super::value::Filled::default(),
            };
            effects.more.push(More { change: change.clone(), value });
        }
        // Those of the innermost level take the place of all others.
        let adding = self.levels().rev().find(|settings| !settings.add.is_empty());
        for (name, value, always) in adding.iter().flat_map(|settings| &settings.add) {
            effects.add.push(Add { name: name.clone(), value: fill(value)?, always: *always });
        }
        effects.expires = match self.levels().rev().find_map(|settings| settings.expires.as_ref()) {
            Some(Expires::Fixed(lifetime)) => Some(*lifetime),
            Some(Expires::Variable(value)) => {
                Lifetime::parse(&String::from_utf8_lossy(&value.text(memory, scene)?)).or(Some(Lifetime::Off))
            }
            None => None,
        };
        let passed: Vec<&HeaderName> = self.levels().flat_map(|settings| &settings.pass).collect();
        let hidden = self.levels().flat_map(|settings| &settings.hide);
        effects.hide = hidden.filter(|name| !passed.contains(name)).cloned().collect();
        effects.pass = passed.into_iter().filter(|name| **name != SERVER).cloned().collect();
        Ok(effects)
    }

    /// The fields of a question to an authentication service.
    pub(crate) fn question(&self, fields: &mut HeaderMap, memory: &Memory, scene: &Scene<'_>) -> Result<(), TooLong> {
        if let Some(changed) = self.input(fields, memory, scene)? {
            *fields = changed;
        }
        for (name, value) in self.location.iter().flat_map(|settings| &settings.set) {
            match HeaderValue::from_bytes(&value.text(memory, scene)?) {
                Ok(value) if !value.is_empty() => {
                    fields.insert(name, value);
                }
                _ => {
                    fields.remove(name);
                }
            }
        }
        Ok(())
    }
}

impl Change {
    /// Whether it is for messages of this media type.
    pub(super) fn is_for_type(&self, headers: &HeaderMap) -> bool {
        if self.types.is_empty() {
            return true;
        }
        let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        self.types.iter().any(|wanted| kind.eq_ignore_ascii_case(wanted.as_bytes()))
    }
}

/// Removes all fields whose names begin so.
pub(super) fn clear_all(headers: &mut HeaderMap, prefix: &str) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().starts_with(prefix)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

impl Lifetime {
    /// `epoch`, `max`, `off`, `24h`, `-1`, `1d 12h`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "epoch" => Some(Self::Epoch),
            "max" => Some(Self::Max),
            "off" => Some(Self::Off),
            _ => seconds(text).map(Self::Seconds),
        }
    }
}

/// A time of nginx in seconds: numbers with units from the largest to the smallest, and a sign perhaps.
pub(super) fn seconds(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mut total, mut smallest) = (0_i64, i64::MAX);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
        let number: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = match rest.chars().next() {
            Some('y') => 31_536_000,
            Some('M') => 2_592_000,
            Some('w') => 604_800,
            Some('d') => 86_400,
            Some('h') => 3600,
            Some('m') => 60,
            Some('s' | ' ') | None => 1,
            Some(_) => return None,
        };
        if unit >= smallest {
            return None;
        }
        smallest = unit;
        total = total.checked_add(number.checked_mul(unit)?)?;
        rest = rest.get(1..).unwrap_or_default().trim_start_matches(' ');
    }
    // What lies further ahead is no time that a clock shows.
    (total <= 3_155_760_000).then_some(sign * total)
}
