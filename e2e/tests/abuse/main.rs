//! Attacks on the release build: what each one costs in memory, and what a well-behaved client sees meanwhile.
//!
//! They take minutes and thousands of files, so they are not among the other tests: `make abuse`.

mod flood;
mod hoard;
mod scene;
mod slow;
