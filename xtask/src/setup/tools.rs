//! Programs that the lab and the tests run besides the project's own.

use std::collections::BTreeMap;

use anyhow::Result;

use super::{Purpose, apt::Apt};
use crate::paths;

/// A program, the Debian package that has it, and what wants it.
struct Tool {
    program: &'static str,
    package: &'static str,
    wanted: &'static [Purpose],
    reason: &'static str,
}

use Purpose::{Lab, Test};

const TOOLS: &[Tool] = &[
    Tool {
        program: "ip",
        package: "iproute2",
        wanted: &[Lab, Test],
        reason: "links, addresses and routes between the network namespaces",
    },
    Tool {
        program: "ss",
        package: "iproute2",
        wanted: &[Lab, Test],
        reason: "the kernel's own view of every connection, the judge of the tests",
    },
    Tool {
        program: "tc",
        package: "iproute2",
        wanted: &[Test],
        reason: "offloads and queues of the links under test",
    },
    Tool {
        program: "nft",
        package: "nftables",
        wanted: &[Lab, Test],
        reason: "dropping chosen packets inside an end's namespace, to hold a state still",
    },
    Tool {
        program: "ethtool",
        package: "ethtool",
        wanted: &[Test],
        reason: "switching offloads, so that both packet shapes are seen",
    },
    Tool {
        program: "iperf3",
        package: "iperf3",
        wanted: &[Test],
        reason: "bulk traffic through the tracker, which must lose nothing",
    },
    Tool {
        program: "tmux",
        package: "tmux",
        wanted: &[Test],
        reason: "a terminal to see the live table on",
    },
];

/// Installs what is missing for `purpose`.
///
/// # Errors
/// As [`Apt::install`]; without apt, the missing programs by name.
pub fn ensure(purpose: Purpose, apt: &mut Apt) -> Result<()> {
    let missing = missing(purpose, |program| paths::program(program).is_some());
    if missing.is_empty() {
        return Ok(());
    }
    let reason = missing
        .iter()
        .map(|(package, reason)| format!("{package} for {reason}"))
        .collect::<Vec<_>>()
        .join("; ");
    let packages: Vec<String> = missing.keys().map(|package| package.to_string()).collect();
    apt.install(&packages, &reason)
}

/// Packages whose programs are missing, with the reason of the first of them.
fn missing(
    purpose: Purpose,
    present: impl Fn(&str) -> bool,
) -> BTreeMap<&'static str, &'static str> {
    let mut packages = BTreeMap::new();
    for tool in TOOLS {
        if tool.wanted.contains(&purpose) && !present(tool.program) {
            packages.entry(tool.package).or_insert(tool.reason);
        }
    }
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn building_needs_no_tools() {
        assert!(missing(Purpose::Build, |_| false).is_empty());
    }

    #[test]
    fn package_of_several_programs_is_named_once() {
        let packages: Vec<_> = missing(Lab, |_| false).into_keys().collect();
        assert_eq!(packages, ["iproute2", "nftables"]);
        let packages: Vec<_> = missing(Test, |program| program != "tc")
            .into_keys()
            .collect();
        assert_eq!(packages, ["iproute2"]);
    }
}
