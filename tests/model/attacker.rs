//! What somebody off the path sends: segments with numbers outside, inside and
//! at the edges of the receiver's window, and acknowledgements right and wrong.
//!
//! He is given more than he can know: the numbers are taken from the receiver's
//! own control block at that moment. Whatever he hits by guessing is among them.

use super::{
    endpoint::State,
    segment::{ACK, FIN, RST, SYN, Segment},
    world::{Setting, World},
};

/// Half of the circle away.
const FAR: u32 = 1 << 31;

/// Flags and octets of text.
const KINDS: [(u8, u8); 7] = [
    (RST, 0),
    (RST | ACK, 0),
    (SYN, 0),
    (SYN | ACK, 0),
    (FIN | ACK, 0),
    (ACK, 0),
    (ACK, 1),
];

/// All that may be sent as if by `end` at this moment.
pub fn forms(world: &World, end: usize, setting: &Setting<'_>) -> Vec<Segment> {
    let (sender, victim) = (&world.ends[end], &world.ends[end ^ 1]);
    let window = u32::from(victim.window(setting.manner(end ^ 1)));
    let mut numbers = if victim.state.is_synchronized() || victim.state == State::SynReceived {
        let next = victim.rcv_nxt;
        vec![
            next.wrapping_sub(window).wrapping_sub(1),
            next.wrapping_sub(1),
            next,
            next.wrapping_add(1),
            next.wrapping_add(window).wrapping_sub(1),
            next.wrapping_add(window),
            next.wrapping_add(FAR),
            sender.nxt,
        ]
    } else {
        vec![0x5000_0000, sender.iss, sender.nxt]
    };
    numbers.sort_unstable();
    numbers.dedup();
    let mut answers = vec![
        victim.una,
        victim.nxt,
        victim.nxt.wrapping_add(1),
        victim.iss,
        victim.una.wrapping_add(FAR),
    ];
    answers.sort_unstable();
    answers.dedup();
    let mut forms = Vec::with_capacity(KINDS.len() * numbers.len() * answers.len());
    for (flags, text) in KINDS {
        for &seq in &numbers {
            let acks: &[u32] = if flags & ACK == 0 { &[0] } else { &answers };
            forms.extend(acks.iter().map(|&ack| Segment {
                seq,
                ack,
                flags,
                text,
                window: setting.manner(end).buffer,
                mark: 0,
            }));
        }
    }
    forms
}
