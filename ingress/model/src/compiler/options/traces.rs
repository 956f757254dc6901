//! Traces, as the `ConfigMap` of ingress-nginx has them.

use std::sync::Arc;
use std::time::Duration;

use crate::compiler::annotations::fault::Fault;
use crate::compiler::annotations::traces::operation;
use crate::compiler::annotations::value::{boolean, number};
use crate::policy::{Sampler, Sampling, Template};
use crate::table::Collector;

/// What it says of traces.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct TraceOptions {
    pub(crate) enabled: bool,
    pub(crate) trusts: bool,
    pub(crate) operation: Option<Template>,
    pub(crate) sampling: Sampling,
    /// Where they are sent; nowhere without a host.
    pub(crate) collector: Option<Arc<Collector>>,
}

/// The same while it is read.
#[derive(Debug)]
pub(super) struct Draft {
    enabled: bool,
    trusts: bool,
    operation: Option<Template>,
    sampler: SamplerName,
    ratio: f64,
    follows_parent: bool,
    collector: Collector,
}

#[derive(Debug)]
enum SamplerName {
    AlwaysOn,
    AlwaysOff,
    Ratio,
}

impl Default for Draft {
    /// ingress-nginx's defaults.
    fn default() -> Self {
        Self {
            enabled: false,
            trusts: true,
            operation: None,
            sampler: SamplerName::AlwaysOn,
            ratio: 0.01,
            follows_parent: true,
            collector: Collector {
                host: "".into(),
                port: 4317,
                service: "nginx".into(),
                delay: Duration::from_secs(5),
                batch: 512,
            },
        }
    }
}

impl Draft {
    /// Reads a key, if it is one of these.
    pub(super) fn read(&mut self, name: &str, value: &str) -> Result<bool, Fault> {
        let positive = || number(value).ok().and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0);
        match name {
            "enable-opentelemetry" => self.enabled = boolean(value)?,
            "opentelemetry-trust-incoming-span" => self.trusts = boolean(value)?,
            "opentelemetry-operation-name" => self.operation = Some(operation(value)?),
            "otlp-collector-host" => self.collector.host = value.into(),
            "otlp-collector-port" => {
                let port = positive().and_then(|port| u16::try_from(port).ok());
                self.collector.port = port.ok_or(Fault::Value("give a port from 1 to 65535"))?;
            }
            "otel-service-name" => self.collector.service = value.into(),
            "otel-sampler" => {
                self.sampler = match value {
                    "AlwaysOn" => SamplerName::AlwaysOn,
                    "AlwaysOff" => SamplerName::AlwaysOff,
                    "TraceIdRatioBased" => SamplerName::Ratio,
                    _ => return Err(Fault::Value("use AlwaysOn, AlwaysOff or TraceIdRatioBased")),
                }
            }
            "otel-sampler-ratio" => {
                let ratio = value.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
                self.ratio = ratio.ok_or(Fault::Value("give a number from 0 to 1"))?;
            }
            "otel-sampler-parent-based" => self.follows_parent = boolean(value)?,
            "otel-schedule-delay-millis" => {
                let millis = positive().ok_or(Fault::Value("give milliseconds from 1 up"))?;
                self.collector.delay = Duration::from_millis(millis.into());
            }
            "otel-max-export-batch-size" => {
                let size = positive().and_then(|size| usize::try_from(size).ok());
                self.collector.batch = size.ok_or(Fault::Value("give a number of spans from 1 up"))?.min(2048);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub(super) fn finish(self) -> TraceOptions {
        let sampler = match self.sampler {
            SamplerName::AlwaysOn => Sampler::Always,
            SamplerName::AlwaysOff => Sampler::Never,
            SamplerName::Ratio => Sampler::ratio(self.ratio),
        };
        let collector = (!self.collector.host.is_empty()).then(|| Arc::new(self.collector));
        let sampling = Sampling { sampler, follows_parent: self.follows_parent };
        TraceOptions { enabled: self.enabled, trusts: self.trusts, operation: self.operation, sampling, collector }
    }
}
