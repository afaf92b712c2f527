//! Compiles a policy into what the programs look up: see
//! [`tracker_common::abi::Block`] for the form and
//! [`tracker_common::policy::decide`] for how it is read.
//!
//! Each field of a packet names a vector of the rules that it lets match. There are
//! far fewer vectors than there are values of a field: prefixes in the same sets have
//! the same one, and of a port only the ranges around it matter. So equal vectors are
//! one, and so are equal chunks of vectors that differ elsewhere.
//!
//! | module | what it holds |
//! |---|---|
//! | `store` | blocks, and which vectors are in them |
//! | `prefixes`, `ports`, `places` | the fields |
//! | [`judge`] | the compiled policy asked in userspace |
//! | [`plain`] | the policy for the brain's plain reading, not compiled at all |

pub mod judge;
mod places;
pub mod plain;
mod ports;
mod prefixes;
mod store;
#[cfg(test)]
mod tests;

use std::fmt;

use tracker_common::{
    abi::{
        Block, PolicyHeader, PrefixKey, PrefixVectors, Rate, Rule as RuleBlock, policy_flags,
        rule_flags,
    },
    policy::Action,
};

pub use self::judge::Judge;
use self::store::{Draft, Store};
use super::model::{DEFAULT_RULE, MAX_RULES, Policy, Rule};

/// Blocks that a policy may take: 64 MiB.
pub const MAX_BLOCKS: usize = 1 << 20;

/// Memory that the kernel takes for an entry of a trie: a node of its own, and at
/// most one that joins two. Of the allocator's class of 96 octets each
/// (kernel/bpf/lpm_trie.c, `struct lpm_trie_node`).
const ENTRY_BYTES: usize = 2 * 96;

/// A policy as the programs read it.
#[derive(Clone, PartialEq, Eq)]
pub struct Compiled {
    /// What an inner map of `POLICIES` holds.
    pub blocks: Vec<Block>,
    /// What an inner map of `PREFIXES` holds, IPv4 first, outer prefixes before
    /// inner ones.
    pub prefixes: Vec<(PrefixKey, PrefixVectors)>,
    /// The rules in the order in which they are looked at, the default last.
    pub rules: Vec<Numbered>,
}

/// What is told of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// [`tracker_common::abi::Rule::number`].
    pub number: u16,
    /// Its name; [`DEFAULT_RULE`] of the default.
    pub name: String,
    /// Where it begins in the file; 0 of the default.
    pub line: usize,
    /// What becomes of connections that it decides about.
    pub action: Action,
    /// Whether its decisions are reported.
    pub log: bool,
    /// It counts, and the next one decides.
    pub shadow: bool,
}

/// Octets of kernel memory, as far as they can be told before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Of the blocks.
    pub blocks: usize,
    /// Of the trie, at most.
    pub trie: usize,
}

/// Why a policy cannot be compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It has no rule that the programs could name.
    #[error(
        "there are {rules} rules, and {MAX_RULES} is the most: write rules that differ in their \
         addresses or ports only as one"
    )]
    TooManyRules {
        /// Without the default.
        rules: usize,
    },
    /// Its vectors do not fit.
    #[error(
        "with its {rules} rules and {prefixes} prefixes the policy takes more than {} MiB of the \
         kernel's memory: let rules share sets (`from = \"@name\"`), since prefixes that lie in the \
         same sets share what is kept of them, and leave out prefixes that lie within others",
        (MAX_BLOCKS * size_of::<Block>()) >> 20
    )]
    TooLarge {
        /// Without the default.
        rules: usize,
        /// Of all sets together.
        prefixes: usize,
    },
}

/// The blocks are full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Full;

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            blocks,
            prefixes,
            rules,
        } = self;
        // A million blocks help nobody.
        f.debug_struct("Compiled")
            .field("blocks", &blocks.len())
            .field("prefixes", &prefixes.len())
            .field("rules", &rules.len())
            .finish()
    }
}

impl Compiled {
    /// Memory that it takes in the kernel. An agent that changes policies keeps up to
    /// [`tracker_common::abi::POLICY_SLOTS`] of them there.
    #[must_use]
    pub const fn memory(&self) -> Memory {
        Memory {
            blocks: self.blocks.len() * size_of::<Block>(),
            trie: self.prefixes.len() * ENTRY_BYTES,
        }
    }
}

/// Compiles `policy`. `index_of` gives the index of the interface of that name, `None`
/// if there is none: rules match nothing there until the policy is compiled again.
/// `number_of` gives the number of the rule of that name, 1 to 65,535; it is asked once
/// for each rule in order, then for the default.
///
/// # Errors
///
/// It has too many rules, or takes too much memory; neither depends on numbers.
pub fn compile(
    policy: &Policy,
    index_of: &dyn Fn(&str) -> Option<u32>,
    number_of: &dyn Fn(&str) -> u16,
) -> Result<Compiled, Error> {
    if policy.rules.len() > MAX_RULES {
        return Err(Error::TooManyRules {
            rules: policy.rules.len(),
        });
    }
    let rules = numbered(policy, number_of);
    let laid_out = lay_out(policy, &rules, index_of, MAX_BLOCKS);
    let (blocks, prefixes) = laid_out.map_err(|Full| Error::TooLarge {
        rules: policy.rules.len(),
        prefixes: policy.sets.iter().map(|set| set.prefixes.len()).sum(),
    })?;
    Ok(Compiled {
        blocks,
        prefixes,
        rules,
    })
}

fn lay_out(
    policy: &Policy,
    rules: &[Numbered],
    index_of: &dyn Fn(&str) -> Option<u32>,
    limit: usize,
) -> Result<(Vec<Block>, prefixes::Entries), Full> {
    let rules_at = 1;
    let mut store = Store::new(rules_at + rules.len(), rules.len(), limit);
    let mut head = PolicyHeader {
        rules: u32::try_from(rules.len()).map_err(|_| Full)?,
        rules_at: rules_at as u32,
        flags: flags(policy),
        ..PolicyHeader::default()
    };
    places::compile(policy, &mut store, index_of, &mut head)?;
    head.to_ports_at = ports::compile(policy, &mut store, |rule| &rule.to_ports)?;
    head.from_ports_at = ports::compile(policy, &mut store, |rule| &rule.from_ports)?;
    let mut in_force = Draft::of(&store.every());
    for (index, _) in policy
        .rules
        .iter()
        .enumerate()
        .filter(|(_, rule)| rule.shadow)
    {
        in_force.set(&store, index, false);
    }
    let in_force = in_force.done(&mut store);
    head.in_force = store.vector(&in_force)?;
    let entries = prefixes::compile(policy, &mut store)?;
    let mut blocks = store.into_blocks();
    blocks[0] = head.to_block();
    let described = policy.rules.iter().map(describe).chain([default(policy)]);
    for ((block, rule), numbered) in blocks[rules_at..].iter_mut().zip(described).zip(rules) {
        *block = RuleBlock {
            number: numbered.number,
            ..rule
        }
        .to_block();
    }
    Ok((blocks, entries))
}

fn numbered(policy: &Policy, number_of: &dyn Fn(&str) -> u16) -> Vec<Numbered> {
    let rules = policy.rules.iter().map(|rule| Numbered {
        number: number_of(&rule.name),
        name: rule.name.clone(),
        line: rule.line,
        action: rule.action,
        log: rule.log,
        shadow: rule.shadow,
    });
    let mut rules: Vec<_> = rules.collect();
    rules.push(Numbered {
        number: number_of(DEFAULT_RULE),
        name: DEFAULT_RULE.to_owned(),
        line: 0,
        action: policy.default,
        log: policy.default_log,
        shadow: false,
    });
    rules
}

fn flags(policy: &Policy) -> u32 {
    let mut flags = 0;
    if policy.rules.iter().any(|rule| rule.pickup == Some(true)) {
        flags |= policy_flags::PICKUP;
    }
    if policy.default != Action::Allow {
        flags |= policy_flags::CLOSED;
    }
    flags
}

/// What the programs read of a rule, but for its number.
fn describe(rule: &Rule) -> RuleBlock {
    let mut flags = 0;
    for (holds, flag) in [
        (rule.log, rule_flags::LOG),
        (rule.shadow, rule_flags::SHADOW),
        (rule.liberal, rule_flags::LIBERAL),
        (rule.pickup == Some(true), rule_flags::PICKUP),
        (rule.pickup == Some(false), rule_flags::NO_PICKUP),
    ] {
        if holds {
            flags |= flag;
        }
    }
    let limits = &rule.limits;
    RuleBlock {
        number: 0,
        action: rule.action as u8,
        flags,
        profile: rule.timeouts.map_or(0, |profile| profile.index()),
        flows: limits.flows,
        source_flows: limits.source_flows,
        rate: rate(limits.rate),
        source_rate: rate(limits.source_rate),
    }
}

fn default(policy: &Policy) -> RuleBlock {
    RuleBlock {
        action: policy.default as u8,
        flags: if policy.default_log {
            rule_flags::LOG
        } else {
            0
        },
        ..RuleBlock::default()
    }
}

fn rate(limit: Option<(u64, u64)>) -> Rate {
    limit.map_or(Rate::default(), |(interval_ns, burst)| Rate {
        interval_ns,
        tolerance_ns: interval_ns.saturating_mul(burst.saturating_sub(1)),
    })
}
