//! Each alert fires where it should, and nowhere else: `promtool test rules`.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Result, ensure};
use landfall_e2e::tools;
use tempfile::TempDir;

use crate::scene::{promtool, rules};

/// An alert, when it is looked at, series for which it fires then, and series for which it does not.
type Row =
    (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static [(&'static str, &'static str)]);

const ROUTE: &str = r#"namespace="shop",ingress="web",host="shop.example""#;

/// Series as promtool writes them: `0+60x20` is 0, then 60 more each minute, twenty times.
const ROWS: &[Row] = &[
    ("LandfallIngressDown", "5m", &[("up", "1x20")], &[("landfall_ingress_table_timestamp_seconds", "1x20")]),
    (
        "LandfallIngressErrors",
        "20m",
        &[
            ("landfall_ingress_requests_total{ROUTE,status=\"200\"}", "0+90x40"),
            ("landfall_ingress_requests_total{ROUTE,status=\"503\"}", "0+10x40"),
        ],
        &[
            ("landfall_ingress_requests_total{ROUTE,status=\"200\"}", "0+990x40"),
            ("landfall_ingress_requests_total{ROUTE,status=\"503\"}", "0+10x40"),
        ],
    ),
    (
        "LandfallIngressSlow",
        "40m",
        &[
            ("landfall_ingress_requests_total{ROUTE}", "0+100x60"),
            ("landfall_ingress_request_duration_seconds_bucket{ROUTE,le=\"5\"}", "0+50x60"),
            ("landfall_ingress_request_duration_seconds_bucket{ROUTE,le=\"10\"}", "0+100x60"),
            ("landfall_ingress_request_duration_seconds_bucket{ROUTE,le=\"+Inf\"}", "0+100x60"),
        ],
        &[
            ("landfall_ingress_requests_total{ROUTE}", "0+100x60"),
            ("landfall_ingress_request_duration_seconds_bucket{ROUTE,le=\"5\"}", "0+100x60"),
            ("landfall_ingress_request_duration_seconds_bucket{ROUTE,le=\"10\"}", "0+100x60"),
            ("landfall_ingress_request_duration_seconds_bucket{ROUTE,le=\"+Inf\"}", "0+100x60"),
        ],
    ),
    (
        "LandfallIngressEndpointsFail",
        "10m",
        &[("landfall_ingress_endpoint_ejections_total{namespace=\"shop\",service=\"web\",port=\"80\"}", "0+1x20")],
        &[("landfall_ingress_endpoint_ejections_total{namespace=\"shop\",service=\"web\",port=\"80\"}", "1x20")],
    ),
    (
        "LandfallIngressProblems",
        "20m",
        &[("landfall_ingress_problems{reason=\"NoEndpoints\"}", "2x40")],
        &[("landfall_ingress_problems{reason=\"NoEndpoints\"}", "2x5 0x40")],
    ),
    (
        "LandfallCertificateExpires",
        "10m",
        &[("landfall_ingress_certificate_expiry_timestamp_seconds{namespace=\"shop\",secret=\"cert\"}", "1000000x20")],
        &[("landfall_ingress_certificate_expiry_timestamp_seconds{namespace=\"shop\",secret=\"cert\"}", "2000000x20")],
    ),
    (
        "LandfallCertificateNotIssued",
        "90m",
        &[("landfall_ingress_acme_certificates{state=\"failed\"}", "1x120")],
        &[("landfall_ingress_acme_certificates{state=\"issued\"}", "1x120")],
    ),
    (
        "LandfallCertificateRenewalLate",
        "30h",
        &[("landfall_ingress_acme_renewal_timestamp_seconds{namespace=\"shop\",secret=\"cert\"}", "0x2000")],
        &[("landfall_ingress_acme_renewal_timestamp_seconds{namespace=\"shop\",secret=\"cert\"}", "90000x2000")],
    ),
    (
        "LandfallIngressTurnsAway",
        "15m",
        &[("landfall_ingress_connections_rejected_total{reason=\"too_many_connections\"}", "0+120x30")],
        &[("landfall_ingress_connections_rejected_total{reason=\"handshake\"}", "0+120x30")],
    ),
    (
        "LandfallIngressMemory",
        "5m",
        &[("landfall_ingress_memory_pressure{pod=\"a\"}", "2x20")],
        &[("landfall_ingress_memory_pressure{pod=\"a\"}", "1x20")],
    ),
    ("LandfallLbControllerDown", "10m", &[("up", "1x20")], &[("landfall_lb_services_waiting", "0x20")]),
    ("LandfallLbSpeakerDown", "5m", &[("up", "1x20")], &[("landfall_lb_peers", "0x20")]),
    (
        "LandfallLbServicesWait",
        "10m",
        &[("landfall_lb_services_waiting", "1x20")],
        &[("landfall_lb_services_waiting", "1x3 0x20")],
    ),
    (
        "LandfallLbPoolNearlyUsedUp",
        "10m",
        &[
            ("metallb_allocator_addresses_in_use_total{pool=\"lan\"}", "10x20"),
            ("metallb_allocator_addresses_total{pool=\"lan\"}", "11x20"),
        ],
        &[
            ("metallb_allocator_addresses_in_use_total{pool=\"lan\"}", "4x20"),
            ("metallb_allocator_addresses_total{pool=\"lan\"}", "4x20"),
        ],
    ),
    (
        "LandfallLbAddressConflict",
        "2m",
        &[("landfall_lb_conflicts{ip=\"192.0.2.1\",mac=\"02:00:00:00:00:01\"}", "1x10")],
        &[("landfall_lb_conflicts{ip=\"192.0.2.1\",mac=\"02:00:00:00:00:01\"}", "0x10")],
    ),
    (
        "LandfallLbFailover",
        "7m",
        &[("landfall_lb_taken_total{cause=\"failover\"}", "0x5 1x10")],
        &[("landfall_lb_taken_total{cause=\"handover\"}", "0x5 1x10")],
    ),
    (
        "LandfallLbHeartbeatsRejected",
        "15m",
        &[("landfall_lb_heartbeats_rejected_total{instance=\"n1\"}", "0+60x30")],
        &[("landfall_lb_heartbeats_rejected_total{instance=\"n1\"}", "60x30")],
    ),
    (
        "LandfallLbProblems",
        "20m",
        &[("landfall_lb_problems{reason=\"NoEndpoints\"}", "1x40")],
        &[("landfall_lb_problems{reason=\"NoEndpoints\"}", "0x40")],
    ),
];

/// A test in promtool's form: whether the alert fires for these series.
fn case(alert: &str, at: &str, series: &[(&str, &str)], fires: u8) -> Result<String> {
    let mut text = String::from("- interval: 1m\n  input_series:\n");
    for (name, values) in series {
        writeln!(text, "  - {{series: '{}', values: '{values}'}}", name.replace("ROUTE", ROUTE))?;
    }
    let expression = format!("count(ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}}) or vector(0)");
    writeln!(
        text,
        "  promql_expr_test:\n  - {{expr: '{expression}', eval_time: {at}, exp_samples: [{{labels: '{{}}', value: {fires}}}]}}"
    )?;
    Ok(text)
}

#[test]
fn each_alert_fires_where_it_should_and_nowhere_else() -> Result<()> {
    let folder = TempDir::new()?;
    let rules = rules(folder.path())?;
    tools::run(Command::new(promtool()?).args(["check", "rules"]).args(&rules))?;
    let mut named: Vec<&str> = Vec::new();
    for file in &rules {
        let text = std::fs::read_to_string(file)?;
        for name in text.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
            ensure!(ROWS.iter().any(|row| row.0 == name), "{name} has no test");
        }
    }
    let mut text = String::from("rule_files: [ingress.yaml, lb-announcer.yaml]\nevaluation_interval: 1m\ntests:\n");
    for (alert, at, firing, quiet) in ROWS {
        ensure!(!named.contains(alert), "{alert} stands there twice");
        named.push(alert);
        text += &case(alert, at, firing, 1)?;
        text += &case(alert, at, quiet, 0)?;
    }
    std::fs::write(folder.path().join("tests.yaml"), text)?;
    tools::run(Command::new(promtool()?).current_dir(folder.path()).args(["test", "rules", "tests.yaml"]))?;
    Ok(())
}
