//! TCP options (RFC 9293 section 3.1, RFC 2018, RFC 7323).

use super::Bytes;
use crate::{seq::Seq, tcp::Options};

/// Octets of options that a header can hold: 15 words less the fixed five.
pub const MAX_OPTIONS: usize = 40;

/// Size of the buffer that they are read from: a power of two, so that a masked
/// index is always inside it.
pub const BUFFER: usize = 64;

const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const MSS: u8 = 2;
const SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;

/// NOP, NOP, timestamps of ten octets: all options of nearly every segment
/// after the handshake (the layout that RFC 7323 appendix A recommends).
const PADDED_TIMESTAMPS: [u8; 4] = [NO_OPERATION, NO_OPERATION, TIMESTAMPS, 10];

/// Reads the `length` octets of options (1 to 40) at `start` into `options`,
/// by way of `buffer`; `veil` is `Packet::veil`. What cannot be read ends the reading: options are hints,
/// and an endpoint that ignores a broken one is in its right (RFC 9293 section
/// 3.1 MUST-7).
#[inline(always)]
pub fn read<B: Bytes + ?Sized>(
    frame: &B,
    start: u32,
    length: u32,
    buffer: &mut [u8; BUFFER],
    veil: u8,
    options: &mut Options,
) {
    if length == 12
        && let Some([a, b, c, d, v0, v1, v2, v3, e0, e1, e2, e3]) = frame.get::<12>(start)
        && [a, b, c, d] == PADDED_TIMESTAMPS
    {
        options.present |= Options::TIMESTAMPS;
        options.ts_value = u32::from_be_bytes([v0, v1, v2, v3]);
        options.ts_echo = u32::from_be_bytes([e0, e1, e2, e3]);
        return;
    }
    if !frame.copy(start, length, buffer) {
        return;
    }
    let length = length as usize;
    let mut at = 0_usize;
    // An option is at least one octet long, so this many passes suffice.
    for _ in 0..MAX_OPTIONS {
        // To the verifier the cursor is any small number on every pass, whatever
        // way led here; without this each way is a state of its own.
        at = at.wrapping_add(veil as usize) & (BUFFER - 1);
        // Nor what has been found so far.
        options.present = options.present.wrapping_add(veil);
        if at >= length {
            return;
        }
        let kind = octet(buffer, at);
        if kind == END {
            return;
        }
        if kind == NO_OPERATION {
            at += 1;
            continue;
        }
        let size = octet(buffer, at + 1) as usize;
        if size < 2 || at + size > length {
            options.present |= Options::BROKEN;
            return;
        }
        one(buffer, at, kind, size, options);
        at += size;
    }
}

/// The octet at `at`, modulo the buffer.
#[inline(always)]
const fn octet(buffer: &[u8; BUFFER], at: usize) -> u8 {
    buffer[at & (BUFFER - 1)]
}

/// The four octets at `at`, modulo the buffer, as a number.
#[inline(always)]
const fn word(buffer: &[u8; BUFFER], at: usize) -> u32 {
    u32::from_be_bytes([
        octet(buffer, at),
        octet(buffer, at + 1),
        octet(buffer, at + 2),
        octet(buffer, at + 3),
    ])
}

/// Reads one option of `size` octets at `at`.
#[inline(always)]
fn one(buffer: &[u8; BUFFER], at: usize, kind: u8, size: usize, options: &mut Options) {
    match (kind, size) {
        (MSS, 4) => {
            options.present |= Options::MSS;
            options.mss = u16::from_be_bytes([octet(buffer, at + 2), octet(buffer, at + 3)]);
        }
        (SCALE, 3) => {
            options.present |= Options::SCALE;
            options.scale = octet(buffer, at + 2);
        }
        (SACK_PERMITTED, 2) => options.present |= Options::SACK_PERMITTED,
        (TIMESTAMPS, 10) => {
            options.present |= Options::TIMESTAMPS;
            options.ts_value = word(buffer, at + 2);
            options.ts_echo = word(buffer, at + 6);
        }
        // One to four blocks of two edges.
        (SACK, 10 | 18 | 26 | 34) => {
            options.present |= Options::SACK;
            let mut high = Seq(word(buffer, at + 6));
            if size > 10 {
                high = high.max(Seq(word(buffer, at + 14)));
            }
            if size > 18 {
                high = high.max(Seq(word(buffer, at + 22)));
            }
            if size > 26 {
                high = high.max(Seq(word(buffer, at + 30)));
            }
            options.sack_high = high;
        }
        _ => {}
    }
}
