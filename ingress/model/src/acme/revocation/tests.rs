use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SerialNumber,
};

use super::*;

const URL: &str = "http://ca.example/1.crl";

struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn ca(name: &str) -> Ca {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Ca { pem, issuer: Issuer::new(params, key) }
}

fn chain(ca: &Ca, serial: u64) -> String {
    let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    params.serial_number = Some(SerialNumber::from(serial));
    params.crl_distribution_points = vec![CrlDistributionPoint { uris: vec![URL.to_owned()] }];
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2026, 4, 1);
    let leaf = params.signed_by(&KeyPair::generate().unwrap(), &ca.issuer).unwrap();
    leaf.pem() + &ca.pem
}

fn list(ca: &Ca, serials: &[u64]) -> Vec<u8> {
    let revoked = |serial: &u64| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: rcgen::date_time_ymd(2026, 1, 2),
        reason_code: Some(RevocationReason::KeyCompromise),
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2026, 1, 2),
        next_update: rcgen::date_time_ymd(2026, 1, 3),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(&ca.issuer).unwrap().der().to_vec()
}

fn look(chain: &str, list: &[u8]) -> Result<bool, UnusableList> {
    let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    // 2026-02-01: the list is a month old.
    let now = UnixTime::since_unix_epoch(Duration::from_hours(491_640));
    is_revoked(chain.as_bytes(), list, algorithms.all, now)
}

#[test]
fn a_certificate_is_revoked_if_its_issuer_says_so_and_nobody_else() {
    let (ours, other) = (ca("ours"), ca("other"));
    let chain = chain(&ours, 7);
    assert_eq!(lists(chain.as_bytes()), [URL]);
    assert_eq!(look(&chain, &list(&ours, &[7])), Ok(true));
    assert_eq!(look(&chain, &list(&ours, &[6, 8])), Ok(false));
    assert_eq!(look(&chain, &list(&other, &[7])), Ok(false), "another CA counts on its own");
    assert!(matches!(look(&chain, b"no list"), Err(UnusableList::Invalid(_))));
}

#[test]
fn a_list_that_bears_the_name_of_the_issuer_but_not_its_signature_does_not_count() {
    let (ours, forger) = (ca("ours"), ca("ours"));
    assert!(matches!(look(&chain(&ours, 7), &list(&forger, &[7])), Err(UnusableList::Invalid(_))));
}

#[test]
fn a_chain_without_its_issuer_is_not_judged() {
    let ours = ca("ours");
    let alone = chain(&ours, 7).replace(&ours.pem, "");
    assert_eq!(look(&alone, &list(&ours, &[7])), Err(UnusableList::NoIssuer));
    assert!(lists(ours.pem.as_bytes()).is_empty());
}
