//! Prefixes that may not open anything.

use aya_ebpf::btf_maps::lpm_trie::Key;
use tracker_common::{abi::Family, parse::Packet};

use crate::{atomic::fetch_add, maps::BANS};

/// Bans, one around the other, that one packet looks at. Only one that has ended
/// has a further one looked for, until the agent removes it.
const LOOKS: u32 = 4;

/// Whether the packet's source is banned; counts it if so.
#[inline(never)]
pub fn refuse(packet: &Packet, now_ns: u64) -> bool {
    let family = packet.family();
    // The family in front keeps both apart in one trie; see `BanKey`.
    let [a, b, c, d] = packet.source;
    let (mut prefix, data) = match family {
        Family::V4 => (32 + 32, [family as u32, a, 0, 0, 0, 0]),
        Family::V6 => (32 + 128, [family as u32, a, b, c, d, 0]),
    };
    for _ in 0..LOOKS {
        let Some(ban) = BANS.get(&Key::new(prefix, data)) else {
            return false;
        };
        if !ban.is_over(now_ns) {
            // Of the map, which is written through it.
            let ban = core::ptr::from_ref(ban).cast_mut();
            // SAFETY: an aligned word of a map value, which every CPU changes
            // atomically.
            unsafe { fetch_add(&raw mut (*ban).refused, 1) };
            return true;
        }
        let Some(around) = ban.around() else {
            return false;
        };
        prefix = around;
    }
    false
}
