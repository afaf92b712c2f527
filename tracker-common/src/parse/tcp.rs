//! The TCP header.

use super::{Bytes, Packet, ip::Transport, missing, options};
use crate::{
    reason::Reason,
    seq::Seq,
    tcp::{Flags, Options, Segment},
};

const HEADER: u32 = 20;

#[inline(always)]
pub fn header<B: Bytes + ?Sized>(
    frame: &B,
    transport: Transport,
    packet: &mut Packet,
) -> Result<(), Reason> {
    let Transport {
        offset,
        length,
        fragmented,
    } = transport;
    // The rest of a whole packet's header is lost; the rest of a fragment's is
    // in the next one, where nobody will judge it.
    let in_part = fragmented != 0;
    let short = if in_part {
        Reason::TinyFragment
    } else {
        Reason::ShortTcp
    };
    if length < HEADER {
        return Err(short);
    }
    let Some(raw) = frame.get::<20>(offset) else {
        return Err(missing(frame, offset, HEADER, short));
    };
    let end = u32::from(raw[12] >> 4) * 4;
    if end < HEADER {
        return Err(Reason::BadTcpOffset);
    }
    if end > length {
        return Err(if in_part {
            Reason::TinyFragment
        } else {
            Reason::BadTcpOffset
        });
    }
    packet.source_port = u16::from_be_bytes([raw[0], raw[1]]);
    packet.destination_port = u16::from_be_bytes([raw[2], raw[3]]);
    let flags = Flags(raw[13]);
    if !flags.legal() {
        return Err(Reason::BadFlags);
    }
    packet.segment = Segment {
        seq: Seq(u32::from_be_bytes([raw[4], raw[5], raw[6], raw[7]])),
        ack: Seq(u32::from_be_bytes([raw[8], raw[9], raw[10], raw[11]])),
        payload: length - end,
        window: u16::from_be_bytes([raw[14], raw[15]]),
        flags,
        fragmented,
        options: Options::default(),
    };
    if end > HEADER {
        let Packet {
            segment,
            raw_options,
            veil,
            ..
        } = packet;
        let options = &mut segment.options;
        options::read(
            frame,
            offset + HEADER,
            end - HEADER,
            raw_options,
            *veil,
            options,
        );
    }
    Ok(())
}
