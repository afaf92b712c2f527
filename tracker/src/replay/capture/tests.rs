//! Captures built octet by octet, whole and broken.

use super::*;

const PACKET: [u8; 5] = [1, 2, 3, 4, 5];

/// Numbers in one byte order.
#[derive(Clone, Copy)]
struct Order {
    big: bool,
}

const ORDERS: [Order; 2] = [Order { big: false }, Order { big: true }];

impl Order {
    fn short(self, number: u16) -> Vec<u8> {
        if self.big {
            number.to_be_bytes().to_vec()
        } else {
            number.to_le_bytes().to_vec()
        }
    }

    fn words(self, numbers: &[u32]) -> Vec<u8> {
        let bytes = numbers.iter().flat_map(|number| {
            if self.big {
                number.to_be_bytes()
            } else {
                number.to_le_bytes()
            }
        });
        bytes.collect()
    }

    /// The header of a pcap file.
    fn pcap(self, magic: u32, link: u32) -> Vec<u8> {
        let version = [self.short(2), self.short(4)].concat();
        [
            self.words(&[magic]),
            version,
            self.words(&[0, 0, 65_535, link]),
        ]
        .concat()
    }

    /// A packet of a pcap file, of which `original` octets passed.
    fn packet(self, seconds: u32, fraction: u32, original: u32) -> Vec<u8> {
        let header = [seconds, fraction, PACKET.len() as u32, original];
        [self.words(&header), PACKET.to_vec()].concat()
    }

    /// A block of a pcapng file around `body`, padded.
    fn block(self, kind: u32, body: &[u8]) -> Vec<u8> {
        let padded = body.len().next_multiple_of(4);
        let length = self.words(&[padded as u32 + 12]);
        let mut body = body.to_vec();
        body.resize(padded, 0);
        [self.words(&[kind]), length.clone(), body, length].concat()
    }

    fn section(self) -> Vec<u8> {
        let body = [
            self.words(&[0x1a2b_3c4d]),
            self.short(1),
            self.short(0),
            self.words(&[u32::MAX; 2]),
        ];
        self.block(0x0a0d_0d0a, &body.concat())
    }

    fn option(self, code: u16, value: &[u8]) -> Vec<u8> {
        let mut padded = value.to_vec();
        padded.resize(value.len().next_multiple_of(4), 0);
        [self.short(code), self.short(value.len() as u16), padded].concat()
    }

    fn interface(self, link: u16, options: &[u8]) -> Vec<u8> {
        let body = [self.short(link), self.short(0), self.words(&[0])].concat();
        self.block(1, &[&body, options].concat())
    }

    fn enhanced(self, interface: u32, time: u64, options: &[u8]) -> Vec<u8> {
        let header = [
            interface,
            (time >> 32) as u32,
            time as u32,
            PACKET.len() as u32,
            1500,
        ];
        let mut data = PACKET.to_vec();
        data.resize(8, 0);
        self.block(6, &[self.words(&header), data, options.to_vec()].concat())
    }
}

/// What is to be compared of a record.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    offset: u64,
    time_ns: Option<u64>,
    link: u32,
    interface: Option<u32>,
    direction: Direction,
    original: u32,
    data: Vec<u8>,
}

/// Reads to the end or to the fault.
fn read(file: &[u8]) -> (Vec<Seen>, Option<String>) {
    let mut seen = Vec::new();
    let fault = Capture::open(file).and_then(|mut capture| {
        while let Some(record) = capture.next()? {
            seen.push(Seen {
                offset: record.offset,
                time_ns: record.time_ns,
                link: record.link.0,
                interface: record.interface,
                direction: record.direction,
                original: record.original,
                data: record.data.to_vec(),
            });
        }
        assert_eq!(capture.position(), file.len() as u64);
        Ok(())
    });
    (seen, fault.err().map(|fault| fault.to_string()))
}

fn plain(offset: u64, time_ns: u64, link: u32, original: u32) -> Seen {
    Seen {
        offset,
        time_ns: Some(time_ns),
        link,
        interface: None,
        direction: Direction::Unknown,
        original,
        data: PACKET.to_vec(),
    }
}

#[test]
fn pcap_is_read_in_both_orders_and_resolutions() {
    for order in ORDERS {
        for (magic, unit) in [(0xa1b2_c3d4, 1000), (0xa1b2_3c4d, 1)] {
            let file = [
                order.pcap(magic, 101),
                order.packet(1_700_000_000, 123_456, 5),
                order.packet(1_700_000_001, 0, 1500),
            ]
            .concat();
            let expected = vec![
                plain(24, 1_700_000_000_000_000_000 + 123_456 * unit, 101, 5),
                plain(45, 1_700_000_001_000_000_000, 101, 1500),
            ];
            assert_eq!(read(&file), (expected, None), "{magic:#x}");
        }
    }
}

#[test]
fn packets_of_the_modified_format_have_longer_headers() {
    let [little, _] = ORDERS;
    let mut packet = little.words(&[7, 8, 5, 5, 2, 0]);
    packet.extend(PACKET);
    let file = [little.pcap(0xa1b2_cd34, 1), packet].concat();
    assert_eq!(read(&file), (vec![plain(24, 7_000_008_000, 1, 5)], None));
}

#[test]
fn the_length_of_a_check_sequence_is_no_part_of_the_link_type() {
    let [little, _] = ORDERS;
    let file = [
        little.pcap(0xa1b2_c3d4, 1 | 0x4400_0000),
        little.packet(0, 0, 5),
    ]
    .concat();
    assert_eq!(read(&file), (vec![plain(24, 0, 1, 5)], None));
}

#[test]
fn each_interface_has_its_link_type_and_clock() {
    for order in ORDERS {
        let nano = order.option(9, &[9]);
        let binary = order.option(9, &[0x80 | 20]);
        let coarse = order.option(9, &[0]);
        let fine = order.option(9, &[12]);
        let later = if order.big {
            order.option(14, &3_600_i64.to_be_bytes())
        } else {
            order.option(14, &3_600_i64.to_le_bytes())
        };
        let name = order.option(2, b"eth0");
        let file = [
            order.section(),
            order.interface(1, &name),
            order.interface(101, &nano),
            order.interface(113, &binary),
            order.interface(276, &[coarse, later].concat()),
            order.interface(0, &fine),
            order.enhanced(0, 1_000_001, &[]),
            order.enhanced(1, 1_000_001, &[]),
            order.enhanced(2, (5 << 20) + (1 << 19), &[]),
            order.enhanced(3, 7, &[]),
            order.enhanced(4, 3_000_000_001_999, &[]),
        ]
        .concat();
        let (seen, fault) = read(&file);
        assert_eq!(fault, None);
        let times: Vec<_> = seen
            .iter()
            .map(|seen| (seen.interface, seen.link, seen.time_ns))
            .collect();
        assert_eq!(
            times,
            [
                (Some(0), 1, Some(1_000_001_000)),
                (Some(1), 101, Some(1_000_001)),
                (Some(2), 113, Some(5_500_000_000)),
                (Some(3), 276, Some(3_607_000_000_000)),
                (Some(4), 0, Some(3_000_000_001)),
            ]
        );
        assert!(
            seen.iter()
                .all(|seen| seen.data == PACKET && seen.original == 1500)
        );
        let mut capture = Capture::open(&file[..]).unwrap();
        capture.next().unwrap();
        assert_eq!(capture.interface(0), Some("eth0"));
        assert_eq!(capture.interface(1), None);
    }
}

#[test]
fn a_new_section_has_its_own_order_and_interfaces() {
    let [little, big] = ORDERS;
    let file = [
        little.section(),
        little.interface(1, &[]),
        little.enhanced(0, 1, &[]),
        big.section(),
        // A block that is not about packets.
        big.block(4, &[0; 8]),
        big.interface(101, &[]),
        big.enhanced(0, 2, &[]),
    ]
    .concat();
    let (seen, fault) = read(&file);
    assert_eq!(fault, None);
    let told: Vec<_> = seen
        .iter()
        .map(|seen| (seen.interface, seen.link, seen.time_ns))
        .collect();
    assert_eq!(told, [(Some(0), 1, Some(1000)), (Some(1), 101, Some(2000))]);
}

#[test]
fn flags_tell_the_direction() {
    for order in ORDERS {
        let mut file = [order.section(), order.interface(1, &[])].concat();
        for flags in 0..4 {
            let flags = order.option(2, &order.words(&[0x1c | flags]));
            file.extend(order.enhanced(0, 0, &flags));
        }
        let (seen, fault) = read(&file);
        assert_eq!(fault, None);
        let directions: Vec<_> = seen.iter().map(|seen| seen.direction).collect();
        assert_eq!(
            directions,
            [
                Direction::Unknown,
                Direction::Inbound,
                Direction::Outbound,
                Direction::Unknown
            ]
        );
    }
}

#[test]
fn simple_and_old_packet_blocks_are_packets() {
    for order in ORDERS {
        let simple = [order.words(&[5]), PACKET.to_vec()].concat();
        let old = [
            order.short(0),
            order.short(9),
            order.words(&[0, 3, 5, 60]),
            PACKET.to_vec(),
        ]
        .concat();
        let file = [
            order.section(),
            order.interface(1, &[]),
            order.block(3, &simple),
            order.block(2, &old),
        ]
        .concat();
        let (seen, fault) = read(&file);
        assert_eq!(fault, None);
        let told: Vec<_> = seen
            .iter()
            .map(|seen| (seen.time_ns, seen.original, &seen.data[..]))
            .collect();
        assert_eq!(
            told,
            [(None, 5, &PACKET[..]), (Some(3000), 60, &PACKET[..])]
        );
    }
}

/// Wherever a file is cut, what is whole in front of the cut is read, and the
/// place of the cut is told.
#[test]
fn a_cut_is_told_wherever_it_is() {
    let [little, big] = ORDERS;
    let pcap = [
        little.pcap(0xa1b2_c3d4, 1),
        little.packet(0, 0, 5),
        little.packet(1, 0, 5),
    ]
    .concat();
    let pcapng = [
        big.section(),
        big.interface(1, &[]),
        big.enhanced(0, 0, &[]),
        big.enhanced(0, 1, &[]),
    ]
    .concat();
    for (file, boundaries) in [(pcap, vec![24, 45, 66]), (pcapng, vec![28, 48, 88, 128])] {
        assert_eq!(file.len(), *boundaries.last().unwrap());
        for length in 4..=file.len() {
            let (_, fault) = read(&file[..length]);
            let begun = boundaries.iter().rfind(|&&boundary| boundary <= length);
            let begun = begun.copied().unwrap_or(0);
            let fault = fault.unwrap_or_default();
            if begun == length {
                assert_eq!(fault, "", "{length}");
            } else {
                let place = format!("at octet {begun}: the file is cut off: ");
                assert!(fault.starts_with(&place), "{length}: {fault}");
                let held = format!("of which it holds {}", length - begun);
                assert!(fault.ends_with(&held), "{length}: {fault}");
            }
        }
    }
}

fn fault(file: &[u8]) -> String {
    read(file).1.unwrap()
}

#[test]
fn what_is_no_capture_is_told() {
    insta::assert_snapshot!(fault(b""), @"the file is empty: a capture has at least a header of 24 octets");
    insta::assert_snapshot!(fault(b"GET / HTTP/1.1"), @"at octet 0: this is no capture: it begins with [47, 45, 54, 20], and pcap begins with a1b2c3d4 or a1b23c4d in either order, pcapng with 0a0d0d0a");
    insta::assert_snapshot!(fault(b"\n"), @"at octet 0: this is no capture: it begins with [0a], and pcap begins with a1b2c3d4 or a1b23c4d in either order, pcapng with 0a0d0d0a");
    insta::assert_snapshot!(fault(&[0x1f, 0x8b, 8, 0, 0]), @"at octet 0: this is compressed by gzip, not a capture; unpack it first: `gzip -dc FILE | tracker replay -`");
    let [little, _] = ORDERS;
    insta::assert_snapshot!(fault(&little.pcap(0xa1b2_c3d4, 127)), @"at octet 20: the packets are of link type 127, which is not read here; these are: Ethernet (1), raw IP (12, 14, 101, 228, 229), Linux cooked (113, 276), BSD loopback (0, 108)");
}

#[test]
fn lengths_that_cannot_be_are_told_before_memory_is_taken() {
    let [little, big] = ORDERS;
    let packet = little.words(&[0, 0, 0xdead_beef, 5]);
    insta::assert_snapshot!(fault(&[little.pcap(0xa1b2_c3d4, 1), packet].concat()), @"at octet 24: a packet of 3735928559 octets cannot be: the file is damaged or no capture");
    let huge = big.words(&[6, 0x7fff_fffc, 0]);
    insta::assert_snapshot!(fault(&[big.section(), huge].concat()), @"at octet 28: a block of 2147483644 octets cannot be: the file is damaged or no capture");
    let odd = big.words(&[6, 13, 0, 0]);
    insta::assert_snapshot!(fault(&[big.section(), odd].concat()), @"at octet 28: a block of 13 octets cannot be: the file is damaged or no capture");
    let mut other = big.block(4, &[0; 8]);
    *other.last_mut().unwrap() ^= 4;
    insta::assert_snapshot!(fault(&[big.section(), other].concat()), @"at octet 28: a block's length at its end differs from that at its beginning: the file is damaged or no capture");
    let longer = big.words(&[0, 0, 0, 100, 100, 0]);
    let longer = [big.section(), big.interface(1, &[]), big.block(6, &longer)].concat();
    insta::assert_snapshot!(fault(&longer), @"at octet 48: the parts of a block do not fit its length: the file is damaged or no capture");
    let stranger = [big.section(), big.enhanced(3, 0, &[])].concat();
    insta::assert_snapshot!(fault(&stranger), @"at octet 28: a packet of interface 3, which is not described before it: the file is damaged or no capture");
    let mut section = big.section();
    section[8] = 0;
    insta::assert_snapshot!(fault(&section), @"at octet 0: a section begins here without the number that tells its byte order: the file is damaged or no capture");
}

#[test]
fn other_versions_are_not_guessed_at() {
    let [little, big] = ORDERS;
    let mut file = little.pcap(0xa1b2_c3d4, 1);
    file[4] = 3;
    insta::assert_snapshot!(fault(&file), @"at octet 4: version 3.4 of the format is not known, only 2: the file is damaged or no capture");
    let mut file = big.section();
    file[13] = 2;
    insta::assert_snapshot!(fault(&file), @"at octet 0: version 2.0 of the format is not known, only 1: the file is damaged or no capture");
}

#[test]
fn an_error_of_the_reader_is_handed_on_with_its_place() {
    struct Broken(usize);

    impl Read for Broken {
        fn read(&mut self, space: &mut [u8]) -> std::io::Result<usize> {
            let [little, _] = ORDERS;
            let header = little.pcap(0xa1b2_c3d4, 1);
            let rest = &header[self.0..];
            if rest.is_empty() {
                return Err(std::io::Error::other("the disk is on fire"));
            }
            space[..rest.len()].copy_from_slice(rest);
            self.0 = header.len();
            Ok(rest.len())
        }
    }

    let mut capture = Capture::open(Broken(0)).unwrap();
    let fault = anyhow::Error::from(capture.next().unwrap_err());
    assert_eq!(
        format!("{fault:#}"),
        "cannot read on at octet 24: the disk is on fire"
    );
}
