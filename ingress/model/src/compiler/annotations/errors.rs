//! Services that answer in the place of others.

use super::fault::Fault;
use super::value::boolean;
use super::{Annotations, Read};

/// The annotations of this family.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct ErrorAnnotations {
    /// Statuses whose answers are replaced, sorted.
    pub(crate) statuses: Option<Vec<u16>>,
    /// A Service of the namespace of the Ingress.
    pub(crate) default_backend: Option<Box<str>>,
    /// Whether the answers of backends stay as they are.
    pub(crate) only_ours: Option<bool>,
}

impl ErrorAnnotations {
    pub(super) fn read_in(all: &mut Annotations, name: &str, value: &str) -> Result<Read, Fault> {
        let this = &mut all.errors;
        match name {
            "custom-http-errors" => this.statuses = Some(statuses(value)?),
            "default-backend" => {
                let name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
                if !value.bytes().all(name) {
                    return Err(Fault::Value("give the name of a Service in the namespace of the Ingress"));
                }
                this.default_backend = Some(value.into());
            }
            "disable-proxy-intercept-errors" => this.only_ours = Some(boolean(value)?),
            _ => return Ok(Read::Foreign),
        }
        Ok(Read::Taken)
    }
}

/// Statuses from 400 to 599, separated by commas.
pub(crate) fn statuses(value: &str) -> Result<Vec<u16>, Fault> {
    let fault = || Fault::Value("give statuses from 400 to 599 separated by commas");
    let parse = |text: &str| text.trim().parse().ok().filter(|status| (400..600).contains(status)).ok_or_else(fault);
    let value = value.trim_end().strip_suffix(',').unwrap_or(value);
    let mut statuses = value.split(',').map(parse).collect::<Result<Vec<u16>, _>>()?;
    statuses.sort_unstable();
    statuses.dedup();
    Ok(statuses)
}
