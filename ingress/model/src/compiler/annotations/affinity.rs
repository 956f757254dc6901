//! Which endpoint a client or a request belongs to.

use std::sync::Arc;

use super::fault::Fault;
use super::value::{boolean, is_of, number};
use super::{Annotations, Read};
use crate::backend::Balance;
use crate::policy::{CookieAffinity, HashBy, Template};

/// `upstream-hash-by-subset-size`, where nothing is said.
const SUBSET: usize = 3;

/// The annotations of this family.
#[derive(Clone, PartialEq, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an annotation")]
pub(super) struct Affinities {
    enabled: bool,
    persistent: bool,
    name: Option<Box<str>>,
    path: Option<Box<str>>,
    domain: Option<Box<str>>,
    expires: Option<i64>,
    max_age: Option<i64>,
    same_site: Option<Box<str>>,
    conditional_none: bool,
    secure: bool,
    hash_by: Option<Template>,
    in_subsets: bool,
    subset_size: Option<usize>,
    balance: Option<Balance>,
}

impl Affinities {
    pub(super) fn read_in(all: &mut Annotations, name: &str, value: &str) -> Result<Read, Fault> {
        let this = &mut all.affinity;
        match name {
            "affinity" => match value {
                "cookie" => this.enabled = true,
                _ => return Err(Fault::Value("use cookie")),
            },
            "affinity-mode" => match value {
                "persistent" => this.persistent = true,
                "balanced" => this.persistent = false,
                _ => return Err(Fault::Value("use balanced or persistent")),
            },
            "affinity-canary-behavior" => match value {
                "sticky" => all.canary.rule.ignores_affinity = false,
                "legacy" => all.canary.rule.ignores_affinity = true,
                _ => return Err(Fault::Value("use sticky or legacy")),
            },
            "session-cookie-name" => {
                if !is_of(value, b"-._~/:") {
                    return Err(Fault::Value("give letters, digits and - . _ ~ only"));
                }
                this.name = Some(value.into());
            }
            "session-cookie-path" => {
                if !is_of(value, b"-._~/:,?&= ") {
                    return Err(Fault::Value("give a path"));
                }
                this.path = Some(value.into());
            }
            "session-cookie-domain" => {
                if !is_of(value, b"-._~/: ") {
                    return Err(Fault::Value("give a domain"));
                }
                this.domain = Some(value.into());
            }
            "session-cookie-expires" => {
                this.expires = Some(number(value)?);
            }
            "session-cookie-max-age" => this.max_age = Some(number(value)?),
            "session-cookie-samesite" => match value {
                "None" | "Lax" | "Strict" => this.same_site = Some(value.into()),
                _ => return Err(Fault::Value("use None, Lax or Strict")),
            },
            "session-cookie-conditional-samesite-none" => this.conditional_none = boolean(value)?,
            "session-cookie-secure" => this.secure = boolean(value)?,
            // Another endpoint is taken at once where one is gone, whatever is asked for.
            "session-cookie-change-on-failure" => drop(boolean(value)?),
            "upstream-hash-by" => {
                this.hash_by = Some(Template::parse(value).unwrap_or_else(|_| Template::verbatim(value)));
            }
            "upstream-hash-by-subset" => this.in_subsets = boolean(value)?,
            "upstream-hash-by-subset-size" => {
                let size = value.parse().ok().filter(|size| *size > 0);
                this.subset_size = Some(size.ok_or(Fault::Value("give a number from 1 up"))?);
            }
            "load-balance" => this.balance = Some(balance(value)?),
            _ => return Ok(Read::Foreign),
        }
        Ok(Read::Taken)
    }

    pub(super) fn cookie(&self) -> Option<Arc<CookieAffinity>> {
        self.enabled.then(|| {
            Arc::new(CookieAffinity {
                name: self.name.clone().unwrap_or("INGRESSCOOKIE".into()),
                path: self.path.clone(),
                domain: self.domain.clone(),
                expires: self.expires,
                max_age: self.max_age,
                same_site: self.same_site.clone(),
                conditional_none: self.conditional_none,
                secure: self.secure,
                persistent: self.persistent,
            })
        })
    }

    pub(super) fn hash_by(&self) -> Option<Arc<HashBy>> {
        let subset = if self.in_subsets { self.subset_size.unwrap_or(SUBSET) } else { 1 };
        self.hash_by.clone().map(|key| Arc::new(HashBy { key, subset }))
    }

    pub(super) fn balance(&self) -> Option<Balance> {
        self.balance
    }
}

/// `load-balance`. Names of ingress-nginx's own choices by hash and cookie have annotations that ask for these.
pub(crate) fn balance(value: &str) -> Result<Balance, Fault> {
    match value {
        "ewma" => Ok(Balance::Ewma),
        "round_robin" | "chash" | "chashsubset" | "sticky_balanced" | "sticky_persistent" => Ok(Balance::RoundRobin),
        _ => Err(Fault::Value("use round_robin or ewma")),
    }
}
