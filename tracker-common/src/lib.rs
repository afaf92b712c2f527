//! The brain of tracker, shared by the kernel programs and userspace.
//!
//! Everything that decides lives here: how a frame is parsed, how a segment
//! moves the two endpoints of a flow, when a flow expires, what a packet's one
//! [`reason`] is. Nothing here does I/O or reads a clock; time and
//! configuration are arguments, the answer is a value.
//!
//! | module | what it holds |
//! |---|---|
//! | [`abi`] | layouts of map keys, values, events and requests, fixed by compile-time asserts |
//! | [`parse`] | bytes of a frame → a [`parse::Packet`] |
//! | [`tcp`] | the TCP state machine: segment, state table, tracking, timeouts |
//! | [`defence`] | what is decided against SYN floods |
//! | [`reason`] | the one reason with which each packet leaves |
//! | [`seq`], [`time`] | sequence-number and clock arithmetic that cannot go wrong |
//!
//! The specification is RFC 9293, which replaced RFC 793.
//!
//! Byte order: addresses are kept as they lie in the packet (network order in
//! memory); every other number is in host order.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

pub mod abi;
pub mod defence;
pub mod parse;
pub mod policy;
pub mod reason;
pub mod seq;
pub mod tcp;
pub mod time;
