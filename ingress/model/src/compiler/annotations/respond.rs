//! Changes to what a backend answers, and whether it is written down.

use std::sync::Arc;

use landfall_model::ObjectKey;

use super::fault::Fault;
use super::value::{boolean, is_of};
use super::{Annotations, Read};
use crate::compiler::options::Options;
use crate::policy::{Replace, ResponseRules, Template, UnknownVariable};
use crate::table::Dialect;

/// What places may be written with, besides letters and digits.
const PLACE: &[u8] = b"-._~/:,?&= ";

/// The annotations of this family.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Responses {
    pub(crate) custom_headers: Option<ObjectKey>,
    /// Whether the access log has no line for it.
    pub(crate) is_unlogged: bool,
    rewrites: Rewrites,
}

/// What an annotation or a key says, which may be that there is to be nothing.
#[derive(Clone, PartialEq, Debug, Default)]
enum Said<T> {
    #[default]
    Nothing,
    Off,
    Value(T),
}

impl<T> From<Option<T>> for Said<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Off, Self::Value)
    }
}

impl<T: Clone> Said<T> {
    /// What holds where `common` is said of everything.
    fn or(&self, common: &Self) -> Option<T> {
        match (self, common) {
            (Self::Value(value), _) | (Self::Nothing, Self::Value(value)) => Some(value.clone()),
            _ => None,
        }
    }
}

/// How values of the backend are rewritten.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Rewrites {
    redirect_from: Said<Box<str>>,
    redirect_to: Said<Template>,
    cookie_domain: Said<Replace>,
    cookie_path: Said<Replace>,
}

impl Rewrites {
    /// Those that say nothing.
    pub(crate) const NONE: Self = Self {
        redirect_from: Said::Nothing,
        redirect_to: Said::Nothing,
        cookie_domain: Said::Nothing,
        cookie_path: Said::Nothing,
    };

    /// Reads one of the four, by its name as an annotation or as a key of the `ConfigMap`.
    pub(crate) fn read(&mut self, name: &str, value: &str) -> Result<Read, Fault> {
        match name {
            "proxy-redirect-from" => {
                self.redirect_from = (value != "off" && value != "default").then(|| value.into()).into();
                // The name that all backends have in ingress-nginx' configuration.
                if value == "default" {
                    self.redirect_from = Said::Value("http://upstream_balancer/".into());
                    self.redirect_to = Said::Value(Template::verbatim("/"));
                }
            }
            "proxy-redirect-to" => {
                self.redirect_to = if value == "off" { Said::Off } else { Said::Value(template(value)?) }
            }
            "proxy-cookie-domain" => self.cookie_domain = pair(value)?.into(),
            "proxy-cookie-path" => self.cookie_path = pair(value)?.into(),
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
            // What stands in an annotation is checked more strictly than in the ConfigMap.
            "proxy-redirect-from" | "proxy-redirect-to" | "proxy-cookie-path" if !is_of(value, PLACE) => {
                return Err(Fault::Value("give letters, digits and - . _ ~ / : , ? & = only"));
            }
            _ => return this.rewrites.read(name, value),
        }
        Ok(Read::Taken)
    }

    pub(super) fn rules(&self, dialect: Dialect, options: &Options) -> Option<Arc<ResponseRules>> {
        let (own, common) = (&self.rewrites, &options.of(dialect).rewrites);
        let from = own.redirect_from.or(&common.redirect_from);
        let to = own.redirect_to.or(&common.redirect_to);
        let location = from.zip(to).map(|(from, to)| Replace { from, to });
        let cookie_domain = own.cookie_domain.or(&common.cookie_domain);
        let cookie_path = own.cookie_path.or(&common.cookie_path);
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
