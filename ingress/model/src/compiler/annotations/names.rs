//! Further names of a host, where its TLS ends, and how it is spoken.

use regex::Regex;

use super::fault::Fault;
use super::value::{boolean, is_of};
use super::{Annotations, Read};
use crate::host::HostName;
use crate::policy::Ciphers;
use crate::table::{HostTls, NamePattern};

/// The annotations of this family.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct NameAnnotations {
    pub(crate) aliases: Vec<NamePattern>,
    /// Whether the name with `www.`, or without it, is sent to the host.
    pub(crate) www: bool,
    /// Whether TLS ends at the endpoints.
    pub(crate) passthrough: bool,
    /// How TLS is spoken with clients.
    pub(crate) tls: Option<HostTls>,
}

impl NameAnnotations {
    pub(super) fn read_in(all: &mut Annotations, name: &str, value: &str) -> Result<Read, Fault> {
        match name {
            "server-alias" => {
                let entries = value.split(',').map(str::trim).filter(|entry| !entry.is_empty());
                all.names.aliases = entries.map(pattern).collect::<Result<_, _>>()?;
            }
            "ssl-passthrough" => all.names.passthrough = boolean(value)?,
            "ssl-ciphers" => {
                let ciphers = Ciphers::parse(value).ok_or(Fault::Value(CIPHERS))?;
                all.names.tls.get_or_insert_default().ciphers = Some(ciphers);
            }
            "ssl-prefer-server-ciphers" => {
                all.names.tls.get_or_insert_default().prefers_ours = Some(boolean(value)?);
            }
            "from-to-www-redirect" => all.names.www = boolean(value)?,
            _ => return Ok(Read::Foreign),
        }
        Ok(Read::Taken)
    }
}

/// What to write where no cipher suite is named that is spoken.
pub(crate) const CIPHERS: &str = "name suites of ECDHE with AES-GCM or CHACHA20";

fn pattern(entry: &str) -> Result<NamePattern, Fault> {
    let fault = || Fault::Value("give names separated by commas, such as www.example.com, *.example.com or ~^a[0-9]$");
    if let Some(expression) = entry.strip_prefix('~') {
        return Regex::new(&format!("(?i){expression}")).map(NamePattern::Regex).map_err(|_| fault());
    }
    let (wildcard, name) = match entry.strip_prefix("*.") {
        Some(name) => (true, name),
        None => (false, entry),
    };
    if !is_of(name, b"-._") {
        return Err(fault());
    }
    let name = HostName::from_authority(name).map_err(|_| fault())?;
    Ok(if wildcard { NamePattern::Below(name) } else { NamePattern::Exact(name) })
}
