//! The keys about connections with clients and endpoints.

use std::time::Duration;

use crate::compiler::annotations::Read;
use crate::compiler::annotations::fault::Fault;
use crate::compiler::annotations::names::CIPHERS;
use crate::compiler::annotations::upstream_tls::versions;
use crate::compiler::annotations::value::{BodyLimit, body_size, boolean, duration, seconds};
use crate::policy::Ciphers;
use crate::table::ConnectionRules;

/// The largest head of a request that may be allowed, in bytes: one connection holds it while its request lasts.
const LARGEST_HEAD: usize = 1 << 20;
/// HTTP/2 streams of one connection that may be allowed.
const MOST_STREAMS: u32 = 1000;
/// Connections to endpoints that each worker may be told to keep.
const MOST_IDLE: usize = 10_000;

/// Reads one of these keys.
pub(super) fn read(rules: &mut ConnectionRules, name: &str, value: &str) -> Result<Read, Fault> {
    let limits = &mut rules.limits;
    match name {
        "use-proxy-protocol" => rules.proxy_protocol = boolean(value)?,
        "proxy-protocol-header-timeout" => {
            let time = Some(duration(value)?).filter(|time| !time.is_zero());
            rules.proxy_header = Some(time.ok_or(Fault::Value("give a time from 1s up"))?);
        }
        "ssl-reject-handshake" => rules.rejects_unknown = boolean(value)?,
        "ssl-protocols" => rules.tls.versions = versions(value)?,
        "ssl-ciphers" => {
            let ciphers = Ciphers::parse(value).ok_or(Fault::Value(CIPHERS))?;
            rules.tls.ciphers = Some(ciphers);
        }
        "use-http2" => {
            rules.tls.without_http2 = !boolean(value)?;
            limits.without_http2 = rules.tls.without_http2;
        }
        "keep-alive" => limits.idle = Some(whole_seconds(value)?),
        "keep-alive-requests" => limits.requests = Some(count(value)?),
        "client-header-timeout" => limits.head = Some(seconds(value)?),
        "client-body-timeout" => limits.body = Some(seconds(value)?),
        "large-client-header-buffers" => limits.head_size = Some(head_size(value)?),
        "http2-max-concurrent-streams" => limits.streams = Some(count(value)?.min(MOST_STREAMS)),
        "upstream-keepalive-connections" => {
            let number: usize =
                value.parse().map_err(|_| Fault::Value("give a number of connections, or 0 for none"))?;
            limits.upstream_idle = Some(number.min(MOST_IDLE));
        }
        "upstream-keepalive-timeout" => limits.upstream_idle_time = Some(seconds(value)?),
        "upstream-keepalive-requests" => limits.upstream_requests = Some(count(value)?),
        "upstream-keepalive-time" => limits.upstream_age = Some(duration(value)?),
        _ => return Ok(Read::Foreign),
    }
    Ok(Read::Taken)
}

fn whole_seconds(value: &str) -> Result<Duration, Fault> {
    let seconds = value.parse::<u32>().map_err(|_| Fault::Value("give whole seconds, or 0 for never"))?;
    Ok(Duration::from_secs(seconds.into()))
}

fn count(value: &str) -> Result<u32, Fault> {
    value.parse().ok().filter(|count| *count > 0).ok_or(Fault::Value("give a number from 1 up"))
}

/// A number of buffers and the size of each. In nginx the request line has to fit into one, and the head into all.
fn head_size(value: &str) -> Result<(usize, usize), Fault> {
    let fault = || Fault::Value("give a number and a size, such as 4 16k, of 1 MiB in all at most");
    let (number, size) = value.split_once(char::is_whitespace).ok_or_else(fault)?;
    let number: usize = number.parse().map_err(|_| fault())?;
    let BodyLimit(size) = body_size(size.trim())?;
    let size = size.and_then(|size| usize::try_from(size).ok()).filter(|size| *size >= 1024).ok_or_else(fault)?;
    let all = number.checked_mul(size).filter(|all| (1..=LARGEST_HEAD).contains(all)).ok_or_else(fault)?;
    Ok((size, all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::TlsVersions;

    #[test]
    fn each_key_is_read_and_nonsense_is_not() {
        let mut rules = ConnectionRules::default();
        for (name, good, bad) in [
            ("keep-alive", "0", "75s"),
            ("keep-alive-requests", "100", "0"),
            ("client-header-timeout", "20", "0"),
            ("client-body-timeout", "30", "abc"),
            ("large-client-header-buffers", "4 32k", "9 1m"),
            ("http2-max-concurrent-streams", "256", "0"),
            ("use-http2", "false", "no"),
            ("upstream-keepalive-connections", "0", "-1"),
            ("upstream-keepalive-timeout", "30", "30s"),
            ("upstream-keepalive-requests", "7", "0"),
            ("upstream-keepalive-time", "30m", "soon"),
            ("proxy-protocol-header-timeout", "2s", "0"),
            ("ssl-protocols", "TLSv1.3", "SSLv3"),
            ("ssl-ciphers", "ECDHE-RSA-AES256-GCM-SHA384", "AES128-SHA"),
        ] {
            let before = rules.clone();
            assert!(read(&mut rules, name, bad).is_err(), "{name}: {bad}");
            assert_eq!(rules, before, "{name}");
            assert!(matches!(read(&mut rules, name, good), Ok(Read::Taken)), "{name}: {good}");
            assert_ne!(rules, before, "{name}");
        }
        assert_eq!(rules.limits.head_size, Some((32 << 10, 128 << 10)));
        assert_eq!(rules.tls.versions, TlsVersions::Tls13);
        assert!(matches!(read(&mut rules, "keepalive", "1"), Ok(Read::Foreign)));
    }
}
