//! What Ingresses ask for.

use std::collections::BTreeMap;

use landfall_model::ObjectKey;

use crate::host::HostPattern;

/// Asks for a certificate: `"true"`, `"false"` or an issuer's name.
pub const ANNOTATION: &str = "landfall.dev/acme";
/// The annotation that many charts set.
const TLS_ACME: &str = "kubernetes.io/tls-acme";
/// Who has one of these leaves the certificate to cert-manager.
const CERT_MANAGER: [&str; 2] = ["cert-manager.io/issuer", "cert-manager.io/cluster-issuer"];

/// For which Ingresses certificates are ordered.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Asking {
    /// For none: automatic certificates are off.
    #[default]
    Off,
    /// For those with an annotation.
    Annotated,
    /// For all, from this issuer.
    All(Box<str>),
}

/// What the annotations of an Ingress say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) enum Wish {
    /// Nothing.
    #[default]
    Unsaid,
    /// No certificate, or that cert-manager brings it.
    No,
    /// `kubernetes.io/tls-acme`.
    Common,
    /// `landfall.dev/acme`, and the issuer that it names.
    Own(Option<Box<str>>),
}

impl Wish {
    /// Reads the annotations. cert-manager's go before all others: two must not order the same certificate.
    pub(crate) fn parse(annotations: Option<&BTreeMap<String, String>>) -> Self {
        let value = |name: &str| annotations.and_then(|all| all.get(name)).map(|value| value.trim());
        if CERT_MANAGER.into_iter().any(|name| value(name).is_some()) {
            return Self::No;
        }
        match value(ANNOTATION) {
            Some("false") => return Self::No,
            Some("true" | "") => return Self::Own(None),
            Some(issuer) => return Self::Own(Some(issuer.into())),
            None => {}
        }
        match value(TLS_ACME) {
            Some("true") => Self::Common,
            Some("false") => Self::No,
            _ => Self::Unsaid,
        }
    }

    /// Whether it asks, and for which issuer; the inner `None` is the default one.
    #[expect(clippy::option_option, reason = "not to ask and to name no issuer are two things")]
    pub(crate) fn issuer(&self, asking: &Asking) -> Option<Option<Box<str>>> {
        let default = match asking {
            Asking::Off => return None,
            Asking::Annotated => None,
            Asking::All(issuer) => Some(issuer.clone()),
        };
        match self {
            Self::No => None,
            Self::Unsaid => default.map(Some),
            Self::Common | Self::Own(None) => Some(default),
            Self::Own(named) => Some(named.clone()),
        }
    }

    /// Whether it is meant for us alone.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self, Self::Own(_))
    }

    /// Whether the Ingress says so itself.
    pub(crate) fn is_explicit(&self) -> bool {
        matches!(self, Self::Own(_) | Self::Common)
    }
}

/// What one TLS entry of an Ingress asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// The Ingress.
    pub ingress: ObjectKey,
    /// Where the certificate is to stand.
    pub secret: ObjectKey,
    /// The hosts that it is to be for.
    pub hosts: Vec<HostPattern>,
    /// The issuer that is named; `None`: the default one.
    pub issuer: Option<Box<str>>,
    /// Whether the Ingress says so itself, so that what stands in the way is worth a Problem.
    pub is_explicit: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(pairs: &[(&str, &str)]) -> Wish {
        let map = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Wish::parse(Some(&map))
    }

    #[test]
    fn annotations_and_the_default_decide_together() {
        let all = Asking::All("default".into());
        let default = Some(Some("default".into()));
        let named = Some(Some("mine".into()));
        // Annotations, then what is asked for without and with a default for all.
        let cases: [(&[(&str, &str)], _, _); 10] = [
            (&[], None, default.clone()),
            (&[("landfall.dev/acme", "true")], Some(None), default.clone()),
            (&[("landfall.dev/acme", "mine")], named.clone(), named.clone()),
            (&[("landfall.dev/acme", "false")], None, None),
            (&[("kubernetes.io/tls-acme", "true")], Some(None), default.clone()),
            (&[("kubernetes.io/tls-acme", "false")], None, None),
            (&[("kubernetes.io/tls-acme", "true"), ("landfall.dev/acme", "false")], None, None),
            (&[("kubernetes.io/tls-acme", "true"), ("cert-manager.io/cluster-issuer", "le")], None, None),
            (&[("landfall.dev/acme", "true"), ("cert-manager.io/issuer", "le")], None, None),
            (&[("kubernetes.io/tls-acme", "maybe")], None, default),
        ];
        for (annotations, annotated, always) in cases {
            let wish = wish(annotations);
            assert_eq!(wish.issuer(&Asking::Annotated), annotated, "{annotations:?}");
            assert_eq!(wish.issuer(&all), always, "{annotations:?}");
            assert_eq!(wish.issuer(&Asking::Off), None, "{annotations:?}");
        }
    }
}
