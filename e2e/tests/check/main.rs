//! The command line looks at a cluster: faults are put into a real API server, and `check` names each by object and
//! remedy. There are no nodes; what kubelets and controllers would write is written by the scene.

mod fault;
mod faults;
mod looks;
mod scene;
mod trial;
