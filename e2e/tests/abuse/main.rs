//! Attacks on the release build, and the same on nginx and HAProxy: what each one costs in memory and processor time, and
//! what a well-behaved client sees meanwhile.
//!
//! They take minutes and thousands of files, so they are not among the other tests: `make abuse`.

mod flood;
mod frames;
mod good;
mod hoard;
mod scene;
mod slow;
mod target;
mod verdict;
