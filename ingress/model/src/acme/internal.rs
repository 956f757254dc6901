//! A CA of our own: for which names it signs, for how long, and by which root.

mod chain;
mod constraints;
mod lifetime;

use landfall_model::ObjectKey;
use serde::Deserialize;

pub use chain::Chain;
pub use constraints::{Constraints, Permitted};
pub use lifetime::Lifetime;

/// The issuer that is always there, and what stands for a CA of our own in the place of a directory.
pub const INTERNAL: &str = "internal";

/// What an issuer with a CA of our own is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Internal {
    /// The names and addresses that it signs for. Its intermediate says so, and the root that is made for it.
    pub permitted: Permitted,
    /// How long certificates are valid.
    pub lifetime: Lifetime,
    /// How long its intermediate is valid.
    pub intermediate_lifetime: Lifetime,
    /// A Secret with a root that somebody brings along; `None`: the root of our own.
    pub root: Option<ObjectKey>,
}

impl Default for Internal {
    fn default() -> Self {
        Self {
            permitted: Permitted::default(),
            lifetime: Lifetime::LEAF,
            intermediate_lifetime: Lifetime::INTERMEDIATE,
            root: None,
        }
    }
}

/// The part `authority` of an issuer in a `ConfigMap`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Written {
    #[serde(default)]
    permitted: Vec<String>,
    #[serde(default)]
    lifetime: Option<String>,
    #[serde(default)]
    intermediate_lifetime: Option<String>,
    #[serde(default)]
    root: Option<String>,
}

impl Internal {
    pub(super) fn parse(written: &Written) -> Result<Self, String> {
        let mut internal = Self::default();
        if !written.permitted.is_empty() {
            internal.permitted =
                Permitted::parse(&written.permitted).map_err(|error| format!("authority.permitted: {error}"))?;
        }
        if let Some(text) = &written.lifetime {
            internal.lifetime = Lifetime::parse(text).map_err(|error| format!("authority.lifetime: {error}"))?;
        }
        if let Some(text) = &written.intermediate_lifetime {
            internal.intermediate_lifetime =
                Lifetime::parse(text).map_err(|error| format!("authority.intermediateLifetime: {error}"))?;
        }
        if let Some(text) = &written.root {
            let key = ObjectKey::parse(text).filter(|key| !key.namespace().is_empty());
            internal.root = Some(key.ok_or_else(|| format!("authority.root {text:?} is not namespace/name"))?);
        }
        internal.checked()
    }

    /// Fails if browsers would refuse a certificate, or if it would outlive its intermediate.
    pub fn checked(self) -> Result<Self, String> {
        if self.lifetime > Lifetime::LONGEST_LEAF {
            return Err(format!(
                "browsers refuse certificates that are valid for more than {}",
                Lifetime::LONGEST_LEAF
            ));
        }
        if self.intermediate_lifetime < self.lifetime.twice() {
            return Err(format!(
                "an intermediate that is valid for {} does not outlive certificates that are valid for {}; give it \
                 twice as long at least",
                self.intermediate_lifetime, self.lifetime
            ));
        }
        Ok(self)
    }
}

/// Why an issuer does not sign for a host: what is wrong, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// What is wrong.
    pub cause: String,
    /// What to do about it.
    pub remedy: String,
}

impl Internal {
    /// Why this CA does not sign for the host; `None` if it does.
    pub(super) fn refusal(&self, issuer: &str, host: &str) -> Option<Refusal> {
        if self.permitted.has(host) {
            let is_too_wide = host.strip_prefix("*.").is_some_and(|domain| !domain.contains('.'));
            // Such a name spoils the others of a certificate for some clients, which then take it for malformed.
            return is_too_wide.then(|| Refusal {
                cause: format!("no client takes a wildcard right below a top-level domain, as {host} is"),
                remedy: "name the hosts one by one, or use names of one level more".to_owned(),
            });
        }
        let remedy = if host.parse::<std::net::IpAddr>().is_ok() {
            "add its network to --ca-permitted (authority.permitted of the issuer, ingress.acme.internal.permitted in \
             the chart)"
        } else {
            "ask an issuer that orders from a public CA by the annotation landfall.dev/acme, or add the domain to \
             --ca-permitted (authority.permitted of the issuer, ingress.acme.internal.permitted in the chart)"
        };
        let cause = format!("{host} is none of the names that issuer {issuer} signs for, which are {}", self.permitted);
        Some(Refusal { cause, remedy: remedy.to_owned() })
    }
}
