//! Checksums of what comes in, right and wrong, at every length.

use anyhow::Context as _;
use tracker_common::{
    abi::{Family, Interface, interface_flags},
    reason::Reason,
};
use tracker_tests::program::{
    bench::{Bench, Origin, options},
    frame::Wrapping,
    talk::{A, Talk},
};

use crate::{check, nothing_opens};

/// A bench that verifies the checksums of what comes in.
fn verifying() -> Bench {
    let mut load = options();
    load.checksum = true;
    let bench = Bench::with(&load).unwrap();
    bench.loaded.set_live(&nothing_opens()).unwrap();
    let verified = Interface {
        flags: interface_flags::CHECKSUM,
    };
    let wire = bench.ifindex(Origin::Wire);
    bench.loaded.set_interface(wire, verified).unwrap();
    bench
}

/// The octets of the largest frame that a program has as one piece, by
/// `BPF_PROG_TEST_RUN` (net/bpf/test_run.c: a page without head and tail room).
/// At the least: the tail room depends on the kernel.
const ONE_PIECE: usize = 3400;

/// As far as a checksum is verified, and a little further.
const LONGEST: usize = 9216 + 100;

#[test]
fn checksums_of_frames_of_every_length() {
    let mut bench = verifying();
    let mut runs = 0;
    for family in [Family::V4, Family::V6] {
        let talk = Talk::new(Wrapping::plain(family), 1);
        let mut frame = talk.frame(A.syn());
        let mut verified = 0;
        for data in 0..LONGEST {
            frame.data = data;
            let mut octets = frame.summed();
            bench
                .expect(Origin::Wire, &octets, Reason::HalfOpenLimit)
                .with_context(|| format!("{data} octets of data"))
                .unwrap();
            // A checksum covers the last octet, too.
            let last = octets.len() - 1;
            octets[last] ^= 1;
            let whole = octets.len() <= ONE_PIECE;
            let reason = if whole {
                bench
                    .expect(Origin::Wire, &octets, Reason::BadChecksum)
                    .with_context(|| format!("{data} octets of data"))
                    .unwrap();
                Reason::BadChecksum
            } else {
                bench.send(Origin::Wire, &octets).unwrap()
            };
            runs += 2;
            // What is not in one piece is not verified.
            if reason == Reason::BadChecksum {
                assert_eq!(verified, data, "a gap");
                verified += 1;
            }
        }
        assert!((ONE_PIECE - 100..4096).contains(&verified), "{verified}");
        // Padding of the link belongs to no segment.
        frame.data = 3;
        let padded = [frame.summed(), vec![0xff; 7]].concat();
        let reason = Reason::HalfOpenLimit;
        bench.expect(Origin::Wire, &padded, reason).unwrap();
        runs += 1;
    }
    check(&bench, runs);
}

#[test]
fn checksums_with_any_bit_wrong() {
    let mut bench = verifying();
    let mut runs = 0;
    for wrapping in Wrapping::ALL {
        for options in [false, true] {
            let talk = Talk {
                options,
                ..Talk::new(wrapping, 1)
            };
            for data in [0, 1, 2, 3, 31, 32, 64, 65, 536] {
                let frame = talk.frame(A.syn().data(data));
                let right = frame.summed();
                let expect = Reason::HalfOpenLimit;
                bench.expect(Origin::Wire, &right, expect).unwrap();
                runs += 1;
                let tcp = frame.tcp_at();
                // The addresses lie right before the TCP header.
                let addresses = match wrapping.family {
                    Family::V4 => 8,
                    Family::V6 => 32,
                };
                for at in tcp - addresses..right.len() {
                    // Data offset and flags: another packet altogether.
                    if (tcp + 12..tcp + 14).contains(&at) {
                        continue;
                    }
                    for bit in 0..8 {
                        let mut wrong = right.clone();
                        wrong[at] ^= 1 << bit;
                        bench
                            .expect(Origin::Wire, &wrong, Reason::BadChecksum)
                            .with_context(|| format!("bit {bit} of octet {at} of {frame:?}"))
                            .unwrap();
                        runs += 1;
                    }
                }
            }
        }
    }
    assert!(runs > 100_000);
    check(&bench, runs);
}
