//! Values of keys, as texts that become what they say.

use http::{HeaderName, HeaderValue, StatusCode};
use ipnet::IpNet;
use regex::Regex;

use crate::access;
use crate::compiler::annotations::fault::Fault;
use crate::compiler::annotations::value::number;
use crate::table::TextPattern;

/// What stands for a list of those who are kept out that can't be read.
pub(super) fn everybody() -> Box<[IpNet]> {
    Box::from(["0.0.0.0/0", "::/0"].map(|net| net.parse().expect("a network")))
}

pub(super) fn ranges(value: &str) -> Result<Box<[IpNet]>, Fault> {
    access::ranges(value).map_err(|entry| Fault::Range(entry.to_owned()))
}

pub(super) fn list(value: &str) -> Vec<Box<str>> {
    value.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(Into::into).collect()
}

/// Media types, separated by blanks.
pub(super) fn types(value: &str) -> Box<[Box<str>]> {
    value.split_ascii_whitespace().map(Into::into).collect()
}

pub(super) fn level(value: &str, highest: u32) -> Result<u32, Fault> {
    let level = u32::try_from(number(value)?).ok().filter(|level| (1..=highest).contains(level));
    level.ok_or(Fault::Value("give a level from 1 to 9, or to 11 for brotli"))
}

/// `proxy_responses` of nginx, which takes the largest number for no limit.
pub(super) fn responses(value: &str) -> Result<Option<u32>, Fault> {
    let number = value.parse().map_err(|_| Fault::Value("give a number of datagrams"))?;
    Ok(Some(number).filter(|number: &u32| *number < i32::MAX.unsigned_abs()))
}

pub(super) fn length(value: &str) -> Result<u64, Fault> {
    u64::try_from(number(value)?).map_err(|_| Fault::Value("give a number of bytes"))
}

pub(super) fn field(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    Some((name.parse().ok()?, HeaderValue::from_str(value).ok()?))
}

/// Texts separated by commas; with `~` in front a regular expression, with `~*` one without regard to letter case.
pub(super) fn patterns(value: &str) -> Result<Vec<TextPattern>, Fault> {
    let fault = |_| Fault::Value("give texts or regular expressions separated by commas");
    let pattern = |entry: Box<str>| match (entry.strip_prefix("~*"), entry.strip_prefix('~')) {
        (Some(pattern), _) => Regex::new(&format!("(?i){pattern}")).map(TextPattern::Regex).map_err(fault),
        (None, Some(pattern)) => Regex::new(pattern).map(TextPattern::Regex).map_err(fault),
        (None, None) => Ok(TextPattern::Exact(entry)),
    };
    list(value).into_iter().map(pattern).collect()
}

pub(super) fn redirect_code(value: &str) -> Result<StatusCode, Fault> {
    match value {
        "301" | "302" | "307" | "308" => StatusCode::from_bytes(value.as_bytes()).map_err(|_| Fault::Value("308")),
        _ => Err(Fault::Value("use 301, 302, 307 or 308")),
    }
}

pub(super) fn error_code(value: &str) -> Result<StatusCode, Fault> {
    let code = value.parse().ok().and_then(|code| StatusCode::from_u16(code).ok());
    code.filter(|code| code.as_u16() >= 400).ok_or(Fault::Value("give a status from 400 up"))
}

pub(super) fn hsts_value(
    (age, subdomains, preload): (i64, bool, bool),
) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
    let subdomains = if subdomains { "; includeSubDomains" } else { "" };
    let preload = if preload { "; preload" } else { "" };
    HeaderValue::from_str(&format!("max-age={age}{subdomains}{preload}"))
}
