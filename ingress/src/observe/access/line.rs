//! One line, as the log's other lines are written: text for people or JSON for programs.

use std::fmt::{Display, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Version;
use landfall_shared::telemetry::LogFormat;

use crate::engine::{Exchange, StreamRecord};

/// A line, and what is kept for the next one.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) text: String,
    /// The second that `date` is about.
    second: u64,
    /// `2026-01-01T00:00:00`.
    date: String,
    /// The same in nginx's `time_local`.
    pub(super) local: String,
}

/// The fields of a line.
struct Fields<'a> {
    text: &'a mut String,
    format: LogFormat,
}

impl Line {
    /// The line of an exchange, with its line feed.
    pub(super) fn of(&mut self, exchange: &Exchange<'_>, format: LogFormat) -> &[u8] {
        let end = exchange.start + exchange.duration;
        self.write("request", end, format, |fields| fields.exchange(exchange))
    }

    /// The line of a connection or session on the port of a Service, which has come to its end.
    pub(super) fn of_stream(&mut self, record: &StreamRecord<'_>, end: SystemTime, format: LogFormat) -> &[u8] {
        self.write("connection", end, format, |fields| fields.stream(record))
    }

    fn write(
        &mut self,
        message: &str,
        time: SystemTime,
        format: LogFormat,
        write: impl FnOnce(&mut Fields<'_>),
    ) -> &[u8] {
        self.text.clear();
        match format {
            LogFormat::Text => {
                self.time(time);
                self.text.push_str("  INFO access: ");
                self.text.push_str(message);
            }
            LogFormat::Json => {
                self.text.push_str("{\"timestamp\":\"");
                self.time(time);
                self.text.push_str("\",\"level\":\"INFO\",\"message\":\"");
                self.text.push_str(message);
                self.text.push('"');
            }
        }
        write(&mut Fields { text: &mut self.text, format });
        if format == LogFormat::Json {
            self.text.push_str(",\"target\":\"access\"}");
        }
        self.text.push('\n');
        self.text.as_bytes()
    }

    /// Writes a moment as RFC 3339 has it, to the microsecond.
    fn time(&mut self, time: SystemTime) {
        let since = self.look_at(time);
        self.text.push_str(&self.date);
        let _ = write!(self.text, ".{:06}Z", since.subsec_micros());
    }

    /// Makes `date` and `local` those of a moment; returns the time since the epoch.
    pub(super) fn look_at(&mut self, time: SystemTime) -> Duration {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.date.is_empty() || self.second != since.as_secs() {
            self.second = since.as_secs();
            self.date.clear();
            let second = i64::try_from(self.second).unwrap_or(i64::MAX);
            let time = jiff::Timestamp::from_second(second).unwrap_or(jiff::Timestamp::MAX);
            // Writing to a text can't fail, here and below.
            let _ = write!(self.date, "{}", time.strftime("%Y-%m-%dT%H:%M:%S"));
            self.local.clear();
            let _ = write!(self.local, "{}", time.strftime("%d/%b/%Y:%H:%M:%S +0000"));
        }
        since
    }

    /// `2026-01-01T00:00:00` of the moment last looked at.
    pub(super) fn date(&self) -> &str {
        &self.date
    }
}

impl Fields<'_> {
    fn exchange(&mut self, exchange: &Exchange<'_>) {
        let upstream = exchange.upstream;
        let route = exchange.route.as_ref().map(|route| &route.id.ingress);
        self.address("client.addr", exchange.client);
        self.string("method", &exchange.method);
        self.plain("scheme", exchange.scheme.as_str());
        self.string("host", &exchange.host);
        self.string("path", &exchange.target);
        self.plain("protocol", protocol(exchange.version));
        self.number("status", exchange.status.into());
        self.millis("duration_ms", exchange.duration);
        self.number("received", exchange.received);
        self.number("sent", exchange.sent);
        if let Some(ingress) = route {
            self.plain("namespace", ingress.namespace());
            self.plain("ingress", ingress.name());
        }
        if let Some(backend) = exchange.backend() {
            self.display("backend", backend);
        }
        if let Some(upstream) = upstream {
            self.socket("upstream.addr", upstream.address);
        }
        if let Some(first_byte) = upstream.and_then(|upstream| upstream.first_byte) {
            self.millis("upstream.duration_ms", first_byte);
        }
        self.number("tries", exchange.tries.into());
        self.string("request_id", &exchange.request_id);
        for (name, value) in
            [("user_agent", &exchange.user_agent), ("referer", &exchange.referer), ("error", &exchange.error)]
        {
            if let Some(value) = value {
                self.string(name, value);
            }
        }
    }

    fn stream(&mut self, record: &StreamRecord<'_>) {
        let service = record.service;
        self.address("client.addr", record.client.ip().to_canonical());
        self.plain("protocol", service.port.transport.as_str());
        self.number("port", service.port.number.into());
        self.display("backend", &service.backend.key);
        if let Some(upstream) = record.upstream {
            self.socket("upstream.addr", upstream);
        }
        self.millis("duration_ms", record.duration);
        self.number("received", record.received);
        self.number("sent", record.sent);
        self.number("tries", record.tries.into());
        if let Some(why) = record.rejected {
            self.plain("error", why.as_str());
        }
    }

    fn name(&mut self, name: &str) {
        match self.format {
            LogFormat::Text => {
                self.text.push(' ');
                self.text.push_str(name);
                self.text.push('=');
            }
            LogFormat::Json => {
                self.text.push_str(",\"");
                self.text.push_str(name);
                self.text.push_str("\":");
            }
        }
    }

    /// What somebody else has written, in quotes.
    fn string(&mut self, name: &str, value: &str) {
        let is_plain = value.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\');
        if is_plain {
            return self.plain(name, value);
        }
        self.name(name);
        match self.format {
            LogFormat::Text => {
                let _ = write!(self.text, "{value:?}");
            }
            LogFormat::Json => {
                let quoted = serde_json::to_string(value).unwrap_or_else(|_| "\"\"".to_owned());
                self.text.push_str(&quoted);
            }
        }
    }

    /// What needs no escaping, in quotes.
    fn plain(&mut self, name: &str, value: &str) {
        self.name(name);
        self.text.push('"');
        self.text.push_str(value);
        self.text.push('"');
    }

    /// What has a form of its own: bare in a text.
    fn display(&mut self, name: &str, value: impl Display) {
        self.name(name);
        let quote = if self.format == LogFormat::Json { "\"" } else { "" };
        let _ = write!(self.text, "{quote}{value}{quote}");
    }

    fn address(&mut self, name: &str, address: IpAddr) {
        self.bare(name, |fields| fields.ip(address));
    }

    fn socket(&mut self, name: &str, address: SocketAddr) {
        self.bare(name, |fields| {
            match address {
                SocketAddr::V4(address) => fields.ip((*address.ip()).into()),
                SocketAddr::V6(address) => {
                    let _ = write!(fields.text, "[{}]", address.ip());
                }
            }
            fields.text.push(':');
            fields.digits(address.port().into());
        });
    }

    fn bare(&mut self, name: &str, write: impl FnOnce(&mut Self)) {
        self.name(name);
        let quoted = self.format == LogFormat::Json;
        if quoted {
            self.text.push('"');
        }
        write(self);
        if quoted {
            self.text.push('"');
        }
    }

    fn ip(&mut self, address: IpAddr) {
        let IpAddr::V4(address) = address else {
            let _ = write!(self.text, "{address}");
            return;
        };
        for (index, octet) in address.octets().into_iter().enumerate() {
            if index > 0 {
                self.text.push('.');
            }
            self.digits(octet.into());
        }
    }

    fn number(&mut self, name: &str, number: u64) {
        self.name(name);
        self.digits(number);
    }

    /// Milliseconds with up to three decimals, and one at least.
    fn millis(&mut self, name: &str, duration: Duration) {
        self.name(name);
        // Rounded to the microsecond.
        let micros = u64::try_from((duration.as_nanos() + 500) / 1000).unwrap_or(u64::MAX);
        self.digits(micros / 1000);
        self.text.push('.');
        let rest = micros % 1000;
        for (unit, is_needed) in [(100, true), (10, rest % 100 > 0), (1, rest % 10 > 0)] {
            if is_needed {
                self.digits(rest / unit % 10);
            }
        }
    }

    fn digits(&mut self, number: u64) {
        self.text.push_str(itoa::Buffer::new().format(number));
    }
}

pub(in crate::observe) fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Scheme, Upstream};

    fn exchange() -> Exchange<'static> {
        let upstream = Upstream {
            address: ([10, 0, 0, 200], 8080).into(),
            connect: Some(Duration::ZERO),
            first_byte: Some(Duration::from_micros(5_071)),
            reused: true,
        };
        Exchange {
            start: UNIX_EPOCH + Duration::from_millis(1_795_860_504_467),
            duration: Duration::from_micros(5_130),
            request_id: "fe16".into(),
            client: IpAddr::from([192, 0, 2, 1]),
            peer: ([192, 0, 2, 1], 4711).into(),
            method: "GET".into(),
            scheme: Scheme::Http,
            host: "shop.example".into(),
            target: "/a?b=\"c\u{1b}".into(),
            version: Version::HTTP_11,
            status: 200,
            received: 0,
            sent: 6,
            route: None,
            canary: None,
            span: None,
            upstream: Some(upstream),
            tries: 1,
            user_agent: Some("curl".into()),
            referer: None,
            fields: None,
            tls: None,
            error: None,
        }
    }

    fn line(exchange: &Exchange<'_>, format: LogFormat) -> String {
        String::from_utf8(Line::default().of(exchange, format).to_vec()).unwrap()
    }

    #[test]
    fn a_line_of_text_has_the_form_of_the_others() {
        assert_eq!(
            line(&exchange(), LogFormat::Text),
            "2026-11-28T10:08:24.472130Z  INFO access: request client.addr=192.0.2.1 method=\"GET\" scheme=\"http\" \
             host=\"shop.example\" path=\"/a?b=\\\"c\\u{1b}\" protocol=\"HTTP/1.1\" status=200 duration_ms=5.13 received=0 \
             sent=6 upstream.addr=10.0.0.200:8080 upstream.duration_ms=5.071 tries=1 request_id=\"fe16\" \
             user_agent=\"curl\"\n"
        );
    }

    #[test]
    fn a_line_of_json_is_one_object() {
        let text = line(&exchange(), LogFormat::Json);
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["timestamp"], "2026-11-28T10:08:24.472130Z");
        assert_eq!(read["path"], "/a?b=\"c\u{1b}");
        assert_eq!(read["upstream.addr"], "10.0.0.200:8080");
        assert_eq!((&read["duration_ms"], &read["status"]), (&5.13.into(), &200.into()));
        assert_eq!(read["target"], "access");
    }

    #[test]
    fn times_are_those_of_the_clock() {
        let mut line = Line::default();
        for (micros, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (1_000_001, "1970-01-01T00:00:01.000001Z"),
            (5, "1970-01-01T00:00:00.000005Z"),
        ] {
            line.text.clear();
            line.time(UNIX_EPOCH + Duration::from_micros(micros));
            assert_eq!(line.text, expected);
        }
    }

    #[test]
    fn milliseconds_have_no_more_decimals_than_they_need() {
        for (nanos, expected) in [
            (0, "0.0"),
            (1_000_000, "1.0"),
            (1_500_000, "1.5"),
            (1_050_000, "1.05"),
            (1_001_499, "1.001"),
            (999_999_600, "1000.0"),
        ] {
            let mut text = String::new();
            Fields { text: &mut text, format: LogFormat::Text }.millis("a", Duration::from_nanos(nanos));
            assert_eq!(text, format!(" a={expected}"));
        }
    }
}
