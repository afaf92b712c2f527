//! How the command line talks to the running agent: JSON in length-delimited frames
//! over a Unix socket.
//!
//! | module | what it holds |
//! |---|---|
//! | [`place`] | where the socket is, and what lies beside it |
//! | [`message`] | what is said |
//! | [`frames`] | how it is said |
//! | [`client`] | the asking side; the answering one is in `agent::control` |
//! | [`stored`] | a policy as text that a program reads |
//! | [`record`] | what the agent leaves behind for the command line and for the next agent |

pub mod client;
pub mod frames;
pub mod message;
pub mod place;
pub mod record;
pub mod stored;
