//! Traces.

use std::sync::Arc;

use super::fault::Fault;
use super::value::boolean;
use super::{Annotations, Read};
use crate::compiler::options::Options;
use crate::policy::{Template, Tracing, UnknownVariable};
use crate::table::Dialect;

/// The annotations of this family.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct TraceAnnotations {
    enabled: Option<bool>,
    trusts: Option<bool>,
    operation: Option<Template>,
}

impl TraceAnnotations {
    pub(super) fn read_in(all: &mut Annotations, name: &str, value: &str) -> Result<Read, Fault> {
        let this = &mut all.traces;
        match name {
            "enable-opentelemetry" => this.enabled = Some(boolean(value)?),
            "opentelemetry-trust-incoming-span" => this.trusts = Some(boolean(value)?),
            "opentelemetry-operation-name" => this.operation = Some(operation(value)?),
            _ => return Ok(Read::Foreign),
        }
        Ok(Read::Taken)
    }

    /// How requests are traced, if they are: where it is asked for and there is a collector.
    pub(super) fn tracing(&self, dialect: Dialect, options: &Options) -> Option<Arc<Tracing>> {
        let of_all = &options.traces;
        let enabled = self.enabled.unwrap_or(of_all.enabled && dialect == Dialect::IngressNginx);
        (enabled && of_all.collector.is_some()).then(|| {
            Arc::new(Tracing {
                trusts: self.trusts.unwrap_or(of_all.trusts),
                operation: self.operation.clone().or_else(|| of_all.operation.clone()),
                sampling: of_all.sampling,
            })
        })
    }
}

/// The name of spans.
pub(crate) fn operation(value: &str) -> Result<Template, Fault> {
    Template::of_variables(value).map_err(|UnknownVariable(name)| Fault::Variable(name))
}
