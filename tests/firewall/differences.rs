//! Where the walls rightly differ, and the sentence that decides.

use std::collections::BTreeSet;

use crate::{bed::Role, court::Place};

/// Packets of which one wall lets arrive what the other drops.
pub struct Difference {
    pub name: &'static str,
    /// The step of each case; a difference is one for IPv4 and IPv6 unless
    /// [`Difference::only_v4`] says so.
    pub steps: &'static [(&'static str, usize)],
    pub roles: &'static [Role],
    pub only_v4: bool,
    /// Whether nftables is the one that lets it arrive.
    pub nftables_lets_in: bool,
    /// What decides.
    pub source: &'static str,
}

const BOTH: &[Role] = &[Role::Host, Role::Gateway];

pub const ALL: &[Difference] = &[
    Difference {
        name: "what this host itself sends of no connection",
        steps: &[
            ("a stray ACK of this host", 0),
            ("stray data of this host", 0),
            ("a stray FIN of this host", 0),
            ("a stray RST with ACK of this host", 0),
            ("a stray RST of this host", 0),
            ("a stray SYN-ACK of this host", 0),
            ("stray urgent data of this host", 0),
        ],
        roles: &[Role::Host],
        only_v4: false,
        nftables_lets_in: false,
        source: "RFC 9293 section 3.10.7.1: \"An incoming segment not containing a RST causes a \
                 RST to be sent in response.\" It is of no connection itself, and is how the peer \
                 of a connection that this host has forgotten learns of it (section 3.5.1); a host \
                 is no attacker of its own peers",
    },
    Difference {
        name: "a SYN-ACK of another connection",
        steps: &[("a SYN-ACK of another connection", 1)],
        roles: BOTH,
        only_v4: false,
        nftables_lets_in: false,
        source: "RFC 9293 section 3.10.7.3, first: \"If SEG.ACK =< ISS or SEG.ACK > SND.NXT, send \
                 a reset\". Only if it arrives does the endpoint send it, and so a half-open \
                 connection is discovered (section 3.5.1)",
    },
    Difference {
        name: "a SYN of the responder on a live connection",
        steps: &[
            ("a SYN of the responder on a live connection", 3),
            (
                "a SYN of the responder on a live connection, from inside",
                3,
            ),
        ],
        roles: BOTH,
        only_v4: false,
        nftables_lets_in: false,
        source: "RFC 9293 section 3.10.7.4, fourth (RFC 5961 section 4.2): in a synchronized state a \
                 SYN draws a challenge ACK, \"irrespective of the sequence number\" and whoever of \
                 both sends it; only if it arrives can that be",
    },
    Difference {
        name: "an old timestamp",
        steps: &[
            ("data with a timestamp of a minute ago", 4),
            ("data with a timestamp of a minute ago, from inside", 4),
        ],
        roles: BOTH,
        only_v4: false,
        nftables_lets_in: true,
        source: "RFC 7323 section 5.3, R1: with SEG.TSval < TS.Recent, and no RST, the receiver is \
                 to \"treat the arriving segment as not acceptable\". Conntrack compares no \
                 timestamps",
    },
    Difference {
        name: "data behind the FIN",
        steps: &[
            ("data behind the FIN", 5),
            ("data behind the FIN, from inside", 5),
            ("a second FIN behind the FIN", 5),
            ("a second FIN behind the FIN, from inside", 5),
        ],
        roles: BOTH,
        only_v4: false,
        nftables_lets_in: true,
        source: "RFC 9293 section 3.10.7.4, seventh: \"This should not occur since a FIN has been \
                 received from the remote side. Ignore the segment text.\" Conntrack does not \
                 remember where the FIN was",
    },
    Difference {
        name: "a TCP header in two fragments",
        steps: &[
            ("an allowed SYN in tiny fragments", 0),
            ("data in tiny fragments", 3),
        ],
        roles: BOTH,
        // In IPv6 Linux drops it itself (RFC 8200 section 4.5).
        only_v4: true,
        nftables_lets_in: true,
        source: "RFC 1858 section 3: nobody fragments like that but to get past a filter, \"so it is \
                 safe to drop these fragments\". Conntrack puts the datagram together before \
                 nftables looks",
    },
];

/// The steps in which they differ in a role, and which wall lets the packet arrive.
pub fn expected(role: Role) -> (BTreeSet<Place>, BTreeSet<Place>) {
    let (mut by_nftables, mut by_tracker) = (BTreeSet::new(), BTreeSet::new());
    for difference in ALL
        .iter()
        .filter(|difference| difference.roles.contains(&role))
    {
        let places = if difference.nftables_lets_in {
            &mut by_nftables
        } else {
            &mut by_tracker
        };
        for &(case, step) in difference.steps {
            for v6 in [false, true] {
                if !(v6 && difference.only_v4) {
                    places.insert(Place { case, step, v6 });
                }
            }
        }
    }
    (by_nftables, by_tracker)
}
