//! The one reason with which each packet leaves.

/// What a reason means for the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// As it should be; passes.
    Accept,
    /// Unusual, yet honest traffic has it; passes and is counted.
    Note,
    /// No honest packet has it; dropped when enforcing, else counted.
    Refuse,
}

impl Class {
    /// The word that users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Note => "note",
            Self::Refuse => "refuse",
        }
    }
}

/// Declares [`Reason`] and everything that must agree with it.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $class:ident, $word:literal;)+) => {
        /// Why a packet left the way it did. Indexes the counters, labels the
        /// metric, prints in the command line. Numbers are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name = $number,)+
        }

        impl Reason {
            /// Every reason, in the order of its number.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The class, which is fixed.
            #[inline(always)]
            #[must_use]
            pub const fn class(self) -> Class {
                match self {
                    $(Self::$name => Class::$class,)+
                }
            }

            /// The word in metrics and on the command line.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)+
                }
            }

            /// One sentence for people.
            #[must_use]
            pub const fn describe(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc),+).trim_ascii(),)+
                }
            }

            /// The reason of every number; [`Reason::NotIp`] where there is none.
            const BY_NUMBER: [Self; 256] = {
                let mut by_number = [Self::NotIp; 256];
                $(by_number[$number] = Self::$name;)+
                by_number
            };

            /// The reason whose number is `raw`.
            #[must_use]
            pub const fn from_raw(raw: u8) -> Option<Self> {
                match raw {
                    $($number => Some(Self::$name),)+
                    _ => None,
                }
            }
        }
    };
}

reasons! {
    // Not for the tracker.
    /// Neither IPv4 nor IPv6.
    NotIp = 0, Accept, "not_ip";
    /// An IP packet that carries no TCP.
    NotTcp = 1, Accept, "not_tcp";
    /// A fragment behind the first: it has no ports and means nothing without the first.
    LaterFragment = 2, Accept, "later_fragment";
    /// A forwarded packet on its way out, counted where it came in.
    Forwarded = 3, Accept, "forwarded";

    // Segments of a flow.
    /// A segment of a tracked flow.
    Tracked = 8, Accept, "tracked";
    /// A SYN that opened a flow.
    FlowOpened = 9, Accept, "flow_opened";
    /// A SYN that took over the addresses and ports of a closed or expired flow.
    FlowReopened = 10, Accept, "flow_reopened";
    /// A segment of a connection that is older than the tracker's knowledge of it.
    FlowPickedUp = 11, Accept, "flow_picked_up";
    /// The initiator's SYN again.
    SynRetransmit = 12, Accept, "syn_retransmit";
    /// An unanswered initiator's SYN with another sequence number.
    SynRenewed = 13, Accept, "syn_renewed";
    /// The responder's SYN-ACK again.
    SynAckRetransmit = 14, Accept, "syn_ack_retransmit";
    /// A responder's SYN-ACK with another sequence number, before any answer to the first.
    SynAckRenewed = 15, Accept, "syn_ack_renewed";
    /// A FIN again.
    FinRetransmit = 16, Accept, "fin_retransmit";
    /// An RST that closed the flow.
    ResetClosed = 17, Accept, "reset_closed";
    /// A first fragment of a tracked flow: its segment's length is not known.
    FirstFragment = 18, Accept, "first_fragment";
    /// An ICMP error about a segment that a tracked flow has in flight (RFC 5927).
    IcmpRelated = 19, Accept, "icmp_related";
    /// A SYN-ACK that answers a SYN which had passed on a live flow: both ends have begun anew.
    FlowRestarted = 20, Accept, "flow_restarted";
    /// A SYN that was answered with a SYN cookie and left nothing behind.
    CookieSent = 21, Accept, "cookie_sent";
    /// An ACK that returned a SYN cookie: it opened a flow.
    CookieReturned = 22, Accept, "cookie_returned";

    // Honest, and moving nothing.
    /// A SYN on a live flow: the receiver answers it with a challenge ACK (RFC 9293 section 3.10.7.4).
    SynOnLive = 32, Note, "syn_on_live";
    /// A SYN on a flow in TIME_WAIT that neither a higher sequence number nor a newer timestamp tells from an old duplicate (RFC 6191).
    SynInTimeWait = 33, Note, "syn_in_time_wait";
    /// A SYN-ACK that does not acknowledge the SYN: of a former connection, or of none.
    SynAckWrongAck = 34, Note, "syn_ack_wrong_ack";
    /// A SYN-ACK from an endpoint that is past its handshake: an old duplicate.
    SynAckOnLive = 35, Note, "syn_ack_on_live";
    /// A segment on a flow that an RST or both closes have ended.
    AfterClose = 36, Note, "after_close";
    /// A segment of an endpoint whose peer's half of the handshake was not seen, or of a later connection of which only a SYN was.
    HandshakeUnseen = 37, Note, "handshake_unseen";
    /// A segment that leaves this host and belongs to no flow.
    LocalStray = 38, Note, "local_stray";
    /// A SYN that found no half-open reservation left: its connection is picked up when it proves itself.
    HalfOpenLimit = 39, Note, "half_open_limit";
    /// A segment that would be picked up, but too many such flows wait for proof.
    PickupLimit = 40, Note, "pickup_limit";
    /// A new flow found its table full.
    TableFull = 41, Note, "table_full";
    /// A new flow found no memory in the kernel.
    NoMemory = 42, Note, "no_memory";
    /// A new flow could not be inserted for another reason, such as a bucket held by an interrupted program.
    InsertFailed = 43, Note, "insert_failed";
    /// A packet met its flow while that was being made or removed, more than once.
    Contended = 44, Note, "contended";
    /// The control map is missing its entry: the agent has not finished loading.
    NotConfigured = 45, Note, "not_configured";
    /// A header lies beyond the part of the frame that a program can reach.
    Unreachable = 46, Note, "unreachable";
    /// More VLAN tags than two: nothing behind them is read.
    TooManyTags = 47, Note, "too_many_tags";
    /// A FIN just beyond a window that is full, or its acknowledgement: the RFC has neither, some stacks do.
    WindowEdge = 48, Note, "window_edge";
    /// A segment that a check would refuse, on a flow that is exempt from checks.
    Liberal = 49, Note, "liberal";
    /// A segment that its receiver has acknowledged already: a keep-alive, data whose acknowledgement was lost, or an old duplicate.
    AlreadyReceived = 50, Note, "already_received";
    /// A segment from more than a window before what its receiver has acknowledged.
    SegmentTooOld = 51, Note, "segment_too_old";
    /// An acknowledgement from more than a window before its sender's newest (RFC 5961 section 5).
    AckTooOld = 52, Note, "ack_too_old";
    /// An RST inside the window but not exact: its receiver answers it with a challenge ACK (RFC 5961 section 3).
    ResetInexact = 53, Note, "reset_inexact";
    /// An RST from before the window, of an endpoint that has closed: it answers something that crossed its FIN.
    ResetLate = 54, Note, "reset_late";
    /// An RST that says nothing to its receiver: it answers a segment of a former connection, or overtook a SYN-ACK.
    ResetForeign = 55, Note, "reset_foreign";
    /// An ICMP error about a TCP segment that no tracked flow has in flight.
    IcmpUnrelated = 56, Note, "icmp_unrelated";
    /// A FIN that lies before data already sent.
    FinInside = 57, Note, "fin_inside";
    /// A SYN to a listener that has as many half-open flows as it may: its connection is picked up when it proves itself.
    ListenerLimit = 58, Note, "listener_limit";
    /// A SYN from a prefix that has as many half-open flows as it may: its connection is picked up when it proves itself.
    SourceLimit = 59, Note, "source_limit";
    /// An ACK that returned a SYN cookie, for whose flow there was no room.
    CookieUntracked = 60, Note, "cookie_untracked";
    /// An answer of the tracker's own to a connection of this host that the policy rejects.
    OwnRejection = 61, Note, "own_rejection";

    // Malformed.
    /// The frame ends inside its Ethernet or VLAN header.
    ShortEthernet = 64, Refuse, "short_ethernet";
    /// The frame ends inside its IP header.
    ShortIp = 66, Refuse, "short_ip";
    /// An IP version or header length that cannot be.
    BadIpHeader = 67, Refuse, "bad_ip_header";
    /// An IP length that is less than its own headers or more than the frame.
    BadIpLength = 68, Refuse, "bad_ip_length";
    /// More IPv6 extension headers than the tracker follows.
    TooManyExtensions = 69, Refuse, "too_many_extensions";
    /// The packet ends inside an IPv6 extension header.
    ShortExtension = 70, Refuse, "short_extension";
    /// A first fragment too small to hold the TCP header (RFC 1858, RFC 7112).
    TinyFragment = 71, Refuse, "tiny_fragment";
    /// A later fragment that would overlap the TCP header (RFC 1858, RFC 3128).
    OverlappingFragment = 72, Refuse, "overlapping_fragment";
    /// The packet ends inside its TCP header.
    ShortTcp = 73, Refuse, "short_tcp";
    /// A TCP data offset below five or beyond the packet.
    BadTcpOffset = 74, Refuse, "bad_tcp_offset";
    /// A combination of TCP flags that no endpoint sends.
    BadFlags = 75, Refuse, "bad_flags";
    /// Equal addresses and ports on both ends (LAND).
    EqualEnds = 76, Refuse, "equal_ends";
    /// A TCP checksum that does not fit the segment.
    BadChecksum = 77, Refuse, "bad_checksum";
    /// A SYN with data, which the configuration does not allow.
    SynData = 78, Refuse, "syn_data";
    /// A SYN from an address that nobody answers: multicast, broadcast, loopback or unspecified.
    BadSource = 79, Refuse, "bad_source";

    // Of no flow.
    /// An ACK or data that belongs to no flow and may not be picked up.
    StrayAck = 96, Refuse, "stray_ack";
    /// A SYN-ACK that belongs to no flow.
    StraySynAck = 97, Refuse, "stray_syn_ack";
    /// A FIN that belongs to no flow.
    StrayFin = 98, Refuse, "stray_fin";
    /// An RST that belongs to no flow.
    StrayReset = 99, Refuse, "stray_reset";
    /// An ACK to a listener that is of no flow and returns no valid SYN cookie.
    CookieInvalid = 100, Refuse, "cookie_invalid";

    // Against the state of its flow.
    /// An ACK that would complete the handshake but does not acknowledge the SYN.
    HandshakeWrongAck = 112, Refuse, "handshake_wrong_ack";
    /// An acknowledgement of something that was never sent.
    AckUnsent = 113, Refuse, "ack_unsent";
    /// An RST that answers a SYN but does not acknowledge it.
    ResetWrongAck = 114, Refuse, "reset_wrong_ack";
    /// Data or a second FIN beyond the FIN.
    BeyondFin = 115, Refuse, "beyond_fin";
    /// A segment that starts beyond the window of its receiver.
    BeyondWindow = 116, Refuse, "beyond_window";
    /// A segment whose timestamp is more than 30 s older than its sender's newest (PAWS, RFC 7323 section 5).
    TimestampOld = 117, Refuse, "timestamp_old";
    /// An RST outside the window of its receiver (RFC 5961 section 3).
    ResetOutsideWindow = 118, Refuse, "reset_outside_window";

    // Against a limit.
    /// A SYN beyond the half-open limit.
    HalfOpenRefused = 128, Refuse, "half_open_refused";
    /// A SYN beyond its listener's half-open limit.
    ListenerRefused = 129, Refuse, "listener_refused";
    /// A SYN beyond its source prefix's half-open limit.
    SourceRefused = 130, Refuse, "source_refused";
    /// A SYN from an address that was sent as many SYN-ACKs as one may get in a second.
    AnswerLimit = 131, Refuse, "answer_limit";
    /// A packet of no flow from a banned prefix.
    Banned = 132, Refuse, "banned";
    /// A new flow that found its table full.
    TableRefused = 133, Refuse, "table_refused";

    // Against the policy.
    /// A connection that a rule of the policy drops.
    PolicyDropped = 144, Refuse, "policy_dropped";
    /// A connection that a rule of the policy rejects with an RST.
    PolicyReset = 145, Refuse, "policy_reset";
    /// A connection that a rule of the policy rejects with an ICMP error.
    PolicyProhibited = 146, Refuse, "policy_prohibited";
    /// A segment of a flow that the policy has come to forbid: it has ended.
    PolicyRevoked = 147, Refuse, "policy_revoked";
    /// A connection that comes sooner than its rule's rate allows.
    RuleRate = 148, Refuse, "rule_rate";
    /// A connection that comes sooner than its rule's rate for one source allows.
    RuleSourceRate = 149, Refuse, "rule_source_rate";
    /// A connection beyond those that its rule allows at once.
    RuleFlows = 150, Refuse, "rule_flows";
    /// A connection beyond those that its rule allows at once from one source.
    RuleSourceFlows = 151, Refuse, "rule_source_flows";
    /// An ICMP error about a TCP segment of no flow, where the policy does not allow by default.
    IcmpStray = 152, Refuse, "icmp_stray";
}

impl Reason {
    /// The reason whose number is `raw`, which must be one's. By table: on the
    /// packet path a match would be a path for the verifier per reason.
    #[inline(always)]
    #[must_use]
    pub const fn known(raw: u8) -> Self {
        Self::BY_NUMBER[raw as usize]
    }

    /// Whether its class is [`Class::Refuse`]. By table: a match over all reasons
    /// is code that ends nowhere for a number that is none, which the compiler
    /// rules out and the verifier does not.
    #[inline(always)]
    #[must_use]
    pub const fn refuses(self) -> bool {
        REFUSES[self as usize] != 0
    }

    /// Slots that counters indexed by [`Reason`] need; room for the reasons to
    /// come without a new layout.
    pub const SLOTS: u32 = 256;
}

/// 1 where the reason of that number refuses.
const REFUSES: [u8; 256] = {
    let mut refuses = [0; 256];
    let mut index = 0;
    while index < Reason::ALL.len() {
        let reason = Reason::ALL[index];
        refuses[reason as usize] = matches!(reason.class(), Class::Refuse) as u8;
        index += 1;
    }
    refuses
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn numbers_and_words_are_unique_and_round_trip() {
        let numbers: HashSet<u8> = Reason::ALL.iter().map(|&r| r as u8).collect();
        let words: HashSet<&str> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(numbers.len(), Reason::ALL.len());
        assert_eq!(words.len(), Reason::ALL.len());
        for &reason in Reason::ALL {
            assert_eq!(Reason::from_raw(reason as u8), Some(reason));
            assert_eq!(reason.refuses(), reason.class() == Class::Refuse);
            assert!(reason.describe().ends_with(['.', ')']), "{reason:?}");
        }
        assert_eq!(Reason::from_raw(255), None);
    }

    /// The numbers are part of the ABI of counters and events: this list only
    /// grows, and no line of it changes.
    #[test]
    fn numbers_never_change() {
        let expected = [
            (0, "not_ip"),
            (1, "not_tcp"),
            (2, "later_fragment"),
            (3, "forwarded"),
            (8, "tracked"),
            (9, "flow_opened"),
            (10, "flow_reopened"),
            (11, "flow_picked_up"),
            (12, "syn_retransmit"),
            (13, "syn_renewed"),
            (14, "syn_ack_retransmit"),
            (15, "syn_ack_renewed"),
            (16, "fin_retransmit"),
            (17, "reset_closed"),
            (18, "first_fragment"),
            (19, "icmp_related"),
            (20, "flow_restarted"),
            (21, "cookie_sent"),
            (22, "cookie_returned"),
            (32, "syn_on_live"),
            (33, "syn_in_time_wait"),
            (34, "syn_ack_wrong_ack"),
            (35, "syn_ack_on_live"),
            (36, "after_close"),
            (37, "handshake_unseen"),
            (38, "local_stray"),
            (39, "half_open_limit"),
            (40, "pickup_limit"),
            (41, "table_full"),
            (42, "no_memory"),
            (43, "insert_failed"),
            (44, "contended"),
            (45, "not_configured"),
            (46, "unreachable"),
            (47, "too_many_tags"),
            (48, "window_edge"),
            (49, "liberal"),
            (50, "already_received"),
            (51, "segment_too_old"),
            (52, "ack_too_old"),
            (53, "reset_inexact"),
            (54, "reset_late"),
            (55, "reset_foreign"),
            (56, "icmp_unrelated"),
            (57, "fin_inside"),
            (58, "listener_limit"),
            (59, "source_limit"),
            (60, "cookie_untracked"),
            (61, "own_rejection"),
            (64, "short_ethernet"),
            (66, "short_ip"),
            (67, "bad_ip_header"),
            (68, "bad_ip_length"),
            (69, "too_many_extensions"),
            (70, "short_extension"),
            (71, "tiny_fragment"),
            (72, "overlapping_fragment"),
            (73, "short_tcp"),
            (74, "bad_tcp_offset"),
            (75, "bad_flags"),
            (76, "equal_ends"),
            (77, "bad_checksum"),
            (78, "syn_data"),
            (79, "bad_source"),
            (96, "stray_ack"),
            (97, "stray_syn_ack"),
            (98, "stray_fin"),
            (99, "stray_reset"),
            (100, "cookie_invalid"),
            (112, "handshake_wrong_ack"),
            (113, "ack_unsent"),
            (114, "reset_wrong_ack"),
            (115, "beyond_fin"),
            (116, "beyond_window"),
            (117, "timestamp_old"),
            (118, "reset_outside_window"),
            (128, "half_open_refused"),
            (129, "listener_refused"),
            (130, "source_refused"),
            (131, "answer_limit"),
            (132, "banned"),
            (133, "table_refused"),
            (144, "policy_dropped"),
            (145, "policy_reset"),
            (146, "policy_prohibited"),
            (147, "policy_revoked"),
            (148, "rule_rate"),
            (149, "rule_source_rate"),
            (150, "rule_flows"),
            (151, "rule_source_flows"),
            (152, "icmp_stray"),
        ];
        let actual: Vec<(u8, &str)> = Reason::ALL.iter().map(|&r| (r as u8, r.as_str())).collect();
        assert_eq!(actual, expected);
    }
}
