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

/// A length of time as nginx writes it: numbers with units, the longest first (`1h30m`); without a unit, seconds.
pub(crate) fn duration(value: &str) -> Result<Duration, Fault> {
    let fault = || Fault::Value("give a time such as 90s, 10m or 1h30m");
    let mut rest = value;
    let mut all = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, behind) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| fault())?;
        let letters = behind.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, behind) = behind.split_at(letters);
        let (count, seconds) = match unit {
            "ms" => (Duration::from_millis(number), 0),
            "" | "s" => (Duration::ZERO, 1),
            "m" => (Duration::ZERO, 60),
            "h" => (Duration::ZERO, 3_600),
            "d" => (Duration::ZERO, 86_400),
            "w" => (Duration::ZERO, 7 * 86_400),
            _ => return Err(fault()),
        };
        let seconds = number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(fault)?;
        all = all.checked_add(count).and_then(|all| all.checked_add(seconds)).ok_or_else(fault)?;
        rest = behind.trim_start();
    }
    // Whatever is longer than a year is as good as one, and no clock overflows by it.
    if value.is_empty() { Err(fault()) } else { Ok(all.min(Duration::from_hours(365 * 24))) }
}

/// The largest request body in bytes; `None` is unlimited.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct BodyLimit(pub(crate) Option<u64>);

/// `client_max_body_size` of nginx, where nothing is said.
const BODY_SIZE: u64 = 1 << 20;

/// A number with `k`, `m` or `g` behind it; 0 is unlimited.
///
/// ingress-nginx also takes `b`, and spaces anywhere, and then leaves the value out of nginx' configuration: what holds
/// is the size that nginx has by itself.
pub(crate) fn body_size(value: &str) -> Result<BodyLimit, Fault> {
    let fault = || Fault::Value("give a number of bytes, with k, m or g behind it for more, or 0 for no limit");
    let is_spaced = value.contains(' ');
    let value = value.replace(' ', "");
    let digits = value.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &value[digits.len()..] {
        "" | "k" | "K" | "m" | "M" | "g" | "G" if is_spaced => {
            return number_of(digits).map(|_| BodyLimit(Some(BODY_SIZE)));
        }
        "b" | "B" => return number_of(digits).map(|_| BodyLimit(Some(BODY_SIZE))),
        "" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        _ => return Err(fault()),
    };
    let bytes = number_of(digits)?.checked_mul(unit).ok_or_else(fault)?;
    Ok(BodyLimit((bytes > 0).then_some(bytes)))
}

fn number_of(digits: &str) -> Result<u64, Fault> {
    digits
        .parse()
        .map_err(|_| Fault::Value("give a number of bytes, with k, m or g behind it for more, or 0 for no limit"))
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
