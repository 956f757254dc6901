//! The flags of ingress-nginx, and what becomes of each.

use super::controller::Flag;
use super::report::{Effect, Setting};

enum Support {
    /// It has its effect by a flag of this name here.
    Served(&'static str),
    /// It needs no counterpart, and why.
    Needless(&'static str),
    /// What it asks for is not there; what is done, and what to do instead.
    Missing(&'static str, &'static str),
}

use Support::{Missing, Needless, Served};

const BUCKETS: Support = Missing("buckets of histograms are fixed", "adjust boards that name single buckets");
const GEOIP: Support = Missing("there is no GeoIP", "look countries up where the log is evaluated");
const KLOG: Support = Needless("what is logged is set by --log");
const PORT: Support = Needless("there is no such port");
const WEBHOOK: Support = Needless("there is no webhook; `check` finds what it refused");

const KNOWN: &[(&str, Support)] = &[
    ("add_dir_header", KLOG),
    ("alsologtostderr", KLOG),
    ("annotations-prefix", Missing("only nginx.ingress.kubernetes.io/ is read", "rename the annotations")),
    ("apiserver-host", Served("KUBECONFIG")),
    ("bind-addresses", Served("--http and --https")),
    ("bucket-factor", BUCKETS),
    ("certificate-authority", Served("KUBECONFIG")),
    ("configmap", Served("--config-map")),
    ("controller-class", Served("--controller-class")),
    ("deep-inspect", Needless("nothing is made of text that could be injected")),
    ("default-backend-service", Served("--default-backend-service")),
    ("default-server-port", PORT),
    ("default-ssl-certificate", Served("--default-ssl-certificate")),
    ("disable-catch-all", Served("--disable-catch-all")),
    ("disable-full-test", WEBHOOK),
    ("disable-leader-election", Needless("a Lease costs nothing; --no-status switches it off with what it is for")),
    ("disable-svc-external-name", Served("--disable-svc-external-name")),
    ("disable-sync-events", Needless("there are Events for problems only")),
    ("dynamic-configuration-retries", Needless("nothing is reloaded")),
    ("election-id", Served("--lease")),
    ("election-ttl", Needless("the Lease has times of its own")),
    ("enable-annotation-validation", Needless("annotations are always validated")),
    ("enable-metrics", Served("/metrics, with --metrics-compatibility nginx under the same names")),
    (
        "enable-ssl-chain-completion",
        Missing("chains are served as they are in the Secret", "put the intermediate certificates into the Secrets"),
    ),
    ("enable-ssl-passthrough", Served("--enable-ssl-passthrough")),
    (
        "enable-topology-aware-routing",
        Missing("endpoints of all zones are used", "use trafficDistribution with service-upstream: \"true\""),
    ),
    ("exclude-socket-metrics", Needless("metrics are counted in place")),
    ("force-namespace-isolation", Needless("Secrets and ConfigMaps of other namespaces are never read")),
    ("health-check-path", Needless("/healthz answers")),
    ("health-check-timeout", Needless("/healthz answers at once")),
    ("healthz-host", Served("--admin")),
    ("healthz-port", Served("--admin")),
    ("http-port", Served("--http")),
    ("https-port", Served("--https")),
    ("ingress-class", Served("--ingress-class")),
    ("ingress-class-by-name", Needless("a class is served by its controller, and by its name where it does not exist")),
    ("internal-logger-address", PORT),
    ("kubeconfig", Served("KUBECONFIG")),
    ("length-buckets", BUCKETS),
    ("log_backtrace_at", KLOG),
    ("log_dir", KLOG),
    ("log_file", KLOG),
    ("log_file_max_size", KLOG),
    ("logtostderr", KLOG),
    ("max-buckets", BUCKETS),
    ("maxmind-edition-ids", GEOIP),
    ("maxmind-license-key", GEOIP),
    ("maxmind-mirror", GEOIP),
    ("maxmind-retries-count", GEOIP),
    ("maxmind-retries-timeout", GEOIP),
    ("metrics-per-host", Needless("metrics have hosts of rules")),
    (
        "metrics-per-undefined-host",
        Missing("unknown hosts share one series", "look for unknown hosts in the access log"),
    ),
    ("monitor-max-batch-size", Needless("metrics are counted in place")),
    ("one_output", KLOG),
    ("post-shutdown-grace-period", Needless("the process ends when its connections have")),
    ("profiler-address", PORT),
    ("profiler-port", PORT),
    ("profiling", PORT),
    ("publish-service", Served("--publish-service")),
    ("publish-status-address", Served("--publish-status-address")),
    (
        "report-node-internal-ip-address",
        Missing("external addresses of nodes come first", "give the addresses by --publish-status-address"),
    ),
    ("report-status-classes", Missing("each status has a series", "sum by the first digit in queries")),
    ("root-ca-file", Served("KUBECONFIG")),
    ("shutdown-grace-period", Served("--lame-duck")),
    ("size-buckets", BUCKETS),
    ("skip_headers", KLOG),
    ("skip_log_headers", KLOG),
    ("sort-backends", Needless("endpoints have a stable order")),
    ("ssl-passthrough-proxy-port", PORT),
    ("status-port", PORT),
    ("status-update-interval", Needless("status is written when it changes")),
    ("stderrthreshold", KLOG),
    ("stream-port", PORT),
    ("sync-period", Needless("changes are watched")),
    ("sync-rate-limit", Needless("every change takes effect at once")),
    ("tcp-services-configmap", Served("--tcp-services-configmap")),
    ("time-buckets", BUCKETS),
    ("udp-services-configmap", Served("--udp-services-configmap")),
    ("update-status", Served("--no-status")),
    ("update-status-on-shutdown", Needless("addresses stay where another replica serves")),
    ("v", KLOG),
    ("validating-webhook", WEBHOOK),
    ("validating-webhook-certificate", WEBHOOK),
    ("validating-webhook-key", WEBHOOK),
    ("vmodule", KLOG),
    ("watch-ingress-without-class", Served("--watch-ingress-without-class")),
    ("watch-namespace", Served("--watch-namespace")),
    (
        "watch-namespace-selector",
        Missing("namespaces are not chosen by label", "list the namespaces by --watch-namespace"),
    ),
];

/// What becomes of a flag of ingress-nginx, and the flags of Landfall for it; `None` where it has none of this name.
pub fn inherited(flag: &Flag) -> Option<(Setting, Vec<String>)> {
    let setting = judge(flag);
    let ours = translate(std::slice::from_ref(flag));
    let words = ours.iter().flat_map(|line| line.split(' ')).map(str::to_owned).collect();
    (setting.effect != Effect::Unknown).then_some((setting, words))
}

/// What becomes of a flag.
pub(super) fn judge(flag: &Flag) -> Setting {
    let known = KNOWN.binary_search_by_key(&flag.name.as_str(), |(name, _)| name).ok().map(|index| &KNOWN[index].1);
    let (effect, text, remedy) = match known {
        Some(Served(how)) => (Effect::Served, (*how).to_owned(), String::new()),
        Some(Needless(why)) => (Effect::Needless, (*why).to_owned(), String::new()),
        // A switch that is off, an empty name or the usual prefix ask for nothing.
        Some(Missing(..)) if matches!(flag.value.as_str(), "" | "false" | "nginx.ingress.kubernetes.io") => {
            (Effect::Needless, "the default".to_owned(), String::new())
        }
        Some(Missing(what, instead)) => (Effect::Differs, (*what).to_owned(), (*instead).to_owned()),
        None => (Effect::Unknown, "no flag of ingress-nginx 1.15".to_owned(), "see what it was meant for".to_owned()),
    };
    Setting { name: flag.name.clone(), value: flag.value.clone(), effect, text, remedy }
}

/// The flags of Landfall for those of ingress-nginx.
pub(super) fn translate(flags: &[Flag]) -> Vec<String> {
    let mut lines = Vec::new();
    for Flag { name, value } in flags {
        let is_off = value == "false";
        let line = match name.as_str() {
            "configmap" => format!("--config-map {value}"),
            // Served by default.
            "controller-class" if value == "k8s.io/ingress-nginx" => continue,
            "ingress-class" if value == "nginx" => continue,
            "controller-class" | "ingress-class" => {
                let ours = if name == "ingress-class" { "landfall" } else { "landfall.dev/ingress" };
                format!("--{name} {ours} --{name} {value}")
            }
            "default-backend-service"
            | "default-ssl-certificate"
            | "publish-service"
            | "publish-status-address"
            | "tcp-services-configmap"
            | "udp-services-configmap"
            | "watch-namespace"
                if !value.is_empty() =>
            {
                format!("--{name} {value}")
            }
            "disable-catch-all"
            | "enable-ssl-passthrough"
            | "watch-ingress-without-class"
            | "disable-svc-external-name"
                if !is_off =>
            {
                format!("--{name}")
            }
            "election-id" if !value.is_empty() => format!("--lease {value}"),
            "http-port" => format!("--http [::]:{value}"),
            "https-port" => format!("--https [::]:{value}"),
            "healthz-port" => format!("--admin [::]:{value}"),
            "enable-metrics" if !is_off => "--metrics-compatibility nginx".to_owned(),
            "update-status" if is_off => "--no-status".to_owned(),
            "shutdown-grace-period" if value != "0" => format!("--lame-duck {value}"),
            _ => continue,
        };
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_in_order() {
        assert!(KNOWN.is_sorted_by_key(|(name, _)| *name));
    }

    #[test]
    fn what_is_not_there_says_what_to_do_instead() {
        let flag = |name: &str, value: &str| judge(&Flag { name: name.into(), value: value.into() });
        let selector = flag("watch-namespace-selector", "team=a");
        assert_eq!(selector.effect, Effect::Differs);
        assert!(selector.remedy.contains("--watch-namespace"));
        assert_eq!(flag("enable-ssl-chain-completion", "false").effect, Effect::Needless);
        assert_eq!(flag("annotations-prefix", "nginx.ingress.kubernetes.io").effect, Effect::Needless);
        assert_eq!(flag("annotations-prefix", "other.example").effect, Effect::Differs);
        assert_eq!(flag("no-such-flag", "1").effect, Effect::Unknown);
    }
}
