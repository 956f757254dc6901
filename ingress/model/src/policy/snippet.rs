//! Snippets of nginx configuration: a subset of nginx's directives, read into a typed program and evaluated for each
//! request.
//!
//! [`syntax`] knows the form of the text, [`read`] gives each directive its meaning or says which one has none. What
//! was read runs in `script`; what holds beside that are `settings`, and what they make of a request and its
//! response are [`Effects`]. Nothing of the text is left then, so there is nothing to inject into.

mod effects;
mod location;
mod memory;
mod reader;
mod script;
mod settings;
pub mod syntax;
mod value;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::Version;
use thiserror::Error;

use super::rewrite::escaped;
use super::template::Facts;

pub use effects::Effects;
pub(crate) use location::Nearest;
pub use memory::Memory;
pub use reader::{SnippetFault, names_of, read};
pub(crate) use script::Level;
pub use script::{End, Said};
pub(crate) use settings::Holding;
pub use settings::Verdict;
pub use value::Name;

use location::Location;
use syntax::Position;

/// Where a snippet comes from, which decides what it may hold.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// The annotation `configuration-snippet`: a location.
    Configuration,
    /// The annotation `server-snippet`: a server.
    Server,
    /// The annotation `auth-snippet`: the location in which an authentication service is asked.
    Auth,
    /// `location-snippet` of the `ConfigMap`: every location.
    LocationOption,
    /// `server-snippet` of the `ConfigMap`: every server.
    ServerOption,
    /// `global-auth-snippet` of the `ConfigMap`: where the service of `global-auth-url` is asked.
    AuthOption,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configuration => "configuration-snippet",
            Self::Server => "server-snippet",
            Self::Auth => "auth-snippet",
            Self::LocationOption => "location-snippet",
            Self::ServerOption => "server-snippet of the ConfigMap",
            Self::AuthOption => "global-auth-snippet",
        })
    }
}

/// A place in one of the snippets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// Which one.
    pub kind: Kind,
    /// Where in it.
    pub at: Position,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}:{}", self.kind, self.at.line, self.at.column)
    }
}

/// A value came to more than 16 KiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("a value of a snippet came to more than 16 KiB")]
pub struct TooLong;

/// What is known of a request.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// What has to do with no snippet.
    pub facts: Facts<'a>,
    /// The version of HTTP that the client speaks.
    pub version: Version,
    /// The name that the client gives with its password.
    pub user: &'a str,
}

/// A snippet as it was read.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Snippet {
    pub(crate) level: Level,
    pub(crate) locations: Box<[Location]>,
}

impl Snippet {
    /// Both, one behind the other, as they would stand in one configuration.
    #[must_use]
    pub fn followed_by(self: Arc<Self>, other: Option<&Arc<Self>>) -> Arc<Self> {
        let Some(other) = other else { return self };
        let mut level = self.level.clone();
        level.script.extend(other.level.script.iter().cloned());
        level.settings.extend(&other.level.settings);
        let locations = self.locations.iter().chain(&other.locations).cloned().collect();
        Arc::new(Self { level, locations })
    }

    /// Whether it says who may ask.
    pub(crate) fn has_access_rules(&self) -> bool {
        self.level.settings.has_access_rules()
    }

    /// Evaluates all of it for a request, and what it makes of a response. This is what a request passes, put together
    /// for tests that look for texts which should not have been read.
    pub fn rehearse(&self, scene: &Scene<'_>, memory: &mut Memory, client: IpAddr) -> Result<End, TooLong> {
        let blocks = self.locations.iter().map(|location| &location.level);
        let mut end = End::Through;
        for level in std::iter::once(&self.level).chain(blocks) {
            let ran = level.run(memory, scene)?;
            end = ran.end;
            let settings = &self.level.settings;
            let holding = Holding { server: Some(settings), location: Some(&level.settings), inner: ran.settings };
            holding.verdict(client);
            let headers = &scene.facts.headers.map(crate::fields::Fields::to_map).unwrap_or_default();
            holding.input(headers, memory, scene)?;
            let mut effects = holding.effects(memory, scene, 0)?;
            effects.settle(Some((http::StatusCode::OK, headers)));
            effects.apply(http::StatusCode::OK, Some(headers), &mut headers.clone());
        }
        self.locate(memory, Nearest::NONE);
        Ok(end)
    }
}

#[cfg(test)]
mod tests;
