//! Cuts, as a network makes them.

/// Up to this many bytes are also given one by one.
const SINGLY: usize = 512;

/// Ways to cut `bytes` into pieces: not at all, at places that the bytes themselves decide, and into single ones.
pub(crate) fn ways(bytes: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut ways = vec![vec![bytes], at_some_places(bytes)];
    if bytes.len() <= SINGLY {
        ways.push(bytes.chunks(1).collect());
    }
    ways
}

/// The places follow from the content, so that a file is enough to repeat what it did.
fn at_some_places(bytes: &[u8]) -> Vec<&[u8]> {
    let mut state = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let length = usize::try_from(state >> 33).unwrap_or(0) % 40 + 1;
        let (piece, behind) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces
}
