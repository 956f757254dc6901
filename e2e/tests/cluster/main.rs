//! Scenarios on a real cluster with Landfall installed by its chart: real pods behind real kube-proxies, seen from a
//! client on the same LAN that is no part of the cluster.
//!
//! They need the testbed (`make cluster`) and share it, so they run one after the other (`--test-threads 1`): `make e2e`
//! does it all.

mod acme;
mod certificates;
mod commands;
mod crowd;
mod expose;
mod faults;
mod headers;
mod heartbeats;
mod lifecycle;
mod mistakes;
mod nginx_values;
mod page;
mod pebble;
mod power;
mod services;
mod slips;
mod stage;
mod zero_drop;
