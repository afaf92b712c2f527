//! Agent and command line of tracker.
//!
//! | module | what it holds |
//! |---|---|
//! | [`cli`] | the command line: definitions only |
//! | [`config`] | what was typed → a checked configuration |
//! | [`datapath`] | the kernel side: programs, hooks, maps, pins |
//! | [`prefix`] | prefixes of addresses |
//! | [`sockets`] | the listening sockets of this network namespace |
//! | [`agent`] | what runs beside the datapath: sweeps, events, signals |
//! | [`replay`] | captures instead of packets |
//! | [`view`] | what was read → what people and scripts see |
//! | [`commands`] | the verbs, which put the above together |

pub mod agent;
pub mod cli;
pub mod commands;
pub mod config;
pub mod datapath;
pub mod prefix;
pub mod replay;
pub mod sockets;
pub mod view;
