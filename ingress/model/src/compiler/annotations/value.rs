//! Values of annotations and keys of `ConfigMap`s.

use std::time::Duration;

use super::fault::Fault;

/// Whole seconds. 0 would refuse every request, and nobody means that.
pub(crate) fn seconds(value: &str) -> Result<Duration, Fault> {
    match value.parse::<u32>() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds.into())),
        _ => Err(Fault::Value("give whole seconds from 1 up, without a unit")),
    }
}

/// The largest request body in bytes; `None` is unlimited.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct BodyLimit(pub(crate) Option<u64>);

/// A number with `b`, `k`, `m` or `g` behind it; 0 is unlimited.
pub(crate) fn body_size(value: &str) -> Result<BodyLimit, Fault> {
    let fault = || Fault::Value("give a number of bytes, with k, m or g behind it for more, or 0 for no limit");
    let digits = value.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &value[digits.len()..] {
        "" | "b" | "B" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        _ => return Err(fault()),
    };
    let number: u64 = digits.parse().map_err(|_| fault())?;
    let bytes = number.checked_mul(unit).ok_or_else(fault)?;
    Ok(BodyLimit((bytes > 0).then_some(bytes)))
}

/// What Go's `strconv.ParseBool` takes, since that is what ingress-nginx takes.
pub(crate) fn boolean(value: &str) -> Result<bool, Fault> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Fault::Value("use \"true\" or \"false\"")),
    }
}

/// A whole number.
pub(crate) fn number(value: &str) -> Result<i64, Fault> {
    value.parse().map_err(|_| Fault::Value("give a whole number"))
}

/// Whether a text has letters, digits and the given characters only.
pub(crate) fn is_of(value: &str, others: &[u8]) -> bool {
    value.bytes().all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte))
}
