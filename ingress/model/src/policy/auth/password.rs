//! Hashes of passwords, as `htpasswd` and `crypt` make them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use sha_crypt::ShaCrypt;
use sha1::Sha1;

/// Rounds of the scheme that is based on MD5.
const ROUNDS: usize = 1000;
/// The digits of `crypt`.
const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Whether a password has this hash: bcrypt (`$2y$`), MD5 (`$apr1$`, `$1$`), SHA-256 and SHA-512 (`$5$`, `$6$`),
/// SHA-1 (`{SHA}`, `{SSHA}`), or plain text (`{PLAIN}`). A hash of another kind is nobody's.
///
/// Takes as long as the hash says, which may be a tenth of a second.
pub fn verify(password: &[u8], hash: &str) -> bool {
    if hash.starts_with("$2") {
        return bcrypt::verify(password, hash).unwrap_or(false);
    }
    if hash.starts_with("$5$") || hash.starts_with("$6$") {
        use sha_crypt::PasswordVerifier;
        return ShaCrypt::default().verify_password(password, hash).is_ok();
    }
    for magic in ["$apr1$", "$1$"] {
        if let Some(rest) = hash.strip_prefix(magic) {
            let salt = rest.split('$').next().unwrap_or_default();
            return equal(md5_crypt(password, salt.as_bytes(), magic).as_bytes(), hash.as_bytes());
        }
    }
    if let Some(plain) = hash.strip_prefix("{PLAIN}") {
        return equal(password, plain.as_bytes());
    }
    let salted = hash.strip_prefix("{SSHA}");
    let Some(encoded) = salted.or_else(|| hash.strip_prefix("{SHA}")) else { return false };
    let Ok(decoded) = STANDARD.decode(encoded) else { return false };
    let Some((digest, salt)) = decoded.split_at_checked(20) else { return false };
    if salted.is_none() && !salt.is_empty() {
        return false;
    }
    equal(&Sha1::new().chain_update(password).chain_update(salt).finalize(), digest)
}

/// Whether [`verify`] knows this kind of hash.
pub fn is_known(hash: &str) -> bool {
    ["$2", "$5$", "$6$", "$apr1$", "$1$", "{PLAIN}", "{SHA}", "{SSHA}"].iter().any(|kind| hash.starts_with(kind))
}

/// Compares in the same time whatever the first difference is.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

/// The scheme of FreeBSD's `crypt` with MD5, which Apache uses under another name.
fn md5_crypt(password: &[u8], salt: &[u8], magic: &str) -> String {
    let salt = &salt[..salt.len().min(8)];
    let inner = Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    let mut outer = Md5::new().chain_update(password).chain_update(magic).chain_update(salt);
    for start in (0..password.len()).step_by(16) {
        outer.update(&inner[..(password.len() - start).min(16)]);
    }
    let mut length = password.len();
    while length > 0 {
        outer.update(if length & 1 == 1 { &[0] } else { &password[..1] });
        length >>= 1;
    }
    let mut digest = outer.finalize();
    for round in 0..ROUNDS {
        let mut next = Md5::new();
        next.update(if round & 1 == 1 { password } else { &digest });
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        next.update(if round & 1 == 1 { &digest[..] } else { password });
        digest = next.finalize();
    }
    let mut text = format!("{magic}{}$", String::from_utf8_lossy(salt));
    let mut push = |bytes: &[u8], digits: usize| {
        let mut value = bytes.iter().fold(0, |value, byte| value << 8 | usize::from(*byte));
        for _ in 0..digits {
            text.push(char::from(DIGITS[value & 63]));
            value >>= 6;
        }
    };
    for index in 0..5 {
        let last = if index == 4 { 5 } else { index + 12 };
        push(&[digest[index], digest[index + 6], digest[last]], 4);
    }
    push(&[digest[11]], 2);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_of_every_kind_are_known() {
        for hash in [
            "$apr1$abcdefgh$bGLO42WqKpmLoPH9uGWTg1",
            "$1$abcdefgh$X4AQOXsoYNpzaat9Hm7iC/",
            "{PLAIN}bar",
            "{SHA}Ys23Ag/5IOWqZCw9QGaVDdHwH00=",
            "$2b$05$abcdefghijklmnopqrstuuUq7qXkDOZJ5Q8HA9wCOH0FErWp6q0b6",
        ] {
            assert!(is_known(hash), "{hash}");
            assert!(verify(b"bar", hash), "{hash}");
            assert!(!verify(b"baz", hash), "{hash}");
        }
        for hash in ["bar", "", "$2y$05$x", "{SHA}x", "$9$a$b"] {
            assert!(!verify(b"bar", hash), "{hash}");
        }
    }

    #[test]
    fn sha_crypt_is_what_the_c_library_makes() {
        let hash = "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5";
        assert!(verify(b"Hello world!", hash));
        assert!(!verify(b"Hello world", hash));
        for hash in [
            "$5$saltsalt$/CnP1OkUPI/YYxBjMGRYh.bV5VNRz1I7OKD4GRMrHm4",
            "$5$rounds=1000$saltsalt$E/1PTzDW0vrhy5u6wSo6juN02QkGZJ2OlEUkz440PtA",
            "$6$saltsalt$13ZWs86TCGWlKvPnoiZ5uGRk0I6FWQWsoBjy.0NUb9IUt/pnMWcsVBWPeXm2zbrm1/3NvnFsJFn2dIliX8SAJ/",
            "$6$rounds=2000$saltsalt$RMonHsgQG.XgXv9.6D5vM5BHyZf3E94PCGLH1CYUxudZ5QCDpf3hkzA.Thnrtir47xsZhPQig4FQpoLHvOB3S1",
            "$6$s$Nt57Tjg5PQWhkdPUV5nm24uSDTqmo4.atLxbp5beRiXC5NKU5ztrgZK/DloxURQtvGNPKwXjgQuDNU5T2.SQ51",
            "$2y$05$abcdefghijklmnopqrstuuUq7qXkDOZJ5Q8HA9wCOH0FErWp6q0b6",
            "$2a$05$abcdefghijklmnopqrstuuUq7qXkDOZJ5Q8HA9wCOH0FErWp6q0b6",
            "$apr1$saltsalt$HZb7DO9JU4769Nu3n58bv.",
        ] {
            assert!(verify(b"bar", hash), "{hash}");
            assert!(!verify(b"bax", hash), "{hash}");
        }
    }

    #[test]
    fn hashes_that_no_well_kept_library_makes_are_nobodys() {
        // DES, which is guessed in hours, and yescrypt, which the nginx of ingress-nginx doesn't know either.
        for hash in ["ab9VHpu2/1Qrs", "$y$j9T$abcdefgh$1W2WY192abh5wYKhXx7toKskCFn4dwB2ODxyXl8AiLA"] {
            assert!(!is_known(hash) && !verify(b"bar", hash), "{hash}");
        }
    }
}
