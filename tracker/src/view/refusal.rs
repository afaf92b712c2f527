//! Why a segment was refused, as a sentence with the numbers that did not fit.

use std::fmt;

use tracker_common::{
    abi::{Bound, Refusal},
    reason::{Class, Reason},
};

/// What a check compares, and where it is asked for: the reasons that numbers
/// explain.
///
/// In the text `{sender}` and `{receiver}` are the ends of the flow, `{value}`
/// is what was looked at and `{low}` to `{high}` what would have passed.
const TEMPLATES: [(Reason, &str); 7] = [
    (
        Reason::HandshakeWrongAck,
        "acknowledgement {value} of the {sender} does not acknowledge the {receiver}'s SYN, \
         which only {low} to {high} does (RFC 9293 3.10.7.4)",
    ),
    (
        Reason::AckUnsent,
        "acknowledgement {value} of the {sender} lies beyond {high}, the end of what the \
         {receiver} has sent (RFC 9293 3.10.7.4)",
    ),
    (
        Reason::ResetWrongAck,
        "an RST of the {sender} acknowledges {value}, where only {low} to {high} acknowledges \
         the {receiver}'s SYN (RFC 9293 3.10.7.3)",
    ),
    (
        Reason::BeyondFin,
        "a segment of the {sender} ends at {value}, beyond its FIN, which ended at {high} \
         (RFC 9293 3.6)",
    ),
    (
        Reason::BeyondWindow,
        "sequence number {value} of the {sender} lies beyond {high}, the highest that the \
         {receiver}'s window allows (RFC 9293 3.10.7.4)",
    ),
    (
        Reason::TimestampOld,
        "timestamp {value} of the {sender} is older than {low}, which is 30 s before its \
         newest, {high} (RFC 7323 5.3)",
    ),
    (
        Reason::ResetOutsideWindow,
        "an RST of the {sender} has the sequence number {value}, outside the {receiver}'s \
         window, {low} to {high} (RFC 5961 3)",
    ),
];

/// See [`TEMPLATES`].
fn template(reason: Reason) -> Option<&'static str> {
    let found = TEMPLATES.iter().find(|(other, _)| *other == reason);
    found.map(|(_, template)| *template)
}

/// Whether a [`Refusal`] for this reason carries numbers.
#[must_use]
pub fn has_numbers(reason: Reason) -> bool {
    template(reason).is_some()
}

/// The word for what was done about a reason.
#[must_use]
pub const fn verb(reason: Reason) -> &'static str {
    match reason.class() {
        Class::Accept => "accepted",
        Class::Note => "noted",
        Class::Refuse => "refused",
    }
}

/// Reads as the sentence, without a full stop at its end.
#[derive(Clone, Copy, Debug)]
pub struct Sentence<'a>(pub &'a Refusal);

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(reason) = Reason::from_raw(self.0.reason) else {
            return write!(f, "for reason number {}", self.0.reason);
        };
        let Some(mut rest) = template(reason) else {
            let what = reason.describe();
            return write!(
                f,
                "{}, from the {}",
                what.strip_suffix('.').unwrap_or(what),
                sender(self.0)
            );
        };
        while let Some((before, after)) = rest.split_once('{') {
            f.write_str(before)?;
            let (name, after) = after.split_once('}').unwrap_or((after, ""));
            let Bound { value, low, high } = self.0.bound;
            match name {
                "sender" => f.write_str(sender(self.0))?,
                "receiver" => f.write_str(receiver(self.0))?,
                "value" => write!(f, "{value}")?,
                "low" => write!(f, "{low}")?,
                _ => write!(f, "{high}")?,
            }
            rest = after;
        }
        f.write_str(rest)
    }
}

/// Names of the TCP flags of the segment, in the order of their bits.
pub fn flag_names(refusal: &Refusal) -> impl Iterator<Item = &'static str> {
    const NAMES: [&str; 8] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
    let flags = refusal.flags;
    (0_u8..)
        .zip(NAMES)
        .filter_map(move |(bit, name)| (flags >> bit & 1 != 0).then_some(name))
}

/// The end that sent what was refused.
#[must_use]
pub const fn sender(refusal: &Refusal) -> &'static str {
    if refusal.sender == 0 {
        "initiator"
    } else {
        "responder"
    }
}

const fn receiver(refusal: &Refusal) -> &'static str {
    if refusal.sender == 0 {
        "responder"
    } else {
        "initiator"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(reason: Reason, sender: u8) -> String {
        let refusal = Refusal {
            reason: reason as u8,
            sender,
            bound: Bound {
                value: 101_001,
                low: 1001,
                high: 1257,
            },
            ..Refusal::default()
        };
        Sentence(&refusal).to_string()
    }

    #[test]
    fn every_reason_with_numbers_has_its_sentence() {
        insta::assert_snapshot!(sentence(Reason::HandshakeWrongAck, 0), @"acknowledgement 101001 of the initiator does not acknowledge the responder's SYN, which only 1001 to 1257 does (RFC 9293 3.10.7.4)");
        insta::assert_snapshot!(sentence(Reason::AckUnsent, 1), @"acknowledgement 101001 of the responder lies beyond 1257, the end of what the initiator has sent (RFC 9293 3.10.7.4)");
        insta::assert_snapshot!(sentence(Reason::ResetWrongAck, 1), @"an RST of the responder acknowledges 101001, where only 1001 to 1257 acknowledges the initiator's SYN (RFC 9293 3.10.7.3)");
        insta::assert_snapshot!(sentence(Reason::BeyondFin, 0), @"a segment of the initiator ends at 101001, beyond its FIN, which ended at 1257 (RFC 9293 3.6)");
        insta::assert_snapshot!(sentence(Reason::BeyondWindow, 0), @"sequence number 101001 of the initiator lies beyond 1257, the highest that the responder's window allows (RFC 9293 3.10.7.4)");
        insta::assert_snapshot!(sentence(Reason::TimestampOld, 0), @"timestamp 101001 of the initiator is older than 1001, which is 30 s before its newest, 1257 (RFC 7323 5.3)");
        insta::assert_snapshot!(sentence(Reason::ResetOutsideWindow, 1), @"an RST of the responder has the sequence number 101001, outside the initiator's window, 1001 to 1257 (RFC 5961 3)");
    }

    #[test]
    fn a_reason_without_numbers_says_what_it_means() {
        assert_eq!(
            sentence(Reason::SynData, 0),
            "A SYN with data, which the configuration does not allow, from the initiator"
        );
    }

    /// The brain refuses segments of a flow under the reasons from 112 to 127, each
    /// with the numbers of its inequality; the others are of packets that never
    /// came to a flow, and of SYNs whose data the configuration does not allow.
    #[test]
    fn every_reason_against_a_flow_has_numbers() {
        for &reason in Reason::ALL {
            assert_eq!(
                has_numbers(reason),
                (112..128).contains(&(reason as u8)),
                "{reason:?}"
            );
            if has_numbers(reason) {
                let text = sentence(reason, 0);
                assert!(!text.contains(['{', '}']), "{text}");
                assert!(text.contains("RFC "), "{text}");
                assert_eq!(reason.class(), Class::Refuse);
            }
        }
    }
}
