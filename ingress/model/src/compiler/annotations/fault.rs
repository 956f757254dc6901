//! What is wrong with one annotation.

use landfall_model::{ObjectRef, Problem};

use super::{ALLOW, PREFIX};
use crate::reason;

/// What is wrong with one annotation.
#[derive(Debug)]
pub(crate) enum Fault {
    Unknown,
    /// One of ingress-nginx that has no effect here, and why.
    Accepted(&'static str),
    /// One that is not served and whose owner relies on it.
    Refused(&'static str),
    /// The value can't be used, and what to write.
    Value(&'static str),
    /// As [`Fault::Value`], of something that closes.
    Closed(&'static str),
    /// As [`Fault::Closed`], of something that closes the whole host.
    Shut(&'static str),
    /// A certificate is to be verified, and for whom it must be is not said.
    Nameless,
    /// An entry of a list of source ranges that is none.
    Range(String),
    /// An origin that can't be read.
    Origin(String),
    /// An origin without a scheme, beside others.
    BareOrigin(String),
    /// No time to answer in.
    Hasty,
    /// A variable that is none.
    Variable(String),
    /// The older spelling of an annotation whose newer one is there.
    Overridden,
}

impl Fault {
    pub(super) fn problem(self, object: &ObjectRef, key: &str, value: &str) -> Problem {
        let unsupported = |cause: String| Problem::new(object.clone(), reason::UNSUPPORTED_ANNOTATION, cause);
        let invalid = |cause: String| Problem::new(object.clone(), reason::INVALID_ANNOTATION, cause);
        let problem = match self {
            Self::Unknown => unsupported("this annotation is not supported and has no effect".into())
                .remedy("remove the annotation to silence this warning")
                .warning(),
            Self::Accepted(why) => unsupported(format!("this annotation has no effect: {why}"))
                .remedy("remove the annotation to silence this warning")
                .warning(),
            Self::Refused(why) => {
                unsupported(format!("{why}, so the routes of this Ingress answer 503")).remedy("remove the annotation")
            }
            Self::Closed(remedy) => {
                invalid("the value can't be used, so the routes of this Ingress answer 503".into()).remedy(remedy)
            }
            Self::Shut(remedy) => {
                invalid("the value can't be used, so the hosts of this Ingress answer 403".into()).remedy(remedy)
            }
            Self::Nameless => {
                invalid("no certificate of a backend is right without a name, so its HTTPS backends answer 502".into())
                    .remedy("give the name in the certificate by proxy-ssl-name")
            }
            Self::Range(entry) => invalid(format!(
                "{entry:?} is neither a network nor an address, so the routes of this Ingress answer 503"
            ))
            .remedy("write networks or addresses separated by commas, such as 10.0.0.0/8,2001:db8::1"),
            Self::Origin(entry) => invalid(format!("{entry:?} is no origin, so no page of another origin is allowed"))
                .remedy("write scheme and host, such as https://app.example.com or https://*.example.com")
                .warning(),
            Self::BareOrigin(entry) => {
                invalid(format!("{entry:?} has no scheme, so pages of this origin are not allowed"))
                    .remedy("write scheme and host, such as https://app.example.com")
                    .warning()
            }
            Self::Variable(name) => {
                invalid(format!("${name} is no variable that is known here, so the value is not used"))
                    .remedy("use one of the variables in docs/migrate-ingress-nginx.md")
                    .warning()
            }
            Self::Hasty => invalid("no backend answers in no time, so every request is answered with 504".into())
                .remedy("give the seconds that a backend may be silent")
                .warning(),
            Self::Overridden => {
                invalid(format!("{PREFIX}{ALLOW} is set too and holds, so this older spelling has no effect"))
                    .remedy("remove it")
                    .warning()
            }
            Self::Value(remedy) => {
                invalid("the value can't be used, so the default holds".into()).remedy(remedy).warning()
            }
        };
        problem.at(format!("metadata.annotations[{key}]"), value)
    }
}
