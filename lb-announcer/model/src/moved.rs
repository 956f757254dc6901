//! What the node that announces an address says of how it came there.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The annotation of a `ServiceL2Status` that holds it: a JSON object of [`Moved`] by address.
pub const MOVES: &str = "landfall.dev/moves";

/// How an address came to the node that announces it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Moved {
    /// Since when it is there, in milliseconds since 1970.
    pub since_ms: u64,
    /// Where it was before; `None` where that was not seen.
    #[serde(default)]
    pub from: Option<Arc<str>>,
    /// Why: free, failover, handover or resumed.
    #[serde(default)]
    pub cause: Option<String>,
    /// How long, in milliseconds, nobody announced it, as far as the new owner could tell.
    #[serde(default)]
    pub took_ms: Option<u64>,
}

/// What one node says of the addresses of one Service that it announces.
pub type Moves = BTreeMap<IpAddr, Moved>;

/// Writes what [`read`] reads.
pub fn write(moves: &Moves) -> String {
    serde_json::to_string(moves).unwrap_or_default()
}

/// Reads the annotation; what can't be read says nothing.
pub fn read(annotations: Option<&BTreeMap<String, String>>) -> Moves {
    let text = annotations.and_then(|annotations| annotations.get(MOVES));
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nonsense_is_nothing() {
        let moved = Moved { since_ms: 5, from: Some("n1".into()), cause: Some("failover".into()), took_ms: Some(205) };
        let told = Moves::from([([192, 0, 2, 1].into(), moved)]);
        let annotated = |text: String| BTreeMap::from([(MOVES.to_owned(), text)]);
        assert_eq!(read(Some(&annotated(write(&told)))), told);
        assert_eq!(read(Some(&annotated("{\"192.0.2.1\": 7}".into()))), Moves::new());
        assert_eq!(read(None), Moves::new());
    }
}
