//! The configuration of `tracker replay`: the same file and the same checks, and
//! no machine.

use anyhow::Result;

use super::{Config, File, PickupChoice, System, check, file::Bounded};
use crate::cli::{ReplayArgs, ReplayPickup, RunArgs};

/// Stands for the interface where a file names none.
const ANY: &str = "any";

/// Checks `file` and the flags together. Flags win. The interfaces that the file
/// names need not be here: a capture comes from anywhere.
///
/// # Errors
///
/// When settings contradict each other. The message names the keys.
pub fn of_captures(mut file: File, flags: &ReplayArgs) -> Result<Config> {
    if let Some(capacity) = flags.capacity {
        file.table.capacity = Some(Bounded(capacity));
    }
    if let Some(profile) = flags.profile {
        file.timeouts.profile = Some(profile);
    }
    file.tracking.add(flags.liberal, flags.checksum);
    let mut named = file.interfaces.clone();
    named.extend(file.zones.iter().map(|zone| zone.interface.clone()));
    named.extend_from_slice(file.tracking.checksum_interfaces());
    if named.is_empty() {
        named.push(ANY.into());
    }
    let system = System {
        interfaces: named.clone(),
        default_routes: named,
    };
    let run = RunArgs {
        role: flags.role,
        pickup: flags.pickup.map(|pickup| match pickup {
            ReplayPickup::Off => PickupChoice::Off,
            ReplayPickup::Loose => PickupChoice::Loose,
        }),
        ..RunArgs::default()
    };
    check(&file, &run, &system)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser as _;
    use tracker_common::{
        abi::Role,
        tcp::timeout::{Class, Profile},
        time::ticks_from_ms,
    };

    use super::*;
    use crate::{
        cli::{Cli, Command},
        config::file,
    };

    fn config(text: &str, flags: &[&str]) -> Result<Config> {
        let words = ["tracker", "replay", "a.pcap"].iter().chain(flags);
        let Command::Replay(args) = Cli::try_parse_from(words)?.command else {
            unreachable!("`replay` is what was typed");
        };
        of_captures(file::parse(text, Path::new("t.toml"))?, &args)
    }

    #[test]
    fn without_a_file_the_defaults_hold() {
        let config = config("", &[]).unwrap();
        assert_eq!(config.role, Role::Host);
        assert_eq!(config.timeouts, Profile::Linux.ticks());
        assert_eq!(config.capacity, 262_144);
        assert_eq!(config.tracking.pickup, PickupChoice::Loose);
        assert!(!config.tracking.liberal && !config.tracking.checksum);
    }

    #[test]
    fn flags_win_over_the_file() {
        let text = "role = \"gateway\"\n[table]\ncapacity = 100\n[tracking]\npickup = \"grace\"\n\
                    [timeouts]\nprofile = \"pf\"\nclosed = \"3s\"\n";
        let own = config(text, &[]).unwrap();
        assert_eq!((own.role, own.capacity), (Role::Gateway, 100));
        assert_eq!(own.tracking.pickup, PickupChoice::Grace);
        let mut expected = Profile::Pf.ticks();
        expected[Class::Closed as usize] = ticks_from_ms(3000);
        assert_eq!(own.timeouts, expected);

        let flags = [
            "--role=host",
            "--capacity=7",
            "--pickup=off",
            "--profile=rfc",
            "--liberal",
            "--checksum",
        ];
        let theirs = config(text, &flags).unwrap();
        assert_eq!((theirs.role, theirs.capacity), (Role::Host, 7));
        assert_eq!(theirs.tracking.pickup, PickupChoice::Off);
        assert!(theirs.tracking.liberal && theirs.tracking.checksum);
        let mut expected = Profile::Rfc.ticks();
        expected[Class::Closed as usize] = ticks_from_ms(3000);
        assert_eq!(theirs.timeouts, expected);
    }

    #[test]
    fn interfaces_of_another_machine_are_no_errors() {
        let elsewhere = "interfaces = [\"wan7\"]\n[tracking]\ntcp_checksum = true\n\
                         tcp_checksum_force = [\"wan7\"]\n[[zones]]\ninterface = \"wan7\"\nzone = 1\n";
        assert_eq!(config(elsewhere, &[]).unwrap().interfaces, ["wan7"]);
        let default = "[[zones]]\ninterface = \"wan7\"\nzone = 1\n";
        assert_eq!(config(default, &[]).unwrap().interfaces, ["wan7"]);
        let foreign = elsewhere.replace("interface = \"wan7\"", "interface = \"wan8\"");
        let error = config(&foreign, &[]).unwrap_err().to_string();
        assert!(error.contains("`wan8`, which is not tracked"), "{error}");
    }

    #[test]
    fn contradictions_are_told() {
        let error = config("[table]\nhalf_open_limit = 50\n", &["--capacity=49"]).unwrap_err();
        insta::assert_snapshot!(error, @"table.half_open_limit is 50, more than table.capacity, which is 49: lower the limit or raise the capacity");
    }
}
