//! What a backend of the ingress-nginx dialect is told of the client, and whose word about that is believed.

use std::net::IpAddr;

use http::HeaderName;
use ipnet::IpNet;

use super::template::Template;
use crate::fields::FieldValue;

/// The options of ingress-nginx about forwarded fields.
#[derive(Clone, PartialEq, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option")]
pub struct Forwarding {
    /// `use-forwarded-headers`: scheme, host and port that anybody names are believed.
    pub believes_fields: bool,
    /// `use-forwarded-headers` or `enable-real-ip`: the client's address in a field is believed.
    pub believes_address: bool,
    /// `proxy-real-ip-cidr`: of whom.
    pub proxies: Box<[IpNet]>,
    /// `forwarded-for-header`: the field with the client's address.
    pub address_field: HeaderName,
    /// `compute-full-forwarded-for`: the list is passed on with the peer added, in place of the client alone.
    pub full_list: bool,
    /// `proxy-add-original-uri-header`: `X-Original-URI`.
    pub original_uri: bool,
    /// `generate-request-id`: requests without an id get one.
    pub request_id: bool,
    /// `enable-underscores-in-headers`: names with underscores pass.
    pub underscores: bool,
    /// `ignore-invalid-headers: "false"`: names with dots pass.
    pub dots: bool,
    /// `proxy-set-headers`: further fields.
    pub set: Box<[(HeaderName, Template)]>,
}

impl Default for Forwarding {
    fn default() -> Self {
        Self {
            believes_fields: false,
            believes_address: false,
            proxies: Box::default(),
            address_field: HeaderName::from_static("x-forwarded-for"),
            full_list: false,
            original_uri: false,
            request_id: true,
            underscores: false,
            dots: false,
            set: Box::default(),
        }
    }
}

impl Forwarding {
    /// Whether an address in a field is believed that comes from this one; without a list everybody's is.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.believes_address && (self.proxies.is_empty() || self.proxies.iter().any(|net| net.contains(&address)))
    }

    /// Whether nginx drops a field with this name.
    pub fn drops(&self, name: &[u8]) -> bool {
        (!self.dots && name.contains(&b'.')) || (!self.underscores && name.contains(&b'_'))
    }
}

/// The scheme as a field says it.
pub fn scheme_of(value: FieldValue<'_>) -> Option<&str> {
    value.to_str().ok()?.split(',').next().map(str::trim).filter(|scheme| !scheme.is_empty())
}
