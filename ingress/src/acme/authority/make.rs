//! Certificates and keys, from what they are to say.

use std::net::IpAddr;
use std::time::Duration;

use landfall_ingress_model::acme::internal::{Lifetime, Permitted};
use landfall_ingress_model::acme::issuer::KeyType;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CidrSubnet, DistinguishedName, DnType, Error,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, RsaKeySize,
    SanType,
};

/// How much earlier a certificate begins, for clocks that are slow; a tenth of its life at most.
const EARLIER: u64 = 3600;
/// The longest common name (RFC 5280 appendix A.1).
const LONGEST_NAME: usize = 64;

/// From when to when a certificate is valid, in seconds since the epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validity {
    pub(super) begin: u64,
    pub(super) end: u64,
}

impl Validity {
    /// As long as wanted from now on, but not longer than whoever signs.
    pub(super) fn of(lifetime: Lifetime, now: u64, limit: u64) -> Self {
        let seconds = lifetime.seconds();
        Self { begin: now.saturating_sub(EARLIER.min(seconds / 10)), end: (now + seconds).min(limit) }
    }

    fn set(self, params: &mut CertificateParams) {
        let at = |seconds| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
        params.not_before = at(self.begin);
        params.not_after = at(self.end);
    }
}

/// A new key.
pub(in crate::acme) fn key(kind: KeyType) -> Result<KeyPair, Error> {
    match kind {
        KeyType::EcdsaP256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        KeyType::EcdsaP384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
        KeyType::Rsa2048 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
        KeyType::Rsa4096 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_4096),
    }
}

/// A root that vouches for nothing but the names that are permitted.
pub(super) fn root(key: &KeyPair, permitted: &Permitted, validity: Validity) -> Result<Certificate, Error> {
    let mut params = authority("Landfall root", 1, permitted);
    validity.set(&mut params);
    params.self_signed(key)
}

/// An intermediate, which signs certificates of servers and nothing else.
pub(super) fn intermediate(
    key: &KeyPair,
    permitted: &Permitted,
    validity: Validity,
    by: &Issuer<'_, &KeyPair>,
) -> Result<Certificate, Error> {
    let mut params = authority("Landfall intermediate", 0, permitted);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    validity.set(&mut params);
    params.signed_by(key, by)
}

/// A certificate of a server, for names, wildcards and addresses.
pub(super) fn leaf(
    key: &KeyPair,
    hosts: &[String],
    validity: Validity,
    by: &Issuer<'_, &KeyPair>,
) -> Result<Certificate, Error> {
    let mut params = CertificateParams::default();
    for host in hosts {
        params.subject_alt_names.push(match host.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(host.as_str().try_into()?),
        });
    }
    params.distinguished_name = DistinguishedName::new();
    // Nobody reads it but people.
    if let Some(name) = hosts.iter().find(|host| host.len() <= LONGEST_NAME) {
        params.distinguished_name.push(DnType::CommonName, name.as_str());
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    if key.is_compatible(&rcgen::PKCS_RSA_SHA256) {
        params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.is_ca = IsCa::ExplicitNoCa;
    validity.set(&mut params);
    params.signed_by(key, by)
}

fn authority(name: &str, below: u8, permitted: &Permitted) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // Two of them, as before and after a change of root, have to be told apart in a device's list.
    params.distinguished_name.push(DnType::CommonName, format!("{name} {:08x}", rand::random::<u32>()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(constraints(permitted));
    params
}

/// RFC 5280 section 4.2.1.10: a kind of names that none is permitted of would be free, so it is excluded.
fn constraints(permitted: &Permitted) -> NameConstraints {
    let subnet = |network: &ipnet::IpNet| {
        GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(network.network(), network.prefix_len()))
    };
    let domains = permitted.domains().iter().cloned().map(GeneralSubtree::DnsName);
    let permitted_subtrees = domains.chain(permitted.networks().iter().map(subnet)).collect();
    let mut excluded_subtrees = Vec::new();
    if permitted.domains().is_empty() {
        excluded_subtrees.push(GeneralSubtree::DnsName(String::new()));
    }
    // Some clients ask for each family by itself.
    if !permitted.networks().iter().any(|network| network.addr().is_ipv4()) {
        excluded_subtrees.push(GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([0; 4], 0)));
    }
    if !permitted.networks().iter().any(|network| network.addr().is_ipv6()) {
        excluded_subtrees.push(GeneralSubtree::IpAddress(CidrSubnet::from_v6_prefix([0; 16], 0)));
    }
    NameConstraints { permitted_subtrees, excluded_subtrees }
}
