//! The state names of RFC 9293.
//!
//! Written apart from the tracker's own type on purpose: the names are a
//! contract that scripts rely on, and a test that shared the type would not
//! notice when one changes.

use std::fmt;

use serde::Deserialize;

/// A state of an endpoint (RFC 9293 section 3.3.2).
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are the RFC's")]
pub enum State {
    #[serde(rename = "LISTEN")]
    Listen,
    #[serde(rename = "SYN_SENT")]
    SynSent,
    #[serde(rename = "SYN_RECEIVED")]
    SynReceived,
    #[serde(rename = "ESTABLISHED")]
    Established,
    #[serde(rename = "FIN_WAIT_1")]
    FinWait1,
    #[serde(rename = "FIN_WAIT_2")]
    FinWait2,
    #[serde(rename = "CLOSE_WAIT")]
    CloseWait,
    #[serde(rename = "CLOSING")]
    Closing,
    #[serde(rename = "LAST_ACK")]
    LastAck,
    #[serde(rename = "TIME_WAIT")]
    TimeWait,
    #[serde(rename = "CLOSED")]
    Closed,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 11] = [
        Self::Listen,
        Self::SynSent,
        Self::SynReceived,
        Self::Established,
        Self::FinWait1,
        Self::FinWait2,
        Self::CloseWait,
        Self::Closing,
        Self::LastAck,
        Self::TimeWait,
        Self::Closed,
    ];

    /// The RFC's name, as in `tracker list -o json`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Listen => "LISTEN",
            Self::SynSent => "SYN_SENT",
            Self::SynReceived => "SYN_RECEIVED",
            Self::Established => "ESTABLISHED",
            Self::FinWait1 => "FIN_WAIT_1",
            Self::FinWait2 => "FIN_WAIT_2",
            Self::CloseWait => "CLOSE_WAIT",
            Self::Closing => "CLOSING",
            Self::LastAck => "LAST_ACK",
            Self::TimeWait => "TIME_WAIT",
            Self::Closed => "CLOSED",
        }
    }

    /// From the spelling of `ss` (iproute2 `sstate_name`), [`None`] for a word
    /// that is not a TCP state.
    #[must_use]
    pub fn from_ss(word: &str) -> Option<Self> {
        Some(match word {
            "LISTEN" => Self::Listen,
            "SYN-SENT" => Self::SynSent,
            "SYN-RECV" => Self::SynReceived,
            "ESTAB" => Self::Established,
            "FIN-WAIT-1" => Self::FinWait1,
            "FIN-WAIT-2" => Self::FinWait2,
            "CLOSE-WAIT" => Self::CloseWait,
            "CLOSING" => Self::Closing,
            "LAST-ACK" => Self::LastAck,
            "TIME-WAIT" => Self::TimeWait,
            "UNCONN" => Self::Closed,
            _ => return None,
        })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
