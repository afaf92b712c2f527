//! Prefixes that may not open anything.

use aya_ebpf::btf_maps::lpm_trie::Key;
use tracker_common::{abi::Family, parse::Packet};

use crate::{atomic::fetch_add, maps::BANS};

/// Whether the packet's source is banned; counts it if so.
#[inline(never)]
pub fn refuse(packet: &Packet, now_ns: u64) -> bool {
    let family = packet.family();
    // The family in front keeps both apart in one trie; see `BanKey`.
    let [a, b, c, d] = packet.source;
    let (prefix, data) = match family {
        Family::V4 => (32 + 32, [family as u32, a, 0, 0, 0, 0]),
        Family::V6 => (32 + 128, [family as u32, a, b, c, d, 0]),
    };
    let Some(ban) = BANS.get(&Key::new(prefix, data)) else {
        return false;
    };
    // Of the map, which is written through it.
    let ban = core::ptr::from_ref(ban).cast_mut();
    // SAFETY: a map value of aligned words; `until_ns` is written once.
    unsafe {
        let until_ns = (*ban).until_ns;
        if until_ns != 0 && until_ns <= now_ns {
            return false;
        }
        fetch_add(&raw mut (*ban).refused, 1);
    }
    true
}
