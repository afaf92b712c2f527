//! The brain on scripted conversations and on random ones.

mod closing;
mod conversation;
mod doubts;
mod handshake;
mod liberal;
mod numbers;
mod pickup;
mod random;
mod resets;
mod restarts;
