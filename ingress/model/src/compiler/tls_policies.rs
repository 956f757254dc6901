//! From annotations about client certificates and about TLS to backends, and from Secrets, to what a host and a route
//! ask for.

use std::sync::Arc;

use landfall_model::{ObjectKey, ObjectRef, Problem};

use super::Compiler;
use super::annotations::PREFIX;
use super::ingress::ParsedIngress;
use crate::authorities::Authorities;
use crate::policy::{ClientCertificates, UpstreamTls, Verify};
use crate::reason;

/// What is wrong, and what to do.
type Fault = (String, &'static str);

/// The Secrets of an Ingress that have to do with TLS besides its certificates.
pub(super) fn tls_secrets(parsed: &ParsedIngress) -> impl Iterator<Item = ObjectKey> {
    let annotations = &parsed.annotations;
    let named = [&annotations.client_certificates.secret, &annotations.upstream_tls.secret];
    let named = named.into_iter().filter_map(|secret| secret.as_ref()?.as_ref().ok());
    // Those of other namespaces are not used.
    named.filter(|secret| secret.namespace() == parsed.age.key.namespace()).cloned()
}

impl Compiler {
    /// What an Ingress asks of the clients of its hosts.
    pub(super) fn client_certificates(
        &mut self,
        parsed: &ParsedIngress,
        problems: &mut Vec<Problem>,
    ) -> Option<Arc<ClientCertificates>> {
        let annotations = &parsed.annotations.client_certificates;
        let secret = annotations.secret.as_ref()?;
        let mut authorities = self.authorities(parsed, secret).map_err(|(cause, remedy)| {
            let text: Arc<str> = cause.as_str().into();
            problems.push(problem(parsed, "auth-tls-secret", secret, &cause, "its hosts answer 403", remedy));
            text
        });
        if let Some(why) = annotations.closed {
            authorities = Err(why.into());
        }
        Some(Arc::new(ClientCertificates {
            demand: annotations.demand(),
            authorities,
            depth: annotations.depth(),
            error_page: annotations.error_page.clone(),
            pass: annotations.pass,
            subject: annotations.subject.clone(),
        }))
    }

    /// How TLS is spoken with the backends of an Ingress. `Err` says why it can't be.
    pub(super) fn upstream_tls(
        &mut self,
        parsed: &ParsedIngress,
        problems: &mut Vec<Problem>,
    ) -> Result<Option<Arc<UpstreamTls>>, Arc<str>> {
        let annotations = &parsed.annotations.upstream_tls;
        if annotations.is_empty() {
            return Ok(None);
        }
        let mut tls = UpstreamTls {
            asked: annotations.asked(),
            versions: annotations.versions,
            ciphers: annotations.ciphers.clone(),
            ..UpstreamTls::default()
        };
        let Some(secret) = &annotations.secret else { return Ok(Some(Arc::new(tls))) };
        let mut fail = |(cause, remedy): Fault| {
            let text: Arc<str> = cause.as_str().into();
            let effect = "the routes of this Ingress answer 503";
            problems.push(problem(parsed, "proxy-ssl-secret", secret, &cause, effect, remedy));
            text
        };
        let key = self.tls_secret(parsed, secret).map_err(&mut fail)?;
        tls.certificate = match self.secrets.pair(&key) {
            None => None,
            Some(Ok(certificate)) => Some(certificate),
            Some(Err(fault)) => {
                let cause = fault.cause.split("; clients get").next().unwrap_or_default().to_owned();
                return Err(fail((cause, "correct tls.crt and tls.key of the Secret, or remove both")));
            }
        };
        if annotations.verify {
            let authorities = self.authorities(parsed, secret).map_err(&mut fail)?;
            tls.verify = Some(Verify { authorities, depth: annotations.depth(), name: annotations.name.clone() });
        }
        Ok(Some(Arc::new(tls)))
    }

    fn authorities(
        &mut self,
        parsed: &ParsedIngress,
        secret: &Result<ObjectKey, Box<str>>,
    ) -> Result<Arc<Authorities>, Fault> {
        let key = self.tls_secret(parsed, secret)?;
        match self.secrets.authorities(&key) {
            Some(Ok(authorities)) => Ok(authorities),
            Some(Err(bad)) => {
                Err((format!("in Secret {key}, {bad}"), "put the certificates of the authorities in PEM form"))
            }
            None => {
                Err((format!("Secret {key} has no ca.crt"), "put the certificates of the authorities under ca.crt"))
            }
        }
    }

    /// A Secret that is there, in the namespace of its Ingress.
    fn tls_secret(&self, parsed: &ParsedIngress, secret: &Result<ObjectKey, Box<str>>) -> Result<ObjectKey, Fault> {
        let key = match secret {
            Ok(key) => key,
            Err(text) => return Err((format!("{text:?} names no Secret"), "write NAMESPACE/NAME")),
        };
        if key.namespace() != parsed.age.key.namespace() {
            return Err((format!("Secret {key} is in another namespace"), "put it into the namespace of the Ingress"));
        }
        if !self.secrets.contains(key) {
            return Err((format!("there is no Secret {key}"), "create it, with the authorities under ca.crt"));
        }
        Ok(key.clone())
    }
}

fn problem(
    parsed: &ParsedIngress,
    name: &str,
    secret: &Result<ObjectKey, Box<str>>,
    cause: &str,
    effect: &str,
    remedy: &str,
) -> Problem {
    let object = ObjectRef::new("Ingress", parsed.age.key.clone());
    let value = secret.as_ref().map_or_else(ToString::to_string, ToString::to_string);
    let problem = Problem::new(object, reason::INVALID_ANNOTATION, format!("{cause}, so {effect}"));
    problem.at(format!("metadata.annotations[{PREFIX}{name}]"), value).remedy(remedy)
}
