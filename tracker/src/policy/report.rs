//! What is wrong with a policy: everything, each with its place.

use std::{fmt, ops::Range, path::Path};

use serde::Serialize;

use crate::text::Text;

/// What was found while a policy was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    problems: Vec<Problem>,
    errors: usize,
    /// Sets whose files cannot be read, and which are as they were.
    pub(super) stale: Vec<String>,
}

/// Whether a policy can be applied in spite of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file in which it is.
    pub file: String,
    /// Its line, from 1; `None` if it is about the whole file.
    pub line: Option<usize>,
    /// Character in the line, from 1.
    pub column: Option<usize>,
    /// What is wrong, and what to do.
    pub message: String,
    /// What was probably meant.
    pub hint: Option<String>,
    #[serde(skip)]
    severity: Severity,
    #[serde(skip)]
    excerpt: String,
}

impl Report {
    /// Everything, file by file, in the order of lines.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// What keeps the policy from being applied.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.of(Severity::Error)
    }

    /// What does not.
    pub fn warnings(&self) -> impl Iterator<Item = &Problem> {
        self.of(Severity::Warning)
    }

    fn of(&self, severity: Severity) -> impl Iterator<Item = &Problem> {
        let problems = self.problems.iter();
        problems.filter(move |problem| problem.severity == severity)
    }

    /// Number of errors.
    #[must_use]
    pub const fn error_count(&self) -> usize {
        self.errors
    }

    /// Names of the sets whose files cannot be read, and which are as they were in the
    /// former policy.
    #[must_use]
    pub fn stale_sets(&self) -> &[String] {
        &self.stale
    }

    /// The errors in one line, for a log: how many there are, and the first one.
    /// `None` if there is none.
    #[must_use]
    pub fn headline(&self) -> Option<String> {
        let first = self.errors().next()?;
        let more = match self.error_count() {
            1 => String::new(),
            2 => " (and 1 more error)".to_owned(),
            errors => format!(" (and {} more errors)", errors - 1),
        };
        let hint = first.hint.as_ref();
        let hint = hint.map_or_else(String::new, |hint| format!("; {hint}"));
        Some(format!("{}{}{hint}{more}", first.place(), first.message))
    }

    pub(super) fn push(&mut self, problem: Problem) {
        if problem.severity == Severity::Error {
            self.errors += 1;
        }
        self.problems.push(problem);
    }

    /// Puts the problems in order: files as they were met, lines from the top.
    pub(super) fn sort(&mut self) {
        let mut files: Vec<String> = Vec::new();
        for problem in &self.problems {
            if !files.contains(&problem.file) {
                files.push(problem.file.clone());
            }
        }
        self.problems.sort_by_key(|problem| {
            let file = files.iter().position(|file| *file == problem.file);
            (file, problem.line, problem.column)
        });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n" };
            writeln!(f, "{gap}{problem}")?;
        }
        Ok(())
    }
}

impl Problem {
    /// A problem with a whole file.
    pub(super) fn of_file(severity: Severity, file: &Path, message: String) -> Self {
        Self {
            file: file.display().to_string(),
            line: None,
            column: None,
            message,
            hint: None,
            severity,
            excerpt: String::new(),
        }
    }

    /// `policy.toml:3:1: `.
    fn place(&self) -> String {
        match (self.line, self.column) {
            (Some(line), Some(column)) => format!("{}:{line}:{column}: ", self.file),
            _ => format!("{}: ", self.file),
        }
    }

    /// Whether a policy can be applied in spite of it.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        self.severity
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}{severity}: {}", self.place(), self.message)?;
        match self.excerpt.as_str() {
            "" => Ok(()),
            excerpt => write!(f, "\n{excerpt}"),
        }
    }
}

/// A file that is being read, and the report on it.
pub(super) struct Scope<'a> {
    /// Name of the file.
    pub(super) path: &'a Path,
    /// What is in it.
    pub(super) text: &'a Text<'a>,
    /// What is wrong with it.
    pub(super) report: &'a mut Report,
}

impl Scope<'_> {
    /// Something that cannot be.
    pub(super) fn error(&mut self, at: &Range<usize>, message: impl Into<String>) {
        self.add(Severity::Error, at, message.into(), None);
    }

    /// Something that cannot be, and what was probably meant.
    pub(super) fn error_meant(
        &mut self,
        at: &Range<usize>,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        self.add(Severity::Error, at, message.into(), hint);
    }

    /// Something that is probably not meant so.
    pub(super) fn warn(&mut self, at: &Range<usize>, message: impl Into<String>) {
        self.add(Severity::Warning, at, message.into(), None);
    }

    fn add(
        &mut self,
        severity: Severity,
        at: &Range<usize>,
        message: String,
        hint: Option<String>,
    ) {
        let place = self.text.place(at);
        let excerpt = place.excerpt(hint.as_deref()).to_string();
        self.report.push(Problem {
            file: self.path.display().to_string(),
            line: Some(place.line),
            column: Some(place.column),
            message,
            hint,
            severity,
            excerpt,
        });
    }
}
