//! Regular expressions and other paths for the backend.

use std::sync::Arc;

use super::fault::Fault;
use super::value::{boolean, is_of};
use super::{Annotations, Read};
use crate::compiler::ingress::PathSpec;
use crate::policy::{Rewrite, Template, UnknownVariable};
use crate::table::PathRule;

/// The annotations of this family.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Rewrites {
    target: Option<Box<str>>,
    pub(super) use_regex: bool,
    prefix: Option<Template>,
}

impl Rewrites {
    pub(super) fn read_in(all: &mut Annotations, name: &str, value: &str) -> Result<Read, Fault> {
        let this = &mut all.rewrite;
        match name {
            "use-regex" => this.use_regex = boolean(value)?,
            "rewrite-target" => {
                if !is_of(value, b"-._~/:$") {
                    return Err(Fault::Value("give a path of letters, digits, - . _ ~ / : and groups such as $1"));
                }
                Template::parse(value).map_err(|UnknownVariable(name)| Fault::Variable(name))?;
                this.target = Some(value.into());
            }
            "x-forwarded-prefix" => {
                if !is_of(value, b"-._~/:$ ") {
                    return Err(Fault::Value("give a path of letters, digits, - . _ ~ / : and groups such as $1"));
                }
                this.prefix = Some(Template::parse(value).map_err(|UnknownVariable(name)| Fault::Variable(name))?);
            }
            _ => return Ok(Read::Foreign),
        }
        Ok(Read::Taken)
    }

    /// Whether the target has groups of a regular expression in it.
    pub(super) fn has_groups(&self) -> bool {
        self.target.as_deref().is_some_and(|target| target.contains('$'))
    }

    pub(super) fn makes_regex(&self, paths: &[PathSpec]) -> bool {
        let has_root = paths.iter().any(|path| matches!(&path.rule, PathRule::Prefix(path) if path.is_empty()));
        self.use_regex
            || self.target.as_deref().is_some_and(|target| {
                paths.iter().any(|path| !is_same_place(target, path)) || (!has_root && target != "/")
            })
    }

    pub(super) fn rewrite(&self, path: Option<&PathSpec>) -> Option<Arc<Rewrite>> {
        let target = self.target.as_deref()?;
        let text = match path {
            Some(path) if is_same_place(target, path) => return None,
            None if target == "/" => return None,
            Some(path) => path.text(),
            None => "/",
        };
        // Both were read before; a path that is no regular expression has no route.
        let target = Template::parse(target).ok()?;
        Rewrite::new(text, target, self.prefix.clone()).ok().map(Arc::new)
    }
}

/// Whether a rewrite to `target` leaves a path as it is. A prefix holds longer paths too, all but that of everything.
fn is_same_place(target: &str, path: &PathSpec) -> bool {
    target == path.text() && (matches!(path.rule, PathRule::Exact(_)) || target == "/")
}
