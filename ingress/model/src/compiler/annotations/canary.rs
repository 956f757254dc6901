//! A second backend for some of the requests of a path.

use std::sync::Arc;

use regex::Regex;

use super::fault::Fault;
use super::value::{boolean, number};
use super::{Annotations, Read};
use crate::policy::CanaryRule;

/// The least total of weights.
const TOTAL: i64 = 100;

/// The annotations of this family.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Canaries {
    pub(super) enabled: bool,
    rule: CanaryRule,
    weight: i64,
    total: i64,
}

impl Canaries {
    pub(super) fn read_in(all: &mut Annotations, name: &str, value: &str) -> Result<Read, Fault> {
        let this = &mut all.canary;
        match name {
            "canary" => this.enabled = boolean(value)?,
            "canary-by-header" => {
                let name = value.parse().map_err(|_| Fault::Value("give the name of a field"))?;
                this.rule.header = (!value.contains(['_', '.'])).then_some(name);
            }
            "canary-by-header-value" => this.rule.value = Some(value.into()),
            "canary-by-header-pattern" => {
                let pattern = Regex::new(value).map_err(|_| Fault::Value("give a regular expression"))?;
                this.rule.pattern = Some(pattern);
            }
            "canary-by-cookie" => this.rule.cookie = Some(value.into()),
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
