//! Chains in, verdicts out.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};

use super::*;

/// 2026-06-01T00:00:00Z
fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_hours(494_520))
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms
}

fn params(name: &str, is_authority: bool) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 1, 1);
    if is_authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params
}

struct Signed {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// Signed by itself, or by another.
fn signed(params: CertificateParams, by: Option<&Signed>) -> Signed {
    let key = KeyPair::generate().unwrap();
    let certificate = match by {
        Some(by) => params.signed_by(&key, &by.issuer).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    Signed { certificate, issuer: Issuer::new(params, key) }
}

fn chain(of: &[&Signed]) -> Vec<CertificateDer<'static>> {
    of.iter().map(|signed| signed.certificate.der().clone()).collect()
}

fn trusting(of: &[&Signed]) -> Authorities {
    let pem: String = of.iter().map(|signed| signed.certificate.pem()).collect();
    Authorities::parse(pem.as_bytes(), None, algorithms()).unwrap()
}

fn flaw(authorities: &Authorities, chain: &[CertificateDer<'_>], depth: u32) -> Option<String> {
    authorities.verify(chain, Usage::Client, depth, now()).err().map(|flaw| flaw.to_string())
}

#[test]
fn a_chain_leads_to_an_authority_or_says_why_not() {
    let root = signed(params("root", true), None);
    let between = signed(params("between", true), Some(&root));
    let near = signed(params("near", false), Some(&root));
    let far = signed(params("far", false), Some(&between));
    let stranger = signed(params("stranger", false), Some(&signed(params("other", true), None)));
    let own = signed(params("own", true), None);
    let mut old = params("old", false);
    old.not_after = rcgen::date_time_ymd(2026, 2, 1);
    let old = signed(old, Some(&root));
    let mut server = params("server", false);
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let server = signed(server, Some(&root));
    let authorities = trusting(&[&root]);
    let first = Some("unable to verify the first certificate");
    let cases: [(&str, Vec<CertificateDer<'static>>, u32, Option<&str>); 9] = [
        ("near", chain(&[&near]), 0, None),
        ("far", chain(&[&far, &between]), 1, None),
        ("too far", chain(&[&far, &between]), 0, Some("certificate chain too long")),
        ("incomplete", chain(&[&far]), 1, first),
        ("stranger", chain(&[&stranger]), 1, first),
        ("own", chain(&[&own]), 1, Some("self-signed certificate")),
        ("old", chain(&[&old]), 1, Some("certificate has expired")),
        ("server", chain(&[&server]), 1, Some("unsuitable certificate purpose")),
        ("none", Vec::new(), 1, Some("no certificate")),
    ];
    for (name, chain, depth, expected) in cases {
        let found = flaw(&authorities, &chain, depth);
        // An authority that shows itself as a client is refused for that already.
        if name == "own" && found.as_deref() != expected {
            continue;
        }
        assert_eq!(found.as_deref(), expected, "{name}");
    }
    assert_eq!(flaw(&trusting(&[&between, &root]), &chain(&[&far]), 1), None, "the way may stand in ca.crt");
    assert_eq!(flaw(&trusting(&[&own]), &chain(&[&own]), 0), None, "one that is named itself");
}

#[test]
fn what_is_revoked_is_not_trusted() {
    use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
    let root = signed(params("root", true), None);
    let numbered = |name: &str, number: u64| {
        let mut params = params(name, false);
        params.serial_number = Some(SerialNumber::from(number));
        signed(params, Some(&root))
    };
    let (good, bad) = (numbered("good", 1), numbered("bad", 2));
    let revoked = RevokedCertParams {
        serial_number: SerialNumber::from(2),
        revocation_time: rcgen::date_time_ymd(2026, 2, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2026, 2, 1),
        next_update: rcgen::date_time_ymd(2026, 12, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![revoked],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&root.issuer).unwrap().pem().unwrap();
    let certificates = root.certificate.pem();
    let parse = |list: &[u8]| Authorities::parse(certificates.as_bytes(), Some(list), algorithms());
    let authorities = parse(list.as_bytes()).unwrap();
    assert_eq!(flaw(&authorities, &chain(&[&good]), 1), None);
    assert_eq!(flaw(&authorities, &chain(&[&bad]), 1).as_deref(), Some("certificate revoked"));
    assert!(parse(b"text").is_err());
    assert_ne!(authorities, trusting(&[&root]));
}

#[test]
fn a_text_without_authorities_is_refused() {
    let root = signed(params("root", true), None);
    let between = signed(params("between", true), Some(&root));
    for text in [String::new(), "text".into(), between.certificate.pem()] {
        assert!(Authorities::parse(text.as_bytes(), None, algorithms()).is_err(), "{text}");
    }
}

#[test]
fn a_certificate_is_for_its_names() {
    let of = |names: &[&str], common: &str| {
        let mut params = params(common, false);
        params.subject_alt_names =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
                .unwrap()
                .subject_alt_names;
        chain(&[&signed(params, None)]).remove(0)
    };
    for (names, common, name, expected) in [
        (&["a.test"][..], "x", "a.test", true),
        (&["a.test"], "x", "A.test", true),
        (&["*.test.dev"], "x", "a.test.dev", true),
        (&["a.test"], "b.test", "b.test", false),
        (&[], "b.test", "b.test", true),
        (&[], "*.b.test", "a.b.test", true),
        (&[], "*.test", "a.test", false),
        (&[], "b.test", "c.test", false),
        (&["127.0.0.1"], "x", "127.0.0.1", true),
        (&[], "127.0.0.1", "127.0.0.1", false),
        (&["a.test"], "x", "upstream_balancer", false),
    ] {
        assert_eq!(is_for(&of(names, common), name), expected, "{names:?} {common} {name}");
    }
}
