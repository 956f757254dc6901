//! Signatures of messages by a key that both sides have (TSIG, RFC 8945).

use hmac::{Hmac, Mac};
use landfall_ingress_model::acme::dns::Algorithm;
use sha2::{Sha256, Sha384, Sha512};
use thiserror::Error;

/// Seconds by which two clocks may differ (RFC 8945 section 10 recommends it).
const FUDGE: u16 = 300;
/// Class `ANY` and a TTL of nought, which are signed too.
const CLASS_AND_TTL: [u8; 6] = [0, 255, 0, 0, 0, 0];
const TYPE: u16 = 250;
/// Where a header counts its additional records.
const ADDITIONAL: usize = 10;

/// A key.
pub(super) struct Key {
    /// As it stands in messages, in lower case.
    name: Vec<u8>,
    algorithm: Algorithm,
    secret: Vec<u8>,
}

/// Why an answer counts for nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub(super) enum TsigError {
    #[error("its signature is wrong (BADSIG): the key differs")]
    BadSignature,
    #[error("it does not know the key (BADKEY)")]
    BadKey,
    #[error("its clock differs by more than five minutes (BADTIME)")]
    BadTime,
    #[error("its answer has no signature")]
    Unsigned,
    #[error("its answer can't be read")]
    Malformed,
}

/// What a signature says.
struct Signature<'a> {
    /// Where the record begins.
    start: usize,
    time: [u8; 6],
    fudge: [u8; 2],
    mac: &'a [u8],
    original_id: [u8; 2],
    error: u16,
    other: &'a [u8],
}

impl Key {
    /// A key; its name has to be one.
    pub(super) fn new(name: &str, algorithm: Algorithm, secret: Vec<u8>) -> Option<Self> {
        Some(Self { name: wire(&name.to_ascii_lowercase())?, algorithm, secret })
    }

    /// Adds the signature to a message; returns it with the code that the answer is signed with, too.
    pub(super) fn sign(&self, message: &[u8], now: u64) -> (Vec<u8>, Vec<u8>) {
        let time = time(now);
        let variables = self.variables(time, FUDGE.to_be_bytes(), 0, &[]);
        let mac = self.mac(&[message, &variables]);
        let mut data = self.algorithm_name();
        data.extend(time);
        data.extend(FUDGE.to_be_bytes());
        data.extend(short(mac.len()));
        data.extend(&mac);
        data.extend(message.get(..2).unwrap_or_default());
        data.extend([0; 4]);
        let mut signed = message.to_vec();
        signed.extend(&self.name);
        signed.extend(TYPE.to_be_bytes());
        signed.extend(CLASS_AND_TTL);
        signed.extend(short(data.len()));
        signed.extend(data);
        count_additional(&mut signed, 1);
        (signed, mac)
    }

    /// Whether an answer is signed by the same key.
    pub(super) fn verify(&self, request: &[u8], answer: &[u8], now: u64) -> Result<(), TsigError> {
        let signature = find(answer)?.ok_or(TsigError::Unsigned)?;
        // Those two are not signed: there is no key to do it by (RFC 8945 section 5.3.2).
        match signature.error {
            16 => return Err(TsigError::BadSignature),
            17 => return Err(TsigError::BadKey),
            _ => {}
        }
        let mut message = answer.get(..signature.start).ok_or(TsigError::Malformed)?.to_vec();
        message[..2].copy_from_slice(&signature.original_id);
        count_additional(&mut message, -1);
        let variables = self.variables(signature.time, signature.fudge, signature.error, signature.other);
        let parts = [&short(request.len())[..], request, &message, &variables];
        if !self.is_mac(&parts, signature.mac) {
            return Err(TsigError::BadSignature);
        }
        let mut signed_at = [0; 8];
        signed_at[2..].copy_from_slice(&signature.time);
        let fudge = u64::from(u16::from_be_bytes(signature.fudge));
        if signature.error == 18 || u64::from_be_bytes(signed_at).abs_diff(now) > fudge {
            return Err(TsigError::BadTime);
        }
        Ok(())
    }

    /// What is signed besides the message (RFC 8945 section 4.3.3).
    fn variables(&self, time: [u8; 6], fudge: [u8; 2], error: u16, other: &[u8]) -> Vec<u8> {
        let mut all = self.name.clone();
        all.extend(CLASS_AND_TTL);
        all.extend(self.algorithm_name());
        all.extend(time);
        all.extend(fudge);
        all.extend(error.to_be_bytes());
        all.extend(short(other.len()));
        all.extend(other);
        all
    }

    fn algorithm_name(&self) -> Vec<u8> {
        let name = match self.algorithm {
            Algorithm::HmacSha256 => "hmac-sha256",
            Algorithm::HmacSha384 => "hmac-sha384",
            Algorithm::HmacSha512 => "hmac-sha512",
        };
        wire(name).expect("it is a name")
    }

    fn mac(&self, parts: &[&[u8]]) -> Vec<u8> {
        match self.algorithm {
            Algorithm::HmacSha256 => fed::<Hmac<Sha256>>(&self.secret, parts).finalize().into_bytes().to_vec(),
            Algorithm::HmacSha384 => fed::<Hmac<Sha384>>(&self.secret, parts).finalize().into_bytes().to_vec(),
            Algorithm::HmacSha512 => fed::<Hmac<Sha512>>(&self.secret, parts).finalize().into_bytes().to_vec(),
        }
    }

    fn is_mac(&self, parts: &[&[u8]], mac: &[u8]) -> bool {
        match self.algorithm {
            Algorithm::HmacSha256 => fed::<Hmac<Sha256>>(&self.secret, parts).verify_slice(mac).is_ok(),
            Algorithm::HmacSha384 => fed::<Hmac<Sha384>>(&self.secret, parts).verify_slice(mac).is_ok(),
            Algorithm::HmacSha512 => fed::<Hmac<Sha512>>(&self.secret, parts).verify_slice(mac).is_ok(),
        }
    }
}

fn fed<M: Mac + hmac::digest::KeyInit>(secret: &[u8], parts: &[&[u8]]) -> M {
    let mut mac = <M as Mac>::new_from_slice(secret).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac
}

fn time(now: u64) -> [u8; 6] {
    let [_, _, rest @ ..] = now.to_be_bytes();
    rest
}

/// A length as messages have it; none of ours is longer.
fn short(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}

/// A name as messages have it.
fn wire(name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for label in name.trim_end_matches('.').split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length))?;
        bytes.push(length);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    (bytes.len() < 256).then_some(bytes)
}

fn count_additional(message: &mut [u8], by: i16) {
    if let Some(count) = message.get_mut(ADDITIONAL..ADDITIONAL + 2) {
        let now = u16::from_be_bytes([count[0], count[1]]).wrapping_add_signed(by);
        count.copy_from_slice(&now.to_be_bytes());
    }
}

/// The signature of a message, which is its last record.
fn find(message: &[u8]) -> Result<Option<Signature<'_>>, TsigError> {
    let mut reader = Reader { message, at: 4 };
    let counts = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
    for _ in 0..counts[0] {
        reader.name()?;
        reader.take(4)?;
    }
    let records = counts[1..].iter().map(|count| u32::from(*count)).sum::<u32>();
    for index in 0..records {
        let start = reader.at;
        reader.name()?;
        let kind = reader.u16()?;
        reader.take(6)?;
        let length = reader.u16()?;
        if kind == TYPE && index + 1 == records {
            return reader.signature(start).map(Some);
        }
        reader.take(length.into())?;
    }
    Ok(None)
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], TsigError> {
        let end = self.at.checked_add(length).ok_or(TsigError::Malformed)?;
        let part = self.message.get(self.at..end).ok_or(TsigError::Malformed)?;
        self.at = end;
        Ok(part)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TsigError> {
        self.take(N)?.try_into().map_err(|_| TsigError::Malformed)
    }

    fn u16(&mut self) -> Result<u16, TsigError> {
        self.array().map(u16::from_be_bytes)
    }

    /// Passes over a name, which may end in a pointer to another one.
    fn name(&mut self) -> Result<(), TsigError> {
        loop {
            let [length] = self.array()?;
            match length {
                0 => return Ok(()),
                192.. => return self.take(1).map(drop),
                64.. => return Err(TsigError::Malformed),
                _ => self.take(length.into())?,
            };
        }
    }

    fn signature(&mut self, start: usize) -> Result<Signature<'a>, TsigError> {
        self.name()?;
        let (time, fudge) = (self.array()?, self.array()?);
        let length = self.u16()?;
        let mac = self.take(length.into())?;
        let (original_id, error) = (self.array()?, self.u16()?);
        let length = self.u16()?;
        Ok(Signature { start, time, fudge, mac, original_id, error, other: self.take(length.into())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: &str) -> Key {
        Key::new("Acme.Key.", Algorithm::HmacSha256, secret.into()).unwrap()
    }

    /// An answer to `request` as a server with this key signs it.
    fn answer(key: &Key, request: &[u8], now: u64) -> Vec<u8> {
        let message = [7, 7, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let variables = key.variables(time(now), FUDGE.to_be_bytes(), 0, &[]);
        let mac = key.mac(&[&short(request.len()), request, &message, &variables]);
        let (mut signed, own) = key.sign(&message, now);
        let at = signed.len() - 6 - own.len();
        signed[at..at + own.len()].copy_from_slice(&mac);
        signed
    }

    #[test]
    fn only_the_same_key_at_the_same_time_counts() {
        let (_, mac) = key("one").sign(&[0; 12], 1_000_000);
        let good = answer(&key("one"), &mac, 1_000_000);
        assert_eq!(key("one").verify(&mac, &good, 1_000_100), Ok(()));
        assert_eq!(key("one").verify(&mac, &good, 1_000_301), Err(TsigError::BadTime));
        assert_eq!(key("two").verify(&mac, &good, 1_000_100), Err(TsigError::BadSignature));
        assert_eq!(key("one").verify(b"another", &good, 1_000_100), Err(TsigError::BadSignature));
        assert_eq!(key("one").verify(&mac, &good[..12], 1_000_100), Err(TsigError::Malformed));
        assert_eq!(key("one").verify(&mac, &[0; 12], 1_000_100), Err(TsigError::Unsigned));
    }

    #[test]
    fn no_answer_makes_it_panic() {
        let (_, mac) = key("one").sign(&[0; 12], 1_000_000);
        let good = answer(&key("one"), &mac, 1_000_000);
        for end in 0..good.len() {
            assert!(key("one").verify(&mac, &good[..end], 1_000_000).is_err());
        }
        for index in 0..good.len() {
            let mut bad = good.clone();
            bad[index] ^= 0xff;
            let _ = key("one").verify(&mac, &bad, 1_000_000);
        }
    }
}
