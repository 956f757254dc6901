//! The server name in the first bytes of a TLS client.

use landfall_ingress_model::host::HostName;

use crate::ingress::listener::server_name::{Asked, asked_name};

pub(crate) fn run(bytes: &[u8]) {
    let whole = asked_name(bytes);
    if let Asked::Name(Some(name)) = &whole {
        assert_eq!(HostName::from_authority(name.as_str()).as_ref(), Ok(name));
        assert_eq!(by_hand(bytes).as_deref(), Some(name.as_str()), "another reader finds another name");
    }
    // What the first bytes have settled, more bytes don't change.
    let cut = bytes.len() * 2 / 3;
    match asked_name(&bytes[..cut]) {
        Asked::Unknown => {}
        settled @ Asked::Name(_) => assert_eq!(settled, whole, "{cut} bytes"),
    }
}

/// Reads a number of `width` bytes and then as many bytes as it says.
fn counted<'a>(rest: &mut &'a [u8], width: usize) -> Option<&'a [u8]> {
    let (number, behind) = rest.split_at_checked(width)?;
    let length = number.iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
    let (bytes, behind) = behind.split_at_checked(length)?;
    *rest = behind;
    Some(bytes)
}

/// The name in a `ClientHello` (RFC 8446 section 4.1.2, RFC 6066 section 3), read without regard for anything else.
fn by_hand(mut records: &[u8]) -> Option<String> {
    let mut messages = Vec::new();
    while let [22, _, _, ..] = records {
        records = &records[3..];
        let Some(fragment) = counted(&mut records, 2) else { break };
        messages.extend_from_slice(fragment);
    }
    let mut rest = messages.strip_prefix(&[1])?;
    let mut hello = counted(&mut rest, 3)?.get(2 + 32..)?;
    let _session = counted(&mut hello, 1)?;
    let _suites = counted(&mut hello, 2)?;
    let _compressions = counted(&mut hello, 1)?;
    let mut extensions = counted(&mut hello, 2)?;
    while let [high, low, ..] = *extensions {
        extensions = &extensions[2..];
        let mut extension = counted(&mut extensions, 2)?;
        if (high, low) != (0, 0) {
            continue;
        }
        let mut names = counted(&mut extension, 2)?;
        let name = names.strip_prefix(&[0]).and_then(|_| {
            names = &names[1..];
            counted(&mut names, 2)
        })?;
        let name = String::from_utf8(name.to_vec()).ok()?.to_ascii_lowercase();
        return Some(name.strip_suffix('.').unwrap_or(&name).to_owned());
    }
    None
}
