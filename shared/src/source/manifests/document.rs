//! One document of a file: from text to the objects it gives, or to a Problem.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use landfall_model::{Location, ObjectKey, ObjectRef, Problem, Reason};
use serde_json::{Value, json};

use super::held::Id;
use super::split::{self, Part};
use super::{defaults, lines};
use crate::source::kind::{Kind, KindNames};
use crate::source::strict::{Decoded, Mismatch, Path, Step};
use crate::source::{Erased, Plan};

mod guess;
mod names;
mod selector;

/// A file or document can't be read; its last good content stays in force.
pub const INVALID_MANIFEST: Reason = Reason::new("InvalidManifest");
/// A kind that is read here, under an API version that is not.
pub const UNSUPPORTED_API_VERSION: Reason = Reason::new("UnsupportedApiVersion");
/// A field that the kind does not have, mostly a misspelt one.
pub const UNKNOWN_FIELD: Reason = Reason::new("UnknownField");
/// The same object stands in two places.
pub const DUPLICATE_OBJECT: Reason = Reason::new("DuplicateObject");

/// What one document gave. A broken one holds the entries that its file gave before.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) entries: Vec<Entry>,
    pub(super) problems: Vec<Problem>,
    pub(super) keeps: Keeps,
}

impl Slot {
    fn broken(problem: Problem, keeps: Keeps) -> Self {
        Self { entries: Vec::new(), problems: vec![problem], keeps }
    }
}

/// Which of a file's earlier objects stay in force because of a document.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Keeps {
    Nothing,
    Object(Id),
    /// It can't be told which object was meant, so every one that is missing.
    Everything,
}

/// An object of a file.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) id: Id,
    /// What was read, until the consumer has it.
    pub(super) object: Option<Erased>,
    /// Of the content as written and completed, without a creation time that was not given.
    pub(super) hash: u64,
    pub(super) line: usize,
    /// The manifest gives a creation time.
    pub(super) dated: bool,
    /// From an earlier reading of a file that is broken now.
    pub(super) carried: bool,
}

/// Reads the documents of one file.
pub(super) struct Reader<'a, C> {
    pub(super) plan: &'a Plan<C>,
    pub(super) file: &'a Arc<str>,
}

/// A document or list item being read: its text, and the way from the document to the object.
struct Place<'a> {
    part: Part<'a>,
    base: Path,
}

/// Why an object was not taken over.
enum Refusal {
    /// Nothing to do with us.
    Foreign,
    Broken(Box<Problem>, Keeps),
}

impl<C: Send + 'static> Reader<'_, C> {
    /// Reads a whole file.
    pub(super) fn file(&self, text: &str) -> Vec<Slot> {
        let extension = std::path::Path::new(&**self.file).extension();
        let json = extension.is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        if json { self.json(text) } else { self.yaml(text) }
    }

    /// The slot of a file that can't be read at all.
    pub(super) fn unreadable(&self, cause: &str) -> Slot {
        let problem = Problem::new(self.itself(), INVALID_MANIFEST, format!("cannot be read: {cause}"))
            .remedy("make the file readable text; until then its last good content stays in force")
            .in_file(Location { file: self.file.clone(), line: 0 });
        Slot::broken(problem, Keeps::Everything)
    }

    fn yaml(&self, text: &str) -> Vec<Slot> {
        let read = |part: Part<'_>| match serde_saphyr::from_str::<Value>(part.text) {
            Ok(value) => self.document(part, value),
            Err(error) => {
                let line = error.location().and_then(|at| usize::try_from(at.line()).ok()).unwrap_or(1).max(1);
                vec![self.unparsed(part, line, &message(&error))]
            }
        };
        split::yaml(text).into_iter().flat_map(read).collect()
    }

    fn json(&self, text: &str) -> Vec<Slot> {
        let mut slots = Vec::new();
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        let mut start = 0;
        while let Some(value) = values.next() {
            let line = 1 + text[..start].matches('\n').count();
            match value {
                Ok(value) => {
                    let end = values.byte_offset();
                    slots.extend(self.document(Part { text: &text[start..end], line }, value));
                    start = end;
                }
                Err(error) => {
                    let part = Part { text: &text[start..], line };
                    let at = (error.line() + 1).saturating_sub(line).max(1);
                    slots.push(self.unparsed(part, at, &error.to_string()));
                }
            }
        }
        slots
    }

    /// The objects of a document: itself, or the items of a list.
    fn document(&self, part: Part<'_>, mut value: Value) -> Vec<Slot> {
        let list =
            value.get("kind").and_then(Value::as_str).and_then(|kind| kind.strip_suffix("List")).map(str::to_owned);
        let (Some(kind), Some(Value::Array(items))) = (list, value.get_mut("items").map(Value::take)) else {
            return self.slot(&Place { part, base: Path::default() }, value).into_iter().collect();
        };
        let api_version = value.get("apiVersion").cloned();
        let items = items.into_iter().enumerate().filter_map(|(index, mut item)| {
            if let Some(object) = item.as_object_mut().filter(|_| !kind.is_empty()) {
                // The items of a typed list need not repeat what the list says.
                object.entry("kind").or_insert_with(|| json!(kind));
                object.entry("apiVersion").or_insert_with(|| json!(api_version));
            }
            let base = Path(vec![Step::Field("items".to_owned()), Step::Index(index)]);
            self.slot(&Place { part, base }, item)
        });
        items.collect()
    }

    fn slot(&self, place: &Place<'_>, value: Value) -> Option<Slot> {
        match self.object(place, value) {
            Ok(slot) => Some(slot),
            Err(Refusal::Foreign) => None,
            Err(Refusal::Broken(problem, keeps)) => Some(Slot::broken(*problem, keeps)),
        }
    }

    fn object(&self, place: &Place<'_>, mut value: Value) -> Result<Slot, Refusal> {
        if value.is_null() {
            return Err(Refusal::Foreign);
        }
        let number = self.kind(place, &value)?;
        let kind = &self.plan.kinds()[number];
        let reference = self.reference(place, kind.names(), &value)?;
        complete(kind.names(), &reference, &mut value);
        if !selector::selects(kind.scope(), &value) {
            return Err(Refusal::Foreign);
        }
        let dated = value["metadata"].get("creationTimestamp").is_some();
        let hash = hash(&value);
        match kind.decode(&value) {
            Ok(Decoded { object, unknown }) => {
                let warnings = unknown.into_iter().map(|field| {
                    let problem = Problem::new(reference.clone(), UNKNOWN_FIELD, "there is no such field")
                        .at(field.path.to_string(), shown(&reference, field.value))
                        .remedy(match field.meant {
                            Some(meant) => format!("write {meant}, or remove it"),
                            None => "correct or remove it; the api server refuses or drops it".to_owned(),
                        })
                        .warning();
                    problem.in_file(self.locate(place, &field.path))
                });
                let warnings = warnings.collect();
                let line = self.locate(place, &Path::default()).line;
                let id = Id { kind: number, key: reference.key };
                let entry = Entry { id, object: Some(object), hash, line, dated, carried: false };
                Ok(Slot { entries: vec![entry], problems: warnings, keeps: Keeps::Nothing })
            }
            Err(mismatch) => Err(self.mismatch(place, number, reference, mismatch)),
        }
    }

    /// The object's kind in the plan.
    fn kind(&self, place: &Place<'_>, value: &Value) -> Result<usize, Refusal> {
        let text = |field: &str| value.get(field).and_then(Value::as_str);
        let Some(kind) = text("kind") else {
            let problem = Problem::new(self.itself(), INVALID_MANIFEST, "has no kind").at("kind", "");
            return Err(self.broken(
                place,
                problem.remedy("a manifest names its apiVersion and kind"),
                Keeps::Everything,
            ));
        };
        let of_kind = |(number, entry): (usize, &Arc<dyn Kind<C>>)| (entry.names().kind == kind).then_some(number);
        let ours: Vec<usize> = self.plan.kinds().iter().enumerate().filter_map(of_kind).collect();
        let Some(first) = ours.first() else { return Err(Refusal::Foreign) };
        let api_version = text("apiVersion").unwrap_or_default();
        let names = |number: usize| self.plan.kinds()[number].names();
        if let Some(number) = ours.iter().find(|number| names(**number).api_version == api_version) {
            return Ok(*number);
        }
        if !self.is_near(api_version) {
            // Another product's kind of the same name, such as Knative's Service.
            return Err(Refusal::Foreign);
        }
        let reference = named(names(*first), value);
        let problem = match api_version {
            "" => Problem::new(reference.clone(), INVALID_MANIFEST, "has no apiVersion").at("apiVersion", ""),
            _ => Problem::new(
                reference.clone(),
                UNSUPPORTED_API_VERSION,
                "this version of the kind is not served any more",
            )
            .at("apiVersion", api_version),
        };
        let problem = problem.remedy(format!("write apiVersion: {}", names(*first).api_version));
        let mut place_of = self.locate(place, &Path(vec![Step::Field("apiVersion".to_owned())]));
        place_of.line = place_of.line.max(1);
        let id = Id { kind: *first, key: reference.key };
        Err(Refusal::Broken(Box::new(problem.in_file(place_of)), Keeps::Object(id)))
    }

    /// Whether an API version is a wrong one of ours rather than another product's.
    fn is_near(&self, api_version: &str) -> bool {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        // Where Ingress and others stood before 1.22, and the groups that are mixed up with each other.
        let built_in = ["", "extensions", "apps", "networking.k8s.io", "discovery.k8s.io"];
        built_in.contains(&group) || self.plan.kinds().iter().any(|kind| kind.names().group == group)
    }

    /// Name and namespace, checked as the API server does.
    fn reference(&self, place: &Place<'_>, names: &KindNames, value: &Value) -> Result<ObjectRef, Refusal> {
        let reference = named(names, value);
        let metadata = value.get("metadata");
        for (field, check) in [("name", names::name as fn(&str, &str) -> _), ("namespace", names::namespace)] {
            let given = metadata.and_then(|metadata| metadata.get(field)).filter(|given| !given.is_null());
            let fault = match given {
                Some(Value::String(text)) => check(&names.kind, text),
                Some(_) => Some("is not a text; put it in quotation marks"),
                None if field == "name" => Some("is missing; a folder of manifests has no generated names"),
                None => None,
            };
            let Some(fault) = fault.filter(|_| field == "name" || names.namespaced) else { continue };
            let value = given.map(crate::source::strict::brief).unwrap_or_default();
            let (cause, remedy) = fault.split_once("; ").unwrap_or((fault, "give it a valid one"));
            let path = Path(vec![Step::Field("metadata".to_owned()), Step::Field(field.to_owned())]);
            let object = if reference.key.name().is_empty() { self.itself() } else { reference };
            let problem = Problem::new(object, INVALID_MANIFEST, cause).at(path.to_string(), value).remedy(remedy);
            let problem = problem.in_file(self.locate(place, &path));
            return Err(Refusal::Broken(Box::new(problem), Keeps::Everything));
        }
        Ok(reference)
    }

    fn mismatch(&self, place: &Place<'_>, kind: usize, reference: ObjectRef, mismatch: Mismatch) -> Refusal {
        let encoded = matches!(&mismatch.path.0[..], [Step::Field(field), Step::Key(_)] if field == "data");
        let cause = match &*reference.kind {
            // The decoder's message may quote what the Secret holds.
            "Secret" if encoded => "is not Base64".to_owned(),
            "Secret" => "does not have the form the field takes".to_owned(),
            _ => mismatch.cause,
        };
        let what = if cause.contains("expected a string") {
            "put the value in quotation marks"
        } else if cause == "is not Base64" {
            "encode it with base64, or write it as it is below stringData"
        } else {
            "correct it"
        };
        let remedy = format!("{what}; until then the object's last good version stays in force");
        let problem = Problem::new(reference.clone(), INVALID_MANIFEST, cause)
            .at(mismatch.path.to_string(), shown(&reference, mismatch.value))
            .remedy(remedy)
            .in_file(self.locate(place, &mismatch.path));
        Refusal::Broken(Box::new(problem), Keeps::Object(Id { kind, key: reference.key }))
    }

    fn unparsed(&self, part: Part<'_>, line: usize, cause: &str) -> Slot {
        let object = guess::object(part.text, self.plan).unwrap_or_else(|| self.itself());
        let problem = Problem::new(object, INVALID_MANIFEST, format!("cannot be read: {cause}"))
            .remedy("correct the document; until then its last good content stays in force")
            .in_file(Location { file: self.file.clone(), line: part.line + line - 1 });
        Slot::broken(problem, Keeps::Everything)
    }

    fn broken(&self, place: &Place<'_>, problem: Problem, keeps: Keeps) -> Refusal {
        Refusal::Broken(Box::new(problem.in_file(self.locate(place, &Path::default()))), keeps)
    }

    /// The file as the object of a Problem, where the object isn't known.
    fn itself(&self) -> ObjectRef {
        ObjectRef::new("File", ObjectKey::cluster(self.file.clone()))
    }

    fn locate(&self, place: &Place<'_>, path: &Path) -> Location {
        let mut whole = place.base.clone();
        whole.0.extend(path.0.iter().cloned());
        // The first line with content is where a document begins; no need to parse it again for that.
        let line = if whole.0.is_empty() { first_line(place.part.text) } else { lines::find(place.part.text, &whole) };
        Location { file: self.file.clone(), line: place.part.line + line.unwrap_or(1) - 1 }
    }
}

fn first_line(text: &str) -> Option<usize> {
    let content = |line: &str| !matches!(line.trim_start().chars().next(), None | Some('#'));
    text.lines().position(content).map(|number| number + 1)
}

/// The parser's message without the position, which the location says, and without the excerpt.
fn message(error: &serde_saphyr::Error) -> String {
    let options = serde_saphyr::RenderOptions::new(&serde_saphyr::DefaultMessageFormatter);
    let text = error.without_snippet().render_with_options(options);
    let line = text.lines().next().unwrap_or_default();
    let end = line.find(" at line ").unwrap_or(line.len());
    line[..end].trim_end_matches('.').trim_start_matches("error: ").to_owned()
}

/// A value as a Problem may show it.
fn shown(reference: &ObjectRef, value: String) -> String {
    if &*reference.kind == "Secret" { String::new() } else { value }
}

/// The object's reference as far as it can be read; an unreadable name is empty.
fn named(names: &KindNames, value: &Value) -> ObjectRef {
    let text = |field: &str| value.get("metadata").and_then(|metadata| metadata.get(field)).and_then(Value::as_str);
    let name = text("name").unwrap_or_default();
    let key = if names.namespaced {
        ObjectKey::new(text("namespace").filter(|text| !text.is_empty()).unwrap_or("default"), name)
    } else {
        ObjectKey::cluster(name)
    };
    ObjectRef::new(names.kind.as_str(), key)
}

/// Fills in what an API server would: namespace, uid and the kind's defaults.
fn complete(names: &KindNames, reference: &ObjectRef, value: &mut Value) {
    defaults::fill(&names.kind, value);
    let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    if names.namespaced {
        metadata.insert("namespace".to_owned(), json!(reference.key.namespace()));
    } else {
        metadata.remove("namespace");
    }
    metadata.entry("uid").or_insert_with(|| json!(uid(reference)));
}

/// An identifier in the form of a UUID that is the same on each reading.
fn uid(reference: &ObjectRef) -> String {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, reference).hash(&mut hasher);
        hasher.finish()
    };
    let (high, low) = (half(0), half(1));
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        // Version 8 and the variant of RFC 9562: a UUID made by a rule of one's own.
        0x8000 | (high & 0x0fff),
        0x8000 | ((low >> 48) & 0x3fff),
        low & 0xffff_ffff_ffff
    )
}

fn hash(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
