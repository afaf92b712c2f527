//! `tracker replay`: the connections of captures.

use std::{
    cell::RefCell,
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use tracker_common::{
    abi::{self, Cause, Live},
    reason::Reason,
    tcp::timeout::{self, Profile},
    time::Tick,
};

use super::counted;
use crate::{
    cli::{At, ListFormat, ReplayArgs},
    config::{self, Config, PickupChoice},
    replay::{
        Beside, Ended, Entry, Id, Judged, Progress, Replay, STATIONS, Settings, Stats, Table,
        capture::{Capture, Fault},
        trace,
    },
    view::{Clock, Details, Listing, Names, Quoted, Replayed, Row},
};

/// Packets between two looks at the progress.
const LOOK_EVERY: u64 = 1 << 12;

/// Writes the flows of the captures to `out`, and what there is to say about
/// the captures to stderr.
pub fn replay(args: &ReplayArgs, out: &mut impl Write, colours: bool) -> Result<()> {
    if let Err(error) = args.check() {
        error.exit();
    }
    let file = match &args.config {
        Some(path) => config::load(path)?,
        None => config::File::default(),
    };
    let config = config::of_captures(file, args)?;
    let live = live(&config);
    let settings = Settings {
        live,
        role: config.role,
        checksum: config.tracking.checksum,
    };
    let beside = args.kernel.then(|| Beside::load(&settings)).transpose()?;
    let mut replay = Replay::new(Table::new(settings), beside);
    let shared = RefCell::new(out);
    let names = Names::default();
    let mut report = Report::new(args, live, Shared(&shared), &names, colours);
    let mut faults = Vec::new();
    let mut failed = None;
    for (index, path) in args.files.iter().enumerate() {
        if !args.continued || index == 0 {
            replay.begin()?;
            report.begin(path)?;
        }
        match read(path, &mut replay, &mut report) {
            Ok(()) => {}
            Err(Stop::File(error)) => faults.push(error.context(name(path))),
            Err(Stop::Failed(error)) => failed = Some(error.context(name(path))),
        }
        let last = failed.is_some() || index + 1 == args.files.len();
        if !args.continued || last {
            if failed.is_none() {
                failed = replay.settle().err().map(|error| error.context(name(path)));
            }
            report.flows(&mut replay)?;
        }
        if failed.is_some() {
            break;
        }
    }
    report.end()?;
    tell(args, &replay);
    match failed {
        Some(error) => Err(error),
        None => conclude(faults, args.files.len()),
    }
}

/// The brain's settings.
fn live(config: &Config) -> Live {
    Live {
        capacity: config.capacity,
        half_open_limit: config.half_open_limit,
        pickup_limit: config.pickup_limit,
        // Nothing is read from the ring, and nothing waits for it.
        ring_slots: config.half_open_limit,
        // A grace has no end here: a capture says nothing of an agent's start.
        pickup: u8::from(config.tracking.pickup != PickupChoice::Off),
        syn_ack_retries: config.tracking.syn_ack_retries,
        switches: config.tracking.switches(),
        timeouts: timeout::rows(&config.timeouts),
        ..Live::observing(Profile::Linux)
    }
}

/// What ends the reading of a file before its end.
enum Stop {
    /// The file.
    File(anyhow::Error),
    /// Something else.
    Failed(anyhow::Error),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::File(fault.into())
    }
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// What a file is called in messages.
fn name(path: &Path) -> String {
    if path.as_os_str() == "-" {
        "stdin".to_owned()
    } else {
        path.display().to_string()
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).context("cannot open it")
}

/// Lets the packets of one file pass.
fn read<W: Write>(
    path: &Path,
    replay: &mut Replay,
    report: &mut Report<'_, W>,
) -> Result<(), Stop> {
    let (input, length): (Box<dyn Read>, _) = if path.as_os_str() == "-" {
        (Box::new(io::stdin().lock()), None)
    } else {
        let file = open(path).map_err(Stop::File)?;
        let length = file.metadata().ok().map(|data| data.len());
        (Box::new(file), length.filter(|&length| length > 0))
    };
    let mut progress = Progress::new(length, report.args.trace);
    let mut capture = Capture::open(input)?;
    replay.begin_capture();
    report.file = Quoted::new(path.display().to_string());
    let mut packets = 0_u64;
    loop {
        if packets.is_multiple_of(LOOK_EVERY) {
            progress.set(capture.position());
        }
        packets += 1;
        let Some(record) = capture.next()? else {
            return Ok(());
        };
        let judged = replay.packet(&record, |ended, at_ns| report.ended(&ended, at_ns))?;
        report.packet(&judged)?;
    }
}

/// One stdout for all that write to it.
struct Shared<'a, W>(&'a RefCell<W>);

impl<W> Clone for Shared<'_, W> {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

impl<W: Write> Write for Shared<'_, W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(octets)
    }

    fn write_all(&mut self, octets: &[u8]) -> io::Result<()> {
        self.0.borrow_mut().write_all(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.borrow_mut().flush()
    }
}

/// What goes to stdout.
struct Report<'a, W: Write> {
    args: &'a ReplayArgs,
    out: Shared<'a, W>,
    names: &'a Names,
    colours: bool,
    live: Live,
    /// The one that is read.
    file: Quoted,
    /// One for all files where a machine reads it, else one for each.
    listing: Option<Listing<'a, Shared<'a, W>>>,
}

impl<'a, W: Write> Report<'a, W> {
    fn new(
        args: &'a ReplayArgs,
        live: Live,
        out: Shared<'a, W>,
        names: &'a Names,
        colours: bool,
    ) -> Self {
        Self {
            args,
            out,
            names,
            colours,
            live,
            file: Quoted::new(String::new()),
            listing: None,
        }
    }

    const fn is_table(&self) -> bool {
        matches!(self.args.output, ListFormat::Table)
    }

    /// Begins with a file.
    fn begin(&mut self, path: &Path) -> Result<()> {
        if self.is_table() && self.args.files.len() > 1 && !self.args.continued {
            writeln!(self.out, "{}:", name(path))?;
        }
        if self.listing.is_none() {
            // An array could not hold the lines of packets.
            let is_array = self.args.output == ListFormat::Json;
            let format = if is_array && self.args.trace {
                ListFormat::Ndjson
            } else {
                self.args.output
            };
            self.listing = Some(Listing::begin_of_captures(
                format,
                self.out.clone(),
                self.names,
                self.colours,
                self.args.details,
            )?);
        }
        Ok(())
    }

    /// Writes the line of a packet, where lines are wanted.
    fn packet(&mut self, judged: &Judged<'_>) -> Result<()> {
        if !self.args.trace {
            return Ok(());
        }
        if self.is_table() {
            trace::line(&mut self.out, judged)?;
        } else {
            trace::object(&mut self.out, judged)?;
        }
        Ok(())
    }

    /// Lists a flow that has ended, where those are wanted; `at_ns` is when, ns
    /// since 1970.
    fn ended(&mut self, ended: &Ended, at_ns: u64) -> Result<()> {
        let Ended {
            id,
            entry,
            cause,
            at_ns: moment_ns,
        } = ended;
        if self.args.at == At::Expired {
            self.row(id, entry, *moment_ns, at_ns, Some(*cause))?;
        }
        Ok(())
    }

    /// Lists a flow as it stands at `now_ns` of the tracker's clock, which is
    /// `at_ns` since 1970.
    fn row(
        &mut self,
        id: &Id,
        entry: &Entry,
        now_ns: u64,
        at_ns: u64,
        ended: Option<Cause>,
    ) -> Result<()> {
        let Some(listing) = &mut self.listing else {
            return Ok(());
        };
        let (key, clock) = (id.key(), Clock::new(now_ns, self.live));
        let mut flow = timeout::settled(&entry.flow, Tick::from_ns(now_ns));
        for path in &mut flow.paths {
            // A station is no interface of anybody's.
            if path.ifindex() >= STATIONS {
                *path = abi::Path::new(0, path.outer(), path.inner());
            }
        }
        let replayed = Replayed {
            file: &self.file,
            at_ms: at_ns / 1_000_000,
            ended,
        };
        let row = if ended.is_some() {
            Row::ended(id.family(), &key, &flow, &clock, replayed)
        } else {
            match Row::new(id.family(), &key, &flow, &clock) {
                Some(row) => row.of_capture(replayed),
                None => return Ok(()),
            }
        };
        let details = Details {
            history: entry.history.as_deref().copied(),
            refusal: entry.refusal.as_deref().copied(),
        };
        Ok(listing.detailed_row(&row, &details)?)
    }

    /// Lists what is left when the last packet has passed.
    fn flows(&mut self, replay: &mut Replay) -> Result<()> {
        match self.args.at {
            At::Expired => replay.run_out(|ended, at_ns| self.ended(&ended, at_ns))?,
            At::End => {
                let now_ns = replay.clock().now_ns();
                let at_ns = replay.clock().captured_ns(now_ns);
                for (id, entry) in replay.table().flows() {
                    self.row(id, entry, now_ns, at_ns, None)?;
                }
            }
        }
        if self.is_table()
            && let Some(listing) = self.listing.take()
        {
            if self.args.trace {
                writeln!(self.out)?;
            }
            listing.end()?;
        }
        Ok(())
    }

    /// Ends what one listing is for all files.
    fn end(mut self) -> Result<()> {
        self.listing.take().map_or(Ok(()), Listing::end)?;
        Ok(self.out.flush()?)
    }
}

/// Writes to stderr what there is to say beside the flows.
fn tell(args: &ReplayArgs, replay: &Replay) {
    let stats = replay.stats();
    let mut lines = Vec::new();
    if args.stats {
        lines.extend(summary(&stats));
    }
    let mut note = |count: u64, what: &str| {
        if count > 0 {
            lines.push(format!("note: {} {what}", counted(count, "packet")));
        }
    };
    note(
        stats.backwards,
        "had a time before that of an earlier one: it was taken to be as late as that one",
    );
    note(
        stats.strange,
        "left out: of a link type that is not read here",
    );
    if let Some(beside) = replay.beside() {
        let skipped = beside.skipped();
        note(
            skipped.long,
            "left out of both: longer than the kernel's test run takes",
        );
        note(
            skipped.short,
            "left out of both: shorter than the kernel's test run takes",
        );
        note(skipped.cut, "left out of both: cut off inside a header");
        note(
            beside.padded(),
            "cut off behind the headers: the program saw zeros for the rest",
        );
        note(
            beside.agreed(),
            "went through the brain and the program, which agreed on each",
        );
    }
    let mut stderr = io::stderr().lock();
    for line in lines {
        // Where stderr is closed there is nobody to tell.
        match writeln!(stderr, "{line}") {
            Ok(()) | Err(_) => {}
        }
    }
}

/// How many packets there were, and with which reasons they left.
fn summary(stats: &Stats) -> Vec<String> {
    let mut lines = vec![format!(
        "{}, {} octets, {} of them cut off",
        counted(stats.packets, "packet"),
        stats.bytes,
        stats.cut
    )];
    for &reason in Reason::ALL {
        let count = stats.reasons.get(reason as usize).copied().unwrap_or(0);
        if count > 0 {
            lines.push(format!(
                "{count:>10} {:<6} {}",
                reason.class().as_str(),
                reason.as_str()
            ));
        }
    }
    lines
}

/// The error of all files that could not be read to their ends.
fn conclude(mut faults: Vec<anyhow::Error>, files: usize) -> Result<()> {
    let Some(last) = faults.pop() else {
        return Ok(());
    };
    if faults.is_empty() {
        return Err(last);
    }
    let count = faults.len() + 1;
    let mut message = format!("{count} of {files} files could not be read to their end:");
    for fault in faults.iter().chain([&last]) {
        message.push_str(&format!("\n  {fault:#}"));
    }
    bail!(message)
}
