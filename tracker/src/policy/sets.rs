//! Sets of prefixes: named ones, from the policy or from files of their own, and
//! those that rules list themselves.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, File},
    io::{self, Read as _},
    ops::Range,
    path::{Path, PathBuf},
};

use ipnet::IpNet;

use super::{
    model::{Policy, PrefixSet},
    prefixes,
    report::{Problem, Report, Scope, Severity},
    syntax::prefix,
};
use crate::{config::closest, text::Text};

/// Longest file of a set: a hundred thousand prefixes with a comment each.
const MAX_FILE: u64 = 16 << 20;
/// Errors that are told of one file of a set: beyond, it is another kind of file.
const MAX_TOLD: usize = 20;

/// The sets of a policy that is being read.
#[derive(Debug, Default)]
pub(super) struct Sets {
    sets: Vec<PrefixSet>,
    /// Named ones, and where their names stand.
    named: BTreeMap<String, (usize, Range<usize>)>,
    used: BTreeSet<usize>,
    /// Those with an error in them.
    unsound: BTreeSet<usize>,
    listed: HashMap<Vec<IpNet>, usize>,
    files: BTreeSet<PathBuf>,
}

impl Sets {
    /// Adds a set with a name, which is defined at `at`; `found` is not all of it
    /// unless it is `sound`.
    pub(super) fn define(&mut self, name: &str, at: Range<usize>, found: Vec<IpNet>, sound: bool) {
        if !sound {
            self.unsound.insert(self.sets.len());
        }
        self.named.insert(name.to_owned(), (self.sets.len(), at));
        self.sets.push(PrefixSet {
            name: name.to_owned(),
            inline: false,
            prefixes: prefixes::canonical(found)
                .iter()
                .map(prefixes::to_brain)
                .collect(),
        });
    }

    /// The set of that name, which is used from here on.
    pub(super) fn refer(&mut self, name: &str) -> Option<usize> {
        let (index, _) = self.named.get(name)?;
        self.used.insert(*index);
        Some(*index)
    }

    /// Whether a set is known as it is meant.
    pub(super) fn is_sound(&self, index: usize) -> bool {
        !self.unsound.contains(&index)
    }

    /// Whether there is a set of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.named.contains_key(name)
    }

    /// The name that was probably meant by `name`.
    pub(super) fn closest(&self, name: &str) -> Option<&str> {
        closest(name, self.names())
    }

    /// The names, in order.
    pub(super) fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.named.keys().map(String::as_str)
    }

    /// The set of prefixes that a rule lists itself.
    pub(super) fn list(&mut self, found: Vec<IpNet>) -> usize {
        let found = prefixes::canonical(found);
        if let Some(index) = self.listed.get(&found) {
            return *index;
        }
        let index = self.sets.len();
        self.sets.push(PrefixSet {
            name: prefixes::written(&found),
            inline: true,
            prefixes: found.iter().map(prefixes::to_brain).collect(),
        });
        self.listed.insert(found, index);
        index
    }

    /// Names that no rule refers to, and where they stand.
    pub(super) fn unused(&self) -> impl Iterator<Item = (&str, &Range<usize>)> {
        let named = self.named.iter();
        let unused = named.filter(|(_, (index, _))| !self.used.contains(index));
        unused.map(|(name, (_, at))| (name.as_str(), at))
    }

    /// Reads the file of a set: a prefix a line, comments from `#` on.
    ///
    /// A file that cannot be read is an error at `at`; if `former` has the set, it
    /// stays as it was there, and that is a warning.
    pub(super) fn read(
        &mut self,
        scope: &mut Scope<'_>,
        (name, at): (&str, &Range<usize>),
        file: &str,
        former: Option<&Policy>,
    ) -> Vec<IpNet> {
        let directory = scope.path.parent().unwrap_or(Path::new(""));
        let path = directory.join(file);
        self.files.insert(path.clone());
        let error = match contents(&path) {
            Ok(octets) => return parse(&octets, &path, scope.report),
            Err(error) => error,
        };
        let message = format!(
            "cannot read the file {} of the set `{name}`: {error}",
            path.display()
        );
        let former = former.and_then(|policy| {
            let mut sets = policy.sets.iter();
            sets.find(|set| !set.inline && set.name == name)
        });
        let Some(former) = former else {
            scope.error(at, message);
            return Vec::new();
        };
        let count = former.prefixes.len();
        scope.warn(
            at,
            format!("{message}; the set stays as it was ({count} prefixes)"),
        );
        scope.report.stale.push(name.to_owned());
        former.prefixes.iter().map(prefixes::from_brain).collect()
    }

    /// The sets in the order of their indices, and their files.
    pub(super) fn into_parts(self) -> (Vec<PrefixSet>, Vec<PathBuf>) {
        (self.sets, self.files.into_iter().collect())
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

/// The prefixes in the file `path` with the content `octets`; tells its errors.
fn parse(octets: &[u8], path: &Path, report: &mut Report) -> Vec<IpNet> {
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
        match prefix(entry) {
            Ok(net) => found.push(net),
            Err(error) => wrong.push((at..at + entry.len(), error)),
        }
    }
    if !wrong.is_empty() {
        tell(text, path, report, wrong);
    }
    found
}

/// Tells the errors of a file.
fn tell(
    text: &str,
    path: &Path,
    report: &mut Report,
    wrong: Vec<(Range<usize>, super::syntax::Wrong)>,
) {
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
        let message =
            format!("{left} more lines of it are no prefixes: is it a list of one prefix a line?");
        report.push(Problem::of_file(Severity::Error, path, message));
    }
}
