//! `tracker policy`: which connections may be opened.

mod apply;
mod check;
mod confirm;
mod diff;
mod read;
mod show;
mod test;

use std::io::Write;

use anyhow::Result;

use crate::cli::{PolicyArgs, PolicyVerb};

/// Does what `args` say.
pub fn policy(args: &PolicyArgs, out: &mut impl Write) -> Result<()> {
    match &args.verb {
        PolicyVerb::Check(args) => check::check(args, out),
        PolicyVerb::Apply(args) => apply::apply(args, out),
        PolicyVerb::Confirm(args) => confirm::confirm(args, out),
        PolicyVerb::Diff(args) => diff::diff(args, out),
        PolicyVerb::Show(args) => show::show(args, out),
        PolicyVerb::Test(args) => test::test(args, out),
    }
}
