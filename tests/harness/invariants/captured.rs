//! Any octets as a capture file.

use tracker::replay::{
    Replay, Settings, Table,
    capture::{Capture, Fault},
    frame, trace,
};
use tracker_common::{
    abi::{Live, Role},
    parse::Bytes as _,
    tcp::timeout::Profile,
};

use super::laws::books::books;

/// Most octets that a packet may have.
const LARGEST: usize = 1 << 20;

/// Reads the octets as a capture, lets its packets pass, and checks what came of
/// it. Gives the number of packets.
#[must_use]
pub fn check(octets: &[u8]) -> u64 {
    let mut capture = match Capture::open(octets) {
        Ok(capture) => capture,
        Err(fault) => return tells_where(&fault, octets),
    };
    let settings = Settings {
        live: Live {
            capacity: 64,
            half_open_limit: 8,
            pickup_limit: 8,
            ring_slots: 8,
            ..Live::observing(Profile::Linux)
        },
        role: Role::Host,
        checksum: true,
    };
    let mut replay = Replay::new(Table::new(settings), None);
    let mut packets = 0;
    let mut position = 0;
    let mut lines = Vec::new();
    loop {
        let record = match capture.next() {
            Ok(Some(record)) => record,
            Ok(None) => break,
            Err(fault) => {
                tells_where(&fault, octets);
                break;
            }
        };
        packets += 1;
        let size = record.data.len();
        assert!(record.offset >= position, "reading goes back");
        position = record.offset;
        assert!(
            position as usize + size <= octets.len(),
            "more than there is"
        );
        assert!(size <= LARGEST && record.original as usize >= size);
        if let Some(heading) = frame(&record) {
            let frame = heading.frame;
            assert!(frame.captured() <= size + 14);
            assert_eq!(frame.length() as usize > frame.captured(), frame.is_cut());
        }
        let judged = replay.packet(&record, |_, _| Ok(()));
        let judged = judged.expect("there is nothing beside the brain that could fail");
        lines.clear();
        trace::line(&mut lines, &judged).expect("memory takes everything");
        assert!(lines.ends_with(b"\n"));
        lines.clear();
        trace::object(&mut lines, &judged).expect("memory takes everything");
        serde_json::from_slice::<serde_json::Value>(&lines).expect("the line of a packet is JSON");
        books(replay.table(), replay.clock().now_ns());
    }
    let stats = replay.stats();
    assert_eq!(stats.packets, packets);
    let left = packets - stats.strange;
    assert_eq!(stats.reasons.iter().sum::<u64>(), left, "one reason each");
    let flows = replay.table().flows().len();
    let mut ended = 0;
    replay
        .run_out(|_, _| {
            ended += 1;
            Ok(())
        })
        .expect("there is nothing beside the brain that could fail");
    assert_eq!(flows, ended, "a flow never ends");
    books(replay.table(), replay.clock().now_ns());
    assert!(replay.table().is_empty() && replay.table().half_open() == 0);
    packets
}

/// Checks that a message says where in the file it is.
fn tells_where(fault: &Fault, octets: &[u8]) -> u64 {
    let offset = match fault {
        Fault::Empty => {
            assert!(octets.is_empty());
            0
        }
        Fault::Compressed { .. } | Fault::Foreign { .. } => 0,
        Fault::Read { offset, .. }
        | Fault::Truncated { offset, .. }
        | Fault::Damaged { offset, .. }
        | Fault::LinkType { offset, .. } => *offset,
    };
    assert!(offset <= octets.len() as u64, "beyond the file: {fault}");
    let text = fault.to_string();
    assert!(matches!(fault, Fault::Empty) || text.contains(&format!("at octet {offset}")));
    0
}
