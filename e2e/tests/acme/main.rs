//! Certificates from a real ACME server, from a folder of manifests and from a cluster.

mod accounts;
mod chains;
mod crowd;
mod faults;
mod issuing;
mod outages;
mod replicas;
mod revocation;
mod stage;
