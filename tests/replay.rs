//! `tracker replay` on captures made here: in every format, broken ones, and
//! through the loaded program.

#[path = "equivalence/stream.rs"]
mod stream;

use std::{
    io::Write as _,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;
use tracker::replay::{Seen, Settings, Table};
use tracker_common::{
    abi::{Family, Hook, Live, Role},
    tcp::timeout::Profile,
};
use tracker_tests::{
    agent::binary,
    program::{
        frame::{Tags, Wrapping},
        random::Random,
        talk::{A, B, Seg, Talk},
    },
};

use stream::Stream;

/// Seconds since 1970 at which captures begin.
const START: u32 = 1_700_000_000;

/// Uid of nobody.
const NOBODY: u32 = 65_534;

/// Captures in a folder that ends with the test.
struct Captures(TempDir);

impl Captures {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

/// A pcap file of packets, one each second.
fn pcap(big: bool, nano: bool, link: u32, packets: &[Vec<u8>]) -> Vec<u8> {
    let word = |number: u32| {
        if big {
            number.to_be_bytes()
        } else {
            number.to_le_bytes()
        }
    };
    let magic = if nano { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
    let version = if big { [0, 2, 0, 4] } else { [2, 0, 4, 0] };
    let mut file = [
        word(magic),
        version,
        word(0),
        word(0),
        word(262_144),
        word(link),
    ]
    .concat();
    for (second, packet) in (START..).zip(packets) {
        let length = packet.len() as u32;
        file.extend([word(second), word(0), word(length), word(length)].concat());
        file.extend(packet);
    }
    file
}

/// A pcapng file of Ethernet frames with their times in ns and whether they
/// leave.
fn pcapng(packets: &[(u64, bool, Vec<u8>)]) -> Vec<u8> {
    let block = |kind: u32, body: Vec<u8>| {
        let length = (body.len() as u32 + 12).to_le_bytes();
        [
            kind.to_le_bytes().to_vec(),
            length.to_vec(),
            body,
            length.to_vec(),
        ]
        .concat()
    };
    let words = |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|w| w.to_le_bytes()).collect() };
    let mut file = block(0x0a0d_0d0a, words(&[0x1a2b_3c4d, 1, u32::MAX, u32::MAX]));
    // Ethernet, nanoseconds.
    file.extend(block(1, words(&[1, 0, 9 | 1 << 16, 9, 0])));
    for (time_ns, leaves, packet) in packets {
        let length = packet.len() as u32;
        let (high, low) = ((time_ns >> 32) as u32, *time_ns as u32);
        let mut body = words(&[0, high, low, length, length]);
        body.extend(packet);
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend(words(&[2 | 4 << 16, 1 + u32::from(*leaves), 0]));
        file.extend(block(6, body));
    }
    file
}

fn talk() -> Talk {
    Talk::new(Wrapping::plain(Family::V4), 0)
}

/// A connection up to its first data.
fn opening() -> Vec<Vec<u8>> {
    frames(&[A.syn(), B.syn_ack(), A.ack(), A.ack().data(10)])
}

/// What comes after that.
fn closing() -> Vec<Vec<u8>> {
    frames(&[
        B.fin().acks(11),
        A.fin().seq(11).acks(2),
        B.ack().seq(2).acks(12),
    ])
}

fn frames(segments: &[Seg]) -> Vec<Vec<u8>> {
    let frames = segments
        .iter()
        .map(|&segment| talk().frame(segment).bytes());
    frames.collect()
}

fn replay(arguments: &[&str], files: &[&Path]) -> Output {
    let mut command = Command::new(binary().unwrap());
    command.arg("replay").args(arguments).args(files);
    command.output().unwrap()
}

fn text(octets: &[u8]) -> String {
    String::from_utf8(octets.to_vec()).unwrap()
}

/// Stdout of a replay that must succeed.
fn done(output: &Output) -> String {
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    text(&output.stdout)
}

/// The flows of a replay that must succeed.
fn flows(output: &Output) -> Vec<Value> {
    serde_json::from_str(&done(output)).unwrap()
}

fn states(flow: &Value) -> [&str; 2] {
    ["initiator", "responder"].map(|end| flow[end]["state"].as_str().unwrap())
}

/// A flow without what its file alone decides.
fn bare(flow: &Value) -> Value {
    let mut flow = flow.clone();
    flow.as_object_mut().unwrap().remove("file");
    flow
}

#[test]
fn the_same_packets_are_the_same_flows_in_every_format() {
    let captures = Captures::new();
    let frames = [opening(), closing()].concat();
    let mut files = Vec::new();
    for (name, big, nano) in [
        ("little", false, false),
        ("big", true, false),
        ("nano", false, true),
        ("big_nano", true, true),
    ] {
        files.push(captures.write(name, &pcap(big, nano, 1, &frames)));
    }
    let headed = |header: &[u8]| -> Vec<Vec<u8>> {
        let packets = frames.iter().map(|frame| [header, &frame[14..]].concat());
        packets.collect()
    };
    let cooked = [&[0, 0, 0, 1, 0, 6][..], &[0; 8], &[8, 0]].concat();
    let cooked_2 = [&[8, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 6][..], &[0; 8]].concat();
    for (name, link, header) in [
        ("raw", 101, &[][..]),
        ("null", 0, &[2, 0, 0, 0]),
        ("loop", 108, &[0, 0, 0, 2]),
        ("cooked", 113, &cooked),
        ("cooked_2", 276, &cooked_2),
    ] {
        files.push(captures.write(name, &pcap(false, false, link, &headed(header))));
    }
    let timed: Vec<_> = (u64::from(START)..)
        .zip(&frames)
        .map(|(second, frame)| (second * 1_000_000_000, false, frame.clone()))
        .collect();
    files.push(captures.write("ng", &pcapng(&timed)));

    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let listed = flows(&replay(&["-o", "json"], &files));
    assert_eq!(listed.len(), files.len());
    let first = bare(&listed[0]);
    assert_eq!(states(&first), ["CLOSED", "TIME_WAIT"]);
    assert_eq!(first["at_ms"], (u64::from(START) + 6) * 1000);
    assert_eq!(first["ended"], Value::Null);
    for (flow, path) in listed.iter().zip(&files) {
        assert_eq!(flow["file"], path.to_str().unwrap());
        assert_eq!(bare(flow), first, "{}", path.display());
    }
}

#[test]
fn each_file_is_a_world_of_its_own_unless_it_continues() {
    let captures = Captures::new();
    let first = captures.write("1", &pcap(false, false, 1, &opening()));
    let second = captures.write("2", &pcap(false, false, 1, &closing()));
    let files = [first.as_path(), second.as_path()];
    let apart = flows(&replay(&["-o", "json"], &files));
    let origins: Vec<_> = apart.iter().map(|flow| &flow["origin"]).collect();
    assert_eq!(origins, ["handshake", "pickup"]);
    let together = flows(&replay(&["-o", "json", "--continue"], &files));
    assert_eq!(together.len(), 1);
    assert_eq!(states(&together[0]), ["CLOSED", "TIME_WAIT"]);
    // The second one began when the first had.
    let output = replay(&["--continue"], &files);
    assert!(text(&output.stderr).contains("note: 3 packets had a time before"));
    let tables = done(&replay(&[], &files));
    assert_eq!(tables.matches(":\nProto").count(), 2, "{tables}");
}

#[test]
fn a_cut_file_is_told_after_what_was_read_of_it() {
    let captures = Captures::new();
    let whole = pcap(false, false, 1, &opening());
    let cut = captures.write("cut", &whole[..whole.len() - 3]);
    let output = replay(&["-o", "json"], &[&cut]);
    assert_eq!(output.status.code(), Some(1));
    let listed: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(states(&listed[0]), ["ESTABLISHED", "ESTABLISHED"]);
    let at = whole.len() - opening()[3].len() - 16;
    let stderr = text(&output.stderr);
    let expected = format!(
        "error: {}: at octet {at}: the file is cut off: a packet with its header of 80 octets \
         begins here, of which it holds 77\n",
        cut.display()
    );
    assert_eq!(stderr, expected);
}

#[test]
fn what_is_no_capture_is_an_error_and_the_others_are_read() {
    let captures = Captures::new();
    let good = captures.write("good", &pcap(false, false, 1, &opening()));
    let missing = captures.0.path().join("missing");
    for (file, what) in [
        (captures.write("empty", b""), "the file is empty"),
        (
            captures.write("text", b"hello there"),
            "at octet 0: this is no capture",
        ),
        (
            captures.write("gzip", &[0x1f, 0x8b, 8, 0]),
            "compressed by gzip",
        ),
        (
            captures.write("wifi", &pcap(true, false, 105, &[])),
            "at octet 20: the packets are of link type 105",
        ),
        (missing, "cannot open it: No such file or directory"),
        (captures.0.path().to_owned(), "Is a directory"),
    ] {
        let alone = replay(&[], &[&file]);
        assert_eq!(alone.status.code(), Some(1));
        let stderr = text(&alone.stderr);
        assert!(
            stderr.starts_with(&format!("error: {}: ", file.display())) && stderr.contains(what),
            "{stderr}"
        );
        let among = replay(&["-o", "ndjson"], &[&file, &good]);
        assert_eq!(among.status.code(), Some(1));
        assert_eq!(text(&among.stdout).lines().count(), 1, "{}", file.display());
    }
    let two = replay(
        &[],
        &[Path::new("/nonexistent"), &good, Path::new("/nonexistent")],
    );
    assert!(text(&two.stderr).starts_with("error: 2 of 3 files could not be read to their end:\n"));
}

#[test]
fn stdin_is_a_file() {
    let mut child = Command::new(binary().unwrap())
        .args(["replay", "-o", "ndjson", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&pcap(true, true, 1, &opening())).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let flow: Value = serde_json::from_str(&done(&output)).unwrap();
    assert_eq!(flow["file"], "-");
}

#[test]
fn a_trace_has_a_line_for_each_packet() {
    let captures = Captures::new();
    let file = captures.write("file", &pcap(false, false, 1, &opening()));
    let lines = done(&replay(&["--trace"], &[&file]));
    let (packets, table) = lines.split_once("\n\n").unwrap();
    assert_eq!(packets.lines().count(), 4);
    let ends = "10.77.0.0:10000 > 10.77.255.254:443 [S] seq 4294967295 win 1000 len 0";
    let first = format!("1 0.000000 {ends}: accept flow_opened, SYN_SENT LISTEN");
    assert_eq!(packets.lines().next(), Some(&first[..]));
    assert!(table.starts_with("Proto Initiator"));
    for format in ["json", "ndjson"] {
        let lines = done(&replay(&["--trace", "-o", format], &[&file]));
        let objects: Vec<Value> = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(objects.len(), 5);
        assert_eq!(objects[2]["reason"], "tracked");
        assert_eq!(objects[2]["initiator_state"], "ESTABLISHED");
        assert_eq!(objects[2]["id"], objects[4]["id"]);
        assert_eq!(objects[2]["time"], "2023-11-14T22:13:22.000000000Z");
    }
    let csv = replay(&["--trace", "-o", "csv"], &[&file]);
    assert_eq!(csv.status.code(), Some(2), "{}", text(&csv.stderr));
}

#[test]
fn flows_are_listed_when_they_end_if_asked() {
    let captures = Captures::new();
    let again = frames(&[A.syn().seq(5_000_000)]);
    let packets = [opening(), closing(), again].concat();
    let file = captures.write("file", &pcap(false, false, 1, &packets));
    let ended = flows(&replay(&["--at", "expired", "-o", "json"], &[&file]));
    let told: Vec<_> = ended
        .iter()
        .map(|flow| {
            let at = flow["at_ms"].as_u64().unwrap() / 1000 - u64::from(START);
            (flow["ended"].as_str().unwrap(), states(flow), at)
        })
        .collect();
    assert_eq!(
        told,
        [
            ("replaced", ["CLOSED", "TIME_WAIT"], 7),
            // 120 s from its SYN.
            ("expired", ["SYN_SENT", "LISTEN"], 127),
        ]
    );
    let table = done(&replay(&["--at", "expired"], &[&file]));
    assert!(
        table.contains(" Ended ") && table.contains(" replaced "),
        "{table}"
    );
    let csv = done(&replay(&["--at", "expired", "-o", "csv"], &[&file]));
    let widths: Vec<_> = csv.lines().map(|line| line.split(',').count()).collect();
    assert_eq!(widths, [widths[0]; 3], "{csv}");
    let faster = flows(&replay(
        &["--at", "expired", "--profile", "aggressive", "-o", "json"],
        &[&file],
    ));
    let at_ms = faster[1]["at_ms"].as_u64().unwrap();
    assert_eq!(at_ms / 1000, u64::from(START) + 37);
    let config = captures.write("tracker.toml", b"[timeouts]\nsyn_sent = \"11s\"\n");
    let own = flows(&replay(
        &["--at=expired", "-o=json", "-c", config.to_str().unwrap()],
        &[&file],
    ));
    let at_ms = own[1]["at_ms"].as_u64().unwrap();
    assert_eq!(at_ms / 1000, u64::from(START) + 18);
}

#[test]
fn a_wrong_configuration_is_told_before_anything_is_read() {
    let captures = Captures::new();
    let file = captures.write("file", &pcap(false, false, 1, &opening()));
    let config = captures.write("wrong.toml", b"[timeouts]\nsyn_snt = \"11s\"\n");
    let output = replay(&["-c", config.to_str().unwrap()], &[&file]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        error.contains("wrong.toml:2:1") && error.contains("did you mean `syn_sent`"),
        "{error}"
    );
    assert!(output.stdout.is_empty());
}

#[test]
fn the_settings_are_the_brains() {
    let captures = Captures::new();
    let strays = captures.write("strays", &pcap(false, false, 1, &closing()));
    let reasons = |arguments: &[&str], file: &Path| {
        let output = replay(&[arguments, &["--stats"]].concat(), &[file]);
        done(&output);
        text(&output.stderr)
    };
    assert!(reasons(&[], &strays).contains("1 accept flow_picked_up"));
    let none = reasons(&["--pickup", "off"], &strays);
    assert!(
        none.contains("2 refuse stray_fin") && none.contains("1 refuse stray_ack"),
        "{none}"
    );

    let far = frames(&[A.ack().seq(9_000_000).data(1)]);
    let far = captures.write("far", &pcap(false, false, 1, &[opening(), far].concat()));
    assert!(reasons(&[], &far).contains("1 refuse beyond_window"));
    assert!(reasons(&["--liberal"], &far).contains("1 note   liberal"));
    // The frames made here have none.
    assert!(reasons(&["--checksum"], &far).contains("5 refuse bad_checksum"));

    let tagged = |vid| {
        let wrapping = Wrapping {
            family: Family::V4,
            tags: Tags::Vlan(vid),
        };
        Talk::new(wrapping, 0)
    };
    let crossed = [
        tagged(1).frame(A.syn()).bytes(),
        tagged(2).frame(B.syn_ack()).bytes(),
    ];
    let crossed = captures.write("crossed", &pcap(false, false, 1, &crossed));
    assert!(reasons(&[], &crossed).contains("1 refuse stray_syn_ack"));
    assert!(reasons(&["--role", "gateway"], &crossed).contains("1 accept tracked"));

    let config = captures.write(
        "tracker.toml",
        b"interfaces = [\"elsewhere0\"]\nrole = \"gateway\"\n[tracking]\npickup = \"off\"\n",
    );
    let named = ["--config", config.to_str().unwrap()];
    assert!(reasons(&named, &crossed).contains("1 accept tracked"));
    let host = [&named[..], &["--role", "host"]].concat();
    assert!(reasons(&host, &crossed).contains("1 refuse stray_syn_ack"));
    assert!(reasons(&named, &strays).contains("2 refuse stray_fin"));
}

/// Without --kernel no privilege is needed.
#[test]
fn anybody_may_replay() {
    let captures = Captures::new();
    let everyone = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(captures.0.path(), everyone.clone()).unwrap();
    // The one that was built may lie where only root can go.
    let program = captures.0.path().join("tracker");
    std::fs::copy(binary().unwrap(), &program).unwrap();
    std::fs::set_permissions(&program, everyone).unwrap();
    let file = captures.write("file", &pcap(false, false, 1, &opening()));
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.arg("replay").args(arguments).arg(&file);
        command.uid(NOBODY).gid(NOBODY).output().unwrap()
    };
    assert!(done(&run(&[])).contains("ESTABLISHED"));
    let kernel = run(&["--kernel"]);
    assert_eq!(kernel.status.code(), Some(1));
    assert!(
        text(&kernel.stderr).starts_with("error: --kernel loads the programs, which needs root")
    );
}

/// Streams that no honest host sends, at both hooks, go through the brain and
/// the loaded program by way of a file.
#[test]
fn the_program_agrees_on_generated_captures() {
    const PACKETS: usize = 3000;
    let live = Live {
        capacity: 64,
        half_open_limit: 8,
        pickup_limit: 8,
        ..Live::observing(Profile::Linux)
    };
    let mut random = Random::new(7);
    let mut stream = Stream::new(&mut random);
    let mut table = Table::new(Settings {
        live,
        role: Role::Host,
        checksum: false,
    });
    let mut now_ns = u64::from(START) * 1_000_000_000;
    let mut packets = Vec::with_capacity(PACKETS);
    for _ in 0..PACKETS {
        now_ns += stream.pause_ms(&mut random) * 1_000_000;
        let (origin, _, frame) = stream.next(&mut random, &table);
        let leaves = origin.hook() == Hook::Egress;
        let seen = Seen {
            ifindex: 1 + u32::from(leaves),
            local: origin.is_local(),
            leaves,
            now_ns,
        };
        table.packet_of(&frame[..], &seen);
        packets.push((now_ns, leaves, frame));
    }
    let captures = Captures::new();
    let file = captures.write("stream", &pcapng(&packets));
    let agreed = format!("note: {PACKETS} packets went through the brain and the program");
    for settings in [
        &["--capacity", "64"][..],
        &["--liberal", "--role", "gateway"],
        &[
            "--pickup",
            "off",
            "--profile",
            "aggressive",
            "--at",
            "expired",
        ],
    ] {
        let arguments = [&["--kernel", "-o", "ndjson"][..], settings].concat();
        let output = replay(&arguments, &[&file]);
        done(&output);
        let stderr = text(&output.stderr);
        assert!(stderr.contains(&agreed), "{settings:?}: {stderr}");
    }
}

/// What a test run cannot take is left out of both, and told.
#[test]
fn what_the_program_cannot_be_given_is_told() {
    let captures = Captures::new();
    let mut packets = opening();
    packets.push(vec![0; 10]);
    let mut file = pcap(false, false, 1, &packets);
    // Two packets of which all but the headers was cut off, and one of which
    // the headers were.
    for kept in [54, 54, 40] {
        let data = talk().frame(A.ack().seq(11).data(1000)).bytes();
        let lengths = [kept as u32, data.len() as u32];
        let header = [[START + 9, 0], lengths].concat();
        file.extend(header.iter().flat_map(|word| word.to_le_bytes()));
        file.extend(&data[..kept]);
    }
    let file = captures.write("file", &file);
    let output = replay(&["--kernel", "-o", "json"], &[&file]);
    let listed = flows(&output);
    assert_eq!(listed[0]["initiator"]["packets"], 5);
    let stderr = text(&output.stderr);
    for note in [
        "1 packet left out of both: shorter than the kernel's test run takes",
        "1 packet left out of both: cut off inside a header",
        "2 packets cut off behind the headers",
        "6 packets went through the brain and the program",
    ] {
        assert!(stderr.contains(note), "{note}: {stderr}");
    }
}
