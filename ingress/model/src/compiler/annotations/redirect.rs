//! Where clients are sent.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};

use super::fault::Fault;
use super::value::{boolean, is_of, number};
use super::{Annotations, Read, RedirectRule};
use crate::compiler::options::Options;
use crate::policy::{Redirect, Template, UnknownVariable};
use crate::table::Dialect;

/// What a place may be written with, besides letters and digits.
const PLACE: &[u8] = b"-._~/:?&=,";

/// The annotations of this family.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Redirects {
    ssl: Option<bool>,
    force_ssl: Option<bool>,
    pub(super) keeps_slash: Option<bool>,
    relative: bool,
    pub(super) with_port: Option<bool>,
    permanent: Option<HeaderValue>,
    permanent_code: Option<StatusCode>,
    temporal: Option<HeaderValue>,
    temporal_code: Option<StatusCode>,
    /// Whether `temporal-redirect` is there and can't be used, which takes the other one's effect too.
    is_broken: bool,
    /// Whether an empty value takes the effect of all, of `permanent-redirect`, or of `temporal-redirect`.
    empty: [bool; 3],
    pub(super) app_root: Option<Arc<Template>>,
}

impl Redirects {
    pub(super) fn read_in(all: &mut Annotations, name: &str, value: &str) -> Result<Read, Fault> {
        let this = &mut all.redirect;
        match name {
            "ssl-redirect" => this.ssl = Some(boolean(value)?),
            "force-ssl-redirect" => this.force_ssl = Some(boolean(value)?),
            "preserve-trailing-slash" => this.keeps_slash = Some(boolean(value)?),
            "relative-redirects" => this.relative = boolean(value)?,
            "use-port-in-redirects" => this.with_port = Some(boolean(value)?),
            "permanent-redirect" => this.permanent = Some(place(value)?),
            "permanent-redirect-code" => this.permanent_code = code(value, 308)?,
            "temporal-redirect" => {
                let scheme = value.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
                let absolute = scheme.is_some_and(|scheme| scheme.starts_with("http") && is_of(&scheme, b"+-."));
                let place = if absolute { place(value) } else { Err(Fault::Value(URL)) };
                this.is_broken = place.is_err();
                this.temporal = Some(place?);
            }
            "temporal-redirect-code" => this.temporal_code = code(value, 307)?,
            "app-root" => {
                if !value.starts_with('/') || !is_of(value, b"-._~/:$") {
                    return Err(Fault::Value("give a path that starts with a slash"));
                }
                let root = Template::of_variables(value).map_err(|UnknownVariable(name)| Fault::Variable(name))?;
                this.app_root = Some(Arc::new(root));
            }
            _ => return Ok(Read::Foreign),
        }
        Ok(Read::Taken)
    }

    pub(super) fn rule(&self, dialect: Dialect, options: &Options) -> RedirectRule {
        let options = options.of(dialect);
        match (self.force_ssl.or(options.force_ssl_redirect), self.ssl.or(options.ssl_redirect), dialect) {
            (Some(true), _, _) => RedirectRule::Always,
            (_, Some(true), _) | (_, None, Dialect::IngressNginx) => RedirectRule::WhenCovered,
            (_, Some(false), _) | (_, None, Dialect::Kubernetes) => RedirectRule::Never,
        }
    }

    /// Notes an annotation with an empty value. To ingress-nginx it is a fault, by which it leaves out the group.
    pub(super) fn see_empty(&mut self, name: &str) {
        match name {
            "from-to-www-redirect" | "relative-redirects" | "temporal-redirect" => self.empty[0] = true,
            "permanent-redirect" | "permanent-redirect-code" => self.empty[1] = true,
            "temporal-redirect-code" => self.empty[2] = true,
            _ => {}
        }
    }

    /// Whether ingress-nginx leaves out all redirects of the Ingress but those to HTTPS and `app-root`.
    pub(super) fn is_ignored(&self) -> bool {
        let of_kind = if self.temporal.is_some() { self.empty[2] } else { self.empty[1] };
        self.is_broken || self.empty[0] || of_kind
    }

    /// Whether places in redirects are to be relative.
    pub(super) fn is_relative(&self) -> bool {
        self.relative && !self.is_ignored()
    }

    /// The redirect of every request; one that is temporary comes first.
    pub(super) fn redirect(&self) -> Option<Arc<Redirect>> {
        if self.is_ignored() {
            return None;
        }
        let temporal = self
            .temporal
            .clone()
            .map(|location| Redirect { status: self.temporal_code.unwrap_or(StatusCode::FOUND), location });
        let permanent = || {
            let status = self.permanent_code.unwrap_or(StatusCode::MOVED_PERMANENTLY);
            Some(Redirect { status, location: self.permanent.clone()? })
        };
        temporal.or_else(permanent).map(Arc::new)
    }
}

const URL: &str = "give a URL with http:// or https:// in front";

fn place(value: &str) -> Result<HeaderValue, Fault> {
    if !is_of(value, PLACE) {
        return Err(Fault::Value("give a URL of letters, digits and - . _ ~ / : ? & = , only"));
    }
    HeaderValue::from_str(value).map_err(|_| Fault::Value(URL))
}

/// A code from 300 up to `highest`; any other number is the default.
fn code(value: &str, highest: i64) -> Result<Option<StatusCode>, Fault> {
    let number = number(value)?;
    Ok((300..=highest).contains(&number).then(|| StatusCode::from_u16(number.try_into().ok()?).ok()).flatten())
}
