//! Names shared with the eBPF object and with the pin directory.

/// Ingress hook.
pub const INGRESS: &str = "tracker_ingress";
/// Egress hook.
pub const EGRESS: &str = "tracker_egress";
/// Removes what userspace proposes.
pub const REAP: &str = "tracker_reap";
/// Makes flows of what userspace tells of.
pub const SEED: &str = "tracker_seed";

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
/// Compiled policies.
pub const POLICIES: &str = "POLICIES";
/// Their prefixes.
pub const PREFIXES: &str = "PREFIXES";
/// What rules have decided.
pub const RULE_COUNTS: &str = "RULE_COUNTS";
/// What all CPUs share of rules.
pub const RULE_STATES: &str = "RULE_STATES";
/// Flows by rule and source prefix.
pub const RULE_SHARES: &str = "RULE_SHARES";
/// When flows by rule and source prefix are due.
pub const RULE_RATES: &str = "RULE_RATES";
/// The last refusals of connections without a flow.
pub const DENIALS: &str = "DENIALS";
/// Connections that are to become flows.
pub const SEEDS: &str = "SEEDS";
/// The clock of tests.
pub const TEST_CLOCK: &str = "TEST_CLOCK";

/// Every map that outlives its programs, pinned under its own name. Read-only
/// data is not among them: each program has its own.
pub const MAPS: [&str; 31] = [
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
    POLICIES,
    PREFIXES,
    RULE_COUNTS,
    RULE_STATES,
    RULE_SHARES,
    RULE_RATES,
    DENIALS,
    SEEDS,
    TEST_CLOCK,
];

/// Every program and the name of its pin.
pub const PROGRAMS: [(&str, &str); 4] = [
    (INGRESS, "prog_ingress"),
    (EGRESS, "prog_egress"),
    (REAP, "prog_reap"),
    (SEED, "prog_seed"),
];

/// The pin of a program.
pub fn program_pin(program: &str) -> &'static str {
    match program {
        INGRESS => "prog_ingress",
        EGRESS => "prog_egress",
        SEED => "prog_seed",
        _ => "prog_reap",
    }
}
