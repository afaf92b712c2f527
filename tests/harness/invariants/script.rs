//! Any octets as a sequence of segments, pauses and sweeps, with settings in
//! front of it.
//!
//! Numbers are told as distances from those that something depends on, so that
//! a change of one octet leads from one side of a bound to the other.

use arbitrary::{Result, Unstructured};
use tracker::replay::{Entry, Id, Seen, Settings, Table};
use tracker_common::{
    abi::{Family, Live, PendingSyn, Role},
    tcp::{Flags, timeout::Profile},
};

use super::laws::Observer;
use crate::program::{
    frame::{Fragment, Frame, Tags, Wrapping},
    talk::{A, B, End, Talk},
};

/// Most steps that are looked at.
const STEPS: u64 = 600;

/// Pairs of ends, more than the smallest tables hold.
const TALKS: u32 = 4;

/// When the tracker's clock starts, ns: later than the longest time-out.
const START: u64 = 1 << 50;

/// What most segments carry.
const FLAGS: [u8; 14] = [
    Flags::ACK,
    Flags::SYN,
    Flags::SYN | Flags::ACK,
    Flags::FIN | Flags::ACK,
    Flags::RST,
    Flags::RST | Flags::ACK,
    Flags::ACK | Flags::PSH,
    Flags::ACK | Flags::URG,
    Flags::SYN | Flags::ECE | Flags::CWR,
    Flags::FIN | Flags::ACK | Flags::PSH,
    Flags::SYN | Flags::URG,
    Flags::FIN,
    Flags::SYN | Flags::FIN,
    0,
];

/// Distances from a number; the last but one place is for what follows in one
/// octet, the last for four.
const NEAR: [u32; 14] = [
    0,
    1,
    u32::MAX,
    2,
    u32::MAX - 1,
    100,
    1460,
    0_u32.wrapping_sub(1460),
    65_535,
    0x7fff_fffe,
    0x7fff_ffff,
    0x8000_0000,
    0x8000_0001,
    0_u32.wrapping_sub(65_536),
];

/// Pauses in ms, around the time-outs of every profile.
const PAUSES: [u64; 16] = [
    1,
    5,
    250,
    1000,
    2999,
    3001,
    10_001,
    29_990,
    30_010,
    60_010,
    120_010,
    240_010,
    300_010,
    900_010,
    432_000_010,
    // 25 days: longer than timestamps last.
    25 * 86_400_000,
];

const DATA: [usize; 8] = [0, 0, 0, 1, 2, 100, 1460, 40_000];
const WINDOWS: [u16; 8] = [1000, 1000, 1000, 0, 1, 100, 0x7fff, u16::MAX];
const ISNS: [[u32; 2]; TALKS as usize] = [
    [1_000_000, 5_000_000],
    [u32::MAX, u32::MAX - 2],
    [0, 0],
    [0x7fff_ff00, 0x8000_0000],
];
const ELSEWHERE: u32 = 9;

fn pick<T: Copy>(from: &[T], index: u8) -> T {
    from[index as usize % from.len()]
}

/// Reads the settings.
fn settings(octets: &mut Unstructured<'_>) -> Result<Settings> {
    let [how, limits, retries, scale]: [u8; 4] = octets.arbitrary()?;
    let profile = pick(&Profile::ALL, how);
    Ok(Settings {
        live: Live {
            pickup: how >> 2 & 1,
            switches: how >> 3 & 7,
            half_open_limit: u32::from(limits & 3) + 1,
            pickup_limit: u32::from(limits >> 2 & 3) + 1,
            capacity: u32::from(limits >> 4 & 3) + 1,
            ring_slots: 4,
            syn_ack_retries: retries & 7,
            timeout_scale: pick(&[1024, 1024, 1024, 512, 1, 0], scale),
            ..Live::observing(profile)
        },
        role: if how & 0x40 == 0 {
            Role::Host
        } else {
            Role::Gateway
        },
        checksum: how & 0x80 != 0,
    })
}

/// What happens.
enum Step {
    Packet { frame: Vec<u8>, seen: Seen, id: Id },
    Pause { ns: u64 },
    Expire { id: Id },
    Sweep,
}

struct Script<'a> {
    octets: Unstructured<'a>,
    talks: [Talk; TALKS as usize],
    now_ns: u64,
}

impl<'a> Script<'a> {
    fn new(octets: Unstructured<'a>) -> Self {
        let mut number = 0;
        let talks = ISNS.map(|isns| {
            let family = if number == 3 { Family::V6 } else { Family::V4 };
            let tags = if number == 2 {
                Tags::QinQ(100, 7)
            } else {
                Tags::Untagged
            };
            number += 1;
            Talk {
                isns,
                ..Talk::new(Wrapping { family, tags }, number - 1)
            }
        });
        Self {
            octets,
            talks,
            now_ns: START,
        }
    }

    fn octet(&mut self) -> Result<u8> {
        self.octets.arbitrary()
    }

    /// Name of a talk's flow to a table in this role.
    fn id(talk: &Talk, role: Role) -> Id {
        let wrapping = match role {
            Role::Host => talk.wrapping,
            // A router's tracker does not ask for tags.
            Role::Gateway => Wrapping {
                tags: Tags::Untagged,
                ..talk.wrapping
            },
        };
        Id::new(
            talk.wrapping.family,
            &talk.ends[0].key(talk.ends[1], wrapping),
        )
    }

    /// The next step; the numbers of segments count from what `table` knows.
    fn next(&mut self, table: &Table) -> Result<Option<Step>> {
        if self.octets.is_empty() {
            return Ok(None);
        }
        let what = self.octet()?;
        let talk = pick(&self.talks, what);
        let id = Self::id(&talk, table.settings().role);
        Ok(Some(match what >> 3 {
            0..=1 => {
                let pause = self.octet()?;
                let ms = match pause {
                    0..128 => pick(&PAUSES, pause),
                    128.. => u64::from(self.octet()?) * 100,
                };
                Step::Pause { ns: ms * 1_000_000 }
            }
            2 => Step::Expire { id },
            3 => Step::Sweep,
            4 => self.icmp_error(&talk, id, table)?,
            _ => {
                let from = if what & 4 == 0 { A } else { B };
                self.segment(&talk, id, from, table)?
            }
        }))
    }

    /// A number that lies `base` or near it.
    fn number(&mut self, bases: &[u32; 8]) -> Result<u32> {
        let how = self.octet()?;
        let base = pick(bases, how);
        let near = how >> 3 & 0xf;
        Ok(match near {
            // Most of the numbers are whole.
            14 => base.wrapping_add_signed(i32::from(self.octets.arbitrary::<i8>()?)),
            15 => base.wrapping_add(self.octets.arbitrary()?),
            near => base.wrapping_add(pick(&NEAR, near)),
        })
    }

    fn frame(&mut self, talk: &Talk, id: &Id, from: End, table: &Table) -> Result<Frame> {
        let entry = table.get(id);
        let [seqs, acks] = bases(talk, from, entry);
        let flags = self.octet()?;
        let mut frame = talk.frame(from.ack().flags(if flags & 0x80 == 0 {
            pick(&FLAGS, flags)
        } else {
            self.octet()?
        }));
        frame.seq = self.number(&seqs)?;
        frame.ack = self.number(&acks)?;
        let body = self.octet()?;
        frame.data = pick(&DATA, body);
        frame.window = pick(&WINDOWS, body >> 3);
        frame.options.clear();
        if body & 0x40 != 0 {
            self.options(&mut frame, entry, from)?;
        }
        if body & 0x80 != 0 {
            let place = self.octet()?;
            if place & 1 != 0 {
                frame.fragment = Some(Fragment {
                    offset: u16::from(place >> 2),
                    more: place & 2 != 0,
                });
            }
            if place & 2 != 0 {
                frame.window = self.octets.arbitrary()?;
            }
        }
        Ok(frame)
    }

    fn options(&mut self, frame: &mut Frame, entry: Option<&Entry>, from: End) -> Result<()> {
        let how = self.octet()?;
        if how & 1 != 0 {
            // Of a flow that is not there the number is the default.
            let newest = entry.map_or(1000, |entry| entry.flow.ends[from as usize].ts);
            let near = self.octet()?;
            let distance = match near {
                0..14 => pick(&NEAR, near),
                14..20 => pick(&[29_999_u32, 30_000, 30_001, 1001], near).wrapping_neg(),
                20.. => u32::from(near).wrapping_sub(128),
            };
            frame.options.extend([1, 1, 8, 10]);
            frame
                .options
                .extend(newest.wrapping_add(distance).to_be_bytes());
            frame.options.extend([0; 4]);
        }
        if how & 2 != 0 {
            frame.options.extend([1, 3, 3, how >> 4]);
        }
        if how & 4 != 0 {
            frame.options.extend([1, 1, 4, 2]);
        }
        if how & 8 != 0 {
            let raw: [u8; 4] = self.octets.arbitrary()?;
            frame.options.extend(raw);
        }
        Ok(())
    }

    fn segment(&mut self, talk: &Talk, id: Id, from: End, table: &Table) -> Result<Step> {
        let frame = self.frame(talk, &id, from, table)?;
        let way = self.octet()?;
        // Of one interface, of two, or as if somebody else sent it.
        let ifindex = match way & 3 {
            0 => 1,
            1 | 2 => 2 + from as u32,
            _ => ELSEWHERE,
        };
        let whole = way & 0x10 != 0 && frame.fragment.is_none() && frame.options.len() <= 40;
        Ok(Step::Packet {
            frame: if whole && Flags(frame.flags).legal() {
                frame.summed()
            } else {
                frame.bytes()
            },
            seen: Seen {
                ifindex,
                local: way & 4 != 0,
                leaves: way & 8 != 0,
                now_ns: self.now_ns,
            },
            id,
        })
    }

    fn icmp_error(&mut self, talk: &Talk, id: Id, table: &Table) -> Result<Step> {
        let [from, kind]: [u8; 2] = self.octets.arbitrary()?;
        let from = if from & 1 == 0 { A } else { B };
        let frame = self.frame(talk, &id, from, table)?;
        let header = frame.tcp_at() - frame.ip_at();
        Ok(Step::Packet {
            frame: frame
                .icmp_error(kind & 0x0f, header + usize::from(kind >> 4))
                .bytes(),
            seen: Seen {
                ifindex: ELSEWHERE,
                local: false,
                leaves: false,
                now_ns: self.now_ns,
            },
            id,
        })
    }
}

/// Numbers on which it depends what becomes of a segment: sequence numbers, and
/// acknowledgements.
fn bases(talk: &Talk, from: End, entry: Option<&Entry>) -> [[u32; 8]; 2] {
    let isns = [
        talk.isns[from as usize],
        talk.isns[from.peer() as usize].wrapping_add(1),
    ];
    let Some(Entry { flow, pending, .. }) = entry else {
        return isns.map(|isn| [isn, isn, isn.wrapping_add(1), isn, isn, isn, isn, isn]);
    };
    // Either end of the talk may have opened it.
    let initiator_is_a = flow.ends[0].isn.0 == talk.isns[0];
    let index = if initiator_is_a {
        from as usize
    } else {
        from.peer() as usize
    };
    let (me, peer) = (&flow.ends[index], &flow.ends[index ^ 1]);
    let pending: PendingSyn = pending.as_deref().copied().unwrap_or_default();
    [
        [
            me.end.0,
            isns[0],
            peer.ack.0,
            me.max_end.0,
            me.isn.0,
            peer.ack.minus(peer.window()).0,
            pending.seq.0,
            me.isn.plus(1).0,
        ],
        [
            peer.end.0,
            isns[1],
            me.ack.0,
            peer.isn.plus(1).0,
            peer.max_end.0,
            me.ack.minus(me.window()).0,
            pending.seq.plus(1).0,
            peer.isn.0,
        ],
    ]
}

/// Lets everything happen that the octets stand for, and checks after each step
/// what it did. Gives the number of steps.
#[must_use]
pub fn check(octets: &[u8]) -> u64 {
    let mut octets = Unstructured::new(octets);
    let Ok(settings) = settings(&mut octets) else {
        return 0;
    };
    let mut table = Table::new(settings);
    let mut observer = Observer::new();
    let mut script = Script::new(octets);
    for number in 0..STEPS {
        // What is cut off is no step.
        let Ok(Some(step)) = script.next(&table) else {
            return number;
        };
        match step {
            Step::Packet { frame, seen, id } => observer.packet(&mut table, &frame, &seen, &id),
            Step::Pause { ns } => script.now_ns += ns,
            Step::Expire { id } => observer.expire(&mut table, &id, script.now_ns),
            Step::Sweep => observer.sweep(&mut table, script.now_ns),
        }
    }
    STEPS
}
