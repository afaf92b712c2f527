//! Names shared with the eBPF object and with the pin directory.

/// Ingress hook.
pub const INGRESS: &str = "tracker_ingress";
/// Egress hook.
pub const EGRESS: &str = "tracker_egress";
/// Removes what userspace proposes.
pub const REAP: &str = "tracker_reap";

/// IPv4 flows.
pub const FLOWS_V4: &str = "FLOWS_V4";
/// IPv6 flows.
pub const FLOWS_V6: &str = "FLOWS_V6";
/// Running configuration.
pub const LIVE: &str = "LIVE";
/// Shared counters.
pub const GAUGES: &str = "GAUGES";
/// Packets by reason and hook.
pub const REASONS: &str = "REASONS";
/// Events of open flows.
pub const EVENTS: &str = "EVENTS";
/// Events of flows before the handshake is complete.
pub const EMBRYO_EVENTS: &str = "EMBRYO_EVENTS";
/// Events that found their ring full.
pub const LOST: &str = "LOST";
/// Half-open flows by age.
pub const HALF_OPEN_RING: &str = "HALF_OPEN_RING";
/// Generations handed out.
pub const GENERATION: &str = "GENERATION";
/// Configured zones.
pub const ZONES: &str = "ZONES";
/// Interfaces that carry the hooks.
pub const INTERFACES: &str = "INTERFACES";
/// Flows proposed for removal.
pub const CANDIDATES: &str = "CANDIDATES";
/// The request to the reaper.
pub const REAP_CONTROL: &str = "REAP";
/// The last steps of flows.
pub const HISTORY: &str = "HISTORY";
/// The last refused segments of flows.
pub const REFUSALS: &str = "REFUSALS";
/// SYNs that passed on live flows.
pub const PENDING_SYNS: &str = "PENDING_SYNS";
/// Sockets that accept connections.
pub const LISTENERS: &str = "LISTENERS";
/// Half-open flows by listener and by source prefix.
pub const SHARES: &str = "SHARES";
/// Sources that lately completed a handshake.
pub const PROVED: &str = "PROVED";
/// The sketch of SYN-ACKs by address.
pub const ANSWERS: &str = "ANSWERS";
/// Banned prefixes.
pub const BANS: &str = "BANS";
/// The clock of tests.
pub const TEST_CLOCK: &str = "TEST_CLOCK";

/// Every map that outlives its programs, pinned under its own name. Read-only
/// data is not among them: each program has its own.
pub const MAPS: [&str; 23] = [
    FLOWS_V4,
    FLOWS_V6,
    LIVE,
    GAUGES,
    REASONS,
    EVENTS,
    EMBRYO_EVENTS,
    LOST,
    HALF_OPEN_RING,
    GENERATION,
    ZONES,
    INTERFACES,
    CANDIDATES,
    REAP_CONTROL,
    HISTORY,
    REFUSALS,
    PENDING_SYNS,
    LISTENERS,
    SHARES,
    PROVED,
    ANSWERS,
    BANS,
    TEST_CLOCK,
];

/// Every program and the name of its pin.
pub const PROGRAMS: [(&str, &str); 3] = [
    (INGRESS, "prog_ingress"),
    (EGRESS, "prog_egress"),
    (REAP, "prog_reap"),
];

/// The pin of a program.
pub fn program_pin(program: &str) -> &'static str {
    match program {
        INGRESS => "prog_ingress",
        EGRESS => "prog_egress",
        _ => "prog_reap",
    }
}
