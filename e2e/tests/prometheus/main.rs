//! The chart's boards and alerts, held against a real Prometheus that scrapes both programs.

mod alerts;
mod boards;
mod scene;
