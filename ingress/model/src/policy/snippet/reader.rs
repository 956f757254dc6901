//! From directives to a program: each is known here, or refused by its name and place.

mod fields;
mod known;
mod rewriting;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::location::{Location, LocationPath};
use super::script::{Action, Level, Pattern, Step};
use super::syntax::{self, Directive, Position, Word};
use super::value::{Name, Value};
use super::{Kind, Place, Snippet};

/// What is wrong with a snippet is told of so many directives.
const MOST_FAULTS: usize = 8;

/// What is wrong with one directive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnippetFault {
    /// Where it stands.
    pub at: Position,
    /// Its name.
    pub directive: Box<str>,
    /// What is wrong with it.
    pub cause: String,
    /// What to write instead.
    pub remedy: String,
}

/// Where a directive stands, which decides whether nginx takes it there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Context {
    Server,
    ServerIf,
    Location,
    LocationIf,
    Auth,
    AuthIf,
}

impl Context {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Configuration | Kind::LocationOption => Self::Location,
            Kind::Server | Kind::ServerOption => Self::Server,
            Kind::Auth | Kind::AuthOption => Self::Auth,
        }
    }

    /// That of an `if`; `None` within one.
    fn of_if(self) -> Option<Self> {
        match self {
            Self::Server => Some(Self::ServerIf),
            Self::Location => Some(Self::LocationIf),
            Self::Auth => Some(Self::AuthIf),
            Self::ServerIf | Self::LocationIf | Self::AuthIf => None,
        }
    }
}

/// The names that a text gives values to, for snippets that are used together. A text that can't be read gives none.
pub fn names_of(text: &str) -> BTreeSet<Name> {
    fn collect(directives: &[Directive], names: &mut BTreeSet<Name>) {
        for directive in directives {
            if matches!(&*directive.name.text, "set" | "auth_request_set")
                && let Some(name) = directive.words.first().and_then(|word| word.text.strip_prefix('$'))
            {
                names.insert(name.into());
            }
            for part in directive.words.iter().flat_map(|word| word.text.split("(?").skip(1)) {
                let name = part.strip_prefix('P').unwrap_or(part).strip_prefix('<');
                if let Some((name, _)) = name.and_then(|name| name.split_once('>'))
                    && name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
                    && !name.is_empty()
                {
                    names.insert(name.into());
                }
            }
            collect(directive.block.as_deref().unwrap_or_default(), names);
        }
    }
    let mut names = BTreeSet::new();
    if let Ok(directives) = syntax::parse(text) {
        collect(&directives, &mut names);
    }
    names.retain(|name| !super::value::is_built_in(name));
    names
}

/// Reads a snippet. `names` are those that it and the snippets beside it give values to, see [`names_of`].
///
/// Besides the snippet there are directives that have no effect here. `Err` is everything that is wrong; such a snippet
/// has no part that is used.
pub fn read(kind: Kind, text: &str, names: &BTreeSet<Name>) -> Result<(Snippet, Vec<SnippetFault>), Vec<SnippetFault>> {
    let directives = syntax::parse(text).map_err(|fault| {
        let remedy = "write it as nginx would take it: words, then \";\", or a block in braces; put a word with blanks, \
                      \";\", \"{\" or \"}\" in it into quotes";
        let is_lua = fault.near.contains("_by_lua");
        let remedy = if is_lua { known::unsupported(&fault.near).1 } else { remedy.to_owned() };
        vec![SnippetFault { at: fault.at, directive: fault.near.as_str().into(), cause: fault.what, remedy }]
    })?;
    let mut reader = Reader { kind, names, locations: Vec::new(), faults: Vec::new(), notes: Vec::new() };
    let level = reader.level(&directives, Context::of(kind));
    if reader.faults.is_empty() {
        Ok((Snippet { level, locations: reader.locations.into() }, reader.notes))
    } else {
        Err(reader.faults)
    }
}

pub(super) struct Reader<'a> {
    kind: Kind,
    names: &'a BTreeSet<Name>,
    locations: Vec<Location>,
    faults: Vec<SnippetFault>,
    notes: Vec<SnippetFault>,
}

/// What is wrong, and what to do.
pub(super) type Wrong = (String, String);

pub(super) fn wrong(cause: impl Into<String>, remedy: impl Into<String>) -> Wrong {
    (cause.into(), remedy.into())
}

impl Reader<'_> {
    fn level(&mut self, directives: &[Directive], context: Context) -> Level {
        let mut level = Level::default();
        for directive in directives {
            let read = self.directive(directive, context, &mut level);
            if let (Err((cause, remedy)), true) = (read, self.faults.len() < MOST_FAULTS) {
                self.faults.push(fault_of(directive, cause, remedy));
            }
        }
        level
    }

    fn directive(&mut self, directive: &Directive, context: Context, level: &mut Level) -> Result<(), Wrong> {
        let name = directive.name.text.as_str();
        match (name, &directive.block) {
            ("if" | "location", None) => {
                return Err(wrong("a block in braces must follow", format!("write {name} … {{ … }}")));
            }
            ("if", Some(block)) => return self.if_block(directive, block, context, level),
            ("location", Some(block)) => return self.location(directive, block, context),
            (_, Some(_)) => return Err(known::unsupported(name)),
            (_, None) => {}
        }
        let at = Place { kind: self.kind, at: directive.name.at };
        match name {
            "set" | "return" | "rewrite" | "break" => {
                let action = self.action(name, &directive.words)?;
                level.script.push(Step { at, action });
                Ok(())
            }
            _ if known::has_no_effect(name) => {
                let cause = known::why_without_effect(name);
                self.notes.push(fault_of(directive, cause.to_owned(), "remove it to silence this warning".to_owned()));
                Ok(())
            }
            _ => match self.setting(name, &directive.words, context, &mut level.settings)? {
                fields::Taken::Yes => Ok(()),
                fields::Taken::WithoutEffect(why) => {
                    let remedy = "remove it to silence this warning";
                    self.notes.push(fault_of(directive, why.to_owned(), remedy.to_owned()));
                    Ok(())
                }
                fields::Taken::No => Err(known::unsupported(name)),
            },
        }
    }

    fn if_block(
        &mut self,
        directive: &Directive,
        block: &[Directive],
        context: Context,
        level: &mut Level,
    ) -> Result<(), Wrong> {
        let Some(inner) = context.of_if() else {
            return Err(wrong(
                "nginx takes no if within an if",
                "put both conditions into one variable: set $both \"$a$b\"; and test that",
            ));
        };
        let test = self.test(&directive.words)?;
        let inside = self.level(block, inner);
        let at = Place { kind: self.kind, at: directive.name.at };
        level.script.push(Step { at, action: Action::If(test, Box::new(inside)) });
        Ok(())
    }

    fn location(&mut self, directive: &Directive, block: &[Directive], context: Context) -> Result<(), Wrong> {
        if context != Context::Server {
            return Err(wrong(
                "a location can't stand here",
                "put it into server-snippet, or give the Ingress a rule for the path",
            ));
        }
        let path = Self::location_path(&directive.words)?;
        let level = self.level(block, Context::Location);
        let at = Place { kind: self.kind, at: directive.name.at };
        self.locations.push(Location { at, path, level });
        Ok(())
    }

    fn location_path(words: &[Word]) -> Result<LocationPath, Wrong> {
        let usage = || wrong("there is no path that can be read", "write location [= | ~ | ~* | ^~] /path { … }");
        let (modifier, path) = match words {
            [modifier, path] => (modifier.text.as_str(), path.text.as_str()),
            [word] => {
                let modifiers = ["=", "^~", "~*", "~"];
                let found = modifiers.into_iter().find(|modifier| word.text.starts_with(modifier));
                (found.unwrap_or_default(), &word.text[found.map_or(0, str::len)..])
            }
            _ => return Err(usage()),
        };
        if path.starts_with('@') {
            return Err(wrong("a named location is reached by error_page or try_files only", "remove it"));
        }
        let is_path = path.starts_with('/');
        match modifier {
            "=" if is_path => Ok(LocationPath::Exact(path.into())),
            "" | "^~" if is_path => Ok(LocationPath::Prefix { path: path.into(), is_final: modifier == "^~" }),
            "~" | "~*" => Ok(LocationPath::Regex(Self::pattern(path, modifier == "~*")?)),
            _ => Err(usage()),
        }
    }

    fn pattern(text: &str, case_insensitive: bool) -> Result<Pattern, Wrong> {
        Pattern::new(text, case_insensitive)
            .map_err(|cause| wrong(cause, "correct it; look-around and back references are not taken"))
    }

    fn value(&self, text: &str) -> Result<Value, Wrong> {
        let known = |name: &str| self.names.get(name).cloned();
        Value::parse(text, &known).map_err(|cause| {
            wrong(cause, "use one of the variables in docs/annotations.md, or set it in this snippet before")
        })
    }

    /// The name of a variable that a snippet gives a value to.
    fn own_name(&self, word: &Word) -> Result<Name, Wrong> {
        let name = word.text.strip_prefix('$').unwrap_or_default();
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric());
        if !is_name || name.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(wrong(format!("{:?} is no variable", word.text), "write a name such as $variable"));
        }
        if super::value::is_built_in(name) {
            return Err(wrong(
                format!("${name} says something of the request and can't be set"),
                "set a variable of another name, or the field itself by proxy_set_header",
            ));
        }
        Ok(self.names.get(name).cloned().unwrap_or_else(|| Arc::from(name)))
    }
}

fn fault_of(directive: &Directive, cause: String, remedy: String) -> SnippetFault {
    let shown: String = directive.name.text.chars().take(64).collect();
    SnippetFault { at: directive.name.at, directive: shown.into(), cause, remedy }
}
