//! `serve`: wires source, compiler, data plane and admin port together.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use landfall_ingress_model::acme::challenges::Challenges;
use landfall_ingress_model::compiler::Compiler;
use landfall_ingress_model::input::Input;
use landfall_ingress_model::pipeline::PipelineSettings;
use landfall_ingress_model::settings::{self, Publish};
use landfall_ingress_model::table::Table;
use landfall_shared::admin::{Admin, SharedRegistry};
use landfall_shared::drain::{Drain, DrainTimes, Phase};
use landfall_shared::memory;
use landfall_shared::readiness::Readiness;
use landfall_shared::source::{Source, kubernetes, manifests};
use landfall_shared::telemetry;
use tokio::time::sleep;

use crate::acme::{self, InCluster, Parts, Roots};
use crate::balance::Balancers;
use crate::cli::{MetricNames, ServeArgs, TrafficArgs};
use crate::control::Control;
use crate::debug;
use crate::engine::EngineLimits;
use crate::inputs::{self, PodScope};
use crate::listener::{ConnectionLimits, DataPlane, DataPlaneConfig};
use crate::memory::Ledger;
use crate::named::Named;
use crate::observe::{self, AccessLog, AcmeMetrics, ControlMetrics, Identity, Live, Queries, Traffic};
use crate::page::Page;
use crate::publish::{self, identity, own_namespace};
use crate::resolve::Resolver;
use crate::status::StatusBoard;
use crate::traces::{self, Exporter, Traces};
use crate::uids::Uids;

/// By which phones offer to install a certificate (RFC 5280 has none for a text, but they take it).
const CERTIFICATE: &str = "application/x-x509-ca-cert";

/// Serves until a signal ends it.
pub fn run(args: &ServeArgs) -> anyhow::Result<()> {
    args.log.init()?;
    // Fails only if somebody was faster, which is then the same provider.
    let _ = rustls::crypto::CryptoProvider::install_default((*crate::crypto_provider()).clone());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("control")
        .enable_all()
        .build()
        .context("cannot start the control runtime")?;
    let outcome = runtime.block_on(serve(args));
    runtime.shutdown_background();
    outcome
}

/// When memory is given back, after the start and after each other: once everything has been read for the first time,
/// which takes longer in a large cluster, and once more when what happens seldom has happened.
const SETTLED: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(9), Duration::from_mins(1)];

/// Gives back the memory that only starting needed; on the thread on which everything was compiled.
async fn settle() {
    for pause in SETTLED {
        sleep(pause).await;
        memory::give_back();
        if let Err(error) = memory::release_code() {
            tracing::debug!(%error, "cannot give back memory");
        }
    }
}

async fn serve(args: &ServeArgs) -> anyhow::Result<()> {
    tracing::info!(version = env!("CARGO_PKG_VERSION"), settings = ?args, "starting");
    let TrafficArgs { lame_duck, handover, drain_timeout, .. } = args.traffic;
    let (drainer, drain) = Drain::new(DrainTimes { lame_duck, handover, timeout: drain_timeout });
    let readiness = Readiness::new();
    let running = drain.clone();
    readiness.provider(move || {
        if running.phase() == Phase::Running {
            vec![]
        } else {
            vec!["shutting down: waiting for connections to drain".into()]
        }
    });
    let block = readiness.block("the first complete table");

    let registry = SharedRegistry::default();
    let table = Arc::new(ArcSwap::from_pointee(Table::default()));
    let access_log = (!args.traffic.no_access_log).then(|| AccessLog::new(args.log.log_format, table.clone()));
    let (control_metrics, traffic, acme_metrics, exporter) =
        register(&registry, args, table.clone(), access_log.clone());
    let exporter = tokio::spawn(exporter.run(table.clone(), drain.clone()));
    let live = Live::new(if args.page.page_show_queries { Queries::Shown } else { Queries::Masked });
    let recent = traffic.recent();
    let traffic = traffic.watched(live.clone());
    let memory = Ledger::new(args.traffic.memory_limit.bytes());
    observe::register_memory(&registry, memory.clone());
    let board = Arc::new(StatusBoard::default());
    let origin = Origin::of(args).await?;
    let mut model = args.model.settings(origin.settings(), origin.publish(args));
    model.asking = args.acme.asking();
    let challenges = Arc::new(Challenges::default());
    let roots = Arc::new(Roots::default());
    let Source { batches, view } = origin.start(args, &model.publish)?;

    let defaults = DataPlaneConfig::new(table.clone(), drain.clone(), Arc::new(traffic));
    let mut config = data_plane(defaults, args, origin.settings());
    config.challenges = challenges.clone();
    config.memory = memory.clone();
    let balancers = config.balancers.clone();
    let plane = DataPlane::start(config)?;
    tracing::info!(http = ?plane.http(), https = ?plane.https(), "listening");

    let awaited = view.clone();
    readiness.provider(move || awaited.awaited().into_iter().map(|kind| format!("the list of {kind}")).collect());
    let (shown, source_view, ready) = (board.clone(), view.clone(), readiness.clone());
    let (in_force, balanced, anchors, told) = (table.clone(), balancers.clone(), roots.clone(), readiness.clone());
    let admin = Admin::new(readiness, registry, move || shown.to_json(ready.is_ready(), &source_view, &memory))
        .debug("routes", move || debug::routes(&in_force.load(), &balanced))
        .file("/ca.crt", CERTIFICATE, move || anchors.text());
    let (questions, asked) = tokio::sync::mpsc::channel(4);
    let admin = Page {
        table: table.clone(),
        balancers,
        board: board.clone(),
        source: view.clone(),
        readiness: told,
        live,
        recent,
        questions,
    }
    .serve(admin, args);
    let address = admin.serve(args.admin).await.with_context(|| format!("cannot listen on {}", args.admin))?;
    tracing::info!(%address, "admin port is open");
    let own = plane.http().iter().chain(plane.https()).chain([&address]);
    model.reserved_ports = own.map(SocketAddr::port).collect();

    let (mut cluster, mut known) = (None, None);
    if let Origin::Cluster(client) = &origin
        && !args.no_status
    {
        let uids = known.insert(Arc::new(Uids::default()));
        let (leader, events) = publish::start(client.clone(), args, board.clone(), uids.clone(), drain.clone());
        let (client, namespace, uids) = (client.clone(), own_namespace(args), uids.clone());
        cluster = Some(InCluster { client, namespace, lease: args.lease.clone(), leader, events, uids });
    }
    let mut compiler = Compiler::new(model);
    let mut acme = None;
    if let Some(metrics) = acme_metrics {
        if origin.client().is_some() && cluster.is_none() {
            bail!(
                "--no-status leaves no Lease to decide which replica orders certificates; remove it or the --acme flags"
            );
        }
        let (link, kept) =
            acme::start(&args.acme, Parts { cluster, challenges, roots, board: board.clone(), metrics })?;
        compiler.apply(kept);
        acme = Some(link);
    }
    let secrets = Named::new(origin.client(), Input::NamedSecret);
    let config_maps = Named::new(origin.client(), Input::NamedConfigMap);
    let ports = plane.stream_ports();
    let (uids, metrics, block) = (known, control_metrics, Some(block));
    let control = Control { table, board, uids, metrics, secrets, config_maps, ports, acme, questions: asked, block };
    tokio::spawn(control.run(Source { batches, view }, compiler));
    tokio::spawn(settle());
    drainer.on_signals(plane.idle()).await.context("cannot wait for signals")?;
    plane.stop();
    if let Some(log) = access_log {
        log.flush();
    }
    // What still waits to be sent has a moment.
    let _ = tokio::time::timeout(traces::FAREWELL, exporter).await;
    tracing::info!("stopped");
    Ok(())
}

/// Where objects come from.
enum Origin {
    Folder(std::path::PathBuf),
    Cluster(kube::Client),
}

impl Origin {
    async fn of(args: &ServeArgs) -> anyhow::Result<Self> {
        match &args.manifests {
            Some(folder) => Ok(Self::Folder(folder.clone())),
            None => Ok(Self::Cluster(kubernetes::client().await.context(
                "no folder of manifests is given and no API server is configured; use --manifests DIR, set \
                 KUBECONFIG or run in a pod",
            )?)),
        }
    }

    fn settings(&self) -> settings::Origin {
        match self {
            Self::Folder(_) => settings::Origin::Folder,
            Self::Cluster(_) => settings::Origin::Cluster,
        }
    }

    fn client(&self) -> Option<kube::Client> {
        match self {
            Self::Folder(_) => None,
            Self::Cluster(client) => Some(client.clone()),
        }
    }

    fn publish(&self, args: &ServeArgs) -> Publish {
        match (&args.publish_service, args.publish_status_address.is_empty(), self) {
            (Some(service), _, _) => Publish::Service(service.clone()),
            (None, false, _) => Publish::Addresses(args.publish_status_address.clone()),
            (None, true, Self::Cluster(_)) => Publish::Nodes,
            (None, true, Self::Folder(_)) => Publish::Nothing,
        }
    }

    fn start(&self, args: &ServeArgs, publish: &Publish) -> anyhow::Result<Source<Input>> {
        match self {
            Self::Folder(folder) => {
                manifests::start(folder, &inputs::folder()).with_context(|| format!("cannot read {}", folder.display()))
            }
            Self::Cluster(client) => {
                let pods = PodScope { namespace: publish::own_namespace(args), selector: args.pod_selector.clone() };
                Ok(kubernetes::start(
                    client,
                    &inputs::cluster(
                        &args.watch_namespaces,
                        &args.model.secret_namespaces,
                        args.model.config_map.as_ref(),
                        publish,
                        pods,
                    ),
                ))
            }
        }
    }
}

fn data_plane(defaults: DataPlaneConfig, args: &ServeArgs, origin: settings::Origin) -> DataPlaneConfig {
    let traffic = &args.traffic;
    let per_client = traffic.max_connections_per_client;
    DataPlaneConfig {
        http: args.http.clone(),
        https: args.https.clone(),
        workers: traffic.workers,
        pipeline: PipelineSettings { trusted_proxies: traffic.trusted_proxies.clone() },
        limits: EngineLimits {
            upstream_idle: traffic.upstream_keepalive,
            min_rate: NonZeroU64::new(traffic.min_rate),
            ..defaults.limits
        },
        connections: ConnectionLimits {
            total: traffic.max_connections,
            per_client: (per_client > 0).then_some(per_client),
        },
        proxy_protocol: traffic.proxy_protocol.clone(),
        balancers: Balancers::new(Arc::new(Resolver::new(origin))),
        carrier: traffic.engine,
        ..defaults
    }
}

fn register(
    registry: &SharedRegistry,
    args: &ServeArgs,
    table: Arc<ArcSwap<Table>>,
    access_log: Option<AccessLog>,
) -> (ControlMetrics, Traffic, Option<AcmeMetrics>, Exporter) {
    let mut registry = registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    telemetry::register_build_info(&mut registry);
    let control = ControlMetrics::register(&mut registry);
    let (traces, exporter) = Traces::register(&mut registry);
    let mut traffic = Traffic::register(&mut registry, access_log, table.clone()).with_traces(traces);
    if args.metrics_compatibility == MetricNames::Nginx {
        let identity = Identity { namespace: own_namespace(args), pod: identity(args) };
        traffic = traffic.as_nginx(&mut registry, table, identity, &control);
    }
    let acme = args.acme.is_on().then(|| AcmeMetrics::register(&mut registry));
    (control, traffic, acme, exporter)
}
