//! Strict decoding: what a typed object made of a manifest, what it ignored, and where it failed.
//!
//! A type's own `Deserialize` drops fields it does not know, which turns a misspelt field into a silent default.
//! Here the type reads from a deserializer that remembers the path of each value, so that the unknown fields are
//! known together with the names the type would have taken there.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Map, Value};

/// An object and the fields of the manifest that it ignored.
#[derive(Debug)]
pub(crate) struct Decoded<T> {
    pub(crate) object: T,
    pub(crate) unknown: Vec<Unknown>,
}

/// A field that the type does not have.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unknown {
    pub(crate) path: Path,
    pub(crate) value: String,
    /// The field of the type that was probably meant.
    pub(crate) meant: Option<&'static str>,
}

/// The type could not be read: the path of the value that did not fit, and why.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Mismatch {
    pub(crate) path: Path,
    pub(crate) value: String,
    pub(crate) cause: String,
}

/// The way to a value in a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Path(pub(crate) Vec<Step>);

/// One step of a [`Path`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A field of a type.
    Field(String),
    /// A key of a free map, such as an annotation.
    Key(String),
    /// An element of a list.
    Index(usize),
}

impl fmt::Display for Path {
    /// `spec.rules[0].host`, `metadata.annotations[example.com/a]`: the form of the API server's own messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if number == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Key(key) => write!(f, "[{key}]")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Decodes `value`, noting what the type ignored.
pub(crate) fn decode<T: DeserializeOwned>(value: &Value) -> Result<Decoded<T>, Mismatch> {
    let notes = Notes::default();
    let result = T::deserialize(Node { value, notes: &notes, fields: &[] });
    let notes = notes.0.into_inner();
    match result {
        Ok(object) => Ok(Decoded { object, unknown: notes.unknown }),
        Err(error) => {
            let (path, value) = notes.failed.unwrap_or_default();
            Err(Mismatch { path, value, cause: error.to_string() })
        }
    }
}

/// A value in a few words, as it may stand in a message.
pub(crate) fn brief(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::String(text) if text.chars().count() > 80 => text.chars().take(79).chain(['…']).collect(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(_) => "[…]".to_owned(),
        Value::Object(_) => "{…}".to_owned(),
    }
}

#[derive(Default)]
struct Notes(RefCell<Noted>);

#[derive(Default)]
struct Noted {
    path: Vec<Step>,
    unknown: Vec<Unknown>,
    failed: Option<(Path, String)>,
}

impl Notes {
    /// Runs `read` one step deeper; the deepest failure is the one worth telling.
    fn within<T>(&self, step: Step, value: &Value, read: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        self.0.borrow_mut().path.push(step);
        let result = read();
        let mut noted = self.0.borrow_mut();
        if result.is_err() && noted.failed.is_none() {
            noted.failed = Some((Path(noted.path.clone()), brief(value)));
        }
        noted.path.pop();
        result
    }

    fn ignored(&self, value: &Value, fields: &[&'static str]) {
        let mut noted = self.0.borrow_mut();
        let path = Path(noted.path.clone());
        let meant = match path.0.as_slice() {
            // Types made from a CRD check kind and version before they read, and ignore both fields here.
            [Step::Field(name)] if name == "apiVersion" || name == "kind" => return,
            [.., Step::Field(name)] => nearest(name, fields),
            _ => None,
        };
        noted.unknown.push(Unknown { path, value: brief(value), meant });
    }
}

/// The field that `name` was probably meant to be.
fn nearest(name: &str, fields: &[&'static str]) -> Option<&'static str> {
    let lower = name.to_lowercase();
    let distance = |field: &str| strsim::damerau_levenshtein(&lower, &field.to_lowercase());
    let (distance, field) = fields.iter().map(|field| (distance(field), *field)).min()?;
    // One slip in a short word, two in a longer one; more is another word.
    let allowed = if name.len() < 6 { 1 } else { 2 };
    (distance <= allowed).then_some(field)
}

/// A value at its place; `fields` are those of the type that contains it.
#[derive(Clone, Copy)]
struct Node<'a> {
    value: &'a Value,
    notes: &'a Notes,
    fields: &'static [&'static str],
}

impl<'de> Deserializer<'de> for Node<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Array(items) => visitor.visit_seq(Items { items: items.iter().enumerate(), notes: self.notes }),
            Value::Object(map) => visitor.visit_map(Entries::new(map, self.notes, None)),
            scalar => scalar.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value {
            Value::Object(map) => visitor.visit_map(Entries::new(map, self.notes, Some(fields))),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.value.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.notes.ignored(self.value, self.fields);
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map identifier
    }
}

struct Items<'a, I> {
    items: I,
    notes: &'a Notes,
}

impl<'de, I: Iterator<Item = (usize, &'de Value)>> SeqAccess<'de> for Items<'de, I> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some((index, value)) = self.items.next() else { return Ok(None) };
        let node = Node { value, notes: self.notes, fields: &[] };
        self.notes.within(Step::Index(index), value, || seed.deserialize(node)).map(Some)
    }
}

struct Entries<'a> {
    rest: serde_json::map::Iter<'a>,
    next: Option<(&'a str, &'a Value)>,
    notes: &'a Notes,
    /// The names the type takes; `None` for a free map.
    fields: Option<&'static [&'static str]>,
}

impl<'a> Entries<'a> {
    fn new(map: &'a Map<String, Value>, notes: &'a Notes, fields: Option<&'static [&'static str]>) -> Self {
        Self { rest: map.iter(), next: None, notes, fields }
    }
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Error;

    fn next_key_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.next = Some((key, value));
        let key: StrDeserializer<'_, Error> = key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let (key, value) = self.next.take().unwrap_or(("", &Value::Null));
        let node = Node { value, notes: self.notes, fields: self.fields.unwrap_or_default() };
        let step = if self.fields.is_some() { Step::Field(key.to_owned()) } else { Step::Key(key.to_owned()) };
        self.notes.within(step, value, || seed.deserialize(node))
    }
}
