//! The brain on scripted conversations and on random ones.

mod books;
mod clocks;
mod closing;
mod conversation;
mod doubts;
mod edges;
mod express;
mod forged;
mod handshake;
mod later;
mod liberal;
mod numbers;
mod overtaking;
mod pending;
mod pickup;
mod random;
mod refusals;
mod resets;
mod restarts;
mod seeds;
