//! Removes flows: userspace proposes, the kernel disposes.
//!
//! Userspace cannot delete an element on a condition, and between its look and
//! its deletion a packet may have revived the flow. So it hands candidates to a
//! program that judges each again under the flow's lock.

use std::io;

use aya::programs::{ProgramError, SchedClassifier, TestRun, TestRunOptions};
use tracker_common::abi::{CANDIDATES, Candidate, Cause, Family, Key, ReapControl};

use super::{
    error::{Error, Result},
    names,
    tables::Tables,
};

/// A frame for the runs, which do not look at it: the kernel asks for one that
/// holds more than an Ethernet header.
const FRAME: [u8; 64] = [0; 64];

/// What became of the candidates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReapTotals {
    /// Flows removed.
    pub removed: u64,
    /// Flows that turned out to be alive.
    pub kept: u64,
    /// Flows that were gone already, or another generation.
    pub gone: u64,
}

impl ReapTotals {
    /// Adds another request's totals.
    pub const fn add(&mut self, other: Self) {
        self.removed = self.removed.saturating_add(other.removed);
        self.kept = self.kept.saturating_add(other.kept);
        self.gone = self.gone.saturating_add(other.gone);
    }
}

/// Hands `flows` to `reaper`, a request's worth at a time. The caller sees to
/// it that nobody else makes requests meanwhile.
pub(super) fn reap(
    tables: &Tables,
    reaper: &SchedClassifier,
    cause: Cause,
    flows: &[(Family, Key, u32)],
) -> Result<ReapTotals> {
    let mut totals = ReapTotals::default();
    for request in flows.chunks(CANDIDATES as usize) {
        tables.set_candidates(&candidates(cause, request))?;
        totals.add(judge(tables, reaper, request.len() as u64)?);
    }
    Ok(totals)
}

fn candidates(cause: Cause, flows: &[(Family, Key, u32)]) -> Vec<Candidate> {
    flows
        .iter()
        .map(|&(family, key, generation)| Candidate {
            key,
            generation,
            family: family as u8,
            cause: cause as u8,
            reserved: 0,
        })
        .collect()
}

/// Lets the reaper judge the `count` candidates written.
fn judge(tables: &Tables, reaper: &SchedClassifier, count: u64) -> Result<ReapTotals> {
    tables.set_reap_control(&ReapControl {
        count,
        ..ReapControl::default()
    })?;
    run_through(reaper, names::REAP, count, || {
        Ok(tables.reap_control()?.next)
    })?;
    let control = tables.reap_control()?;
    Ok(ReapTotals {
        removed: control.removed,
        kept: control.kept,
        gone: control.gone,
    })
}

/// Runs `program` until it has taken the `count` elements of its request, of which
/// each run takes one; a signal ends the runs early, so they are resumed where they
/// stopped. `next` tells which element is the next one.
pub(super) fn run_through(
    program: &SchedClassifier,
    name: &'static str,
    count: u64,
    next: impl Fn() -> Result<u64>,
) -> Result<()> {
    let mut taken = 0;
    while taken < count {
        let mut options = TestRunOptions::new();
        options.data_in = Some(&FRAME);
        options.repeat = u32::try_from(count - taken).unwrap_or(u32::MAX);
        match program.test_run(options) {
            Ok(_) => {}
            Err(ProgramError::SyscallError(error))
                if error.io_error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => {
                return Err(Error::Program {
                    action: "run",
                    program: name,
                    source,
                });
            }
        }
        let next = next()?;
        // Runs that advance nothing would go on for ever.
        if next <= taken {
            return Err(Error::Stuck {
                program: name,
                taken,
                asked: count,
            });
        }
        taken = next;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_every_flow_and_its_cause() {
        let flows = [
            (Family::V4, Key { words: [1; 10] }, 5),
            (Family::V6, Key { words: [2; 10] }, 6),
        ];
        let made = candidates(Cause::Flushed, &flows);
        let seen: Vec<_> = made
            .iter()
            .map(|c| (c.family, c.cause, c.generation, c.key.words[0]))
            .collect();
        assert_eq!(seen, [(4, 3, 5, 1), (6, 3, 6, 2)]);
    }

    #[test]
    fn totals_add_up() {
        let mut totals = ReapTotals {
            removed: 1,
            kept: 2,
            gone: u64::MAX,
        };
        totals.add(ReapTotals {
            removed: 1,
            kept: 0,
            gone: 1,
        });
        assert_eq!(
            totals,
            ReapTotals {
                removed: 2,
                kept: 2,
                gone: u64::MAX
            }
        );
    }
}
