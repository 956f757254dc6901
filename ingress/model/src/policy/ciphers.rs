//! Cipher suites of TLS 1.2, as OpenSSL names them.

/// Cipher suites by their numbers (RFC 5289 and 7905). Those of TLS 1.3 are no part of such a list.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Ciphers(Box<[u16]>);

/// A suite that is spoken here: its name, its number, and the words that stand for it among others.
struct Known {
    name: &'static str,
    number: u16,
    words: &'static [&'static str],
}

/// Words that stand for all of them: forward secrecy and AEAD is all there is.
const ALL: &[&str] = &["ALL", "DEFAULT", "HIGH", "ECDHE", "EECDH", "kECDHE", "kEECDH", "AEAD", "TLSv1.2"];

const KNOWN: [Known; 6] = [
    Known {
        name: "ECDHE-ECDSA-AES256-GCM-SHA384",
        number: 0xc02c,
        words: &["ECDSA", "aECDSA", "AES", "AES256", "AESGCM", "SHA384"],
    },
    Known {
        name: "ECDHE-ECDSA-AES128-GCM-SHA256",
        number: 0xc02b,
        words: &["ECDSA", "aECDSA", "AES", "AES128", "AESGCM", "SHA256"],
    },
    Known { name: "ECDHE-ECDSA-CHACHA20-POLY1305", number: 0xcca9, words: &["ECDSA", "aECDSA", "CHACHA20", "SHA256"] },
    Known {
        name: "ECDHE-RSA-AES256-GCM-SHA384",
        number: 0xc030,
        words: &["RSA", "aRSA", "AES", "AES256", "AESGCM", "SHA384"],
    },
    Known {
        name: "ECDHE-RSA-AES128-GCM-SHA256",
        number: 0xc02f,
        words: &["RSA", "aRSA", "AES", "AES128", "AESGCM", "SHA256"],
    },
    Known { name: "ECDHE-RSA-CHACHA20-POLY1305", number: 0xcca8, words: &["RSA", "aRSA", "CHACHA20", "SHA256"] },
];

impl Known {
    /// Whether all words of `ECDHE+AESGCM` and the like are about it.
    fn is(&self, item: &str) -> bool {
        self.name == item || item.split('+').all(|word| ALL.contains(&word) || self.words.contains(&word))
    }
}

impl Ciphers {
    /// Reads a list such as `ECDHE-RSA-AES128-GCM-SHA256:ECDHE+CHACHA20:!aNULL`; `None` where it leaves no suite that
    /// is spoken here. Suites that are not spoken are passed over, as OpenSSL does.
    pub fn parse(list: &str) -> Option<Self> {
        let mut numbers: Vec<u16> = Vec::new();
        let mut banned: Vec<u16> = Vec::new();
        for item in list.split([':', ',', ' ']).filter(|item| !item.is_empty()) {
            let (removes, item) = match item.split_at(1) {
                ("!" | "-", item) => (true, item),
                ("+" | "@", _) => continue,
                _ => (false, item),
            };
            for known in KNOWN.iter().filter(|known| known.is(item)) {
                if removes {
                    banned.push(known.number);
                } else if !numbers.contains(&known.number) {
                    numbers.push(known.number);
                }
            }
        }
        numbers.retain(|number| !banned.contains(number));
        (!numbers.is_empty()).then(|| Self(numbers.into()))
    }

    /// Where a suite stands in the list; `None` where it is not allowed.
    pub fn place(&self, suite: u16) -> Option<usize> {
        self.0.iter().position(|number| *number == suite)
    }
}

/// OpenSSL's name of a suite that is spoken here.
pub fn cipher_name(suite: u16) -> Option<&'static str> {
    // Those of TLS 1.3 (RFC 8446 section B.4).
    match suite {
        0x1301 => Some("TLS_AES_128_GCM_SHA256"),
        0x1302 => Some("TLS_AES_256_GCM_SHA384"),
        0x1303 => Some("TLS_CHACHA20_POLY1305_SHA256"),
        _ => KNOWN.iter().find(|known| known.number == suite).map(|known| known.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &str) -> Vec<&'static str> {
        let ciphers = Ciphers::parse(list);
        let numbers = ciphers.iter().flat_map(|ciphers| &*ciphers.0);
        let named = |number: &u16| KNOWN.iter().find(|known| known.number == *number).map(|known| known.name);
        numbers.filter_map(named).collect()
    }

    #[test]
    fn lists_of_openssl_are_read() {
        let rsa = "ECDHE-RSA-AES128-GCM-SHA256";
        assert_eq!(names(&format!("DHE-RSA-AES128-GCM-SHA256:{rsa}")), [rsa]);
        assert_eq!(names("ECDHE+CHACHA20"), ["ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"]);
        assert_eq!(names("HIGH:!aNULL:!MD5:!AES").len(), 2);
        assert_eq!(names("EECDH+AESGCM:EDH+AESGCM").len(), 4);
        assert_eq!(names("ALL:!aRSA:@STRENGTH").len(), 3);
        assert_eq!(names("AES256-SHA:DES-CBC3-SHA"), [""; 0]);
        assert_eq!(names("ALL:!ALL"), [""; 0]);
    }

    #[test]
    fn the_default_of_ingress_nginx_leaves_all_that_are_spoken() {
        let list = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:\
                    ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:\
                    DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384";
        assert_eq!(names(list).len(), KNOWN.len());
    }
}
