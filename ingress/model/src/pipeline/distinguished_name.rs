//! Distinguished names in words, as nginx writes them: RFC 2253 in OpenSSL's version of it.

use std::fmt::Write;

use x509_parser::der_parser::asn1_rs::{Any, Oid, Tag, ToDer};
use x509_parser::prelude::{AttributeTypeAndValue, X509Name};

/// OpenSSL's short names of attributes.
const NAMES: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.13", "description"),
    ("2.5.4.15", "businessCategory"),
    ("2.5.4.16", "postalAddress"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.20", "telephoneNumber"),
    ("2.5.4.41", "name"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("2.5.4.44", "generationQualifier"),
    ("2.5.4.45", "x500UniqueIdentifier"),
    ("2.5.4.46", "dnQualifier"),
    ("2.5.4.65", "pseudonym"),
    ("2.5.4.97", "organizationIdentifier"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
    ("1.2.840.113549.1.9.2", "unstructuredName"),
    ("1.3.6.1.4.1.311.60.2.1.1", "jurisdictionL"),
    ("1.3.6.1.4.1.311.60.2.1.2", "jurisdictionST"),
    ("1.3.6.1.4.1.311.60.2.1.3", "jurisdictionC"),
];

/// The last part first, separated by commas; several attributes of one part by `+`.
pub(super) fn text(name: &X509Name<'_>) -> String {
    let parts: Vec<Vec<&AttributeTypeAndValue<'_>>> = name.iter_rdn().map(|part| part.iter().collect()).collect();
    let mut text = String::new();
    for part in parts.iter().rev() {
        for (index, attribute) in part.iter().rev().enumerate() {
            if !text.is_empty() {
                text.push(if index == 0 { ',' } else { '+' });
            }
            push(&mut text, attribute.attr_type(), attribute.attr_value());
        }
    }
    text
}

fn push(text: &mut String, kind: &Oid<'_>, value: &Any<'_>) {
    let id = kind.to_id_string();
    let known = NAMES.iter().find(|(of, _)| *of == id).map(|(_, name)| *name);
    text.push_str(known.unwrap_or(&id));
    text.push('=');
    if let Some(value) = known.and_then(|_| decoded(value)) {
        return push_escaped(text, &value);
    }
    text.push('#');
    for byte in value.to_der_vec().unwrap_or_default() {
        let _ = write!(text, "{byte:02X}");
    }
}

/// The text of a value that is one.
fn decoded(value: &Any<'_>) -> Option<String> {
    let bytes = value.data;
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString | Tag::VisibleString => {
            String::from_utf8(bytes.to_vec()).ok()
        }
        // OpenSSL takes this for Latin-1.
        Tag::T61String => Some(bytes.iter().copied().map(char::from).collect()),
        Tag::BmpString => {
            let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            String::from_utf16(&units).ok()
        }
        _ => None,
    }
}

fn push_escaped(text: &mut String, value: &str) {
    let last = value.len().saturating_sub(1);
    for (index, byte) in value.bytes().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b'#' | b' ' if index == 0 => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b' ' if index == last => text.push_str("\\ "),
            b' '..=b'~' => text.push(char::from(byte)),
            byte => {
                let _ = write!(text, "\\{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;

    fn check(parts: &[(DnType, &str)], expected: &str) {
        let mut name = DistinguishedName::new();
        for (kind, value) in parts {
            name.push(kind.clone(), *value);
        }
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = name;
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let (_, parsed) = X509Certificate::from_der(certificate.der()).unwrap();
        assert_eq!(text(parsed.subject()), expected);
    }

    #[test]
    fn names_are_written_as_nginx_writes_them() {
        check(&[(DnType::CommonName, "authtls")], "CN=authtls");
        check(
            &[(DnType::CountryName, "DE"), (DnType::OrganizationName, "A, B+C"), (DnType::CommonName, "x y")],
            r"CN=x y,O=A\, B\+C,C=DE",
        );
        check(&[(DnType::CommonName, "#1 \u{e9}\n ")], r"CN=\#1 \C3\A9\0A\ ");
        check(&[(DnType::CustomDnType(vec![1, 2, 3, 4]), "abc")], "1.2.3.4=#0C03616263");
    }
}
