//! Files of sets: an entry a line, comments from `#` on.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read as _},
    ops::Range,
    path::{Path, PathBuf},
};

use ipnet::IpNet;

use super::{
    model::Policy,
    prefixes,
    report::{Problem, Report, Scope, Severity},
    syntax::{Wrong, port_range, prefix},
};
use crate::text::Text;

/// Longest file of a set: a hundred thousand prefixes with a comment each.
const MAX_FILE: u64 = 16 << 20;
/// Errors that are told of one file of a set: beyond, it is another kind of file.
const MAX_TOLD: usize = 20;

/// What a set lists.
pub(super) trait Entry: Sized {
    /// A set of them, for people.
    const SET: &str;
    /// What stands in a line of its file.
    const LINE: &str;
    /// Several of them.
    const MANY: &str;

    /// Reads one.
    ///
    /// # Errors
    ///
    /// The text is none.
    fn read(text: &str) -> Result<Self, Wrong>;

    /// How many of [`Entry::MANY`] it stands for.
    fn count(&self) -> usize;

    /// Those of the set of that name in a policy; `None` if it has no such set.
    fn of(policy: &Policy, name: &str) -> Option<Vec<Self>>;
}

impl Entry for IpNet {
    const SET: &str = "set";
    const LINE: &str = "prefix";
    const MANY: &str = "prefixes";

    fn read(text: &str) -> Result<Self, Wrong> {
        prefix(text)
    }

    fn count(&self) -> usize {
        1
    }

    fn of(policy: &Policy, name: &str) -> Option<Vec<Self>> {
        let mut sets = policy.sets.iter();
        let set = sets.find(|set| !set.inline && set.name == name)?;
        Some(set.prefixes.iter().map(prefixes::from_brain).collect())
    }
}

/// Ports, as an inclusive range.
impl Entry for (u16, u16) {
    const SET: &str = "set of ports";
    const LINE: &str = "port or range";
    const MANY: &str = "ports";

    fn read(text: &str) -> Result<Self, Wrong> {
        port_range(text)
    }

    fn count(&self) -> usize {
        usize::from(self.1.saturating_sub(self.0)) + 1
    }

    fn of(policy: &Policy, name: &str) -> Option<Vec<Self>> {
        let mut sets = policy.port_sets.iter();
        Some(sets.find(|set| set.name == name)?.ranges.clone())
    }
}

/// The files of the sets of a policy that is being read.
#[derive(Debug)]
pub(super) struct Files<'a> {
    /// The policy whose sets stand for those whose files cannot be read.
    former: Option<&'a Policy>,
    paths: BTreeSet<PathBuf>,
}

impl<'a> Files<'a> {
    /// None yet.
    pub(super) const fn new(former: Option<&'a Policy>) -> Self {
        Self {
            former,
            paths: BTreeSet::new(),
        }
    }

    /// Reads the file of the set `name`, which is named at `at`.
    ///
    /// A file that cannot be read is an error there; if the former policy has the set,
    /// it stays as it was, and that is a warning.
    pub(super) fn read<T: Entry>(
        &mut self,
        scope: &mut Scope<'_>,
        (name, at): (&str, &Range<usize>),
        file: &str,
    ) -> Vec<T> {
        let directory = scope.path.parent().unwrap_or(Path::new(""));
        let path = directory.join(file);
        self.paths.insert(path.clone());
        let error = match contents(&path) {
            Ok(octets) => return parse(&octets, &path, scope.report),
            Err(error) => error,
        };
        let message = format!(
            "cannot read the file {} of the {} `{name}`: {error}",
            path.display(),
            T::SET
        );
        let Some(former) = self.former.and_then(|policy| T::of(policy, name)) else {
            scope.error(at, message);
            return Vec::new();
        };
        let (count, many): (usize, _) = (former.iter().map(T::count).sum(), T::MANY);
        scope.warn(
            at,
            format!("{message}; the set stays as it was ({count} {many})"),
        );
        scope.report.stale.push(name.to_owned());
        former
    }

    /// Those that were read or could not be, each once, in order.
    pub(super) fn into_paths(self) -> Vec<PathBuf> {
        self.paths.into_iter().collect()
    }
}

/// What is in a file.
fn contents(path: &Path) -> io::Result<Vec<u8>> {
    // Asked before: opening a pipe would wait for its writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut octets = Vec::new();
    File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut octets)?;
    if octets.len() as u64 > MAX_FILE {
        let most = MAX_FILE >> 20;
        return Err(io::Error::other(format!("it is longer than {most} MiB")));
    }
    Ok(octets)
}

/// What the file `path` with the content `octets` lists; tells its errors.
fn parse<T: Entry>(octets: &[u8], path: &Path, report: &mut Report) -> Vec<T> {
    let text = match str::from_utf8(octets) {
        Ok(text) => text,
        Err(error) => {
            let before = octets.get(..error.valid_up_to()).unwrap_or_default();
            let line = before.iter().filter(|octet| **octet == b'\n').count() + 1;
            let message = format!("line {line} is no text in UTF-8");
            report.push(Problem::of_file(Severity::Error, path, message));
            return Vec::new();
        }
    };
    let mut found = Vec::new();
    let mut wrong = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let rule = line.split_once('#').map_or(line, |(rule, _)| rule);
        // Editors of some systems begin a file with a byte order mark.
        let rule = rule.trim_start_matches('\u{feff}');
        let entry = rule.trim();
        let offset = rule.len() - rule.trim_start().len();
        let at = start + (line.len() - line.trim_start_matches('\u{feff}').len()) + offset;
        start += line.len();
        if entry.is_empty() {
            continue;
        }
        match T::read(entry) {
            Ok(entry) => found.push(entry),
            Err(error) => wrong.push((at..at + entry.len(), error)),
        }
    }
    if !wrong.is_empty() {
        tell::<T>(text, path, report, wrong);
    }
    found
}

/// Tells the errors of a file.
fn tell<T: Entry>(text: &str, path: &Path, report: &mut Report, wrong: Vec<(Range<usize>, Wrong)>) {
    let text = Text::new(text);
    let left = wrong.len().saturating_sub(MAX_TOLD);
    let mut scope = Scope {
        path,
        text: &text,
        report,
    };
    for (at, wrong) in wrong.into_iter().take(MAX_TOLD) {
        scope.error_meant(&at, wrong.message, wrong.hint);
    }
    if left > 0 {
        let (many, one) = (T::MANY, T::LINE);
        let message =
            format!("{left} more lines of it are no {many}: is it a list of one {one} a line?");
        report.push(Problem::of_file(Severity::Error, path, message));
    }
}
