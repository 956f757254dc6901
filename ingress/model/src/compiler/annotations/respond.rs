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
    redirect_from: Option<Box<str>>,
    redirect_to: Option<Template>,
    cookie_domain: Option<Replace>,
    cookie_path: Option<Replace>,
}

impl Responses {
    pub(super) fn read_in(all: &mut Annotations, name: &str, value: &str) -> Result<Read, Fault> {
        let this = &mut all.respond;
        match name {
            "proxy-redirect-from" => {
                this.redirect_from = (value != "off" && value != "default").then(|| value.into());
                // The name that all backends have in ingress-nginx' configuration.
                if value == "default" {
                    this.redirect_from = Some("http://upstream_balancer/".into());
                    this.redirect_to = Some(Template::verbatim("/"));
                }
            }
            "proxy-redirect-to" => this.redirect_to = if value == "off" { None } else { Some(template(value)?) },
            "custom-headers" => {
                let key = value.split_once('/').filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty());
                let (namespace, name) = key.ok_or(Fault::Closed("give NAMESPACE/NAME of a ConfigMap"))?;
                this.custom_headers = Some(ObjectKey::new(namespace, name));
            }
            "enable-access-log" => this.is_unlogged = !boolean(value)?,
            "proxy-cookie-domain" => this.cookie_domain = pair(value)?,
            "proxy-cookie-path" => this.cookie_path = pair(value)?,
            _ => return Ok(Read::Foreign),
        }
        Ok(Read::Taken)
    }

    pub(super) fn rules(&self, dialect: Dialect, options: &Options) -> Option<Arc<ResponseRules>> {
        let location = self.redirect_from.clone().zip(self.redirect_to.clone()).map(|(from, to)| Replace { from, to });
        let base = match dialect {
            Dialect::Kubernetes => None,
            Dialect::IngressNginx => Some(&options.respond),
        };
        if location.is_none() && self.cookie_domain.is_none() && self.cookie_path.is_none() {
            return base.filter(|rules| !rules.is_empty()).cloned();
        }
        let rules = base.map(|rules| (**rules).clone()).unwrap_or_default();
        Some(Arc::new(ResponseRules {
            location,
            cookie_domain: self.cookie_domain.clone(),
            cookie_path: self.cookie_path.clone(),
            ..rules
        }))
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
