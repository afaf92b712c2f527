//! What holds of a table at any time.

use tracker::replay::{Id, Table, comparable};
use tracker_common::{
    abi::{Family, Flow, Live, end_flags, held},
    tcp::{
        State,
        timeout::{self, expired, remaining, settled},
    },
    time::{MAX_TIMEOUT_TICKS, Tick},
};

/// Checks counters and flows.
///
/// # Panics
///
/// It does not.
pub fn books(table: &Table, now_ns: u64) {
    let live = &table.settings().live;
    let flows = table.flows();
    let count = |what: &dyn Fn(&Id, &Flow) -> bool| {
        let count = flows.iter().filter(|(id, entry)| what(id, &entry.flow));
        count.count() as u64
    };
    let half_open = count(&|_, flow| flow.has(held::COUNTED));
    let pickups = count(&|_, flow| flow.has(held::PICKUP));
    assert_eq!((table.half_open(), table.pickups()), (half_open, pickups));
    assert!(half_open <= live.half_open_limit.into() && pickups <= live.pickup_limit.into());
    for family in [Family::V4, Family::V6] {
        let own = count(&|id, _| id.family() == family);
        assert_eq!(table.count(family), own);
        assert!(own <= live.capacity.into());
    }
    for (id, entry) in flows {
        sound(id, &entry.flow, Tick::from_ns(now_ns), live);
    }
}

/// What holds of a flow at any time.
fn sound(id: &Id, flow: &Flow, now: Tick, live: &Live) {
    assert_eq!(flow.tag, id.key().tag(id.family()));
    assert!(!flow.has(held::HALF_OPEN | held::PICKUP));
    assert!(flow.has(held::HALF_OPEN) || !flow.has(held::COUNTED));
    assert_eq!(
        flow.flags & held::MASK & !(held::HALF_OPEN | held::COUNTED | held::PICKUP),
        0
    );
    for end in &flow.ends {
        assert!(end.scale() <= 14);
        assert!(!end.has(end_flags::SEEN) || end.max_window >= 1);
        assert!((end.bits().number() as usize) < State::COUNT);
    }
    let stands = settled(flow, now);
    assert!(!stands.is_in_doubt() || flow.is_in_doubt());
    assert_eq!(comparable(&stands), comparable(&settled(&stands, now)));
    assert_eq!(expired(flow, now, live), remaining(flow, now, live) == 0);
    assert_eq!(timeout::class_of(stands.states()), {
        let [a, b] = stands.states();
        timeout::class_of([b, a])
    });
    over_for_good(flow, now, live);
}

/// A flow that has expired does not come back as time goes on, for as long as
/// its clock can tell.
fn over_for_good(flow: &Flow, now: Tick, live: &Live) {
    const LATER: [u32; 6] = [1, 100, 2000, 10_000, 60_000, 1 << 24];
    let mut over = expired(flow, now, live);
    let waited = now.since(flow.last);
    for ticks in LATER
        .into_iter()
        .filter(|ticks| waited + ticks < MAX_TIMEOUT_TICKS)
    {
        let later = expired(flow, Tick(now.0.wrapping_add(ticks)), live);
        assert!(later || !over, "an expired flow is back: {flow:?}");
        over = later;
    }
}
