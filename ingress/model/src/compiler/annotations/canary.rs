//! A second backend for some of the requests of a path.

use std::sync::Arc;

use regex::Regex;

use super::fault::Fault;
use super::value::{boolean, is_of, number};
use super::{Annotations, Read};
use crate::policy::CanaryRule;

/// What values may be written with, besides letters and digits.
const PLAIN: &[u8] = b"-._~/: ";
/// What patterns may be written with.
const PATTERN: &[u8] = br"-._~/:^$[](){}*+?|&=\";
/// The least total of weights.
const TOTAL: i64 = 100;

/// The annotations of this family.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Canaries {
    pub(super) enabled: bool,
    pub(super) rule: CanaryRule,
    weight: i64,
    total: i64,
}

impl Canaries {
    pub(super) fn read_in(all: &mut Annotations, name: &str, value: &str) -> Result<Read, Fault> {
        let this = &mut all.canary;
        match name {
            "canary" => this.enabled = boolean(value)?,
            "canary-by-header" => {
                // To nginx' variables, - and _ are the same.
                let name = value.replace('_', "-").parse();
                let name = name.map_err(|_| Fault::Value("give the name of a field"))?;
                this.rule.header = (!value.contains(['.', '~', '/', ':'])).then_some(name);
            }
            "canary-by-header-value" => this.rule.value = Some(plain(value)?),
            "canary-by-header-pattern" => {
                let pattern = Regex::new(value).ok().filter(|_| is_of(value, PATTERN));
                this.rule.pattern = Some(pattern.ok_or(Fault::Value("give a regular expression"))?);
            }
            "canary-by-cookie" => this.rule.cookie = Some(plain(value)?),
            "canary-weight" => this.weight = number(value)?.max(0),
            "canary-weight-total" => this.total = number(value)?,
            _ => return Ok(Read::Foreign),
        }
        Ok(Read::Taken)
    }

    pub(super) fn rule(&self) -> Arc<CanaryRule> {
        let unsigned = |number: i64| u64::try_from(number).unwrap_or_default();
        let (weight, total) = (unsigned(self.weight), unsigned(self.total.max(TOTAL)));
        Arc::new(CanaryRule { weight, total, ..self.rule.clone() })
    }
}

fn plain(value: &str) -> Result<Box<str>, Fault> {
    let value = is_of(value, PLAIN).then(|| value.into());
    value.ok_or(Fault::Value("give letters, digits and - . _ ~ / : only"))
}
