//! From a file to a checked policy, or to everything that is wrong with it.

use std::{
    fs,
    hash::{DefaultHasher, Hasher as _},
    path::{Path, PathBuf},
};

use toml::de::DeTable;

use super::{
    check::check,
    model::Policy,
    print::print,
    report::{Problem, Report, Scope, Severity},
    syntax::{self, Table},
};
use crate::text::Text;

/// Longest file with a policy: all rules and all prefixes that there may be, written
/// at length.
const MAX_FILE: u64 = 64 << 20;

/// Keys of `[policy]` in a configuration that are not the language's.
pub const CONFIG_KEYS: [&str; 4] = ["file", "watch", "flows", "grace"];

/// What a policy is read with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// Names of the interfaces that there are: rules about others get a warning.
    pub interfaces: Option<&'a [String]>,
    /// The policy in force: where the file of a set cannot be read, the set of that
    /// name stays as it is there. `None`: that is an error.
    pub former: Option<&'a Policy>,
}

/// What came of reading a policy.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The policy; `None` if there is an error anywhere.
    pub policy: Option<Policy>,
    /// What is wrong.
    pub report: Report,
}

/// Reads the policy in a file: one of its own, or the configuration of `tracker run`
/// with a table `[policy]`, which holds or names it.
#[must_use]
pub fn read(path: &Path, context: &Context<'_>) -> Reading {
    let mut report = Report::default();
    let policy = file(path, context, &mut report, true);
    finish(policy, report)
}

/// The same for a text that would stand in the file `path`.
#[must_use]
pub fn parse(text: &str, path: &Path, context: &Context<'_>) -> Reading {
    let mut report = Report::default();
    let policy = document(text, path, context, &mut report, true);
    finish(policy, report)
}

fn finish(policy: Option<Policy>, mut report: Report) -> Reading {
    report.sort();
    let mut policy = policy.filter(|_| report.error_count() == 0);
    if let Some(policy) = &mut policy {
        policy.source.hash = hash(policy);
    }
    Reading { policy, report }
}

/// A hash of what a policy says.
fn hash(policy: &Policy) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(print(policy).as_bytes());
    hasher.finish()
}

fn file(
    path: &Path,
    context: &Context<'_>,
    report: &mut Report,
    may_refer: bool,
) -> Option<Policy> {
    let mut fail = |message: String| {
        report.push(Problem::of_file(Severity::Error, path, message));
        None
    };
    match fs::metadata(path) {
        Err(error) => return fail(format!("cannot read the policy: {error}")),
        Ok(file) if !file.is_file() => {
            return fail("cannot read the policy: it is no regular file".to_owned());
        }
        Ok(file) if file.len() > MAX_FILE => {
            return fail(format!("the policy is longer than {} MiB", MAX_FILE >> 20));
        }
        Ok(_) => {}
    }
    match fs::read_to_string(path) {
        Ok(text) => document(&text, path, context, report, may_refer),
        Err(error) => fail(format!("cannot read the policy: {error}")),
    }
}

fn document(
    text: &str,
    path: &Path,
    context: &Context<'_>,
    report: &mut Report,
    may_refer: bool,
) -> Option<Policy> {
    let lines = Text::new(text);
    let mut scope = Scope {
        path,
        text: &lines,
        report,
    };
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = error.span().unwrap_or(0..0);
        scope.error(&at, error.message().trim());
    }
    if !errors.is_empty() {
        return None;
    }
    let whole = Table::new("the policy", root.get_ref(), 0..0);
    let inner = whole.get("policy");
    let Some(value) = inner.filter(|value| may_refer && value.get_ref().is_table()) else {
        return Some(language(&mut scope, &whole, &[], context));
    };
    let table = Table::of(&mut scope, "[policy]", value)?;
    let Some((named, _)) = table.string(&mut scope, "file") else {
        return Some(language(&mut scope, &table, &CONFIG_KEYS, context));
    };
    table.refuse_others(
        &mut scope,
        &[&syntax::KEYS[..], &CONFIG_KEYS].concat(),
        &syntax::OTHERS,
    );
    if let Some((at, _)) = syntax::KEYS.iter().find_map(|key| table.entry(key)) {
        scope.error(
            &at,
            format!("the policy stands here and in the file `{named}`: it can be in one only"),
        );
        return None;
    }
    file(&beside(path, named), context, scope.report, false)
}

/// The file `named` in the file `path`: relative paths begin in its directory.
#[must_use]
pub fn beside(path: &Path, named: impl AsRef<Path>) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).join(named)
}

fn language(
    scope: &mut Scope<'_>,
    root: &Table<'_, '_>,
    beside: &[&str],
    context: &Context<'_>,
) -> Policy {
    let draft = syntax::policy(scope, root, beside, context.former);
    check(scope, &draft, context.interfaces);
    draft.policy
}
