//! From challenges to what the data path answers.

use landfall_ingress_model::acme::challenges::{Answers, Board, Challenge, ChallengeKind};
use landfall_ingress_model::host::HostName;
use rcgen::{CertificateParams, CustomExtension, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// The answers to all challenges on a board.
pub(super) fn answers(board: &Board) -> Answers {
    let mut answers = Answers::default();
    for challenge in board.values().flatten() {
        match challenge.kind {
            ChallengeKind::Http01 => {
                answers.tokens.insert(challenge.token.as_str().into(), challenge.key_authorization.as_str().into());
            }
            ChallengeKind::TlsAlpn01 => match (HostName::from_authority(&challenge.host), certificate(challenge)) {
                (Ok(name), Ok(certificate)) => {
                    answers.certificates.insert(name, certificate);
                }
                (_, Err(error)) => tracing::error!(host = challenge.host, %error, "no certificate for a challenge"),
                (Err(error), _) => tracing::error!(host = challenge.host, %error, "no name for a challenge"),
            },
            ChallengeKind::Dns01 => {}
        }
    }
    answers
}

/// What proves the account in a certificate (RFC 8737 section 3).
pub(super) fn digest(key_authorization: &str) -> [u8; 32] {
    Sha256::digest(key_authorization.as_bytes()).into()
}

/// Each replica makes its own: nobody looks at the key.
fn certificate(challenge: &Challenge) -> anyhow::Result<Arc<CertifiedKey>> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(vec![challenge.host.clone()])?;
    params.custom_extensions.push(CustomExtension::new_acme_identifier(&digest(&challenge.key_authorization)));
    let certificate = params.self_signed(&key)?;
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let signer = crate::crypto_provider().key_provider.load_private_key(der)?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], signer)))
}
