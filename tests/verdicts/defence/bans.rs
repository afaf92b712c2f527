//! Prefixes that may not open anything.

use anyhow::Result;
use tracker_common::{
    abi::{Ban, BanKey, Family, Live, defence_flags::BANS},
    reason::{Class, Reason},
    tcp::State::{Established as ES, Listen as LI, SynSent as SS},
};
use tracker_tests::program::talk::{A, B, Talk};

use super::{WIRE, alone, enforcing};
use crate::row::{Row, Stage, row};

/// Bans the network of the talk's `A`, without its last so many bits, until then,
/// and nobody else.
pub fn ban(stage: &mut Stage<'_>, host_bits: u32, until_ns: u64) -> Result<()> {
    for (key, _) in stage.bench.loaded.bans()? {
        stage.bench.loaded.clear_ban(&key)?;
    }
    ban_too(stage, host_bits, until_ns)
}

/// The same beside those that are banned.
fn ban_too(stage: &mut Stage<'_>, host_bits: u32, until_ns: u64) -> Result<()> {
    alone(stage);
    let Talk { wrapping, ends, .. } = stage.talk;
    let length = match wrapping.family {
        Family::V4 => 32,
        Family::V6 => 128,
    };
    let key = BanKey {
        prefix_len: 32 + length - host_bits,
        family: (wrapping.family as u32).to_ne_bytes(),
        address: ends[0].address(wrapping.family),
        reserved: 0,
    };
    let ban = Ban {
        until_ns,
        ..Ban::default()
    };
    stage.bench.loaded.set_ban(&key, &ban)?;
    stage.set(&Live {
        defence: BANS,
        ..enforcing()
    })
}

pub fn bans() -> Vec<Row> {
    let banned = |name| row(name, Reason::Banned).from(&WIRE);
    vec![
        banned("a SYN of a banned host")
            .prepare(|stage| ban(stage, 0, 0))
            .sends(A.syn()),
        banned("a SYN from a banned network")
            .prepare(|stage| ban(stage, 8, 0))
            .sends(A.syn()),
        banned("a SYN of a host whose ban has not ended")
            .prepare(|stage| {
                let now = stage.bench.now_ns();
                ban(stage, 0, now + 1)
            })
            .sends(A.syn()),
        banned("an ACK of a banned host, of no flow")
            .prepare(|stage| ban(stage, 0, 0))
            .sends(A.ack()),
        banned("a SYN-ACK of a banned host, of no flow")
            .prepare(|stage| ban(stage, 0, 0))
            .sends(A.syn_ack()),
        row("a SYN of a host whose ban has ended", Reason::FlowOpened)
            .from(&WIRE)
            .prepare(|stage| {
                let now = stage.bench.now_ns();
                ban(stage, 0, now)
            })
            .sends(A.syn())
            .leaves(SS, LI),
        banned("a SYN from a network that is banned, of a host whose own bans have ended")
            .prepare(|stage| {
                let now = stage.bench.now_ns();
                ban(stage, 0, now)?;
                ban_too(stage, 1, now - 1)?;
                ban_too(stage, 5, now - 9)?;
                ban_too(stage, 8, now + 1)
            })
            .sends(A.syn()),
        row("a SYN from where all bans have ended", Reason::FlowOpened)
            .from(&WIRE)
            .prepare(|stage| {
                let now = stage.bench.now_ns();
                ban(stage, 0, now)?;
                ban_too(stage, 8, now)?;
                ban_too(stage, 16, now)
            })
            .sends(A.syn())
            .leaves(SS, LI),
        row("a banned host's segment of a flow", Reason::Tracked)
            .from(&WIRE)
            .prepare(|stage| {
                alone(stage);
                for segment in [A.syn(), B.syn_ack(), A.ack()] {
                    stage.play(segment, Class::Accept)?;
                }
                ban(stage, 0, 0)
            })
            .sends(A.ack().data(10))
            .leaves(ES, ES),
        row("a banned host's RST of no flow", Reason::StrayReset)
            .from(&WIRE)
            .prepare(|stage| ban(stage, 0, 0))
            .sends(A.bare_rst()),
    ]
}
