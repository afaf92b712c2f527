//! What the rules of a policy say together, and what they say to the machine.

use tracker_common::abi::Family;

use super::{
    model::{Addresses, MAX_PREFIXES, Policy},
    reach::{Dead, reach},
    report::{Problem, Scope, Severity},
    syntax::Draft,
};

/// Rules that a message names.
const NAMED: usize = 3;

/// Holds the rules of `draft` against each other, and against the interfaces that the
/// machine has where these are known; tells what is wrong.
pub(super) fn check(scope: &mut Scope<'_>, draft: &Draft, interfaces: Option<&[String]>) {
    let policy = &draft.policy;
    let prefixes: usize = policy.sets.iter().map(|set| set.prefixes.len()).sum();
    if prefixes > MAX_PREFIXES {
        let message = format!(
            "its sets and lists have {prefixes} prefixes, more than the {MAX_PREFIXES} that they may \
             have together"
        );
        scope
            .report
            .push(Problem::of_file(Severity::Error, scope.path, message));
        return;
    }
    if let Some(interfaces) = interfaces {
        missing(scope, draft, interfaces);
    }
    let sound: Vec<bool> = draft.marks.iter().map(|mark| mark.sound).collect();
    let reach = reach(policy, &sound);
    if reach.partial {
        let message = "its rules and sets are too many to tell all rules that are never reached";
        scope.report.push(Problem::of_file(
            Severity::Warning,
            scope.path,
            message.to_owned(),
        ));
    }
    for (index, dead) in reach.dead {
        let (Some(rule), Some(mark)) = (policy.rules.get(index), draft.marks.get(index)) else {
            continue;
        };
        match dead {
            Dead::Void => match void(policy, &rule.from, &rule.to) {
                Ok(message) => scope.warn(&mark.at, message),
                Err(message) => scope.error(&mark.at, message),
            },
            Dead::Covered(rules) => {
                scope.error(&mark.at, covered(policy, index, &rules));
            }
        }
    }
}

/// Tells rules about interfaces that are not there.
fn missing(scope: &mut Scope<'_>, draft: &Draft, interfaces: &[String]) {
    for (rule, mark) in draft.policy.rules.iter().zip(&draft.marks) {
        let missing: Vec<String> = rule
            .interfaces
            .iter()
            .filter(|name| !interfaces.contains(name))
            .map(|name| format!("`{name}`"))
            .collect();
        if !missing.is_empty() {
            let message = format!(
                "there is no interface {} here: the rule takes effect there when it appears",
                missing.join(", ")
            );
            scope.warn(&mark.at, message);
        }
    }
}

/// Why a rule matches nothing: as a warning where that may change by the file of a
/// set.
fn void(policy: &Policy, from: &Addresses, to: &Addresses) -> Result<String, String> {
    let sides = [("from", from), ("to", to)];
    for (key, side) in sides {
        let sets = || side.among.iter().filter_map(|set| policy.sets.get(*set));
        if !side.among.is_empty() && sets().all(|set| set.prefixes.is_empty()) {
            let names: Vec<String> = sets().map(|set| format!("`@{}`", set.name)).collect();
            return Ok(format!(
                "the rule matches nothing while `{key}` is empty: there is no prefix in {}",
                names.join(", ")
            ));
        }
    }
    let families = |side: &Addresses| {
        let sets = side.among.iter().filter_map(|set| policy.sets.get(*set));
        let mut prefixes = sets.flat_map(|set| &set.prefixes);
        let first = prefixes.next().map(|prefix| prefix.family)?;
        prefixes
            .all(|prefix| prefix.family == first)
            .then_some(first)
    };
    let name = |family| match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    };
    Err(match (families(from), families(to)) {
        (Some(one), Some(other)) if one != other => format!(
            "the rule can match nothing: `from` has {} addresses only, `to` {} addresses only",
            name(one),
            name(other)
        ),
        _ => "the rule can match nothing: its exceptions leave no address".to_owned(),
    })
}

/// Why a rule is never reached.
fn covered(policy: &Policy, index: usize, rules: &[usize]) -> String {
    let named: Vec<String> = rules
        .iter()
        .take(NAMED)
        .filter_map(|rule| policy.rules.get(*rule))
        .map(|rule| format!("`{}` (line {})", rule.name, rule.line))
        .collect();
    let mut named = named.join(", ");
    let left = rules.len().saturating_sub(NAMED);
    if left > 0 {
        named = format!("{named} and {left} more");
    }
    let shadowed = policy.rules.get(index).is_some_and(|rule| rule.shadow);
    match rules {
        [one] => {
            let other = policy.rules.get(*one);
            let why = if shadowed && other.is_some_and(|other| other.shadow) {
                " (of rules in shadow the first one counts)"
            } else {
                ""
            };
            format!(
                "the rule is never reached: {named} before it matches everything that it does{why}"
            )
        }
        _ => format!(
            "the rule is never reached: {named} before it match together everything that it does"
        ),
    }
}
