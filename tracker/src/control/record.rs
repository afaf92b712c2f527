//! What the agent leaves behind in its directory: so that the command line needs no
//! agent to tell which policy is in force, and that the next agent goes on with it.
//!
//! | file | what |
//! |---|---|
//! | `policy.json` | the policy in force |
//! | `previous.json` | the policy that returns unless the one in force is confirmed |
//! | `rules.json` | names of rules by their numbers, of rules that are gone, too |
//! | `status.json` | when and how it came into force, and what went wrong |

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{place::Place, stored::StoredPolicy};

const POLICY: &str = "policy.json";
const PREVIOUS: &str = "previous.json";
const RULES: &str = "rules.json";
const STATUS: &str = "status.json";

/// A policy that is or was in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// What it says.
    pub policy: StoredPolicy,
    /// Number of each of its rules, in order, then the default's.
    pub numbers: Vec<u16>,
    /// Hash of the configuration's policy when it came into force; 0: it had none.
    pub configured: u64,
    /// Somebody said so although it cuts off who manages this machine.
    #[serde(default)]
    pub forced: bool,
}

/// Names and traits of rules by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleNames {
    /// Number that was given last.
    pub last: u16,
    /// Those that flows may name.
    pub rules: BTreeMap<u16, Named>,
}

/// A rule that has or had a number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Bits of the source prefixes that its limits tell apart.
    pub source_bits: [u8; 2],
}

/// How the policy came to be in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Policies that were put in force since the maps were made.
    pub generation: u64,
    /// The one in force; `None`: everything is allowed.
    pub policy: Option<InForce>,
    /// Until when it must be confirmed.
    pub confirm_until: Option<Moment>,
    /// Until when nothing is enforced, since connections are not known yet.
    pub observe_until: Option<Moment>,
    /// The tracker is a gateway.
    #[serde(default)]
    pub gateway: bool,
    /// Policies that were not put in force because something was wrong with them,
    /// since the maps were made.
    pub errors: u64,
    /// The last of those, if no good one came after it.
    pub last_error: Option<Trouble>,
}

/// A policy in force, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForce {
    /// File that it was read from.
    pub path: Option<PathBuf>,
    /// Its rules, without the default.
    pub rules: usize,
    /// The default's action.
    pub default: String,
    /// What brought it.
    pub by: By,
    /// Since when.
    pub since: Moment,
}

/// What brought a policy into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The configuration.
    Configuration,
    /// `tracker policy apply`.
    Apply,
    /// It returned because its successor was not confirmed.
    Return,
}

impl By {
    /// The words that users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Apply => "apply",
            Self::Return => "return",
        }
    }
}

/// Why a policy was not put in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// What was wrong.
    pub message: String,
    /// When.
    pub at: Moment,
}

/// A moment, ms since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Moment(pub u64);

impl Moment {
    /// This one.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self(since.map_or(0, |since| since.as_millis() as u64))
    }

    /// So much later.
    #[must_use]
    pub const fn after(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

impl Place {
    /// The policy in force; `None` where there is none.
    ///
    /// # Errors
    ///
    /// What is written there cannot be read.
    pub fn policy(&self) -> Result<Option<Recorded>> {
        read(&self.path().join(POLICY))
    }

    /// Writes it down, or that there is none.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn set_policy(&self, policy: Option<&Recorded>) -> Result<()> {
        write(&self.path().join(POLICY), policy)
    }

    /// The policy that returns. The outer `None`: none does; the inner one: there
    /// was none before.
    ///
    /// # Errors
    ///
    /// What is written there cannot be read.
    pub fn previous(&self) -> Result<Option<Option<Recorded>>> {
        read(&self.path().join(PREVIOUS))
    }

    /// Writes it down.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn set_previous(&self, previous: Option<&Option<Recorded>>) -> Result<()> {
        write(&self.path().join(PREVIOUS), previous)
    }

    /// Names of rules; none where nothing is written down.
    ///
    /// # Errors
    ///
    /// What is written there cannot be read.
    pub fn rules(&self) -> Result<RuleNames> {
        Ok(read(&self.path().join(RULES))?.unwrap_or_default())
    }

    /// Writes them down.
    ///
    /// # Errors
    ///
    /// They cannot be written.
    pub fn set_rules(&self, rules: &RuleNames) -> Result<()> {
        write(&self.path().join(RULES), Some(rules))
    }

    /// How the policy came to be in force; `None` where nothing is written down.
    ///
    /// # Errors
    ///
    /// What is written there cannot be read.
    pub fn status(&self) -> Result<Option<Status>> {
        read(&self.path().join(STATUS))
    }

    /// Writes it down.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn set_status(&self, status: &Status) -> Result<()> {
        write(&self.path().join(STATUS), Some(status))
    }

    /// Removes everything, and the directory.
    ///
    /// # Errors
    ///
    /// Something cannot be removed.
    pub fn clear(&self) -> Result<()> {
        for name in [POLICY, PREVIOUS, RULES, STATUS] {
            remove(&self.path().join(name))?;
        }
        remove(&self.socket())?;
        match fs::remove_dir(self.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.path().display()))
            }
            _ => Ok(()),
        }
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let octets = match fs::read(path) {
        Ok(octets) => octets,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
    };
    serde_json::from_slice(&octets).map(Some).with_context(|| {
        format!(
            "{} was not written by this version of tracker",
            path.display()
        )
    })
}

/// Writes a file as a whole, so that readers find the old one or the new one;
/// without a value removes it.
fn write<T: Serialize>(path: &Path, value: Option<&T>) -> Result<()> {
    let Some(value) = value else {
        return remove(path);
    };
    let new = path.with_extension("new");
    let octets = serde_json::to_vec(value).context("cannot write a record as JSON")?;
    let mut file = File::create(&new).with_context(|| format!("cannot make {}", new.display()))?;
    file.write_all(&octets)
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_removed_again() {
        let run = tempfile::tempdir().unwrap();
        let place = Place::of(run.path(), Path::new("/sys/fs/bpf/x"));
        place.create().unwrap();
        assert_eq!(place.status().unwrap(), None);
        assert_eq!(place.rules().unwrap(), RuleNames::default());
        assert_eq!(place.previous().unwrap(), None);
        let status = Status {
            generation: 3,
            policy: Some(InForce {
                path: Some("/p".into()),
                rules: 2,
                default: "drop".to_owned(),
                by: By::Apply,
                since: Moment::now(),
            }),
            errors: 1,
            last_error: Some(Trouble {
                message: "line\nand line".to_owned(),
                at: Moment(7),
            }),
            ..Status::default()
        };
        place.set_status(&status).unwrap();
        assert_eq!(place.status().unwrap(), Some(status));
        let mut rules = RuleNames::default();
        let named = Named {
            name: "ssh".to_owned(),
            source_bits: [32, 64],
        };
        rules.rules.insert(7, named);
        place.set_rules(&rules).unwrap();
        assert_eq!(place.rules().unwrap(), rules);
        // That there was no policy before is told from that nothing returns.
        place.set_previous(Some(&None)).unwrap();
        assert_eq!(place.previous().unwrap(), Some(None));
        place.set_previous(None).unwrap();
        assert_eq!(place.previous().unwrap(), None);
        fs::write(place.path().join(STATUS), "{").unwrap();
        let error = format!("{:#}", place.status().unwrap_err());
        assert!(error.contains("status.json"), "{error}");
        place.clear().unwrap();
        assert!(!place.path().exists());
        place.clear().unwrap();
    }
}
