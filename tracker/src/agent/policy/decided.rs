//! Lines about what rules with `log = true` decide.
//!
//! The programs report ten decisions of a rule in a second at most, and with each how
//! many they left out before.

use std::{fmt, net::SocketAddr};

use tracker_common::{
    abi::{Event, Family, Side},
    policy::{Action, Direction},
    reason::{Class, Reason},
    tcp::Flags,
};

use super::Policies;
use crate::{datapath::name_of, view::ends};

/// A decision, as a line of text.
pub struct Decided<'a> {
    event: &'a Event,
    /// Name of the rule.
    rule: String,
    /// What a rule in shadow would have done.
    shadow: Option<Action>,
}

impl Policies {
    /// The line about a decision.
    pub fn decided<'a>(&self, event: &'a Event) -> Decided<'a> {
        let state = self.lock();
        let shadow = state.in_force.as_ref().and_then(|in_force| {
            let mut rules = in_force.compiled.rules.iter();
            let rule = rules.find(|rule| rule.number == event.rule)?;
            rule.shadow.then_some(rule.action)
        });
        let named = state.names.rules.get(&event.rule);
        Decided {
            event,
            rule: named.map_or_else(
                || format!("number {}", event.rule),
                |named| named.name.clone(),
            ),
            shadow,
        }
    }
}

impl fmt::Display for Decided<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event = self.event;
        let reason = Reason::from_raw(event.reason);
        let did = match (self.shadow, reason.map(Reason::class)) {
            (Some(Action::Allow), _) => "would have allowed",
            (Some(Action::Drop | Action::Reset | Action::Prohibit), _) => "would have refused",
            (None, Some(Class::Refuse)) => "refused",
            (None, _) => "allowed",
        };
        write!(f, "rule `{}` {did} ", self.rule)?;
        let from = Side::from_raw(event.from);
        match Family::from_raw(event.family) {
            Some(family) => {
                let [from, to] =
                    [from, from.other()].map(|side| ends::at(&event.key, family, side));
                write!(f, "{} → {}", SocketAddr::from(from), SocketAddr::from(to))?;
            }
            None => f.write_str("a packet")?,
        }
        let direction = Direction::from_raw(event.direction).as_str();
        write!(
            f,
            " [{}] {direction}",
            ends::Written(Flags(event.flags as u8))
        )?;
        match name_of(event.ifindex) {
            Some(name) => write!(f, " at {name}")?,
            None => write!(f, " at interface {}", event.ifindex)?,
        }
        if self.shadow.is_none() {
            write!(f, ": {}", reason.map_or("unknown", Reason::as_str))?;
        }
        match event.packets {
            [0, _] => Ok(()),
            [left_out, _] => write!(f, "; {left_out} more were not told before"),
        }
    }
}

#[cfg(test)]
mod tests {
    use tracker_common::abi::{Key, Zone};

    use super::*;

    fn event(reason: Reason, left_out: u64) -> Event {
        let client = (u32::from_ne_bytes([198, 51, 100, 7]), 50_000);
        let server = (u32::from_ne_bytes([192, 0, 2, 1]), 23);
        let (key, from) = Key::v4(client, server, Zone(0));
        Event {
            key,
            family: Family::V4 as u8,
            reason: reason as u8,
            flags: Flags::SYN.into(),
            ifindex: 1,
            from: from as u8,
            direction: Direction::In as u8,
            packets: [left_out, 0],
            rule: 7,
            ..Event::default()
        }
    }

    fn line(event: &Event, shadow: Option<Action>) -> String {
        let decided = Decided {
            event,
            rule: "no telnet".to_owned(),
            shadow,
        };
        decided.to_string()
    }

    #[test]
    fn a_line_tells_who_where_and_why() {
        insta::assert_snapshot!(line(&event(Reason::PolicyDropped, 0), None), @"rule `no telnet` refused 198.51.100.7:50000 → 192.0.2.1:23 [SYN] in at lo: policy_dropped");
        insta::assert_snapshot!(line(&event(Reason::FlowOpened, 3), None), @"rule `no telnet` allowed 198.51.100.7:50000 → 192.0.2.1:23 [SYN] in at lo: flow_opened; 3 more were not told before");
        insta::assert_snapshot!(line(&event(Reason::FlowOpened, 0), Some(Action::Drop)), @"rule `no telnet` would have refused 198.51.100.7:50000 → 192.0.2.1:23 [SYN] in at lo");
        let nonsense = Event {
            family: 9,
            reason: 255,
            ifindex: u32::MAX,
            ..Event::default()
        };
        assert!(line(&nonsense, None).contains("a packet"));
    }
}
