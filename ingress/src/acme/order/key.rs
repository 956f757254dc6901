//! The key of the next certificate.

use landfall_ingress_model::acme::issuer::{KeyType, Rotation};
use rcgen::{KeyPair, PublicKeyData};

use super::{Ended, Run, storing};
use crate::acme::authority;

/// Bytes of a public key of RSA with 2048 bits, at most; one with 4096 bits has more than 500.
const RSA_2048: usize = 300;

impl Run<'_> {
    /// A new key; the one that is served where the issuer wants to go on with it and nobody else may have it.
    pub(super) async fn next_key(&self) -> Result<KeyPair, Ended> {
        let kind = self.order.issuer.key_type;
        if self.order.issuer.key_rotation == Rotation::Never && !self.order.is_revoked {
            let former = self.edge.store.certificate_entry(&self.order.secret, "tls.key").await;
            let former = former.map_err(|error| storing(&error))?;
            let former = former.and_then(|pem| KeyPair::from_pem(&String::from_utf8(pem).ok()?).ok());
            if let Some(key) = former.filter(|key| is_of_kind(key, kind)) {
                return Ok(key);
            }
        }
        Ok(authority::key(kind).map_err(|error| storing(&error))?)
    }
}

fn is_of_kind(key: &KeyPair, kind: KeyType) -> bool {
    match kind {
        KeyType::EcdsaP256 => key.is_compatible(&rcgen::PKCS_ECDSA_P256_SHA256),
        KeyType::EcdsaP384 => key.is_compatible(&rcgen::PKCS_ECDSA_P384_SHA384),
        KeyType::Rsa2048 => key.is_compatible(&rcgen::PKCS_RSA_SHA256) && key.der_bytes().len() <= RSA_2048,
        KeyType::Rsa4096 => key.is_compatible(&rcgen::PKCS_RSA_SHA256) && key.der_bytes().len() > RSA_2048,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_gone_on_with_only_where_it_is_of_the_kind_that_is_asked_for() {
        for made in [KeyType::EcdsaP256, KeyType::EcdsaP384, KeyType::Rsa2048] {
            let pem = authority::key(made).unwrap().serialize_pem();
            let key = KeyPair::from_pem(&pem).unwrap();
            for asked in [KeyType::EcdsaP256, KeyType::EcdsaP384, KeyType::Rsa2048, KeyType::Rsa4096] {
                assert_eq!(is_of_kind(&key, asked), made == asked, "{made:?} for {asked:?}");
            }
        }
    }
}
