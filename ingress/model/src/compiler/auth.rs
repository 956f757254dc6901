//! From annotations about authentication, Secrets and `ConfigMap`s to what a route asks for.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use landfall_model::{ObjectKey, ObjectRef, Problem};

use super::Compiler;
use super::annotations::PREFIX;
use super::annotations::auth::{AuthAnnotations, set_header};
use super::ingress::ParsedIngress;
use crate::policy::snippet::Snippet;
use crate::policy::{Auth, BasicAuth, ExternalAuth, Template, is_known};
use crate::reason;
use crate::table::Dialect;

/// What is wrong, and what to do about it.
pub(super) type Cause = (String, &'static str);

/// The Secret with the passwords, by the namespace of its Ingress.
pub(super) fn secret_of(parsed: &ParsedIngress) -> Option<ObjectKey> {
    let name = parsed.annotations.auth.secret.as_deref()?;
    let (namespace, name) = name.split_once('/').unwrap_or((parsed.age.key.namespace(), name));
    Some(ObjectKey::new(namespace, name))
}

/// The `ConfigMap`s that an Ingress names, as far as it may.
pub(super) fn config_maps_of(parsed: &ParsedIngress) -> impl Iterator<Item = &ObjectKey> {
    let named = [&parsed.annotations.auth.set_headers, &parsed.annotations.respond.custom_headers];
    named.into_iter().flatten().filter(|map| map.namespace() == parsed.age.key.namespace())
}

impl Compiler {
    /// Who may use the routes of an Ingress. `Err` says why nobody may.
    pub(super) fn auth(
        &self,
        parsed: &ParsedIngress,
        dialect: Dialect,
        snippet: Option<&Arc<Snippet>>,
        problems: &mut Vec<Problem>,
    ) -> Result<Option<Arc<Auth>>, Arc<str>> {
        let annotations = &parsed.annotations.auth;
        let mut fail = |name: &str, value: &str, cause: String, remedy: &str| {
            let object = ObjectRef::new("Ingress", parsed.age.key.clone());
            let text: Arc<str> = cause.as_str().into();
            let cause = format!("{cause}, so the routes of this Ingress answer 503");
            let problem = Problem::new(object, reason::INVALID_ANNOTATION, cause);
            problems.push(problem.at(format!("metadata.annotations[{PREFIX}{name}]"), value).remedy(remedy));
            text
        };
        let basic = match (annotations.is_basic, secret_of(parsed)) {
            (false, None) => None,
            (false, Some(secret)) => {
                let cause = "auth-secret is there without auth-type".to_owned();
                return Err(fail("auth-secret", secret.name(), cause, "add auth-type: basic"));
            }
            (true, None) => {
                let cause = "auth-type is there without auth-secret".to_owned();
                return Err(fail("auth-type", "basic", cause, "name the Secret with the passwords by auth-secret"));
            }
            (true, Some(secret)) => match self.users(annotations, parsed, &secret) {
                Ok(basic) => Some(Arc::new(basic)),
                Err((cause, remedy)) => return Err(fail("auth-secret", &secret.to_string(), cause, remedy)),
            },
        };
        let set_headers = match &annotations.set_headers {
            None => Box::default(),
            Some(key) => match self.set_headers(key, parsed) {
                Ok(fields) => fields,
                Err((cause, remedy)) => {
                    return Err(fail("auth-proxy-set-headers", &key.to_string(), cause, remedy));
                }
            },
        };
        let mut own = annotations.external(set_headers);
        if let Some(own) = &mut own {
            own.snippet = snippet.cloned();
        }
        let global = self.options.global_auth.as_ref();
        let global = global.filter(|_| dialect == Dialect::IngressNginx && !annotations.without_global);
        let external: Option<ExternalAuth> = own.or_else(|| global.cloned());
        if basic.is_none() && external.is_none() {
            return Ok(None);
        }
        Ok(Some(Arc::new(Auth { any: annotations.any, basic, external: external.map(Arc::new) })))
    }

    fn users(
        &self,
        annotations: &AuthAnnotations,
        parsed: &ParsedIngress,
        secret: &ObjectKey,
    ) -> Result<BasicAuth, Cause> {
        if secret.namespace() != parsed.age.key.namespace() {
            return Err((
                format!("Secret {secret} is in another namespace"),
                "put it into the namespace of the Ingress",
            ));
        }
        let Some(data) = self.secrets.data(secret) else {
            return Err((format!("there is no Secret {secret}"), "create it, of type Opaque, with the key auth"));
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let users = if annotations.is_map {
            data.iter().map(|(name, hash)| (name.clone(), text(hash).trim().into())).collect()
        } else {
            let Some(file) = data.get("auth") else {
                return Err((
                    format!("Secret {secret} has no key auth"),
                    "put the lines of htpasswd under the key auth",
                ));
            };
            BasicAuth::users_of(&text(file))
        };
        Ok(BasicAuth { challenge: annotations.challenge(), users })
    }

    fn set_headers(&self, key: &ObjectKey, parsed: &ParsedIngress) -> Result<Box<[(HeaderName, Template)]>, Cause> {
        let data = self.set_headers_of(key, parsed)?;
        Ok(data.iter().filter_map(|(name, value)| set_header(name, value)).collect())
    }

    fn set_headers_of(&self, key: &ObjectKey, parsed: &ParsedIngress) -> Result<&BTreeMap<String, String>, Cause> {
        if key.namespace() != parsed.age.key.namespace() {
            return Err((format!("ConfigMap {key} is in another namespace"), "put it into that of the Ingress"));
        }
        self.config_maps.get(key).ok_or_else(|| (format!("there is no ConfigMap {key}"), "create it"))
    }

    /// The fields of the annotation `custom-headers`. `Err` says why the routes answer 503.
    pub(super) fn custom_headers(
        &self,
        parsed: &ParsedIngress,
        problems: &mut Vec<Problem>,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, Arc<str>> {
        let Some(key) = &parsed.annotations.respond.custom_headers else { return Ok(Vec::new()) };
        let fields = match self.set_headers_of(key, parsed) {
            Ok(data) => self.options.allowed(data),
            Err(fault) => Err(fault),
        };
        fields.map_err(|(cause, remedy)| {
            let object = ObjectRef::new("Ingress", parsed.age.key.clone());
            let text: Arc<str> = cause.as_str().into();
            let cause = format!("{cause}, so the routes of this Ingress answer 503");
            let problem = Problem::new(object, reason::INVALID_ANNOTATION, cause);
            let field = format!("metadata.annotations[{PREFIX}custom-headers]");
            problems.push(problem.at(field, key.to_string()).remedy(remedy));
            text
        })
    }

    /// Names whose passwords nobody can have, since the hash is of a kind that is not known.
    pub(super) fn useless_hashes(auth: &Auth, parsed: &ParsedIngress) -> Option<Problem> {
        let users = &auth.basic.as_ref()?.users;
        let mut names: Vec<&str> = users.iter().filter(|(_, hash)| !is_known(hash)).map(|(name, _)| &**name).collect();
        names.sort_unstable();
        let first = names.first()?;
        let cause =
            format!("the hash of user {first:?} is of no kind that is known, so nobody can log in by that name");
        let object = ObjectRef::new("Ingress", parsed.age.key.clone());
        let problem = Problem::new(object, reason::INVALID_ANNOTATION, cause);
        let secret = secret_of(parsed)?;
        let problem = problem.at(format!("metadata.annotations[{PREFIX}auth-secret]"), secret.to_string());
        Some(problem.remedy("make it with htpasswd -B, or with -m").warning())
    }
}
