//! Agent and command line of tracker.
//!
//! | module | what it holds |
//! |---|---|
//! | [`cli`] | the command line: definitions only |
//! | [`config`] | what was typed → a checked configuration |
//! | [`datapath`] | the kernel side: programs, hooks, maps, pins |
//! | [`policy`] | the policy: its language, what it compiles to |
//! | [`prefix`] | prefixes of addresses |
//! | [`netlink`], [`sockets`], [`routes`] | what the kernel is asked about this network namespace |
//! | [`text`] | places in files, as people count them |
//! | [`reset`] | RSTs that end a connection at both ends |
//! | [`control`] | how the command line talks to the agent, and what it leaves behind |
//! | [`agent`] | what runs beside the datapath: sweeps, events, signals |
//! | [`replay`] | captures instead of packets |
//! | [`view`] | what was read → what people and scripts see |
//! | [`commands`] | the verbs, which put the above together |

pub mod agent;
pub mod cli;
pub mod commands;
pub mod config;
pub mod control;
pub mod datapath;
pub mod netlink;
pub mod policy;
pub mod prefix;
pub mod replay;
pub mod reset;
pub mod routes;
pub mod sockets;
pub mod text;
pub mod view;
