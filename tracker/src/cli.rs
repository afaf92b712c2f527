//! The command line: definitions only, so that other tools can generate man
//! pages and completions from them. What the verbs do is in `commands`.

mod defence;
mod policy;

use std::{path::PathBuf, time::Duration};

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use serde::Deserialize;
use tracker_common::tcp::timeout::Profile;

pub use self::{
    defence::{BanAddArgs, BanArgs, BanListArgs, BanRemoveArgs, BanVerb, ListenersArgs},
    policy::{
        DirectionChoice, ExplainArgs, FlowsChoice, PolicyApplyArgs, PolicyArgs, PolicyCheckArgs,
        PolicyConfirmArgs, PolicyDiffArgs, PolicyShowArgs, PolicyTestArgs, PolicyVerb,
    },
};

/// Where maps, links and programs are pinned unless somebody says otherwise.
pub const DEFAULT_PIN_DIR: &str = "/sys/fs/bpf/tracker";

/// TCP connection tracker: every flow that crosses this machine's interfaces,
/// with the RFC 9293 state of both ends.
#[derive(Debug, Parser)]
#[command(
    name = "tracker",
    version,
    max_term_width = 100,
    after_help = "Examples:\n  \
        tracker run                         track the default route's interface\n  \
        tracker list | grep SYN_RECV        half-open connections\n  \
        tracker watch                       the same table, live\n  \
        tracker stats --verbose             counters, each with what it means\n  \
        tracker replay trace.pcap           the connections of a capture\n\n\
        Exit status: 0 done, 1 it failed (why is on stderr), 2 wrong usage.\n\
        All commands need root but --help, --version, replay without --kernel, and\n\
        policy check and test of a file."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Load the programs, attach them, and track until stopped.
    Run(RunArgs),
    /// Detach and remove everything that a `run --on-exit keep` left behind.
    Unload(PinArgs),
    /// List the tracked flows once.
    List(ListArgs),
    /// Show the table of flows and keep it up to date.
    Watch(WatchArgs),
    /// Show counters, how full the tables are, and whether the agent is well.
    Stats(StatsArgs),
    /// Show the sockets that accept connections, and how each is defended.
    Listeners(ListenersArgs),
    /// Keep prefixes out for a time.
    Ban(BanArgs),
    /// Check, apply and look into the policy: which connections may be opened.
    Policy(PolicyArgs),
    /// Tell what became of a connection, and why.
    Explain(ExplainArgs),
    /// Forget all flows. Connections go on, and are met again in mid-life.
    Flush(PinArgs),
    /// Track the connections of captures instead of those of this machine.
    Replay(ReplayArgs),
}

/// Where to find the maps.
#[derive(Args, Debug)]
pub struct PinArgs {
    /// Directory of the pinned maps, in a BPF file system.
    #[arg(long, value_name = "DIR", env = "TRACKER_PIN_DIR", default_value = DEFAULT_PIN_DIR)]
    pub pin_dir: PathBuf,
}

/// Arguments of `tracker run`. What is not given comes from the configuration
/// file, then from the defaults.
#[derive(Args, Debug, Default)]
#[command(after_help = "Examples:\n  \
        tracker run -i eth0 -i eth1 --role gateway\n  \
        tracker run -i eth0 --mode enforce\n  \
        tracker run -c /etc/tracker.toml --on-exit keep\n\n\
        SIGINT and SIGTERM end it, SIGHUP reads the configuration file again.\n\
        On a terminal it shows the live table; `q` ends it. Elsewhere it logs to stderr:\n\
        TRACKER_LOG sets how much (error, warn, info, debug, trace).")]
pub struct RunArgs {
    /// Interface to track, repeatable [default: the default route's].
    #[arg(short, long = "interface", value_name = "IFACE")]
    pub interfaces: Vec<String>,
    /// Where this machine stands [default: host].
    #[arg(long)]
    pub role: Option<RoleChoice>,
    /// Whether what no honest packet would be is dropped, and floods of SYNs are
    /// answered with SYN cookies [default: observe].
    #[arg(long)]
    pub mode: Option<ModeChoice>,
    /// How to attach the ingress program [default: auto].
    #[arg(long)]
    pub xdp: Option<XdpChoice>,
    /// Configuration file. Without it the defaults hold.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Whether connections older than the tracker are taken up [default: loose;
    /// grace with --mode enforce].
    #[arg(long)]
    pub pickup: Option<PickupChoice>,
    /// What to leave behind at the end [default: detach].
    #[arg(long)]
    pub on_exit: Option<OnExit>,
    /// Where to pin maps and links, in a BPF file system [default:
    /// /sys/fs/bpf/tracker].
    #[arg(long, value_name = "DIR", env = "TRACKER_PIN_DIR")]
    pub pin_dir: Option<PathBuf>,
    /// Log even on a terminal, instead of showing the table.
    #[arg(long)]
    pub no_table: bool,
}

/// Arguments of `tracker list`.
#[derive(Args, Debug)]
#[command(
    after_help = "The table is sorted; the machine formats come in the order of the hash table.\n\
        It needs no running agent: it reads the pinned maps.\n\n\
        Examples:\n  \
        tracker list | grep -c SYN_RECV\n  \
        tracker list --details | grep -A 9 192.0.2.1:443\n  \
        tracker list -o ndjson | jq -r 'select(.syn_retransmits > 0) | .responder.addr'\n  \
        tracker list -o csv > flows.csv"
)]
pub struct ListArgs {
    /// Output format.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: ListFormat,
    /// Show how each flow came to its states, and the last segment that was
    /// refused, with the numbers that did not fit.
    #[arg(short, long)]
    pub details: bool,
    /// See [`PinArgs`].
    #[command(flatten)]
    pub pin: PinArgs,
}

/// Arguments of `tracker watch`.
#[derive(Args, Debug)]
#[command(
    after_help = "`q` or Ctrl-C ends it. Where stdin or stdout is no terminal the table is printed again \
                  and again, parted by blank lines."
)]
pub struct WatchArgs {
    /// Seconds between two looks at the tables, at least 0.1.
    #[arg(long, value_name = "S", default_value = "1", value_parser = interval)]
    pub interval: Duration,
    /// See [`PinArgs`].
    #[command(flatten)]
    pub pin: PinArgs,
}

/// Arguments of `tracker stats`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
        tracker stats --verbose | grep refuse\n  \
        tracker stats -o json | jq '.reasons[] | select(.class == \"refuse\") | .reason, .ingress'")]
pub struct StatsArgs {
    /// Output format.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: StatsFormat,
    /// Show every reason, counted or not, and what it means.
    #[arg(short, long)]
    pub verbose: bool,
    /// See [`PinArgs`].
    #[command(flatten)]
    pub pin: PinArgs,
}

/// Arguments of `tracker replay`.
#[derive(Args, Debug)]
#[command(
    after_help = "Reads pcap (either byte order, micro- and nanoseconds) and pcapng; Ethernet, raw IP, Linux cooked \
        and BSD loopback packets. What went wrong with a file comes after what was read of it.\n\n\
        Examples:\n  \
        tracker replay trace.pcap\n  \
        tracker replay --trace trace.pcap | grep refuse\n  \
        tracker replay --at expired -o ndjson trace.pcap | jq -r .responder.state\n  \
        tracker replay -c /etc/tracker.toml trace.pcap\n  \
        tracker replay --continue trace.pcap0 trace.pcap1 trace.pcap2\n  \
        zcat trace.pcap.gz | tracker replay -"
)]
pub struct ReplayArgs {
    /// Captures; `-` is stdin. Each begins with no flows, unless --continue.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Output format.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: ListFormat,
    /// Write a line for each packet: what it is, what became of it, and the
    /// states of initiator and responder after it. With json and ndjson each
    /// line, also of a flow, is one object.
    #[arg(long)]
    pub trace: bool,
    /// Which flows are listed, and as of when.
    #[arg(long, value_name = "WHEN", default_value = "end")]
    pub at: At,
    /// Show how each flow came to its states, and the last segment that was
    /// refused, with the numbers that did not fit.
    #[arg(short, long)]
    pub details: bool,
    /// Write how many packets left with which reason to stderr.
    #[arg(long)]
    pub stats: bool,
    /// Take each file for the continuation of the one before it.
    #[arg(long = "continue")]
    pub continued: bool,
    /// Run the packets through the programs in the kernel, too, and stop where
    /// they disagree. Needs root.
    #[arg(long)]
    pub kernel: bool,
    /// Configuration file, as `tracker run` reads it: its role, table, tracking
    /// and time-outs. Without it the defaults hold.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the capture was made: at an end of the connections (frames of
    /// different VLANs are different flows) or on a router [default: host].
    #[arg(long)]
    pub role: Option<RoleChoice>,
    /// Time-outs that the configuration file does not set one by one [default:
    /// linux].
    #[arg(long, value_name = "PROFILE", value_parser = profile)]
    pub profile: Option<Profile>,
    /// Whether connections whose SYN is not in the capture are taken up
    /// [default: loose].
    #[arg(long)]
    pub pickup: Option<ReplayPickup>,
    /// Hold no segment against windows, timestamps and RST numbers.
    #[arg(long)]
    pub liberal: bool,
    /// Verify TCP checksums. A machine's own segments are captured before theirs
    /// are computed, so this is for captures made elsewhere on the way.
    #[arg(long)]
    pub checksum: bool,
    /// Flows that are tracked at once, of each address family [default: 262144].
    #[arg(long, value_name = "FLOWS",
        value_parser = clap::value_parser!(u32).range(1..=0x0400_0000))]
    pub capacity: Option<u32>,
}

/// Which flows `tracker replay` lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum At {
    /// Those that are there when the last packet has passed, as they are then.
    End,
    /// All, each as it was when it ended: its time-out ran out, be it after the
    /// last packet, or another connection took over its addresses and ports.
    Expired,
}

/// Whether `tracker replay` takes up connections whose SYN is not in the capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReplayPickup {
    /// Never: their segments are strays.
    Off,
    /// Always.
    Loose,
}

impl ReplayArgs {
    /// Checks what the definitions cannot say.
    ///
    /// # Errors
    ///
    /// When arguments contradict each other.
    pub fn check(&self) -> Result<(), clap::Error> {
        let conflict =
            |message: &str| Cli::command().error(clap::error::ErrorKind::ArgumentConflict, message);
        if self.trace && self.output == ListFormat::Csv {
            return Err(conflict(
                "--trace cannot be written as csv, which has one kind of line: use ndjson",
            ));
        }
        let stdins = self.files.iter().filter(|file| file.as_os_str() == "-");
        if stdins.count() > 1 {
            return Err(conflict("`-` stands for stdin, which can be read once"));
        }
        Ok(())
    }
}

/// The time-outs of that name.
fn profile(word: &str) -> Result<Profile, String> {
    Profile::ALL
        .into_iter()
        .find(|profile| profile.as_str() == word)
        .ok_or_else(|| {
            let known = Profile::ALL.map(Profile::as_str);
            format!("it must be one of {}", known.join(", "))
        })
}

/// Formats of `tracker list`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// Columns as `netstat -tn` has them, sorted.
    Table,
    /// One array of objects.
    Json,
    /// One object a line.
    Ndjson,
    /// Comma-separated values with a header line (RFC 4180).
    Csv,
}

/// Formats of `tracker stats`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StatsFormat {
    /// For people.
    Table,
    /// One object.
    Json,
}

/// Where the machine stands.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum RoleChoice {
    /// An end host: one side of every flow is local.
    Host,
    /// A router: flows come in on one interface and leave on another.
    Gateway,
}

/// What becomes of packets that no honest one would be.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ModeChoice {
    /// They are counted and pass.
    Observe,
    /// They are dropped, and the defence against floods is on.
    Enforce,
}

/// How to attach the ingress program.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum XdpChoice {
    /// Native where the driver can, else generic.
    Auto,
    /// In the driver, or fail.
    Native,
    /// In the network stack: slower, on every interface.
    Generic,
}

/// Whether a connection is met in mid-life, of which the tracker saw no SYN.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum PickupChoice {
    /// Never: its segments are strays.
    Off,
    /// At any time.
    Loose,
    /// While the tables are new, for `tracking.pickup_grace`; then never.
    Grace,
}

/// What `tracker run` leaves behind when it ends.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OnExit {
    /// Nothing: programs, links and maps are removed.
    Detach,
    /// Everything: the programs go on, and the next run takes over.
    Keep,
}

/// Seconds with a fraction, as a duration.
fn interval(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "not a number of seconds".to_owned())?;
    if !(0.1..=86_400.0).contains(&seconds) {
        return Err("must lie between 0.1 and 86400 seconds".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    /// Every line of the contract that scripts rely on.
    #[test]
    fn the_promised_command_lines_parse() {
        for line in [
            "tracker run",
            "tracker run -i eth0 -i eth1 --role gateway --mode enforce --xdp generic --pickup grace -c f --on-exit keep --pin-dir /d",
            "tracker unload --pin-dir /d",
            "tracker list -o table",
            "tracker list -o json --pin-dir /d",
            "tracker list -o ndjson",
            "tracker list -o csv",
            "tracker list --details",
            "tracker list -d -o json",
            "tracker watch --interval 0.5",
            "tracker stats -o table",
            "tracker stats -o json --pin-dir /d",
            "tracker listeners --addresses -o csv",
            "tracker listeners -o ndjson --pin-dir /d",
            "tracker ban list -o json --pin-dir /d",
            "tracker ban add 192.0.2.0/24 --for 10m --pin-dir /d",
            "tracker ban remove 2001:db8::/64",
            "tracker policy check f -o json",
            "tracker policy apply f --flows kill --confirm 60 --force --pin-dir /d",
            "tracker policy apply f --flows recheck",
            "tracker policy confirm --pin-dir /d",
            "tracker policy diff f -o json",
            "tracker policy show -o json --pin-dir /d",
            "tracker policy test 192.0.2.1:5 [2001:db8::1]:22 --in eth0 --direction forward f",
            "tracker explain 192.0.2.1:5 192.0.2.2:22 -o json --pin-dir /d",
            "tracker flush --pin-dir /d",
            "tracker replay f g --trace -o ndjson --at expired --continue --stats --details",
            "tracker replay - --kernel --role gateway --profile pf --pickup off --liberal --checksum --capacity 9",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
    }

    #[test]
    fn what_replay_cannot_do_is_wrong_usage() {
        let replay = |line: &str| {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            let Command::Replay(args) = cli.command else {
                panic!("{line} is another verb");
            };
            args.check()
        };
        assert!(replay("tracker replay - a --trace -o json").is_ok());
        for line in ["tracker replay a --trace -o csv", "tracker replay - a -"] {
            assert_eq!(replay(line).unwrap_err().exit_code(), 2, "{line}");
        }
        for line in [
            "tracker replay",
            "tracker replay a --profile bsd",
            "tracker replay a --capacity 0",
        ] {
            assert_eq!(
                Cli::try_parse_from(line.split(' '))
                    .unwrap_err()
                    .exit_code(),
                2,
                "{line}"
            );
        }
    }

    #[test]
    fn an_interval_is_a_sensible_number_of_seconds() {
        assert_eq!(interval("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["0", "-1", "x", "NaN", "inf", "1e9"] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }
}
