//! The locked section is call-free, in the object as it was built.
//!
//! The verifier refuses helpers under a `bpf_spin_lock`, and before kernel 6.9
//! functions of the program too. A kernel that runs these tests may allow what
//! an older one refuses, and the compiler may decide any day not to inline
//! something; so the object's code is walked here.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use tracker::datapath::objects;
use tracker_tests::program::elf::{Callee, Function, Functions, functions};

/// Numbers in include/uapi/linux/bpf.h.
const SPIN_LOCK: i32 = 93;
const SPIN_UNLOCK: i32 = 94;

/// The programs of the object.
const PROGRAMS: [&str; 3] = ["tracker_ingress", "tracker_egress", "tracker_reap"];

/// Calls that the compiler inserts for copies: a loop over octets in BPF.
const COPIES: [&str; 5] = ["memcpy", "memmove", "memset", "memcmp", "bcmp"];

/// Walks every path through a function and gives how often a lock is taken.
fn walk(function: &Function) -> Result<usize> {
    let mut seen = BTreeSet::new();
    let mut locks = BTreeSet::new();
    let mut ahead = vec![(0, false)];
    while let Some((index, locked)) = ahead.pop() {
        if !seen.insert((index, locked)) {
            continue;
        }
        let at = || format!("{} at instruction {index}", function.name);
        let instruction = function.code.get(index).with_context(at)?;
        let locked_after = match &instruction.calls {
            Some(Callee::Helper(SPIN_LOCK)) => {
                ensure!(!locked, "{} takes a second lock", at());
                locks.insert(index);
                true
            }
            Some(Callee::Helper(SPIN_UNLOCK)) => {
                ensure!(locked, "{} gives back a lock that it may not hold", at());
                false
            }
            Some(callee) if locked => bail!("{} calls {callee:?} under the lock", at()),
            Some(_) | None => locked,
        };
        let successors = function.successors(index)?;
        ensure!(
            !(successors.is_empty() && locked_after),
            "{} ends under the lock",
            at()
        );
        ahead.extend(successors.into_iter().map(|next| (next, locked_after)));
    }
    Ok(locks.len())
}

/// The functions that a program reaches, itself among them.
fn reached<'a>(functions: &'a Functions, program: &str) -> Result<BTreeSet<&'a str>> {
    let mut reached = BTreeSet::new();
    let mut ahead = vec![program];
    while let Some(name) = ahead.pop() {
        let (name, function) = functions
            .get_key_value(name)
            .with_context(|| format!("the object has no function {name}"))?;
        if reached.insert(name.as_str()) {
            ahead.extend(function.callees());
        }
    }
    Ok(reached)
}

#[test]
fn nothing_is_called_under_the_lock() {
    for (object, elf) in objects() {
        let functions = functions(elf).unwrap();
        for program in PROGRAMS {
            let locks: usize = reached(&functions, program)
                .unwrap()
                .into_iter()
                .map(|name| walk(&functions[name]).unwrap_or_else(|e| panic!("{object}: {e:#}")))
                .sum();
            // Or the walk has missed what it looks for.
            assert!(locks >= 1, "{program} of {object} takes no lock");
        }
    }
}

#[test]
fn nothing_is_copied_by_a_call() {
    for (object, elf) in objects() {
        let functions = functions(elf).unwrap();
        for program in PROGRAMS {
            let reached = reached(&functions, program).unwrap();
            let copies: Vec<_> = COPIES
                .iter()
                .filter(|copy| reached.contains(**copy))
                .collect();
            assert!(copies.is_empty(), "{program} of {object} calls {copies:?}");
        }
    }
}

/// The walk itself, on code that breaks each rule.
#[test]
fn the_walk_finds_what_it_looks_for() {
    let helper = |number| Instructions::helper(number);
    let exit = Instructions::EXIT;
    let good = [helper(SPIN_LOCK), helper(SPIN_UNLOCK), exit];
    assert_eq!(walk(&Instructions::function(&good)).unwrap(), 1);
    for (bad, what) in [
        (
            vec![helper(SPIN_LOCK), helper(1), helper(SPIN_UNLOCK), exit],
            "Helper(1) under",
        ),
        (vec![helper(SPIN_LOCK), exit], "ends under"),
        (vec![helper(SPIN_UNLOCK), exit], "may not hold"),
        (
            vec![helper(SPIN_LOCK), helper(SPIN_LOCK), exit],
            "second lock",
        ),
        // A branch around the unlock: `if r0 == 0 goto +1`.
        (
            vec![
                helper(SPIN_LOCK),
                *b"\x15\0\x01\0\0\0\0\0",
                helper(SPIN_UNLOCK),
                exit,
            ],
            "ends under",
        ),
    ] {
        let error = walk(&Instructions::function(&bad)).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
}

/// Hand-made code.
struct Instructions;

impl Instructions {
    const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];

    fn helper(number: i32) -> [u8; 8] {
        let [a, b, c, d] = number.to_le_bytes();
        [0x85, 0, 0, 0, a, b, c, d]
    }

    fn function(code: &[[u8; 8]]) -> Function {
        Function::decode("made by hand", &code.concat()).unwrap()
    }
}
