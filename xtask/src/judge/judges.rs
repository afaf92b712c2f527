//! The judges: what runs, how long it may take, and which of its numbers count.

/// One judge.
pub struct Judge {
    /// What one types, which is the name of its test program where it is one.
    pub name: &'static str,
    /// What it is to readers.
    pub title: &'static str,
    /// How it runs.
    pub kind: Kind,
    /// Longest time it may take in full, in seconds.
    pub seconds: u32,
    /// Numbers for the table, in this order.
    pub numbers: &'static [Number],
}

/// How a judge runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A test program of the package `tracker-tests`, as root.
    Suite,
    /// The fuzzer, for so many seconds a target.
    Fuzz {
        /// In full.
        full: u32,
        /// With `--quick`.
        quick: u32,
    },
    /// cargo-mutants. Hours, so only by name or with `--mutants`.
    Mutants,
}

/// A number taken from the lines that a judge prints.
pub struct Number {
    /// What it counts, to readers.
    pub label: &'static str,
    /// Names that lead to it in the JSON of a line.
    pub path: &'static [&'static str],
    /// What becomes of those of several lines.
    pub fold: Fold,
}

/// How several lines become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// Their sum; a list or an object counts as many as it has.
    Sum,
    /// The largest.
    Max,
    /// The number of lines that have it.
    Lines,
}

const fn sum(label: &'static str, path: &'static [&'static str]) -> Number {
    let fold = Fold::Sum;
    Number { label, path, fold }
}

/// All of them, in the order in which they run.
pub const JUDGES: &[Judge] = &[
    Judge {
        name: "ss_judge",
        title: "The kernel's TCP, every state at rest",
        kind: Kind::Suite,
        seconds: 900,
        numbers: &[],
    },
    Judge {
        name: "netem_judge",
        title: "The kernel's TCP over bad wires",
        kind: Kind::Suite,
        seconds: 3600,
        numbers: &[
            sum("connections", &["connections"]),
            sum("packets", &["packets"]),
            sum("lost on the way", &["wires", "lost"]),
            sum("reordered", &["wires", "reordered"]),
            sum("repeated", &["wires", "repeated"]),
            sum("refused", &["by_class", "refuse"]),
            sum("pairs of states compared", &["compared"]),
            sum("different", &["differences"]),
        ],
    },
    Judge {
        name: "conntrack_judge",
        title: "nf_conntrack",
        kind: Kind::Suite,
        seconds: 3600,
        numbers: &[
            sum("connections", &["connections"]),
            sum("packets", &["packets"]),
            sum("agreed", &["agreed"]),
            sum("kinds of difference, each explained", &["differences"]),
            sum("unexplained", &["unexplained"]),
            sum("honest conversations refused", &["honest_refused"]),
        ],
    },
    Judge {
        name: "firewall",
        title: "nftables, and policies replaced under load",
        kind: Kind::Suite,
        seconds: 900,
        numbers: &[
            sum("cases", &["cases"]),
            sum("packets", &["packets"]),
            sum("kinds of difference, each explained", &["differences"]),
            sum("policies put in force", &["policies"]),
            sum("exchanges meanwhile", &["exchanges"]),
            sum("forbidden SYNs refused", &["refused"]),
        ],
    },
    Judge {
        name: "captures",
        title: "Captures that others made",
        kind: Kind::Suite,
        seconds: 900,
        numbers: &[
            sum("captures", &["files"]),
            sum("packets", &["packets"]),
            sum("flows that others had counted", &["baseline_flows"]),
            sum(
                "of these explained differences",
                &["baseline_differences_explained"],
            ),
            sum("not as required", &["wrong"]),
        ],
    },
    Judge {
        name: "model",
        title: "RFC 9293 as a model, every run",
        kind: Kind::Suite,
        seconds: 5400,
        numbers: &[
            Number {
                label: "scenarios",
                path: &["scenario"],
                fold: Fold::Lines,
            },
            sum("states", &["states"]),
            sum("transitions", &["transitions"]),
            Number {
                label: "depth",
                path: &["depth"],
                fold: Fold::Max,
            },
            sum("kinds of counter-example", &["counterexamples"]),
            Number {
                label: "trackers broken on purpose, each caught",
                path: &["broken"],
                fold: Fold::Lines,
            },
        ],
    },
    Judge {
        name: "equivalence",
        title: "Brain and loaded program, packet by packet",
        kind: Kind::Suite,
        seconds: 1800,
        numbers: &[
            sum("streams", &["streams"]),
            sum("packets", &["packets"]),
            sum("reasons that came up", &["reasons"]),
            sum("histories compared", &["histories"]),
            sum("different", &["differences"]),
        ],
    },
    Judge {
        name: "replay",
        title: "Replay, with and without the loaded program",
        kind: Kind::Suite,
        seconds: 1800,
        numbers: &[],
    },
    Judge {
        name: "corpus",
        title: "What the fuzzer has found, again",
        kind: Kind::Suite,
        seconds: 900,
        numbers: &[
            sum("inputs", &["inputs"]),
            sum("frames, steps and packets", &["looked_at"]),
            sum("broken laws", &["broken"]),
        ],
    },
    Judge {
        name: "fuzz",
        title: "Fuzzing",
        kind: Kind::Fuzz {
            full: 300,
            quick: 20,
        },
        seconds: 1800,
        numbers: &[
            Number {
                label: "targets",
                path: &["target"],
                fold: Fold::Lines,
            },
            sum("inputs tried", &["tried"]),
            sum("inputs that found something new", &["new"]),
            sum("broken laws", &["broken"]),
        ],
    },
    Judge {
        name: "mutants",
        title: "Mutants of the brain",
        kind: Kind::Mutants,
        seconds: 86_400,
        numbers: &[
            sum("mutants that compile", &["viable"]),
            sum("caught", &["caught"]),
            sum("left", &["missed"]),
        ],
    },
];

/// The judge called `name`.
pub fn named(name: &str) -> Option<&'static Judge> {
    JUDGES.iter().find(|judge| judge.name == name)
}

impl Judge {
    /// Whether it runs when none is named.
    pub fn is_usual(&self) -> bool {
        self.kind != Kind::Mutants
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        let names: HashSet<_> = JUDGES.iter().map(|judge| judge.name).collect();
        assert_eq!(names.len(), JUDGES.len());
        assert!(named("captures").is_some_and(Judge::is_usual));
        assert!(named("mutants").is_some_and(|judge| !judge.is_usual()));
        assert!(named("jury").is_none());
    }
}
