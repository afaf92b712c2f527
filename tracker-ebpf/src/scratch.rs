//! Working memory of a run: the verifier grants 512 bytes of stack, and the
//! brain's own registers spill there.

use tracker_common::{
    abi::{Event, Hook},
    defence::Answer,
    parse::Packet,
    policy::{Found, Reply, Subject},
    tcp::{Context, Outcome, Segment},
};

use crate::{cookie::Headers, maps::SCRATCH, memory::Drafts, policy::Route};

/// What a run needs in memory.
#[repr(C)]
pub struct Scratch {
    /// The packet.
    pub packet: Packet,
    /// The event that may be sent. Its key is the packet's flow key from the
    /// start, and the one that the tables are asked with.
    pub event: Event,
    /// What the brain is told beside the packet. In memory, so that every pass
    /// of the look-up loop looks the same to the verifier.
    pub context: Context,
    /// What the brain answered.
    pub outcome: Outcome,
    /// What goes into the side tables.
    pub drafts: Drafts,
    /// The event of a flow that makes room.
    pub evicted: Event,
    /// What the kernel makes a cookie of.
    pub headers: Headers,
    /// The SYN-ACK that carries one.
    pub answer: Answer,
    /// The segment that opens a flow: the packet's own, or the SYN-ACK that an ACK
    /// tells of which returned a cookie.
    pub opener: Segment,
    /// The connection that the policy is asked about.
    pub subject: Subject,
    /// The rule that decides about it.
    pub found: Found,
    /// What the kernel's routes are asked.
    pub route: Route,
    /// What a rejected packet is answered with.
    pub reply: Reply,
    /// When the next refusal may be kept, coarse ns.
    pub kept_due_ns: u64,
    /// When the next ICMP error may be sent, coarse ns.
    pub error_due_ns: u64,
    /// The tag of the key.
    pub tag: u32,
    /// [`tracker_common::abi::Side`] that sent it, as a number. Here, as the
    /// next, and not on the stack, where the verifier would follow both values
    /// all the way.
    pub from: u8,
    /// 1: this host's own stack sent it. Set by the hook.
    pub local: u8,
    /// 1: it begins its connection anew.
    pub restarts: u8,
    /// 1: it returned a cookie.
    pub returned: u8,
    /// [`tracker_common::reason::Reason`] with which the policy refuses it, 0: it does
    /// not.
    pub refused: u8,
    /// 1: the policy in force has been asked about its flow.
    pub asked: u8,
    /// Zero.
    pub reserved: [u8; 2],
}

/// This CPU's, for runs of `hook`.
///
/// The hooks have one each. A hook does not interrupt itself on one CPU: both
/// run with softirqs off, ingress in NAPI, egress under `rcu_read_lock_bh`.
#[inline(always)]
pub fn of(hook: Hook) -> Option<&'static mut Scratch> {
    let scratch = SCRATCH.get_ptr_mut(hook as u32)?;
    // SAFETY: array elements live as long as the program, no other run uses
    // this one meanwhile, and any bytes are a value.
    Some(unsafe { &mut *scratch })
}
