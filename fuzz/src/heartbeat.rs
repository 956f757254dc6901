//! What announcers tell each other.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::wire::heartbeat::{Heartbeat, Key};
use crate::wire::state::State;

const SECRET: [u8; 32] = [7; 32];

/// The bytes are those of a packet without its tag, which nobody finds by chance.
pub(crate) fn run(bytes: &[u8]) {
    let (key, other) = (Key::new(SECRET), Key::new([8; 32]));
    assert_eq!(Heartbeat::decode(bytes, &key), None, "without a tag");
    let mut packet = bytes.to_vec();
    packet.extend(Hmac::<Sha256>::new_from_slice(&SECRET).unwrap().chain_update(bytes).finalize().into_bytes());
    let Some(read) = Heartbeat::decode(&packet, &key) else { return };
    assert!(Heartbeat::claims_to_be(&packet));
    assert_eq!(Heartbeat::decode(&packet, &other), None, "with the tag of another key");
    let written = read.encode(&key);
    // More peers than a packet is meant to name are read and not passed on.
    assert!(written == packet || read.heard.len() > 64, "what was read is written as it came");
    assert_eq!(Heartbeat::decode(&written[..written.len() - 1], &key), None, "cut off");
}

/// The document about an announcer itself.
pub(crate) fn state(bytes: &[u8]) {
    let Some(read) = State::decode(bytes) else { return };
    let written = read.encode();
    assert_eq!(State::decode(&written).as_ref(), Some(&read));
    assert_eq!(State::decode(&written[..written.len() - 1]), None, "cut off");
    assert_eq!(State::decode(&[&written[..], b"x"].concat()), None, "with a byte too many");
}
