//! Traces: which requests belong to one, and what backends are told of it.
//!
//! W3C Trace Context: <https://www.w3.org/TR/trace-context/>.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::Template;
use crate::fields::Fields;

/// The field that names trace and span.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What vendors add to it.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// How the requests of a route are traced.
#[derive(Clone, PartialEq, Debug)]
pub struct Tracing {
    /// Whether a client's trace goes on here.
    pub trusts: bool,
    /// The name of a span; without one, method and path of the rule.
    pub operation: Option<Template>,
    /// Which traces are sent.
    pub sampling: Sampling,
}

/// `otel-sampler`, `otel-sampler-ratio` and `otel-sampler-parent-based`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sampling {
    /// Which traces that begin here are sent.
    pub sampler: Sampler,
    /// Whether one that began elsewhere is sent if it is sent there.
    pub follows_parent: bool,
}

/// Which traces are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sampler {
    /// All.
    Always,
    /// None.
    Never,
    /// Those whose id, by its last 8 bytes, is below this share of 2^63: every service comes to the same choice.
    Below(u64),
}

impl Sampler {
    /// Takes this share of all traces, from 0 to 1.
    pub fn ratio(share: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 2^63")]
        let bound = (share.clamp(0.0, 1.0) * (1_u64 << 63) as f64) as u64;
        Self::Below(bound)
    }

    fn takes(self, trace: u128) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            #[expect(clippy::cast_possible_truncation, reason = "the last 8 bytes are meant")]
            Self::Below(bound) => (trace as u64) >> 1 < bound,
        }
    }
}

/// The place of a request in a trace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpanContext {
    /// The trace.
    pub trace: u128,
    /// The span of the request here.
    pub span: u64,
    /// The span that it is a part of.
    pub parent: Option<u64>,
    /// Whether the span is sent.
    pub is_sampled: bool,
    /// What vendors say of the trace.
    pub state: Option<HeaderValue>,
}

impl Tracing {
    /// Begins the span of a request. `random` gives the ids that are needed.
    pub fn begin(&self, headers: &Fields, random: (u128, u64)) -> SpanContext {
        let given = headers.get(TRACEPARENT).filter(|_| self.trusts).and_then(|value| parse(value.to_str().ok()?));
        // An id of zeros is none.
        let span = random.1.max(1);
        let Some((trace, parent, sampled)) = given else {
            let trace = random.0.max(1);
            let is_sampled = self.sampling.sampler.takes(trace);
            return SpanContext { trace, span, parent: None, is_sampled, state: None };
        };
        SpanContext {
            trace,
            span,
            parent: Some(parent),
            is_sampled: if self.sampling.follows_parent { sampled } else { self.sampling.sampler.takes(trace) },
            state: headers.get(TRACESTATE).map(|state| state.to_value()),
        }
    }
}

impl SpanContext {
    /// What the backend gets.
    pub fn fields(&self) -> Vec<(HeaderName, HeaderValue)> {
        let text = format!("00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.is_sampled));
        // Hexadecimal digits are valid in a field.
        HeaderValue::from_str(&text).map(|value| (TRACEPARENT, value)).into_iter().collect()
    }
}

/// Trace, span and whether it is sampled (section 3.2.2). What later versions add behind is ignored.
fn parse(text: &str) -> Option<(u128, u64, bool)> {
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let sound = is_hex(version, 2) && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
    if !sound || version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let (trace, span) = (u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(span, 16).ok()?);
    let flags = u8::from_str_radix(flags, 16).ok()?;
    (trace != 0 && span != 0).then_some((trace, span, flags & 1 == 1))
}

/// Where traces are sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Collector {
    /// `otlp-collector-host`: a name or an address.
    pub host: Arc<str>,
    /// `otlp-collector-port`.
    pub port: u16,
    /// `otel-service-name`.
    pub service: Arc<str>,
    /// `otel-schedule-delay-millis`: how long a span waits for others.
    pub delay: std::time::Duration,
    /// `otel-max-export-batch-size`: spans that are sent at once.
    pub batch: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracing(trusts: bool, sampler: Sampler, follows_parent: bool) -> Tracing {
        Tracing { trusts, operation: None, sampling: Sampling { sampler, follows_parent } }
    }

    fn headers(parent: &str) -> Fields {
        let (parent, state) = (HeaderValue::from_str(parent).unwrap(), HeaderValue::from_static("a=b"));
        [(&TRACEPARENT, &parent), (&TRACESTATE, &state)].into_iter().collect()
    }

    const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_trace_goes_on_where_it_is_trusted_and_sound() {
        let on = tracing(true, Sampler::Never, true).begin(&headers(GIVEN), (1, 2));
        assert_eq!(on.trace, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!((on.span, on.parent, on.is_sampled), (2, Some(0xb7ad_6b71_6920_3331), true));
        assert_eq!(on.state.as_ref().unwrap(), "a=b");
        assert_eq!(on.fields()[0].1, "00-0af7651916cd43dd8448eb211c80319c-0000000000000002-01");
        let other = tracing(false, Sampler::Always, true).begin(&headers(GIVEN), (1, 2));
        assert_eq!((other.trace, other.parent, other.state), (1, None, None));
        let zeros = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        for bad in
            ["", "00", &GIVEN[..54], &GIVEN.to_uppercase(), zeros, &format!("ff{}", &GIVEN[2..]), &format!("{GIVEN}-x")]
        {
            assert_eq!(tracing(true, Sampler::Always, true).begin(&headers(bad), (1, 2)).trace, 1, "{bad}");
        }
        let later = format!("cc{}-what-comes-later", &GIVEN[2..]);
        assert_eq!(tracing(true, Sampler::Always, true).begin(&headers(&later), (1, 2)).trace, on.trace);
    }

    #[test]
    fn samplers_take_their_share_or_what_the_parent_says() {
        let is_sampled =
            |sampler, follows, given: &str| tracing(true, sampler, follows).begin(&headers(given), (1, 2)).is_sampled;
        let unsampled = GIVEN.replace("-01", "-00");
        assert!(!is_sampled(Sampler::Always, true, &unsampled) && is_sampled(Sampler::Always, false, &unsampled));
        assert!(is_sampled(Sampler::Never, true, GIVEN) && !is_sampled(Sampler::Never, false, GIVEN));
        let share = Sampler::ratio(0.25);
        let taken = (0..1000_u128).filter(|number| share.takes(number * (u128::from(u64::MAX) / 1000))).count();
        assert!((245..=255).contains(&taken), "{taken}");
        assert!(Sampler::ratio(1.0).takes(u128::MAX) && !Sampler::ratio(0.0).takes(0));
    }
}
