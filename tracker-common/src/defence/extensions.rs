//! IPv6 extension headers of a SYN that is to be answered: the answer has none.

use crate::parse::Bytes;

/// Octets of an IPv6 header.
const HEADER: u32 = 40;
/// Where it says what follows.
const NEXT: u32 = 6;
/// Headers that the parser follows, at most.
const MOST: u32 = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// Whether the headers between the IPv6 header at `network` and the TCP header at
/// `transport` say nothing that an answer without any would contradict.
///
/// Where the packet is authenticated, or has further ways to go, or belongs to a
/// protocol of mobile or multi-homed hosts, the stack is to answer.
#[inline(always)]
#[must_use]
pub fn may_be_left_out<B: Bytes + ?Sized>(frame: &B, network: u32, transport: u32) -> bool {
    let Some([mut next]) = frame.get::<1>(network + NEXT) else {
        return false;
    };
    let mut at = network + HEADER;
    let mut seen = 0;
    while seen < MOST && at < transport {
        // RFC 8200 section 4: what follows, the length in eight octets less the
        // first; of a routing header the type and the segments left.
        let Some([follows, length, _, left]) = frame.get::<4>(at) else {
            return false;
        };
        at += match next {
            FRAGMENT => 8,
            HOP_BY_HOP | DESTINATION_OPTIONS => (length as u32 + 1) * 8,
            ROUTING if left == 0 => (length as u32 + 1) * 8,
            _ => return false,
        };
        next = follows;
        seen += 1;
    }
    at == transport
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv6 header at 3 with these headers behind it: number, and the first
    /// octets behind the one that says what follows.
    fn chain(headers: &[(u8, &[u8])]) -> (Vec<u8>, u32) {
        let numbers = headers.iter().map(|(number, _)| *number).chain([6]);
        let mut numbers: Vec<u8> = numbers.collect();
        let mut frame = vec![0xee; 3 + 40];
        frame[3 + 6] = numbers.remove(0);
        for ((_, rest), follows) in headers.iter().zip(numbers) {
            frame.push(follows);
            frame.extend(*rest);
        }
        let transport = frame.len() as u32;
        frame.extend([0; 20]);
        (frame, transport)
    }

    #[test]
    fn what_says_nothing_to_the_answer_may_be_left_out() {
        let short: &[u8] = &[0; 7];
        let mut longer = vec![1; 15];
        longer[0] = 1;
        for headers in [
            &[][..],
            &[(HOP_BY_HOP, short)],
            &[(DESTINATION_OPTIONS, &longer)],
            &[(FRAGMENT, &[9, 0, 1, 5, 5, 5, 5])],
            // No segments left.
            &[(ROUTING, &[0, 2, 0, 0, 0, 0, 0])],
            &[
                (HOP_BY_HOP, &longer),
                (FRAGMENT, short),
                (DESTINATION_OPTIONS, short),
            ],
            &[(DESTINATION_OPTIONS, short); 8],
        ] {
            let (frame, transport) = chain(headers);
            assert!(may_be_left_out(&frame[..], 3, transport), "{headers:?}");
            assert!(!may_be_left_out(&frame[..], 3, transport + 4));
        }
    }

    #[test]
    fn what_binds_the_answer_is_left_to_the_stack() {
        let short: &[u8] = &[0; 7];
        for headers in [
            &[(ROUTING, &[0, 2, 1, 0, 0, 0, 0][..])][..],
            &[(51, &[0, 0, 0, 0, 0, 0, 0])],
            &[(135, short)],
            &[(139, short)],
            &[(140, short)],
            &[(HOP_BY_HOP, short), (51, short)],
            &[(DESTINATION_OPTIONS, short); 9],
        ] {
            let (frame, transport) = chain(headers);
            assert!(!may_be_left_out(&frame[..], 3, transport), "{headers:?}");
        }
        let (frame, transport) = chain(&[(DESTINATION_OPTIONS, short)]);
        assert!(!may_be_left_out(&frame[..45], 3, transport));
        assert!(!may_be_left_out(&frame[..5], 3, transport));
    }
}
