//! What the kernel programs and userspace hand each other through maps.
//!
//! Every layout is `repr(C)` without implicit padding, and its size is fixed by
//! a compile-time assert, so both sides of the ABI fail to build rather than
//! disagree. A change of any of them changes [`LAYOUT_VERSION`].

mod control;
mod defence;
mod event;
mod flow;
mod key;
mod policy;
mod record;

#[cfg(feature = "user")]
mod pod;

pub use control::{
    CANDIDATES, Candidate, Cause, FULL_SCALE, Gauge, GaugeCell, Hook, Interface, LOST_EMBRYO,
    LOST_EVENTS, Live, Mode, PROFILES, ReapControl, ReasonCount, RingSlot, Role, SYN_ACK_RETRIES,
    ZoneKey, interface_flags, reason_slot, switches,
};
pub use defence::{AtLimit, Ban, BanKey, CookieMode, Listener, Place, PlaceKind, defence_flags};
pub use event::{Event, EventKind};
pub use flow::{
    Endpoint, Flow, FlowId, INITIATOR, Origin, Path, RESPONDER, SpinLock, end_flags, flow_flags,
    held,
};
pub use key::{Family, Key, KeyV4, KeyV6, Side, Zone};
pub use policy::{
    Block, CHUNK_RULES, Denial, MAX_CHUNKS, MAX_RULES, POLICY_SLOTS, PolicyHeader, PrefixKey,
    PrefixVectors, RULE_PAGES, RULES_PER_PAGE, Rate, Rule, RuleCount, RuleState, SEEDS, Seed,
    policy_flags, rule_flags,
};
pub use record::{Bound, History, NO_REASON, PendingSyn, Refusal, STEPS, Step};

/// Version of all pinned layouts together. A pin directory of another version
/// is refused; `tracker unload` removes it.
pub const LAYOUT_VERSION: u32 = 4;

#[cfg(test)]
mod tests;
