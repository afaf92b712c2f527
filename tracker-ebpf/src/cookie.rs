//! SYN cookies: asks the kernel for them, writes the SYN-ACKs, and takes them back.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{iphdr, ipv6hdr, tcphdr},
    helpers::{
        bpf_tcp_gen_syncookie, bpf_tcp_raw_check_syncookie_ipv4, bpf_tcp_raw_check_syncookie_ipv6,
        bpf_tcp_raw_gen_syncookie_ipv4, bpf_tcp_raw_gen_syncookie_ipv6,
    },
};
use tracker_common::{
    abi::{Family, Gauge, Listener, Live, Place},
    defence::{self, Answer, Approach, Trace, extensions},
    parse::{Packet, fold},
    reason::Reason,
    seq::Seq,
    tcp::Options,
    time::Tick,
};

use crate::{
    atomic::fetch_add,
    frame::{Ingress, Writable as _},
    gauge, listeners,
    maps::{ANSWERS, PROVED},
    scratch::Scratch,
    shares, sockets,
};

/// Headers as the kernel's helpers read them: of the IP header only the
/// addresses, of the TCP header ports, numbers, flags and the MSS.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Headers {
    ip: [u32; 10],
    tcp: [u32; 6],
}

/// Octets of an IPv4 header without options.
const IPV4: u32 = 20;
/// Octets of an IPv6 header without extensions.
const IPV6: u32 = 40;
/// Octets of a TCP header without options.
const TCP: u32 = 20;
/// Octets of one with the MSS.
const TCP_MSS: u32 = 24;
/// Octets of the longest.
const TCP_LONGEST: u32 = 60;

impl Headers {
    /// Writes them down; gives the length of the TCP header.
    #[inline(always)]
    fn fill(&mut self, packet: &Packet) -> u32 {
        match packet.family() {
            Family::V4 => {
                self.ip[0] = u32::from_ne_bytes([0x45, 0, 0, 40]);
                self.ip[3] = packet.source[0];
                self.ip[4] = packet.destination[0];
            }
            Family::V6 => {
                self.ip[0] = u32::from_ne_bytes([0x60, 0, 0, 0]);
                let mut word = 0;
                while word < 4 {
                    self.ip[2 + word] = packet.source[word];
                    self.ip[6 + word] = packet.destination[word];
                    word += 1;
                }
            }
        }
        let segment = &packet.segment;
        let offers_mss = segment.options.has(Options::MSS);
        let length = if offers_mss { TCP_MSS } else { TCP };
        self.tcp[0] = ports(packet.source_port, packet.destination_port);
        self.tcp[1] = segment.seq.0.to_be();
        self.tcp[2] = segment.ack.0.to_be();
        let [high, low] = segment.window.to_be_bytes();
        self.tcp[3] = u32::from_ne_bytes([(length << 2) as u8, segment.flags.0, high, low]);
        self.tcp[4] = 0;
        let [high, low] = segment.options.mss.to_be_bytes();
        self.tcp[5] = u32::from_ne_bytes([2, 4, high, low]);
        length
    }

    fn ip(&mut self) -> *mut c_void {
        self.ip.as_mut_ptr().cast()
    }

    fn tcp(&mut self) -> *mut tcphdr {
        self.tcp.as_mut_ptr().cast()
    }
}

/// Both ports as they lie in the packet.
#[inline(always)]
fn ports(from: u16, to: u16) -> u32 {
    (u32::from(from) << 16 | u32::from(to)).to_be()
}

/// The kernel's cookie for the SYN in `headers`; `None` if it gives none.
#[inline(always)]
fn make(headers: &mut Headers, family: Family, length: u32) -> Option<u32> {
    let (ip, tcp) = (headers.ip(), headers.tcp());
    // Constants, or the verifier has to follow the length.
    // SAFETY: both buffers are as long as the helper is told.
    let cookie = unsafe {
        match (family, length == TCP_MSS) {
            (Family::V4, true) => bpf_tcp_raw_gen_syncookie_ipv4(ip.cast::<iphdr>(), tcp, TCP_MSS),
            (Family::V4, false) => bpf_tcp_raw_gen_syncookie_ipv4(ip.cast::<iphdr>(), tcp, TCP),
            (Family::V6, true) => {
                bpf_tcp_raw_gen_syncookie_ipv6(ip.cast::<ipv6hdr>(), tcp, TCP_MSS)
            }
            (Family::V6, false) => bpf_tcp_raw_gen_syncookie_ipv6(ip.cast::<ipv6hdr>(), tcp, TCP),
        }
    };
    (cookie >= 0).then_some(cookie as u32)
}

/// The same by way of the listening socket, which learns from it that cookies are
/// out, and refuses if it could not take another connection.
#[inline(always)]
fn make_and_stamp(
    socket: &sockets::Listening,
    family: Family,
    headers: &mut Headers,
    length: u32,
) -> Option<u32> {
    let (ip, tcp) = (headers.ip(), headers.tcp());
    let network = match family {
        Family::V4 => IPV4,
        Family::V6 => IPV6,
    };
    let length = if length == TCP_MSS { TCP_MSS } else { TCP };
    // SAFETY: both buffers are as long as the helper is told, and the socket is
    // held until it is dropped.
    let cookie = unsafe { bpf_tcp_gen_syncookie(socket.get(), ip, network, tcp, length) };
    (cookie > 0).then_some(cookie as u32)
}

/// Whether the ACK in `packet` returns a cookie of the kernel's.
#[inline(always)]
pub fn is_returned(packet: &Packet, headers: &mut Headers) -> bool {
    headers.fill(packet);
    let (ip, tcp) = (headers.ip(), headers.tcp());
    // SAFETY: the helpers read one header of fixed size each.
    let code = unsafe {
        match packet.family() {
            Family::V4 => bpf_tcp_raw_check_syncookie_ipv4(ip.cast::<iphdr>(), tcp),
            Family::V6 => bpf_tcp_raw_check_syncookie_ipv6(ip.cast::<ipv6hdr>(), tcp),
        }
    };
    code == 0
}

/// Whether nobody answers at the packet's source, or this host itself would.
#[inline(always)]
pub fn is_from_nobody(packet: &Packet) -> bool {
    if packet.source == packet.destination {
        return true;
    }
    match packet.family() {
        Family::V4 => defence::is_nobody_v4(u32::from_be(packet.source[0])),
        Family::V6 => defence::is_nobody_v6(packet.source.map(u32::from_be)),
    }
}

/// Whether the packet's source is an address of this host, or a network's broadcast,
/// as the agent has found them.
#[inline(always)]
fn is_from_here(packet: &Packet) -> bool {
    let mark = defence::mark(packet.source);
    let Some(bits) = ANSWERS.get_ptr(defence::BUCKETS as u32) else {
        return false;
    };
    // SAFETY: an aligned word.
    let bits = unsafe { bits.read_volatile() };
    bits & defence::mark_bit(mark) != 0 && is_marked(mark)
}

/// Whether `mark` is among the marks.
#[inline(never)]
fn is_marked(mark: u64) -> bool {
    for index in 0..defence::MARKS as u32 {
        let Some(word) = ANSWERS.get_ptr(defence::BUCKETS as u32 + 1 + index) else {
            return false;
        };
        // SAFETY: an aligned word.
        let word = unsafe { word.read_volatile() };
        if word == 0 {
            return false;
        }
        if word == mark {
            return true;
        }
    }
    false
}

/// Marks the packet's source as one that completes handshakes.
#[inline(never)]
pub fn prove(packet: &Packet, live: &Live, now_ns: u64) {
    let place = source(packet, live);
    let _ = PROVED.insert(place, now_ns, 0);
}

#[inline(always)]
fn source(packet: &Packet, live: &Live) -> Place {
    let [v4, v6] = live.source_bits;
    let bits = match packet.family() {
        Family::V4 => v4,
        Family::V6 => v6,
    };
    Place::source(packet.family(), packet.source, bits, 0)
}

/// The SYN in `packet`, or the one that the ACK in it tells of, as the sketch of
/// answers knows it.
#[inline(always)]
fn trace(packet: &Packet, isn: Seq) -> Trace {
    let ports = u32::from(packet.source_port) << 16 | u32::from(packet.destination_port);
    Trace::of(packet.source, ports, isn)
}

#[inline(always)]
fn bucket(trace: Trace) -> Option<*mut u64> {
    ANSWERS.get_ptr_mut(trace.slot & (defence::BUCKETS as u32 - 1))
}

/// Whether the packet's source may be sent another SYN-ACK: nobody makes us flood
/// somebody else. Who lately completed a handshake gets any number. Counts a SYN
/// that was sent again, if it may be answered.
#[inline(never)]
fn may_answer(packet: &Packet, listener: *mut Listener, live: &Live, now_ns: u64) -> bool {
    let trace = trace(packet, packet.segment.seq);
    let Some(bucket) = bucket(trace) else {
        return true;
    };
    // SAFETY: an aligned word. Two CPUs that count at once count one.
    let counted =
        unsafe { defence::count_answer(bucket.read_volatile(), trace, now_ns, live.answer_rate) };
    // SAFETY: as above.
    unsafe { bucket.write_volatile(counted.bucket) };
    if !counted.within {
        // SAFETY: an aligned word, read once; an entry reused meanwhile vouches for
        // one packet more or less.
        let proved = unsafe { PROVED.get(source(packet, live)) };
        if !proved.is_some_and(|&at| defence::vouches(at, now_ns)) {
            return false;
        }
    }
    if counted.again {
        // SAFETY: an aligned word of a map value that every CPU changes atomically.
        unsafe { fetch_add(&raw mut (*listener).retransmitted, 1) };
    }
    true
}

/// Counts an ACK to `listener` that returns no cookie: as one that comes too late,
/// where the sketch still knows its SYN.
#[inline(never)]
pub fn count_unreturned(packet: &Packet, listener: *mut Listener, now_ns: u64) {
    let trace = trace(packet, packet.segment.seq.minus(1));
    let is_expired = bucket(trace).is_some_and(|bucket| {
        // SAFETY: an aligned word.
        let held = unsafe { bucket.read_volatile() };
        defence::is_expired(held, trace, now_ns)
    });
    // SAFETY: aligned words of a map value that every CPU changes atomically.
    unsafe {
        if is_expired {
            fetch_add(&raw mut (*listener).expired, 1);
        } else {
            fetch_add(&raw mut (*listener).invalid, 1);
        }
    }
}

/// Answers the SYN in `scratch` with a cookie, if it is one to be answered so.
/// Gives the reason with which it leaves; `None` if it is to go on to the stack.
#[inline(always)]
pub fn answer(
    context: *mut c_void,
    frame: &Ingress<'_>,
    scratch: &mut Scratch,
    live: &Live,
) -> Option<Reason> {
    let packet = &scratch.packet;
    let family = packet.family();
    let zone = zone(scratch);
    let listener = listeners::of(packet, zone)?;
    // SAFETY: a map value of integers; what races here is mended by the next SYN.
    let listener = unsafe { &mut *listener };
    let high = scratch.from != 0;
    let wanted = defence::wants_cookie(
        listener,
        live,
        || gauge::taken(Gauge::HalfOpen),
        || shares::exhausted(&scratch.event.key, family, high, live),
    );
    if !wanted {
        return None;
    }
    let now = Tick::from_ns(scratch.event.time_ns);
    let approach = defence::approach(listener, now);
    if matches!(approach, Approach::Ask) {
        listener.asked = now;
        return None;
    }
    if family == Family::V6
        && packet.at != packet.network + IPV6
        && !extensions::may_be_left_out(frame, packet.network, packet.at)
    {
        return None;
    }
    if is_from_nobody(packet) || is_from_here(packet) {
        return Some(Reason::BadSource);
    }
    if !may_answer(packet, listener, live, scratch.event.time_ns) {
        return Some(Reason::AnswerLimit);
    }
    let length = scratch.headers.fill(packet);
    let cookie = match approach {
        Approach::AnswerAndStamp => {
            let Some(socket) = sockets::Listening::find(context, packet, true) else {
                // It is gone: what the stack answers counts, until it is seen to
                // answer with a SYN-ACK again.
                listener.forget();
                return None;
            };
            let cookie = make_and_stamp(&socket, family, &mut scratch.headers, length);
            drop(socket);
            let cookie = cookie?;
            listener.stamped = now;
            cookie
        }
        Approach::Answer | Approach::Ask => make(&mut scratch.headers, family, length)?,
    };
    let room = packet
        .length
        .wrapping_sub(packet.segment.payload)
        .wrapping_sub(TCP)
        & 0x3c;
    // The coarse clock is behind the exact one, never ahead.
    let now_ms = (scratch.event.time_ns / 1_000_000) as u32;
    scratch.answer = defence::answer(&packet.segment, listener, live, room, now_ms);
    if !write(frame, packet, &scratch.answer, cookie, room) {
        return None;
    }
    // SAFETY: an aligned word that every CPU changes atomically.
    unsafe { fetch_add(&raw mut listener.sent, 1) };
    Some(Reason::CookieSent)
}

/// The zone of the packet, from its key.
#[inline(always)]
pub fn zone(scratch: &Scratch) -> u32 {
    match scratch.packet.family() {
        Family::V4 => scratch.event.key.words[3],
        Family::V6 => scratch.event.key.words[9],
    }
}

/// Four octets of options that say nothing, in IPv4 as in TCP.
const NOPS: u32 = u32::from_ne_bytes([1; 4]);

/// Turns the SYN into the SYN-ACK, in place. Every header keeps its length, but for
/// extension headers: they are cut off, as data are. False if the frame cannot be
/// written.
#[inline(always)]
fn write(frame: &Ingress<'_>, packet: &Packet, answer: &Answer, cookie: u32, room: u32) -> bool {
    // First what may fail before anything is changed.
    if !frame.turn_back() {
        return false;
    }
    let at = match packet.family() {
        Family::V4 => packet.at,
        Family::V6 => packet.network + IPV6,
    };
    let excess = packet.segment.payload + packet.at.wrapping_sub(at);
    if excess != 0 && !frame.cut(excess) {
        return false;
    }
    let tcp_length = TCP + room;
    let header = packet.at.wrapping_sub(packet.network) & 0x3c;
    let mut sum;
    match packet.family() {
        Family::V4 => {
            sum = u64::from(packet.source[0]) + u64::from(packet.destination[0]);
            let total = (header + tcp_length) as u16;
            let [high, low] = total.to_be_bytes();
            let mut words = [
                u32::from_ne_bytes([0x40 | (header >> 2) as u8, 0, high, low]),
                // No identification, not to be fragmented.
                u32::from_ne_bytes([0, 0, 0x40, 0]),
                // 64 hops, TCP.
                u32::from_ne_bytes([64, 6, 0, 0]),
                packet.destination[0],
                packet.source[0],
            ];
            let mut ip_sum: u64 = 0;
            for word in words {
                ip_sum += u64::from(word);
            }
            // Options of the SYN become NOPs.
            let nops = (header.wrapping_sub(IPV4) & 0x3c) >> 2;
            ip_sum += u64::from(nops) * u64::from(NOPS);
            words[2] |= u32::from(!fold(ip_sum)) << 16;
            if !frame.put(packet.network, &words) {
                return false;
            }
            for index in 0..10 {
                if nops == 0 {
                    break;
                }
                if index < nops && !frame.put(packet.network + IPV4 + 4 * index, &[NOPS]) {
                    return false;
                }
            }
        }
        Family::V6 => {
            sum = 0;
            for word in 0..4 {
                sum += u64::from(packet.source[word]) + u64::from(packet.destination[word]);
            }
            let [high, low] = (tcp_length as u16).to_be_bytes();
            let first = [[0x60, 0, 0, 0], [high, low, 6, 64]].map(u32::from_ne_bytes);
            if !frame.put(packet.network, &first)
                || !frame.put(packet.network + 8, &packet.destination)
                || !frame.put(packet.network + 24, &packet.source)
            {
                return false;
            }
        }
    }
    // The rest of the pseudo-header (RFC 9293 section 3.1): protocol and length.
    sum += u64::from((6 + tcp_length).to_be());
    let [high, low] = answer.window.to_be_bytes();
    let words = [
        ports(packet.destination_port, packet.source_port),
        cookie.to_be(),
        packet.segment.seq.plus(1).0.to_be(),
        u32::from_ne_bytes([(tcp_length << 2) as u8, answer.flags.0, high, low]),
    ];
    for word in words {
        sum += u64::from(word);
    }
    let options = answer_words(answer);
    // What nearly every SYN carries: all of it at once.
    if room == defence::OPTIONS as u32 {
        for word in options {
            sum += u64::from(word);
        }
        let [a, b, c, d] = words;
        let [o0, o1, o2, o3, o4] = options;
        let whole = [a, b, c, d, (!fold(sum)).into(), o0, o1, o2, o3, o4];
        return frame.put(at, &whole);
    }
    for index in 0..10_usize {
        if (index as u32) < room >> 2 {
            let word = *options.get(index).unwrap_or(&NOPS);
            sum += u64::from(word);
            if !frame.put(at + TCP + 4 * index as u32, &[word]) {
                return false;
            }
        }
    }
    let [a, b, c, d] = words;
    const _: () = assert!(TCP_LONGEST == TCP + 40);
    frame.put(at, &[a, b, c, d, (!fold(sum)).into()])
}

/// The options as words as they lie in the frame.
#[inline(always)]
fn answer_words(answer: &Answer) -> [u32; defence::OPTIONS / 4] {
    let mut words = [0; defence::OPTIONS / 4];
    let mut index = 0;
    while index < defence::OPTIONS / 4 {
        words[index] = u32::from_ne_bytes([
            answer.options[4 * index],
            answer.options[4 * index + 1],
            answer.options[4 * index + 2],
            answer.options[4 * index + 3],
        ]);
        index += 1;
    }
    words
}
