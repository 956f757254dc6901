//! The announcer's control side against a real kube-apiserver with etcd, with the rights that its page lists.

mod controller;
mod program;
mod scene;
mod speaker;
mod speed;
