//! Policies for the verbs: read from a file, or the one in force.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::{
    control::{
        place::Place,
        record::{Recorded, Status},
    },
    datapath::{Pinned, interface_names},
    policy::{self, Context, model::Policy},
};

/// A policy in force, and how it came to be.
pub struct InForce {
    /// It.
    pub policy: Policy,
    /// Numbers of its rules, in order, then the default's.
    pub numbers: Vec<u16>,
}

/// Reads a policy from a file; warnings go to stderr.
///
/// # Errors
///
/// Something is wrong with it; everything that is has been written to stderr.
pub fn from_file(path: &Path) -> Result<Policy> {
    let interfaces = interface_names();
    let context = Context {
        interfaces: Some(&interfaces),
        former: None,
    };
    // The agent is told of it, which runs elsewhere.
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let reading = policy::read(&whole, &context);
    if !reading.report.problems().is_empty() {
        eprint!("{}", reading.report);
    }
    reading.policy.with_context(|| {
        let errors = reading.report.error_count();
        format!(
            "the policy {} has {errors} error{}, and nothing was changed",
            path.display(),
            if errors == 1 { "" } else { "s" }
        )
    })
}

/// The runtime directory of the tracker.
///
/// # Errors
///
/// No agent has ever put a policy in force there.
pub fn place(pinned: &Pinned) -> Result<Place> {
    match pinned.run_dir() {
        Some(path) => Ok(Place::at(path)),
        None => bail!(
            "the tracker at {} has no runtime directory: its agent is of another version, or its \
             start was cut short; `tracker run` makes one",
            pinned.dir().display()
        ),
    }
}

/// The policy in force; `None` where everything is allowed.
///
/// # Errors
///
/// It cannot be read.
pub fn in_force(place: &Place) -> Result<Option<InForce>> {
    let Some(Recorded {
        policy, numbers, ..
    }) = place.policy()?
    else {
        return Ok(None);
    };
    let policy = policy.policy()?;
    Ok(Some(InForce { policy, numbers }))
}

/// How it came to be in force.
///
/// # Errors
///
/// It cannot be read.
pub fn status(place: &Place) -> Result<Status> {
    Ok(place.status()?.unwrap_or_default())
}
