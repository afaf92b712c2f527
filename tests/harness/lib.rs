//! Harness of the privileged tests and of the lab.
//!
//! Everything network-like happens in network namespaces that the harness
//! makes and removes. Real sockets are driven from namespace to namespace, the
//! kernel's own account of them is read with `ss`, and the agent under test is
//! a separate process that is only known by its command line:
//!
//! | module | concern |
//! |---|---|
//! | [`netns`] | a network namespace and what runs inside it |
//! | [`topology`] | the cables between namespaces, and where the tracker sits |
//! | [`wire`] | a cable that loses, repeats, delays and reorders |
//! | [`sockets`] | sockets that do what a script tells them |
//! | [`nft`] | packets dropped behind the tracker, in the receiver's namespace |
//! | [`ss`] | the kernel's view of its sockets |
//! | [`state`] | the state names of RFC 9293 |
//! | [`scenario`] | scripted connections, each with a resting point |
//! | [`connection`] | one established connection, for tests about something else |
//! | [`agent`] | the `tracker` process and its command line |
//! | [`flow`] | what `tracker list -o json` prints |
//! | [`stats`] | what `tracker stats -o json` prints |
//! | [`attached`] | what is attached to an interface |
//! | [`losses`] | what got lost, by the kernel's own counters |
//! | [`frames`] | raw frames, for flows by the hundred thousand |
//! | [`flood`] | frames by the million, from a program in the kernel |
//! | [`spoof`] | single segments that no socket sent |
//! | [`captures`] | captures that were not made for this project |
//! | [`invariants`] | what holds for any input, for the fuzzer and its corpus |
//! | [`policies`] | policies made by hand |
//! | [`program`] | the loaded programs, packet by packet |
//! | [`terminal`] | a terminal for programs that behave differently on one |
//! | [`wait`] | polling with the last mismatch told |

pub mod agent;
pub mod attached;
pub mod captures;
pub mod configuration;
pub mod connection;
pub mod flood;
pub mod flow;
pub mod frames;
pub mod invariants;
pub mod losses;
pub mod netns;
pub mod nft;
pub mod policies;
pub mod program;
pub mod scenario;
pub mod sockets;
pub mod spoof;
pub mod ss;
pub mod state;
pub mod stats;
pub mod terminal;
pub mod topology;
pub mod wait;
pub mod wire;
