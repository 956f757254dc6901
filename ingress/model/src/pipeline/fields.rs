//! Names of fields that the pipeline reads and writes and that `http` has no name for.

use http::HeaderName;

pub(super) const X_AUTH_REQUEST_REDIRECT: HeaderName = HeaderName::from_static("x-auth-request-redirect");
pub(super) const X_CODE: HeaderName = HeaderName::from_static("x-code");
pub(super) const X_FORMAT: HeaderName = HeaderName::from_static("x-format");
pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(super) const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
pub(super) const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) const X_FORWARDED_SCHEME: HeaderName = HeaderName::from_static("x-forwarded-scheme");
pub(super) const X_INGRESS_NAME: HeaderName = HeaderName::from_static("x-ingress-name");
pub(super) const X_NAMESPACE: HeaderName = HeaderName::from_static("x-namespace");
pub(super) const X_ORIGINAL_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-original-forwarded-for");
pub(super) const X_ORIGINAL_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-original-forwarded-host");
pub(super) const X_ORIGINAL_METHOD: HeaderName = HeaderName::from_static("x-original-method");
pub(super) const X_ORIGINAL_URI: HeaderName = HeaderName::from_static("x-original-uri");
pub(super) const X_ORIGINAL_URL: HeaderName = HeaderName::from_static("x-original-url");
pub(super) const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const X_SCHEME: HeaderName = HeaderName::from_static("x-scheme");
pub(super) const X_SENT_FROM: HeaderName = HeaderName::from_static("x-sent-from");
pub(super) const X_SERVICE_NAME: HeaderName = HeaderName::from_static("x-service-name");
pub(super) const X_SERVICE_PORT: HeaderName = HeaderName::from_static("x-service-port");
