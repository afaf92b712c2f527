//! SYN cookies and the shares of half-open flows.
//!
//! The loaded programs, packet by packet: what a SYN is answered with, read by a
//! parser that is not the tracker's; what becomes of the ACK that brings the
//! cookie back; what is not answered; what the shares count. And real sockets in
//! namespaces, whose own kernel tells what of a connection survived.

mod again;
mod answers;
mod bulk;
mod door;
mod passing;
mod reply;
mod returns;
mod shares;
mod sockets;
