//! TCP options (RFC 9293 section 3.1, RFC 2018, RFC 7323).

use super::Bytes;
use crate::{seq::Seq, tcp::Options};

/// Octets of options that a header can hold: 15 words less the fixed five.
const MAX_OPTIONS: u32 = 40;

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

/// Reads the `length` octets of options at `start` into `options`. What cannot
/// be read ends the reading: options are hints, and an endpoint that ignores a
/// broken one is in its right (RFC 9293 section 3.1 MUST-7).
#[inline(always)]
pub fn read<B: Bytes + ?Sized>(frame: &B, start: u32, length: u32, options: &mut Options) {
    if length == 12
        && let Some([a, b, c, d, v0, v1, v2, v3, e0, e1, e2, e3]) = frame.get::<12>(start)
        && [a, b, c, d] == PADDED_TIMESTAMPS
    {
        options.present |= Options::TIMESTAMPS;
        options.ts_value = u32::from_be_bytes([v0, v1, v2, v3]);
        options.ts_echo = u32::from_be_bytes([e0, e1, e2, e3]);
        return;
    }
    let mut at = 0;
    // An option is at least one octet long, so this many passes suffice.
    for _ in 0..MAX_OPTIONS {
        // Tells the verifier on every pass that the cursor is small, whatever
        // way led here; without it each way is a state of its own.
        at &= 0x3f;
        if at >= length {
            return;
        }
        let Some([kind]) = frame.get::<1>(start + at) else { return };
        if kind == END {
            return;
        }
        if kind == NO_OPERATION {
            at += 1;
            continue;
        }
        let Some([size]) = frame.get::<1>(start + at + 1) else { return };
        let size = u32::from(size);
        if size < 2 || at + size > length {
            options.present |= Options::BROKEN;
            return;
        }
        one(frame, start + at, kind, size, options);
        at += size;
    }
}

/// Reads one option of `size` octets at `at`.
#[inline(always)]
fn one<B: Bytes + ?Sized>(frame: &B, at: u32, kind: u8, size: u32, options: &mut Options) {
    match (kind, size) {
        (MSS, 4) => {
            if let Some(raw) = frame.get::<2>(at + 2) {
                options.present |= Options::MSS;
                options.mss = u16::from_be_bytes(raw);
            }
        }
        (SCALE, 3) => {
            if let Some([scale]) = frame.get::<1>(at + 2) {
                options.present |= Options::SCALE;
                options.scale = scale;
            }
        }
        (SACK_PERMITTED, 2) => options.present |= Options::SACK_PERMITTED,
        (TIMESTAMPS, 10) => {
            if let Some([v0, v1, v2, v3, e0, e1, e2, e3]) = frame.get::<8>(at + 2) {
                options.present |= Options::TIMESTAMPS;
                options.ts_value = u32::from_be_bytes([v0, v1, v2, v3]);
                options.ts_echo = u32::from_be_bytes([e0, e1, e2, e3]);
            }
        }
        // One to four blocks of two edges.
        (SACK, 10 | 18 | 26 | 34) => {
            let mut block = 0;
            while block < 4 {
                let right_edge = 6 + block * 8;
                if right_edge + 4 <= size
                    && let Some(raw) = frame.get::<4>(at + right_edge)
                {
                    let edge = Seq(u32::from_be_bytes(raw));
                    options.sack_high = if options.has(Options::SACK) {
                        options.sack_high.max(edge)
                    } else {
                        edge
                    };
                    options.present |= Options::SACK;
                }
                block += 1;
            }
        }
        _ => {}
    }
}
