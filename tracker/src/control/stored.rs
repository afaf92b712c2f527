//! A checked policy in JSON: what `tracker policy apply` sends, and what the agent
//! writes down. It holds what was read from files of sets, so the policy in force
//! does not depend on them.

use std::{collections::HashSet, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tracker_common::{
    policy::{Action, Direction, Directions, Prefix},
    tcp::timeout::Profile,
};

use crate::policy::{
    model::{
        Addresses, DEFAULT_RULE, Limits, Management, Policy, PortSet, PrefixSet, Rule, Source,
    },
    prefixes::{from_brain, to_brain},
};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredPolicy {
    rules: Vec<StoredRule>,
    default: Word,
    default_log: bool,
    sets: Vec<StoredSet>,
    /// Not in the record of an agent that did not know them.
    #[serde(default)]
    port_sets: Vec<StoredPorts>,
    management_ports: Vec<u16>,
    management_peers: Vec<IpNet>,
    path: Option<PathBuf>,
    set_files: Vec<PathBuf>,
    hash: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredSet {
    name: String,
    inline: bool,
    prefixes: Vec<IpNet>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredPorts {
    name: String,
    ranges: Vec<(u16, u16)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredRule {
    name: String,
    line: usize,
    /// Bits of [`Directions`].
    directions: u8,
    interfaces: Vec<String>,
    from: StoredAddresses,
    to: StoredAddresses,
    from_ports: Vec<(u16, u16)>,
    to_ports: Vec<(u16, u16)>,
    action: Word,
    log: bool,
    shadow: bool,
    liberal: bool,
    pickup: Option<bool>,
    timeouts: Option<String>,
    rate: Option<(u64, u64)>,
    flows: u32,
    source_rate: Option<(u64, u64)>,
    source_flows: u32,
    source_bits: [u8; 2],
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredAddresses {
    among: Vec<usize>,
    except: Vec<usize>,
}

/// An [`Action`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Allow,
    Drop,
    Reset,
    Prohibit,
}

impl From<Action> for Word {
    fn from(action: Action) -> Self {
        match action {
            Action::Allow => Self::Allow,
            Action::Drop => Self::Drop,
            Action::Reset => Self::Reset,
            Action::Prohibit => Self::Prohibit,
        }
    }
}

impl From<Word> for Action {
    fn from(word: Word) -> Self {
        match word {
            Word::Allow => Self::Allow,
            Word::Drop => Self::Drop,
            Word::Reset => Self::Reset,
            Word::Prohibit => Self::Prohibit,
        }
    }
}

impl StoredPolicy {
    /// What `policy` says.
    #[must_use]
    pub fn of(policy: &Policy) -> Self {
        let sets = policy.sets.iter().map(|set| StoredSet {
            name: set.name.clone(),
            inline: set.inline,
            prefixes: nets(&set.prefixes),
        });
        let port_sets = policy.port_sets.iter().map(|set| StoredPorts {
            name: set.name.clone(),
            ranges: set.ranges.clone(),
        });
        Self {
            rules: policy.rules.iter().map(store).collect(),
            default: policy.default.into(),
            default_log: policy.default_log,
            sets: sets.collect(),
            port_sets: port_sets.collect(),
            management_ports: policy.management.ports.clone(),
            management_peers: nets(&policy.management.peers),
            path: policy.source.path.clone(),
            set_files: policy.source.set_files.clone(),
            hash: policy.source.hash,
        }
    }

    /// The policy that it tells of.
    ///
    /// # Errors
    ///
    /// It refers to what is not there: no tracker has written it.
    pub fn policy(self) -> Result<Policy> {
        let sets = self.sets.len();
        let mut names = HashSet::from([DEFAULT_RULE]);
        for StoredRule { name, .. } in &self.rules {
            ensure!(
                names.insert(name),
                "there are two rules of the name `{name}`"
            );
        }
        let rules = self.rules.into_iter().map(|rule| restore(rule, sets));
        Ok(Policy {
            rules: rules.collect::<Result<_>>()?,
            default: self.default.into(),
            default_log: self.default_log,
            sets: self
                .sets
                .into_iter()
                .map(|set| PrefixSet {
                    name: set.name,
                    inline: set.inline,
                    prefixes: set.prefixes.iter().map(to_brain).collect(),
                })
                .collect(),
            port_sets: self
                .port_sets
                .into_iter()
                .map(|StoredPorts { name, ranges }| PortSet { name, ranges })
                .collect(),
            management: Management {
                ports: self.management_ports,
                peers: self.management_peers.iter().map(to_brain).collect(),
            },
            source: Source {
                path: self.path,
                set_files: self.set_files,
                hash: self.hash,
            },
        })
    }
}

fn store(rule: &Rule) -> StoredRule {
    let addresses = |addresses: &Addresses| StoredAddresses {
        among: addresses.among.clone(),
        except: addresses.except.clone(),
    };
    StoredRule {
        name: rule.name.clone(),
        line: rule.line,
        directions: rule.directions.0,
        interfaces: rule.interfaces.clone(),
        from: addresses(&rule.from),
        to: addresses(&rule.to),
        from_ports: rule.from_ports.clone(),
        to_ports: rule.to_ports.clone(),
        action: rule.action.into(),
        log: rule.log,
        shadow: rule.shadow,
        liberal: rule.liberal,
        pickup: rule.pickup,
        timeouts: rule.timeouts.map(|profile| profile.as_str().to_owned()),
        rate: rule.limits.rate,
        flows: rule.limits.flows,
        source_rate: rule.limits.source_rate,
        source_flows: rule.limits.source_flows,
        source_bits: rule.limits.source_bits,
    }
}

fn restore(rule: StoredRule, sets: usize) -> Result<Rule> {
    let name = rule.name;
    let addresses = |addresses: StoredAddresses| {
        let mut all = addresses.among.iter().chain(&addresses.except);
        ensure!(
            all.all(|&index| index < sets),
            "the rule `{name}` refers to a set that is not in the policy"
        );
        Ok(Addresses {
            among: addresses.among,
            except: addresses.except,
        })
    };
    let (from, to) = (addresses(rule.from)?, addresses(rule.to)?);
    ensure!(
        rule.directions & !Directions::ANY.0 == 0 && rule.directions != 0,
        "the rule `{name}` has a direction that is none"
    );
    let timeouts = rule.timeouts.map(|word| {
        let mut all = Profile::ALL.into_iter();
        all.find(|profile| profile.as_str() == word)
            .with_context(|| format!("the rule `{name}` has time-outs `{word}`, which are none"))
    });
    let timeouts = timeouts.transpose()?;
    Ok(Rule {
        name,
        line: rule.line,
        directions: Directions(rule.directions),
        interfaces: rule.interfaces,
        from,
        to,
        from_ports: rule.from_ports,
        to_ports: rule.to_ports,
        action: rule.action.into(),
        log: rule.log,
        shadow: rule.shadow,
        liberal: rule.liberal,
        pickup: rule.pickup,
        timeouts,
        limits: Limits {
            rate: rule.rate,
            flows: rule.flows,
            source_rate: rule.source_rate,
            source_flows: rule.source_flows,
            source_bits: rule.source_bits,
        },
    })
}

/// The words for the directions of a set, in order.
pub fn directions(set: Directions) -> impl Iterator<Item = &'static str> {
    Direction::ALL
        .into_iter()
        .filter(move |&direction| set.has(direction))
        .map(Direction::as_str)
}

/// The word that users see for what a rule does.
#[must_use]
pub const fn action(action: Action) -> &'static str {
    match action {
        Action::Allow => "allow",
        Action::Drop => "drop",
        Action::Reset => "reset",
        Action::Prohibit => "prohibit",
    }
}

fn nets(prefixes: &[Prefix]) -> Vec<IpNet> {
    prefixes.iter().map(from_brain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        let prefixes = ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"];
        Policy {
            rules: vec![Rule {
                name: "web".to_owned(),
                line: 7,
                directions: Directions::only(Direction::In).with(Directions::only(Direction::Out)),
                interfaces: vec!["eth0".to_owned()],
                from: Addresses {
                    among: vec![0],
                    except: Vec::new(),
                },
                to: Addresses::default(),
                from_ports: Vec::new(),
                to_ports: vec![(80, 80), (443, 443)],
                action: Action::Allow,
                log: true,
                shadow: false,
                liberal: true,
                pickup: Some(false),
                timeouts: Some(Profile::Pf),
                limits: Limits {
                    rate: Some((10, 5)),
                    ..Limits::default()
                },
            }],
            default: Action::Prohibit,
            default_log: true,
            sets: vec![PrefixSet {
                name: "office".to_owned(),
                inline: false,
                prefixes: prefixes
                    .iter()
                    .map(|text| to_brain(&text.parse().unwrap()))
                    .collect(),
            }],
            port_sets: vec![PortSet {
                name: "web".to_owned(),
                ranges: vec![(80, 80), (8000, 8099)],
            }],
            management: Management {
                ports: vec![22],
                peers: vec![to_brain(&"192.0.2.0/24".parse().unwrap())],
            },
            source: Source {
                path: Some("/etc/policy.toml".into()),
                set_files: vec!["/etc/office".into()],
                hash: u64::MAX,
            },
        }
    }

    #[test]
    fn what_is_stored_comes_back() {
        let stored = StoredPolicy::of(&policy());
        let text = serde_json::to_string(&stored).unwrap();
        assert!(text.contains("\"2001:db8::/32\""), "{text}");
        let back: StoredPolicy = serde_json::from_str(&text).unwrap();
        assert_eq!(back.policy().unwrap(), policy());
    }

    #[test]
    fn what_no_tracker_wrote_is_refused() {
        let text = serde_json::to_string(&StoredPolicy::of(&policy())).unwrap();
        for (from, to, told) in [
            (r#""among":[0]"#, r#""among":[1]"#, "set"),
            (r#""directions":3"#, r#""directions":0"#, "direction"),
            (r#""pf""#, r#""pdf""#, "time-outs"),
            (r#""name":"web""#, r#""name":"default""#, "two rules"),
        ] {
            let changed = text.replace(from, to);
            assert_ne!(changed, text, "{from}");
            let stored: StoredPolicy = serde_json::from_str(&changed).unwrap();
            let error = stored.policy().unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
