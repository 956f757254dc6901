//! Changes to what a backend answers, and whether it is written down.

use std::sync::Arc;

use landfall_model::ObjectKey;

use super::fault::Fault;
use super::value::boolean;
use super::{Annotations, Read};
use crate::compiler::options::Options;
use crate::policy::{Replace, ResponseRules, Template, UnknownVariable};
use crate::table::Dialect;

/// The annotations of this family.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Responses {
    pub(crate) custom_headers: Option<ObjectKey>,
    /// Whether the access log has no line for it.
    pub(crate) is_unlogged: bool,
    rewrites: Rewrites,
}

/// How values of the backend are rewritten; of each, `None` where nothing is said and `Some(None)` where it is off.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Rewrites {
    redirect_from: Option<Option<Box<str>>>,
    redirect_to: Option<Option<Template>>,
    cookie_domain: Option<Option<Replace>>,
    cookie_path: Option<Option<Replace>>,
}

impl Rewrites {
    /// Those that say nothing.
    pub(crate) const NONE: Self =
        Self { redirect_from: None, redirect_to: None, cookie_domain: None, cookie_path: None };

    /// Reads one of the four, by its name as an annotation or as a key of the `ConfigMap`.
    pub(crate) fn read(&mut self, name: &str, value: &str) -> Result<Read, Fault> {
        match name {
            "proxy-redirect-from" => {
                self.redirect_from = Some((value != "off" && value != "default").then(|| value.into()));
                // The name that all backends have in ingress-nginx' configuration.
                if value == "default" {
                    self.redirect_from = Some(Some("http://upstream_balancer/".into()));
                    self.redirect_to = Some(Some(Template::verbatim("/")));
                }
            }
            "proxy-redirect-to" => self.redirect_to = Some(if value == "off" { None } else { Some(template(value)?) }),
            "proxy-cookie-domain" => self.cookie_domain = Some(pair(value)?),
            "proxy-cookie-path" => self.cookie_path = Some(pair(value)?),
            _ => return Ok(Read::Foreign),
        }
        Ok(Read::Taken)
    }
}

impl Responses {
    pub(super) fn read_in(all: &mut Annotations, name: &str, value: &str) -> Result<Read, Fault> {
        let this = &mut all.respond;
        match name {
            "custom-headers" => {
                let key = value.split_once('/').filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty());
                let (namespace, name) = key.ok_or(Fault::Closed("give NAMESPACE/NAME of a ConfigMap"))?;
                this.custom_headers = Some(ObjectKey::new(namespace, name));
            }
            "enable-access-log" => this.is_unlogged = !boolean(value)?,
            _ => return this.rewrites.read(name, value),
        }
        Ok(Read::Taken)
    }

    pub(super) fn rules(&self, dialect: Dialect, options: &Options) -> Option<Arc<ResponseRules>> {
        let (own, common) = (&self.rewrites, &options.of(dialect).rewrites);
        let from = own.redirect_from.as_ref().or(common.redirect_from.as_ref()).cloned().flatten();
        let to = own.redirect_to.as_ref().or(common.redirect_to.as_ref()).cloned().flatten();
        let location = from.zip(to).map(|(from, to)| Replace { from, to });
        let cookie_domain = own.cookie_domain.as_ref().or(common.cookie_domain.as_ref()).cloned().flatten();
        let cookie_path = own.cookie_path.as_ref().or(common.cookie_path.as_ref()).cloned().flatten();
        let base = match dialect {
            Dialect::Kubernetes => None,
            Dialect::IngressNginx => Some(&options.respond),
        };
        if location.is_none() && cookie_domain.is_none() && cookie_path.is_none() {
            return base.filter(|rules| !rules.is_empty()).cloned();
        }
        let rules = base.map(|rules| (**rules).clone()).unwrap_or_default();
        Some(Arc::new(ResponseRules { location, cookie_domain, cookie_path, ..rules }))
    }
}

fn template(value: &str) -> Result<Template, Fault> {
    Template::of_variables(value).map_err(|UnknownVariable(name)| Fault::Variable(name))
}

/// `off`, or two words: what is looked for, and what takes its place.
fn pair(value: &str) -> Result<Option<Replace>, Fault> {
    if value == "off" {
        return Ok(None);
    }
    let fault = || Fault::Value("give two words, or off; regular expressions are not taken");
    let (from, to) = value.split_once(char::is_whitespace).ok_or_else(fault)?;
    let to = to.trim();
    if from.starts_with('~') || to.contains(char::is_whitespace) {
        return Err(fault());
    }
    Ok(Some(Replace { from: from.into(), to: template(to)? }))
}
