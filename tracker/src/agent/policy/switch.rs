//! From a checked policy to one in force, in one step.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, Result};
use tracker_common::abi::Live;

use super::{
    Policies, State, guard, kill,
    numbers::{self, Assigned},
};
use crate::{
    cli::FlowsChoice,
    control::{
        record::{By, InForce as Told, Moment, Recorded, RuleNames},
        stored::{StoredPolicy, action},
    },
    datapath::index_of,
    policy::{
        compile::{Compiled, compile},
        model::Policy,
    },
};

/// Generations of policies that flows tell apart (`Flow::judged`); 0 stands for none.
const GENERATIONS: u16 = 1 << 13;

/// A policy that is in force.
pub struct InForce {
    pub(super) policy: Arc<Policy>,
    pub(super) compiled: Compiled,
    pub(super) recorded: Recorded,
    pub(super) by: By,
    /// See [`Recorded::configured`].
    pub(super) configured: u64,
    /// Indices of the interfaces that its rules name, as it was compiled with.
    pub(super) interfaces: BTreeMap<String, Option<u32>>,
}

impl InForce {
    /// Interfaces that have another index than when it was compiled.
    pub(super) fn changed_interfaces(&self) -> Vec<&str> {
        let interfaces = self.interfaces.iter();
        interfaces
            .filter(|(name, index)| index_of(name) != **index)
            .map(|(name, _)| name.as_str())
            .collect()
    }
}

/// A policy that can be handed to the kernel.
struct Ready {
    assigned: Assigned,
    /// See [`InForce::interfaces`].
    interfaces: BTreeMap<String, Option<u32>>,
    compiled: Compiled,
}

impl Ready {
    /// Compiles `policy` for the interfaces that there are, with the numbers that its
    /// rules have in `names`, which learns new ones.
    fn of(policy: &Policy, names: &mut RuleNames) -> Result<Self> {
        let assigned = numbers::assign(names, policy);
        let interfaces = interfaces(policy);
        let by_name = assigned.by_name(policy);
        let compiled = compile(
            policy,
            &|name| interfaces.get(name).copied().flatten(),
            &|name| by_name.get(name).copied().unwrap_or_default(),
        )?;
        Ok(Self {
            assigned,
            interfaces,
            compiled,
        })
    }
}

impl Policies {
    /// Puts `policy` in force, or lets everything pass without one. `cut` is asked
    /// where it would cut off who manages this machine, and tells whether somebody
    /// wants that. Gives how many flows were
    /// killed. The caller has the turn.
    pub(super) fn switch(
        &self,
        state: &mut State,
        policy: Option<&Arc<Policy>>,
        configured: u64,
        by: By,
        flows: FlowsChoice,
        cut: impl FnOnce(&str) -> Result<bool>,
    ) -> Result<u64> {
        let Some(policy) = policy else {
            self.put(state, None, flows)?;
            state.known = false;
            tracing::info!("no policy is in force: every connection is allowed");
            return Ok(0);
        };
        let mut names = state.names.clone();
        let Ready {
            assigned,
            interfaces,
            compiled,
        } = Ready::of(policy, &mut names)?;
        // Where nobody can be asked who would be cut off, somebody must say that none is.
        let cuts = guard::Lifelines::look(policy).map(|lifelines| lifelines.cut_by(&compiled));
        let forced = match &cuts {
            Ok(cuts) if cuts.is_empty() => false,
            Ok(cuts) => cut(&guard::explain(cuts))?,
            Err(error) => cut(&format!(
                "who manages this machine, and would be cut off, is not known ({error:#}); say --force"
            ))?,
        };
        for warning in self.warnings(policy) {
            tracing::warn!("{warning}");
        }
        let installed = self
            .pinned
            .install_policy(&compiled, &assigned.fresh)
            .context("cannot hand the policy to the kernel")?;
        // Flows that name numbers are told by these names from here on.
        state.names = names;
        if let Err(error) = self.place.set_rules(&state.names) {
            tracing::error!("rules are told by their numbers: {error:#}");
        }
        let new = Arc::new(InForce {
            recorded: Recorded {
                policy: StoredPolicy::of(policy),
                numbers: assigned.numbers,
                configured,
                forced,
            },
            policy: Arc::clone(policy),
            compiled,
            by,
            configured,
            interfaces,
        });
        let killed = self.put(state, Some((Arc::clone(&new), installed.slot)), flows)?;
        tracing::info!(
            "the policy {} is in force: {}, default {} (generation {}, by {}){}",
            path(policy),
            counted(policy.rules.len() as u64, "rule"),
            action(policy.default),
            state.status.generation,
            by.as_str(),
            match killed {
                0 => String::new(),
                killed => format!("; {} ended", counted(killed, "flow")),
            }
        );
        Ok(killed)
    }

    /// What its author may not know of the interfaces that rules name.
    pub(super) fn warnings(&self, policy: &Policy) -> Vec<String> {
        let named = interfaces(policy).into_iter();
        let warnings = named
            .filter_map(|(name, index)| warning(policy, &name, index.is_some(), &self.tracked));
        warnings.collect()
    }

    /// Compiles the policy in force again, for the interfaces that there are.
    pub(super) fn renew(&self, state: &mut State, in_force: &Arc<InForce>) -> Result<()> {
        let policy = &in_force.policy;
        let mut names = state.names.clone();
        let Ready {
            assigned,
            interfaces,
            compiled,
        } = Ready::of(policy, &mut names)?;
        let installed = self.pinned.install_policy(&compiled, &assigned.fresh)?;
        self.live.change(|live| {
            live.policy_slot = installed.slot;
            Ok(())
        })?;
        state.names = names;
        state.in_force = Some(Arc::new(InForce {
            policy: Arc::clone(policy),
            compiled,
            recorded: in_force.recorded.clone(),
            by: in_force.by,
            configured: in_force.configured,
            interfaces,
        }));
        Ok(())
    }

    /// Has the programs decide by what is in that slot, and writes it down.
    fn put(
        &self,
        state: &mut State,
        new: Option<(Arc<InForce>, u32)>,
        flows: FlowsChoice,
    ) -> Result<u64> {
        let slot = new.as_ref().map_or(0, |&(_, slot)| slot);
        self.live.change(|live| {
            live.policy_slot = slot;
            if flows == FlowsChoice::Recheck {
                next_generation(live);
            }
            Ok(())
        })?;
        let new = new.map(|(new, _)| new);
        state.in_force.clone_from(&new);
        state.status.generation += 1;
        state.status.last_error = None;
        state.status.policy = new.as_ref().map(|new| Told {
            path: new.policy.source.path.clone(),
            rules: new.policy.rules.len(),
            default: action(new.policy.default).to_owned(),
            by: new.by,
            since: Moment::now(),
        });
        // It is in force either way.
        if let Err(error) = self.place.set_policy(new.as_ref().map(|new| &new.recorded)) {
            tracing::error!("the next agent does not know the policy in force: {error:#}");
        }
        self.write_status(state);
        let (FlowsChoice::Kill, Some(new)) = (flows, new) else {
            return Ok(0);
        };
        // The RSTs pass as segments of flows that are not judged anew yet.
        let killed = kill::forbidden(&self.pinned, self.role, &new.compiled);
        self.live.change(|live| {
            next_generation(live);
            Ok(())
        })?;
        killed
    }
}

/// Has each flow judged again with its next packet.
const fn next_generation(live: &mut Live) {
    live.policy = (live.policy + 1) % GENERATIONS;
    if live.policy == 0 {
        live.policy = 1;
    }
}

/// Indices of the interfaces that rules name.
fn interfaces(policy: &Policy) -> BTreeMap<String, Option<u32>> {
    let names = policy.rules.iter().flat_map(|rule| &rule.interfaces);
    names.map(|name| (name.clone(), index_of(name))).collect()
}

/// What the author of `policy` may not know of the interface `name`, which its rules
/// name and which `exists` or not, beside those that are `tracked`.
fn warning(policy: &Policy, name: &str, exists: bool, tracked: &[String]) -> Option<String> {
    let rules = about(policy, name);
    match (exists, tracked.iter().any(|tracked| tracked == name)) {
        (true, true) => None,
        (false, true) => Some(format!(
            "{rules} {name}, which there is not: that takes effect when there is"
        )),
        (false, false) => Some(format!(
            "{rules} {name}, which there is not: that takes effect when there is, and it is tracked"
        )),
        (true, false) => Some(format!(
            "{rules} {name}, which is not tracked: nothing is seen there that could match; the \
             tracked ones are {}",
            tracked.join(", ")
        )),
    }
}

/// "rule `web` names", "rules `web`, `ssh` name": those about an interface.
fn about(policy: &Policy, interface: &str) -> String {
    /// Rules that are told.
    const TOLD: usize = 3;
    let rules = policy.rules.iter();
    let rules = rules.filter(|rule| rule.interfaces.iter().any(|name| name == interface));
    let names: Vec<String> = rules.map(|rule| format!("`{}`", rule.name)).collect();
    let told = names.get(..TOLD).unwrap_or(&names).join(", ");
    match names.len() {
        1 => format!("rule {told} names"),
        count if count > TOLD => format!("rules {told} and {} more name", count - TOLD),
        _ => format!("rules {told} name"),
    }
}

pub(super) fn path(policy: &Policy) -> String {
    let path = policy.source.path.as_ref();
    path.map_or_else(
        || "of the configuration".to_owned(),
        |path| path.display().to_string(),
    )
}

/// "1 flow", "2 flows".
fn counted(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tracker_common::tcp::timeout::Profile;

    use super::*;
    use crate::policy::{Context, parse};

    #[test]
    fn rules_about_interfaces_that_are_not_tracked_are_told_by_name() {
        let rules = [
            ("web", "eth1"),
            ("ssh", "eth0"),
            ("a", "wan9"),
            ("b", "wan9"),
            ("c", "wan9"),
        ];
        let mut text = "default = \"drop\"\n".to_owned();
        for (port, (name, interface)) in (1..).zip(rules) {
            text += &format!(
                "[[rules]]\nname = \"{name}\"\ninterface = \"{interface}\"\nports = {port}\n\
                 action = \"allow\"\n"
            );
        }
        let policy = parse(&text, Path::new("p.toml"), &Context::default());
        let mut policy = policy.policy.unwrap();
        let tracked = ["eth0".to_owned(), "lan0".to_owned()];
        let told = |policy: &Policy, name: &str, exists: bool| {
            warning(policy, name, exists, &tracked).unwrap_or_default()
        };
        assert_eq!(told(&policy, "eth0", true), "");
        assert_eq!(
            told(&policy, "eth1", true),
            "rule `web` names eth1, which is not tracked: nothing is seen there that could match; \
             the tracked ones are eth0, lan0"
        );
        assert_eq!(
            told(&policy, "eth0", false),
            "rule `ssh` names eth0, which there is not: that takes effect when there is"
        );
        assert_eq!(
            told(&policy, "wan9", false),
            "rules `a`, `b`, `c` name wan9, which there is not: that takes effect when there is, \
             and it is tracked"
        );
        policy.rules[1].interfaces.push("wan9".to_owned());
        assert!(
            told(&policy, "wan9", true)
                .starts_with("rules `ssh`, `a`, `b` and 1 more name wan9, which is not tracked: ")
        );
    }

    #[test]
    fn generations_come_round_and_leave_out_none() {
        let mut live = Live::observing(Profile::Linux);
        for expected in [1, 2, 3] {
            next_generation(&mut live);
            assert_eq!(live.policy, expected);
        }
        live.policy = GENERATIONS - 1;
        next_generation(&mut live);
        assert_eq!(live.policy, 1);
    }
}
