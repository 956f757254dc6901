//! What snippets have come to in one request.

use super::value::Name;

/// Variables, groups and the URI, as nginx keeps them with a request from one location to the next.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Memory {
    /// Decoded.
    path: Vec<u8>,
    arguments: Vec<u8>,
    groups: Vec<Vec<u8>>,
    variables: Vec<(Name, Vec<u8>)>,
    /// Whether path or arguments are other ones than the client sent.
    is_rewritten: bool,
    /// Whether the path was rewritten so that a location is to be looked for.
    pub(super) seeks: bool,
    /// What was done, for people.
    told: Vec<String>,
}

/// More is not told of one request.
const MOST_TOLD: usize = 16;

impl Memory {
    /// That of a request for a path, in decoded form, and a query.
    pub fn new(path: Vec<u8>, query: Option<&str>) -> Self {
        Self { path, arguments: query.unwrap_or_default().into(), ..Self::default() }
    }

    /// The path as it is by now, decoded.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The query as it is by now.
    pub fn arguments(&self) -> &[u8] {
        &self.arguments
    }

    /// Whether path or arguments are other ones than the client sent.
    pub fn is_rewritten(&self) -> bool {
        self.is_rewritten
    }

    /// What was done, for people.
    pub fn told(&self) -> &[String] {
        &self.told
    }

    /// Puts other groups of a regular expression in the place of those before.
    pub fn set_groups(&mut self, captures: Option<&regex::bytes::Captures<'_>>) {
        self.groups.clear();
        let groups = captures.into_iter().flat_map(regex::bytes::Captures::iter);
        self.groups.extend(groups.map(|group| group.map(|group| group.as_bytes().to_vec()).unwrap_or_default()));
    }

    /// Whether something else is to be found for the path.
    pub(crate) fn seeks(&self) -> bool {
        self.seeks
    }

    /// Nothing else is to be found for the path any more.
    pub(crate) fn found(&mut self) {
        self.seeks = false;
    }

    pub(super) fn group(&self, number: usize) -> &[u8] {
        self.groups.get(number).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn variable(&self, name: &Name) -> &[u8] {
        let found = self.variables.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_slice()).unwrap_or_default()
    }

    pub(super) fn set(&mut self, name: &Name, value: Vec<u8>) {
        match self.variables.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value,
            None => self.variables.push((name.clone(), value)),
        }
    }

    pub(super) fn set_path(&mut self, path: Vec<u8>) {
        self.path = path;
        self.is_rewritten = true;
    }

    pub(super) fn set_arguments(&mut self, arguments: Vec<u8>) {
        self.arguments = arguments;
        self.is_rewritten = true;
    }

    pub(super) fn tell(&mut self, what: impl FnOnce() -> String) {
        if self.told.len() < MOST_TOLD {
            self.told.push(what());
        }
    }
}
