//! Which keys can't be used for TLS, by name.

use x509_parser::prelude::X509Certificate;
use x509_parser::public_key::PublicKey;

/// What a key may be.
pub(super) const USABLE: &str = "P-256, P-384, P-521, Ed25519, or RSA of 2048 to 8192 bits";

/// Sizes of RSA keys in bits that can be used.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Curves by their object identifiers (RFC 5480 section 2.1.1.1, RFC 5639 section 4.1, SEC 2).
const CURVES: &[(&str, &str)] = &[
    ("1.3.132.0.10", "secp256k1"),
    ("1.3.132.0.33", "P-224"),
    ("1.2.840.10045.3.1.1", "P-192"),
    ("1.3.36.3.3.2.8.1.1.7", "brainpoolP256r1"),
    ("1.3.36.3.3.2.8.1.1.11", "brainpoolP384r1"),
    ("1.3.36.3.3.2.8.1.1.13", "brainpoolP512r1"),
];

const USABLE_CURVES: [&str; 3] = ["1.2.840.10045.3.1.7", "1.3.132.0.34", "1.3.132.0.35"];

/// Other algorithms that certificates have keys for.
const ALGORITHMS: &[(&str, &str)] =
    &[("1.2.840.10040.4.1", "DSA"), ("1.3.101.113", "Ed448"), ("1.2.840.113549.1.1.10", "RSA for PSS only")];

/// Why the key of this certificate can't be used; `None` if nothing is known against it.
pub(super) fn unusable(certificate: &X509Certificate<'_>) -> Option<String> {
    let info = certificate.public_key();
    let algorithm = info.algorithm.algorithm.to_id_string();
    match info.parsed() {
        Ok(PublicKey::RSA(rsa)) => {
            let bits = rsa.key_size();
            (!RSA_BITS.contains(&bits)).then(|| format!("an RSA key of {bits} bits"))
        }
        Ok(PublicKey::EC(_)) => {
            let curve = info.algorithm.parameters.as_ref()?.as_oid().ok()?.to_id_string();
            if USABLE_CURVES.contains(&&*curve) {
                return None;
            }
            Some(format!("a key on the curve {}", name(CURVES, &curve)))
        }
        _ => {
            let known = ALGORITHMS.iter().any(|(id, _)| *id == algorithm);
            known.then(|| format!("a key of the algorithm {}", name(ALGORITHMS, &algorithm)))
        }
    }
}

fn name<'a>(names: &[(&str, &'a str)], id: &'a str) -> &'a str {
    names.iter().find(|(known, _)| *known == id).map_or(id, |(_, name)| name)
}
