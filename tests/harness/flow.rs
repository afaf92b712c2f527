//! What `tracker list -o json` prints.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::Deserialize;

use crate::state::State;

/// One flow. Fields that later versions add are ignored.
#[derive(Clone, Debug, Deserialize)]
pub struct Flow {
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// The VLAN tag, if there was one.
    pub vlan: serde_json::Value,
    /// Where it was seen.
    pub interface: serde_json::Value,
    /// The end that opened the connection.
    pub initiator: Endpoint,
    /// The other one.
    pub responder: Endpoint,
    /// Since its first segment, ms.
    pub age_ms: u64,
    /// Since its last segment, ms.
    pub idle_ms: u64,
    /// Until it is forgotten, ms.
    pub expires_ms: u64,
    /// SYNs that were sent again.
    pub syn_retransmits: u32,
    /// SYN-ACKs that were sent again.
    pub synack_retransmits: u32,
    /// `handshake` or `pickup`.
    pub origin: String,
}

/// One end of a [`Flow`].
#[derive(Clone, Debug, Deserialize)]
pub struct Endpoint {
    /// Its address.
    pub addr: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its state.
    pub state: State,
    /// Packets it sent.
    pub packets: u64,
    /// Octets it sent.
    pub bytes: u64,
}

impl Endpoint {
    /// Address and port.
    #[must_use]
    pub const fn at(&self) -> SocketAddr {
        SocketAddr::new(self.addr, self.port)
    }
}

impl Flow {
    /// Both states: the initiator's and the responder's.
    #[must_use]
    pub const fn states(&self) -> (State, State) {
        (self.initiator.state, self.responder.state)
    }

    /// Whether it goes from `initiator` to `responder`.
    #[must_use]
    pub fn connects(&self, initiator: SocketAddr, responder: SocketAddr) -> bool {
        self.initiator.at() == initiator && self.responder.at() == responder
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            family: _,
            vlan: _,
            interface,
            initiator,
            responder,
            age_ms,
            idle_ms,
            expires_ms,
            syn_retransmits,
            synack_retransmits,
            origin,
        } = self;
        write!(
            f,
            "    {:<12} {:<12} {} {} packets {}/{} bytes {}/{} age {age_ms} idle {idle_ms} \
             expires {expires_ms} retransmits {syn_retransmits}/{synack_retransmits} {origin} \
             on {interface}",
            initiator.state,
            responder.state,
            initiator.at(),
            responder.at(),
            initiator.packets,
            responder.packets,
            initiator.bytes,
            responder.bytes,
        )
    }
}

/// Flows one to a line, for messages.
#[must_use]
pub fn table(flows: &[Flow]) -> String {
    if flows.is_empty() {
        return "    (none)\n".to_owned();
    }
    flows.iter().map(|flow| format!("{flow}\n")).collect()
}
