//! `migrate`: what it says about the Ingresses that charts of popular projects make, and that it is true.

mod charts;
mod cli;
mod cluster;
mod compare;
mod scene;
