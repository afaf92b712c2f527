//! The brain on scripted conversations and on random ones.

mod closing;
mod conversation;
mod handshake;
mod pickup;
mod random;
