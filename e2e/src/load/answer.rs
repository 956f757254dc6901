//! Whether an answer is the one that a backend gives to this very request.

use http::StatusCode;

use super::failure::{Failure, Kind};
use super::{Load, Plan};

/// How much of a wrong answer is shown.
const SHOWN: usize = 120;

/// The path of request `number`, which no other request of its class has.
pub(super) fn path(plan: &Plan, number: u64) -> String {
    format!("{}?n={number}", plan.path)
}

/// The name of the backend, if the answer is right.
pub(super) fn backend(load: &Load, number: u64, status: StatusCode, body: &[u8]) -> Result<String, Failure> {
    let text = String::from_utf8_lossy(body);
    let line = text.lines().next().unwrap_or_default();
    if status != StatusCode::OK {
        let shown: String = line.chars().take(SHOWN).collect();
        return Err(Failure::new(Kind::Status, format!("{status}: {shown}")));
    }
    let mut words = line.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(name), Some("GET"), Some(path)) if path == self::path(&load.plan, number) => Ok(name.to_owned()),
        _ => {
            let shown: String = line.chars().take(SHOWN).collect();
            Err(Failure::new(Kind::Answer, format!("not the answer to request {number}: {shown:?}")))
        }
    }
}
