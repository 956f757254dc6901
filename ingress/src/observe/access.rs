//! The access log: one line for each request.

mod line;
mod lines;
mod nginx;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use landfall_ingress_model::table::Table;
use landfall_shared::telemetry::LogFormat;
use prometheus_client::metrics::counter::Counter;

use crate::engine::{Exchange, StreamRecord};
use line::Line;
use lines::Lines;

pub(super) use line::protocol;

/// The access log. Requests wait for nobody who reads it: lines are gathered, and a thread writes them.
#[derive(Clone, Debug)]
pub struct AccessLog {
    format: LogFormat,
    /// What is asked of the log stands in it.
    table: Arc<ArcSwap<Table>>,
    lines: Arc<Lines>,
}

impl AccessLog {
    /// A log on standard output.
    pub fn new(format: LogFormat, table: Arc<ArcSwap<Table>>) -> Self {
        Self { format, table, lines: Lines::start(std::io::stdout()) }
    }

    /// Counts the lines that were left out since nobody read the others.
    pub(super) fn dropped(&self) -> Counter {
        self.lines.dropped()
    }

    /// Writes what waits; for the end of the program.
    pub fn flush(&self) {
        self.lines.flush();
    }

    /// Writes the line of a connection or session on the port of a Service.
    pub(super) fn write_stream(&self, record: &StreamRecord<'_>) {
        self.push(|line| line.of_stream(record, SystemTime::now(), self.format));
    }

    /// Writes the line of an exchange, unless the filter of the log silences its target, `access`.
    pub(super) fn write(&self, exchange: &Exchange<'_>) {
        let logging = self.table.load().logging.clone();
        if logging.as_ref().is_some_and(|logging| !logging.has(&exchange.target)) {
            return;
        }
        self.push(|line| match logging.as_ref().and_then(|logging| logging.format.as_ref()) {
            Some(format) => line.as_nginx(exchange, format),
            None => line.of(exchange, self.format),
        });
    }

    fn push(&self, make: impl FnOnce(&mut Line) -> &[u8]) {
        thread_local!(static LINE: RefCell<Line> = RefCell::default());
        if !tracing::enabled!(target: "access", tracing::Level::INFO) {
            return;
        }
        LINE.with_borrow_mut(|line| self.lines.push(make(line)));
    }
}
