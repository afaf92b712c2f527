//! The only code that touches packet memory.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{
        bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_pull_data, bpf_skb_store_bytes,
        bpf_xdp_adjust_tail, bpf_xdp_get_buff_len, bpf_xdp_load_bytes, bpf_xdp_store_bytes,
    },
    programs::{TcContext, XdpContext},
};
use tracker_common::parse::Bytes;

/// Headers end long before this. It tells the verifier that an offset is
/// small, which it demands of a variable one.
const FARTHEST: usize = 0x7fff;

/// Copies `N` bytes at `offset` behind `start`, if they end by `end`.
///
/// `start` and `end` must be a context's `data` and `data_end`, freshly read:
/// the verifier knows them as packet pointers and checks the comparison below.
#[inline(always)]
fn copy<const N: usize>(start: usize, end: usize, offset: u32) -> Option<[u8; N]> {
    // The optimizer may know that the offset is small where the verifier of an
    // older kernel has lost track of it.
    let offset = opaque(offset as usize);
    if offset > FARTHEST {
        return None;
    }
    let from = start + offset;
    if opaque(from + N) > end {
        return None;
    }
    // SAFETY: `from..from + N` lies inside the packet, as just compared, and
    // bytes have no alignment.
    Some(unsafe { core::ptr::read_unaligned(from as *const [u8; N]) })
}

/// `address`, of which the optimizer knows nothing. It would rewrite
/// `from + 1 > end` to `from >= end`, from which the verifier learns nothing.
#[inline(always)]
pub fn opaque(address: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let mut address = address;
        // One instruction that does nothing; without any, two records of the
        // line table would fall on one offset, which the kernel refuses.
        // SAFETY: it changes no state.
        unsafe { core::arch::asm!("{0} = {0}", inout(reg) address, options(nomem, nostack)) };
        address
    }
    #[cfg(not(target_arch = "bpf"))]
    address
}

/// Writes a word at an address of any alignment. To rustc such a place is four
/// octets, to BPF one store (kernel/bpf/verifier.c checks alignment only where the
/// machine cares).
///
/// # Safety
///
/// `address..address + 4` must be writable.
#[inline(always)]
unsafe fn store(address: usize, word: u32) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: the caller's promise.
    unsafe {
        core::arch::asm!(
            "*(u32 *)({address} + 0) = {word}",
            address = in(reg) address,
            word = in(reg) u64::from(word),
            options(nostack),
        );
    }
    // Only for lints, which see this crate on the host.
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: the caller's promise.
    unsafe {
        core::ptr::write_unaligned(address as *mut u32, word);
    }
}

/// `length`, which must be 1 to 64, so that the verifier of any kernel sees it.
#[inline(always)]
fn copyable(length: u32) -> u32 {
    (opaque(length as usize) as u32).wrapping_sub(1) % 64 + 1
}

/// A frame at XDP.
pub struct Ingress<'a>(pub &'a XdpContext);

impl Ingress<'_> {
    /// Octets in reach, which is all of a frame that is not multi-buffer.
    #[inline(always)]
    pub fn linear(&self) -> u32 {
        (self.0.data_end() - self.0.data()) as u32
    }
}

impl Bytes for Ingress<'_> {
    #[inline(always)]
    fn get<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        copy(self.0.data(), self.0.data_end(), offset)
    }

    #[inline(always)]
    fn copy(&self, offset: u32, length: u32, buffer: &mut [u8; 64]) -> bool {
        if !(1..=64).contains(&length) {
            return false;
        }
        // SAFETY: the buffer holds `length` bytes, and the helper checks the
        // packet's end.
        let code = unsafe {
            bpf_xdp_load_bytes(
                self.0.as_ptr().cast(),
                offset,
                buffer.as_mut_ptr().cast(),
                copyable(length),
            )
        };
        code == 0
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: the pointer is this program's context.
        unsafe { bpf_xdp_get_buff_len(self.0.as_ptr().cast()) as u32 }
    }

    #[inline(always)]
    fn reaches(&self, end: u32) -> bool {
        end <= self.linear() || end <= self.length()
    }

    #[inline(always)]
    fn sum(&self, offset: u32, length: u32) -> Option<u64> {
        sum(self.0.data(), self.0.data_end(), offset, length)
    }
}

/// A frame that can be written over.
pub trait Writable: Bytes {
    /// Writes `words`, as they are to lie there, at `offset`; false if they do not
    /// lie in reach.
    fn put<const N: usize>(&self, offset: u32, words: &[u32; N]) -> bool;

    /// Writes the first `length` octets of `words` (at most all) at `offset`.
    fn write<const N: usize>(&self, offset: u32, words: &[u32; N], length: u32) -> bool;

    /// Makes the frame `length` octets long.
    fn resize(&self, length: u32) -> bool;

    /// Addresses the frame to its sender; false if it was sent to many, or by
    /// none that can be one.
    #[inline(always)]
    fn turn_back(&self) -> bool {
        /// The bit of a group's address (IEEE 802.3 section 3.2.3).
        const GROUP: u8 = 1;
        let Some([t0, t1, t2, t3, t4, t5, f0, f1, f2, f3, f4, f5]) = self.get::<12>(0) else {
            return false;
        };
        if (t0 | f0) & GROUP != 0 {
            return false;
        }
        let words = [[f0, f1, f2, f3], [f4, f5, t0, t1], [t2, t3, t4, t5]];
        self.put(0, &words.map(u32::from_ne_bytes))
    }
}

impl Ingress<'_> {
    /// Takes `length` octets off the end.
    #[inline(always)]
    pub fn cut(&self, length: u32) -> bool {
        // SAFETY: the pointer is this program's context; nothing that pointed
        // into the packet is used after.
        unsafe { bpf_xdp_adjust_tail(self.0.ctx, (length as i32).wrapping_neg()) == 0 }
    }
}

impl Writable for Ingress<'_> {
    #[inline(always)]
    fn put<const N: usize>(&self, offset: u32, words: &[u32; N]) -> bool {
        let offset = opaque(offset as usize);
        if offset > FARTHEST {
            return false;
        }
        let from = self.0.data() + offset;
        if opaque(from + 4 * N) > self.0.data_end() {
            return false;
        }
        for (index, &word) in words.iter().enumerate() {
            // SAFETY: `from..from + 4 * N` lies inside the packet, as just compared.
            unsafe { store(from + 4 * index, word) };
        }
        true
    }

    #[inline(always)]
    fn write<const N: usize>(&self, offset: u32, words: &[u32; N], length: u32) -> bool {
        if length == 0 || length > 4 * N as u32 {
            return false;
        }
        // So that the verifier of any kernel sees it.
        let length = (opaque(length as usize) as u32).wrapping_sub(1) % (4 * N as u32) + 1;
        // SAFETY: so many octets are there, and the helper checks the packet's end.
        unsafe {
            bpf_xdp_store_bytes(
                self.0.as_ptr().cast(),
                offset,
                words.as_ptr().cast_mut().cast(),
                length,
            ) == 0
        }
    }

    #[inline(always)]
    fn resize(&self, length: u32) -> bool {
        let more = length.wrapping_sub(self.length()) as i32;
        // SAFETY: the pointer is this program's context; nothing that pointed into the
        // packet is used after.
        more == 0 || unsafe { bpf_xdp_adjust_tail(self.0.ctx, more) == 0 }
    }
}

/// Octets that a segment may have for its sum to be formed: a jumbo frame.
const SUMMABLE: u32 = 9216;

/// Octets that one call of the helper sums.
const CHUNK: usize = 64;

/// Sum of `length` octets, see [`Bytes::sum`]; bounds as in [`copy`].
#[inline(always)]
fn sum(start: usize, end: usize, offset: u32, length: u32) -> Option<u64> {
    let mut sum = 0;
    let mut at = offset;
    let stop = offset + length;
    for _ in 0..SUMMABLE / CHUNK as u32 {
        if stop - at < CHUNK as u32 {
            break;
        }
        sum = add::<CHUNK>(start, end, at, sum)?;
        at += CHUNK as u32;
    }
    for bit in [32, 16, 8, 4] {
        if stop - at >= bit {
            sum = match bit {
                32 => add::<32>(start, end, at, sum)?,
                16 => add::<16>(start, end, at, sum)?,
                8 => add::<8>(start, end, at, sum)?,
                _ => add::<4>(start, end, at, sum)?,
            };
            at += bit;
        }
    }
    let mut total = u64::from(sum);
    let rest = match stop - at {
        0 => [0; 4],
        1 => {
            let [a] = copy::<1>(start, end, at)?;
            [a, 0, 0, 0]
        }
        2 => {
            let [a, b] = copy::<2>(start, end, at)?;
            [a, b, 0, 0]
        }
        3 => {
            let [a, b, c] = copy::<3>(start, end, at)?;
            [a, b, c, 0]
        }
        // Longer than `SUMMABLE`.
        _ => return None,
    };
    total += u64::from(u32::from_ne_bytes(rest));
    Some(total)
}

/// Adds the sum of `N` octets (a multiple of four) to `sum`.
#[inline(always)]
fn add<const N: usize>(start: usize, end: usize, offset: u32, sum: u32) -> Option<u32> {
    let offset = opaque(offset as usize);
    if offset > FARTHEST {
        return None;
    }
    let from = start + offset;
    if opaque(from + N) > end {
        return None;
    }
    // SAFETY: `from..from + N` lies inside the packet, as just compared; the
    // helper only reads.
    let sum = unsafe {
        aya_ebpf::helpers::bpf_csum_diff(core::ptr::null_mut(), 0, from as *mut u32, N as u32, sum)
    };
    u32::try_from(sum).ok()
}

/// A packet at TCX or clsact.
pub struct Egress<'a>(pub &'a TcContext);

impl Egress<'_> {
    /// Moves the headers into the linear part, where they are not there yet.
    #[inline(always)]
    pub fn pull(&self) {
        /// Ethernet, two tags, the longest IPv4 or a well-extended IPv6 header,
        /// the longest TCP header.
        const HEADERS: u32 = 192;
        let wanted = HEADERS.min(self.0.len());
        if self.0.data() + wanted as usize > self.0.data_end() {
            // SAFETY: the pointer is this program's context. On failure the
            // next read fails, too, and is reported.
            unsafe { bpf_skb_pull_data(self.0.skb.skb, wanted) };
        }
    }

    /// The tag that the kernel holds beside the packet, 0 for none.
    #[inline(always)]
    pub fn tag(&self) -> u16 {
        // SAFETY: the context is valid for as long as the program runs.
        let skb = unsafe { &*self.0.skb.skb };
        if skb.vlan_present != 0 {
            skb.vlan_tci as u16
        } else {
            0
        }
    }

    /// Interface on which a forwarded packet came in, 0 for one of this host's
    /// own.
    #[inline(always)]
    pub fn came_from(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0.skb.skb).ingress_ifindex }
    }

    /// Interface on which it leaves.
    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0.skb.skb).ifindex }
    }
}

impl Writable for Egress<'_> {
    #[inline(always)]
    fn put<const N: usize>(&self, offset: u32, words: &[u32; N]) -> bool {
        self.write(offset, words, 4 * N as u32)
    }

    #[inline(always)]
    fn write<const N: usize>(&self, offset: u32, words: &[u32; N], length: u32) -> bool {
        if length == 0 || length > 4 * N as u32 {
            return false;
        }
        // So that the verifier of any kernel sees it.
        let length = (opaque(length as usize) as u32).wrapping_sub(1) % (4 * N as u32) + 1;
        // SAFETY: so many octets are there, and the helper checks the packet's end.
        unsafe {
            bpf_skb_store_bytes(self.0.skb.skb, offset, words.as_ptr().cast(), length, 0) == 0
        }
    }

    #[inline(always)]
    fn resize(&self, length: u32) -> bool {
        // SAFETY: the pointer is this program's context; nothing that pointed into the
        // packet is used after.
        length == self.0.len() || unsafe { bpf_skb_change_tail(self.0.skb.skb, length, 0) == 0 }
    }
}

impl Bytes for Egress<'_> {
    #[inline(always)]
    fn get<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        copy(self.0.data(), self.0.data_end(), offset)
    }

    #[inline(always)]
    fn copy(&self, offset: u32, length: u32, buffer: &mut [u8; 64]) -> bool {
        if !(1..=64).contains(&length) {
            return false;
        }
        // SAFETY: the buffer holds `length` bytes, and the helper checks the
        // packet's end.
        let code = unsafe {
            bpf_skb_load_bytes(
                self.0.as_ptr(),
                offset,
                buffer.as_mut_ptr().cast(),
                copyable(length),
            )
        };
        code == 0
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        self.0.len()
    }

    /// What this host sends has its checksum put in later, by the NIC.
    #[inline(always)]
    fn sum(&self, _offset: u32, _length: u32) -> Option<u64> {
        None
    }
}
