//! The three entry points.

mod egress;
mod ingress;
mod reap;
