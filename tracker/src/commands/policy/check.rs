//! `tracker policy check`: every error of a policy, told at once.

use std::{
    cell::RefCell,
    collections::HashMap,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use nix::net::if_::if_nameindex;
use serde::Serialize;
use tracker_common::policy::Action;

use super::super::counted;
use crate::{
    cli::{PolicyCheckArgs, StatsFormat},
    policy::{
        self, Context, Reading,
        compile::compile,
        model::Policy,
        report::{Problem, Report},
    },
};

/// What a policy rules, for people.
const RULED: &str = "TCP connections, by their first packet, and ICMP errors that quote TCP";
/// What it does not.
const NOT_RULED: &str = "passes (`not_tcp`): UDP, and so DNS and QUIC; other ICMP; ARP";

/// Does what `args` say.
pub fn check(args: &PolicyCheckArgs, out: &mut impl Write) -> Result<()> {
    // Without a list of interfaces there are no warnings about missing ones.
    let interfaces: Option<Vec<String>> = if_nameindex().ok().map(|found| {
        let names = found.iter();
        names
            .map(|interface| interface.name().to_string_lossy().into_owned())
            .collect()
    });
    let context = Context {
        interfaces: interfaces.as_deref(),
        former: None,
    };
    tell(args, &context, out, &mut io::stderr().lock())
}

/// Reads the policy and tells what came of it.
fn tell(
    args: &PolicyCheckArgs,
    context: &Context<'_>,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<()> {
    let Reading { policy, report } = policy::read(&args.file, context);
    let summary = policy.as_ref().map(Summary::of).transpose();
    // A limit that shows only when it is compiled.
    let (summary, beyond) = match summary {
        Ok(summary) => (summary, None),
        Err(error) => (None, Some(error)),
    };
    match args.output {
        StatsFormat::Table => {
            write!(err, "{report}")?;
            if let Some(summary) = &summary {
                let gap = if report.problems().is_empty() {
                    ""
                } else {
                    "\n"
                };
                write!(err, "{gap}")?;
                err.flush()?;
                summary.table(out, &args.file)?;
            }
        }
        StatsFormat::Json => {
            let checked = Checked {
                file: &args.file,
                sound: summary.is_some(),
                errors: report.errors().collect(),
                warnings: report.warnings().collect(),
                limit: beyond.as_ref().map(ToString::to_string),
                summary: summary.as_ref(),
                rules: RULED,
                all_else: NOT_RULED,
            };
            serde_json::to_writer(&mut *out, &checked)?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    if let Some(beyond) = beyond {
        return Err(beyond.context(format!("{} cannot be applied", args.file.display())));
    }
    if summary.is_none() {
        bail!("{}", verdict(&args.file, &report));
    }
    Ok(())
}

/// How many errors there are.
fn verdict(file: &Path, report: &Report) -> String {
    let errors = counted(report.error_count() as u64, "error");
    let warnings = match report.warnings().count() as u64 {
        0 => String::new(),
        count => format!(" and {}", counted(count, "warning")),
    };
    format!("{} has {errors}{warnings}", file.display())
}

/// What came of the check, for scripts.
#[derive(Serialize)]
struct Checked<'a> {
    file: &'a Path,
    sound: bool,
    errors: Vec<&'a Problem>,
    warnings: Vec<&'a Problem>,
    /// Why it cannot be compiled.
    limit: Option<String>,
    summary: Option<&'a Summary>,
    rules: &'static str,
    all_else: &'static str,
}

/// What a policy is made of.
#[derive(Debug, Serialize)]
struct Summary {
    rules: usize,
    allow: usize,
    drop: usize,
    reject: usize,
    shadow: usize,
    log: usize,
    limited: usize,
    default: &'static str,
    sets: usize,
    set_files: Vec<PathBuf>,
    prefixes: usize,
    kernel_bytes: usize,
}

impl Summary {
    /// What is in `policy`.
    ///
    /// # Errors
    ///
    /// It cannot be compiled: it is too large.
    fn of(policy: &Policy) -> Result<Self> {
        // Their indices do not matter, but those that are not there would match nothing.
        let indices = RefCell::new(HashMap::new());
        let index_of = |name: &str| {
            let mut indices = indices.borrow_mut();
            let next = indices.len() as u32 + 1;
            Some(*indices.entry(name.to_owned()).or_insert(next))
        };
        let memory = compile(policy, &index_of, &|_| 1)?.memory();
        let rules = &policy.rules;
        let count = |which: &[Action]| {
            let rules = rules.iter().filter(|rule| !rule.shadow);
            rules.filter(|rule| which.contains(&rule.action)).count()
        };
        Ok(Self {
            rules: rules.len(),
            allow: count(&[Action::Allow]),
            drop: count(&[Action::Drop]),
            reject: count(&[Action::Reset, Action::Prohibit]),
            shadow: rules.iter().filter(|rule| rule.shadow).count(),
            log: rules.iter().filter(|rule| rule.log).count(),
            limited: rules.iter().filter(|rule| rule.limits.any()).count(),
            default: match policy.default {
                Action::Allow => "allow",
                Action::Drop => "drop",
                Action::Reset | Action::Prohibit => "reject",
            },
            sets: policy.sets.iter().filter(|set| !set.inline).count(),
            set_files: policy.source.set_files.clone(),
            prefixes: policy.sets.iter().map(|set| set.prefixes.len()).sum(),
            kernel_bytes: memory.blocks + memory.trie,
        })
    }

    /// For people.
    fn table(&self, out: &mut impl Write, file: &Path) -> Result<()> {
        let rules = counted(self.rules as u64, "rule");
        writeln!(
            out,
            "{} can be applied: {rules}; what none of them matches is {}",
            file.display(),
            match self.default {
                "allow" => "allowed",
                "drop" => "dropped",
                _ => "rejected",
            }
        )?;
        let mut parts = Vec::new();
        for (count, what) in [
            (self.allow, "allow"),
            (self.drop, "drop"),
            (self.reject, "reject"),
            (self.shadow, "in shadow"),
            (self.log, "logged"),
            (self.limited, "with limits"),
        ] {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        }
        if !parts.is_empty() {
            writeln!(out, "  Rules      {}", parts.join(", "))?;
        }
        if self.prefixes > 0 {
            let sets = counted(self.sets as u64, "set");
            let files = match self.set_files.len() as u64 {
                0 => String::new(),
                count => format!(", from {}", counted(count, "file")),
            };
            writeln!(
                out,
                "  Prefixes   {} ({sets} with a name{files})",
                self.prefixes
            )?;
        }
        writeln!(
            out,
            "  Memory     {} KiB in the kernel",
            self.kernel_bytes.div_ceil(1024)
        )?;
        writeln!(out, "  Rules on   {RULED}")?;
        writeln!(out, "  All else   {NOT_RULED}")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    /// Exit status, stdout and stderr of the check of `text`.
    fn checked(text: &str, output: StatsFormat) -> String {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("p.toml");
        fs::write(&file, text).unwrap();
        fs::write(
            directory.path().join("bad.txt"),
            "10.0.0.0/8\n192.0.2.0/24\n",
        )
        .unwrap();
        let args = PolicyCheckArgs { file, output };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let interfaces = ["eth0".to_owned()];
        let context = Context {
            interfaces: Some(&interfaces),
            former: None,
        };
        let result = tell(&args, &context, &mut out, &mut err);
        let result =
            result.map_or_else(|error| format!("error: {error:#}"), |()| "done".to_owned());
        let (out, err) = (
            String::from_utf8(out).unwrap(),
            String::from_utf8(err).unwrap(),
        );
        let told = format!("{out}--\n{err}--\n{result}");
        told.replace(&format!("{}/", directory.path().display()), "")
    }

    const SOUND: &str = "default = \"reject\"\n[sets.bad]\nfile = \"bad.txt\"\n[[rules]]\nname = \"bad\"\n\
        from = \"@bad\"\naction = \"drop\"\nlog = true\n[[rules]]\nname = \"web\"\naction = \"allow\"\n\
        interface = \"eth7\"\nports = 80\nlimit.rate = \"5/s\"\n[[rules]]\nname = \"try\"\naction = \"drop\"\n\
        shadow = true\n";

    #[test]
    fn a_sound_policy_is_summed_up() {
        insta::assert_snapshot!(checked(SOUND, StatsFormat::Table), @r#"
        p.toml can be applied: 3 rules; what none of them matches is rejected
          Rules      1 allow, 1 drop, 1 in shadow, 1 logged, 1 with limits
          Prefixes   2 (1 set with a name, from 1 file)
          Memory     5 KiB in the kernel
          Rules on   TCP connections, by their first packet, and ICMP errors that quote TCP
          All else   passes (`not_tcp`): UDP, and so DNS and QUIC; other ICMP; ARP
        --
        p.toml:10:8: warning: there is no interface `eth7` here: the rule takes effect there when it appears
           |
        10 | name = "web"
           |        ^^^^^

        --
        done
        "#);
        insta::assert_snapshot!(checked("default = \"allow\"\n", StatsFormat::Table), @r"
        p.toml can be applied: 0 rules; what none of them matches is allowed
          Memory     1 KiB in the kernel
          Rules on   TCP connections, by their first packet, and ICMP errors that quote TCP
          All else   passes (`not_tcp`): UDP, and so DNS and QUIC; other ICMP; ARP
        --
        --
        done
        ");
    }

    #[test]
    fn errors_are_told_and_fail() {
        insta::assert_snapshot!(checked("default = \"drop\"\n[[rules]]\nname = \"a\"\naction = \"alow\"\n", StatsFormat::Table), @r#"
        --
        p.toml:4:10: error: `action` is "alow"; it must be one of "allow", "drop", "reject"
          |
        4 | action = "alow"
          |          ^^^^^^ did you mean "allow"?
        --
        error: p.toml has 1 error
        "#);
    }

    #[test]
    fn scripts_read_the_same() {
        insta::assert_snapshot!(checked(SOUND, StatsFormat::Json), @r#"
        {"file":"p.toml","sound":true,"errors":[],"warnings":[{"file":"p.toml","line":10,"column":8,"message":"there is no interface `eth7` here: the rule takes effect there when it appears","hint":null}],"limit":null,"summary":{"rules":3,"allow":1,"drop":1,"reject":0,"shadow":1,"log":1,"limited":1,"default":"reject","sets":1,"set_files":["bad.txt"],"prefixes":2,"kernel_bytes":4608},"rules":"TCP connections, by their first packet, and ICMP errors that quote TCP","all_else":"passes (`not_tcp`): UDP, and so DNS and QUIC; other ICMP; ARP"}
        --
        --
        done
        "#);
        insta::assert_snapshot!(checked("rules = []\n", StatsFormat::Json), @r#"
        {"file":"p.toml","sound":false,"errors":[{"file":"p.toml","line":null,"column":null,"message":"there is no `default`, which says what becomes of connections that no rule matches: write default = \"drop\", \"reject\" or \"allow\"","hint":null}],"warnings":[],"limit":null,"summary":null,"rules":"TCP connections, by their first packet, and ICMP errors that quote TCP","all_else":"passes (`not_tcp`): UDP, and so DNS and QUIC; other ICMP; ARP"}
        --
        --
        error: p.toml has 1 error
        "#);
    }
}
