//! Marks the layouts as plain old data for aya. The only unsafe code of the
//! crate: the orphan rule wants it beside the types.
#![expect(unsafe_code, reason = "aya::Pod is an unsafe trait")]

use super::{
    Ban, BanKey, Block, Candidate, Denial, Event, Flow, FlowId, GaugeCell, History, Interface, Key,
    KeyV4, KeyV6, Listener, Live, PendingSyn, Place, PrefixKey, PrefixVectors, ReapControl,
    ReasonCount, Refusal, RingSlot, RuleCount, RuleState, Seed, ZoneKey,
};

macro_rules! pod {
    ($($ty:ty),+ $(,)?) => {$(
        // SAFETY: repr(C), made of integers only, and without padding, which
        // the size assert beside the type holds: any bytes are a value, and
        // every byte of a value is initialised.
        unsafe impl aya::Pod for $ty {}
    )+};
}

pod!(
    Ban,
    BanKey,
    Block,
    Denial,
    Listener,
    Place,
    Candidate,
    Event,
    Flow,
    FlowId,
    GaugeCell,
    History,
    Interface,
    Key,
    KeyV4,
    KeyV6,
    Live,
    PendingSyn,
    PrefixKey,
    PrefixVectors,
    ReapControl,
    ReasonCount,
    Refusal,
    RingSlot,
    RuleCount,
    RuleState,
    Seed,
    ZoneKey,
);
