//! From what was typed to a checked configuration.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, bail, ensure};
use tracker_common::{
    abi::{Mode, Role},
    tcp::timeout::Profile,
    time::ticks_from_ms,
};

use super::{Config, File, OnExit, System, XdpChoice, ZoneRule, closest, file};
use crate::cli::{DEFAULT_PIN_DIR, ModeChoice, RoleChoice, RunArgs};

/// Entries per flow table unless configured: with 2 tables of some 200 octets
/// an entry, a full tracker takes 100 MB.
const CAPACITY: u32 = 262_144;
/// Where the agent can be talked to unless configured (FHS 3.0 section 3.15).
const RUN_DIR: &str = "/run/tracker";
/// Most of the default half-open and pick-up limits.
const DEFAULT_LIMIT: u32 = 65_536;
/// The kernel side's zone table.
const ZONES: usize = 4096;

/// Checks `file` and `flags` together against the machine. Flags win.
///
/// # Errors
///
/// When there is no interface to track or a named one does not exist, or when
/// settings contradict each other. The message names the keys.
pub fn check(file: &File, flags: &RunArgs, system: &System) -> Result<Config> {
    let interfaces = interfaces(file, flags, system)?;
    let table = &file.table;
    let capacity = table.capacity.map_or(CAPACITY, |capacity| capacity.0);
    let default_limit = (capacity / 8).clamp(1, DEFAULT_LIMIT);
    let half_open_limit = table.half_open_limit.map_or(default_limit, |limit| limit.0);
    let pickup_limit = table.pickup_limit.map_or(default_limit, |limit| limit.0);
    for (key, limit) in [
        ("half_open_limit", half_open_limit),
        ("pickup_limit", pickup_limit),
    ] {
        ensure!(
            limit <= capacity,
            "table.{key} is {limit}, more than table.capacity, which is {capacity}: lower the \
             limit or raise the capacity"
        );
    }
    let pin_dir = flags.pin_dir.clone().or_else(|| file.pin_dir.clone());
    let pin_dir = pin_dir.unwrap_or_else(|| PathBuf::from(DEFAULT_PIN_DIR));
    ensure!(
        pin_dir.is_absolute(),
        "the pin directory {} must be an absolute path, such as {DEFAULT_PIN_DIR}",
        pin_dir.display()
    );
    let run_dir = file.run_dir.clone();
    let run_dir = run_dir.unwrap_or_else(|| PathBuf::from(RUN_DIR));
    ensure!(
        run_dir.is_absolute(),
        "the runtime directory {} must be an absolute path, such as {RUN_DIR}",
        run_dir.display()
    );
    let role = match flags.role.or(file.role).unwrap_or(RoleChoice::Host) {
        RoleChoice::Host => Role::Host,
        RoleChoice::Gateway => Role::Gateway,
    };
    let mode = match flags.mode.or(file.mode).unwrap_or(ModeChoice::Observe) {
        ModeChoice::Observe => Mode::Observe,
        ModeChoice::Enforce => Mode::Enforce,
    };
    Ok(Config {
        role,
        mode,
        xdp: flags.xdp.or(file.xdp).unwrap_or(XdpChoice::Auto),
        on_exit: flags.on_exit.or(file.on_exit).unwrap_or(OnExit::Detach),
        pin_dir,
        run_dir,
        capacity,
        preallocate: table.preallocate.unwrap_or(false),
        half_open_limit,
        pickup_limit,
        tracking: file
            .tracking
            .check(flags.pickup, mode, capacity, &interfaces)?,
        policy: file.policy.check()?,
        defence: file.defence.check(role)?,
        timeouts: timeouts(&file.timeouts),
        zones: zones(&file.zones, &interfaces)?,
        sweep_interval: file
            .agent
            .sweep_interval
            .as_ref()
            .map_or(Duration::from_secs(1), |i| i.0),
        event_ring_bytes: file
            .events
            .ring_bytes
            .as_ref()
            .map_or(1 << 20, |bytes| bytes.0),
        embryo_ring_bytes: file
            .events
            .embryo_ring_bytes
            .as_ref()
            .map_or(1 << 18, |bytes| bytes.0),
        interfaces,
    })
}

/// The named interfaces, else the default routes'.
fn interfaces(file: &File, flags: &RunArgs, system: &System) -> Result<Vec<String>> {
    let named = if flags.interfaces.is_empty() {
        &file.interfaces
    } else {
        &flags.interfaces
    };
    let existing = system.interfaces.join(", ");
    if named.is_empty() {
        ensure!(
            !system.default_routes.is_empty(),
            "there is no default route that would say which interface to track: name one with \
             `-i IFACE` (this machine has {existing})"
        );
        return Ok(system.default_routes.clone());
    }
    let mut interfaces: Vec<String> = Vec::with_capacity(named.len());
    for name in named {
        if !system.interfaces.contains(name) {
            let hint = closest(name, system.interfaces.iter().map(String::as_str))
                .map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
            bail!("there is no interface `{name}`: this machine has {existing}{hint}");
        }
        if !interfaces.contains(name) {
            interfaces.push(name.clone());
        }
    }
    Ok(interfaces)
}

/// The profile's time-outs with the overrides in their places, in ticks.
fn timeouts(file: &file::Timeouts) -> [u32; tracker_common::tcp::timeout::CLASSES] {
    let profile = file.profile.unwrap_or(Profile::Linux);
    let mut timeouts = profile
        .seconds()
        .map(|seconds| ticks_from_ms(u64::from(seconds) * 1000));
    for (timeout, own) in timeouts.iter_mut().zip(file.overrides()) {
        *timeout = own.unwrap_or(*timeout);
    }
    timeouts
}

/// The zone table. Two rows for the same tags would leave the zone to chance.
fn zones(file: &[file::Zone], interfaces: &[String]) -> Result<Vec<ZoneRule>> {
    ensure!(
        file.len() <= ZONES,
        "there are {} [[zones]], more than the {ZONES} that the programs have room for",
        file.len()
    );
    let mut zones: Vec<ZoneRule> = Vec::with_capacity(file.len());
    for (index, zone) in file.iter().enumerate() {
        let number = index + 1;
        let interface = &zone.interface;
        ensure!(
            interfaces.contains(interface),
            "[[zones]] number {number} is about `{interface}`, which is not tracked: the tracked \
             interfaces are {}",
            interfaces.join(", ")
        );
        let (outer, inner) = (zone.outer.0 as u16, zone.inner.0 as u16);
        ensure!(
            outer != 0 || inner == 0,
            "[[zones]] number {number} has an inner VLAN identifier ({inner}) without an outer one"
        );
        ensure!(
            !zones
                .iter()
                .any(|other| (&other.interface, other.outer, other.inner)
                    == (interface, outer, inner)),
            "[[zones]] number {number} repeats {interface}, outer {outer}, inner {inner}"
        );
        zones.push(ZoneRule {
            interface: interface.clone(),
            outer,
            inner,
            zone: zone.zone,
        });
    }
    Ok(zones)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tracker_common::tcp::timeout::Class;

    use super::*;
    use crate::policy::CONFIG_KEYS;

    /// What `tracker/dist/tracker.toml` holds.
    const DOCUMENTED: &str = include_str!("../../dist/tracker.toml");

    fn system() -> System {
        System {
            interfaces: ["lo", "eth0", "eth1"].map(str::to_owned).to_vec(),
            default_routes: vec!["eth0".to_owned()],
        }
    }

    fn read(text: &str) -> Result<Config> {
        check(
            &file::parse(text, Path::new("t.toml"))?,
            &RunArgs::default(),
            &system(),
        )
    }

    fn error(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    /// The documented file with every key switched on.
    fn switched_on() -> String {
        DOCUMENTED
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(key) if key.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()) => key,
                _ => line,
            })
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn the_documented_file_says_nothing_but_the_defaults() {
        let defaults = read("").unwrap();
        assert_eq!(read(DOCUMENTED).unwrap(), defaults);
        let mut on = read(&switched_on()).unwrap();
        // Examples, not defaults: there are no zones and no rules for listeners.
        assert_eq!(on.zones.len(), 1);
        on.zones.clear();
        assert_eq!(on.defence.listeners.len(), 1);
        on.defence.listeners.clear();
        assert_eq!(
            on.policy.path.take().as_deref(),
            Some(Path::new("policy.toml"))
        );
        assert_eq!(on, defaults);
    }

    /// The tables of a document by their dotted names, and whether each is one of
    /// an array.
    fn collect(
        name: String,
        repeated: bool,
        table: &toml::Table,
        tables: &mut Vec<(String, bool, toml::Table)>,
    ) {
        for (key, value) in table {
            let inner = value.as_array().and_then(|array| array.first());
            let Some(found) = inner.unwrap_or(value).as_table() else {
                continue;
            };
            let name = match name.as_str() {
                "" => key.clone(),
                outer => format!("{outer}.{key}"),
            };
            collect(name, inner.is_some(), found, tables);
        }
        tables.push((name, repeated, table.clone()));
    }

    /// serde itself knows which keys exist: its message about an unknown one
    /// lists them.
    #[test]
    fn every_key_is_documented() {
        let on: toml::Table = switched_on().parse().unwrap();
        let mut tables = Vec::new();
        collect(String::new(), false, &on, &mut tables);
        assert_eq!(tables.len(), 11);
        for (name, repeated, table) in tables {
            let header = match (name.as_str(), repeated) {
                ("", _) => String::new(),
                (_, true) => format!("[[{name}]]\n"),
                (_, false) => format!("[{name}]\n"),
            };
            let message = error(&format!("{header}nonsense = 1\n"));
            let message = message.lines().next().unwrap();
            let known: Vec<&str> = message.split('`').skip(3).step_by(2).collect();
            assert!(!known.is_empty(), "{message}");
            for key in known {
                if name == "policy" && !CONFIG_KEYS.contains(&key) {
                    // The language has documentation of its own.
                    continue;
                }
                assert!(table.contains_key(key), "[{name}] {key} is not documented");
            }
        }
    }

    #[test]
    fn the_documented_profiles_are_the_programs() {
        let text = include_str!("../../../docs/configuration.md");
        for class in Class::ALL {
            let row = format!("| `{}` |", class.as_str());
            let row = text.lines().find(|line| line.starts_with(&row)).unwrap();
            let documented: Vec<u32> = row
                .split('|')
                .filter_map(|cell| cell.trim().parse().ok())
                .collect();
            let seconds = Profile::ALL.map(|profile| profile.seconds()[class as usize]);
            assert_eq!(documented, seconds, "{}", class.as_str());
        }
    }

    #[test]
    fn flags_win_over_the_file() {
        let text = "interfaces = [\"eth0\"]\nrole = \"host\"\nmode = \"observe\"\nxdp = \"native\"\npin_dir = \"/a\"\n";
        let file = file::parse(text, Path::new("t")).unwrap();
        let flags = RunArgs {
            interfaces: vec!["eth1".to_owned(), "eth1".to_owned()],
            role: Some(RoleChoice::Gateway),
            mode: Some(ModeChoice::Enforce),
            xdp: Some(XdpChoice::Generic),
            pin_dir: Some("/b".into()),
            ..RunArgs::default()
        };
        let config = check(&file, &flags, &system()).unwrap();
        assert_eq!(config.interfaces, ["eth1"]);
        assert_eq!((config.role, config.mode), (Role::Gateway, Mode::Enforce));
        assert_eq!(config.xdp, XdpChoice::Generic);
        assert_eq!(config.pin_dir, Path::new("/b"));
        let config = check(&file, &RunArgs::default(), &system()).unwrap();
        assert_eq!(
            (config.interfaces, config.xdp),
            (vec!["eth0".to_owned()], XdpChoice::Native)
        );
    }

    #[test]
    fn the_limits_follow_the_capacity() {
        let config = read("[table]\ncapacity = 1000\n").unwrap();
        assert_eq!((config.half_open_limit, config.pickup_limit), (125, 125));
        let config = read("[table]\ncapacity = 16_000_000\n").unwrap();
        assert_eq!(
            (config.half_open_limit, config.pickup_limit),
            (65_536, 65_536)
        );
        assert_eq!(read("[table]\ncapacity = 1\n").unwrap().half_open_limit, 1);
    }

    #[test]
    fn an_override_replaces_its_class_alone() {
        let config = read("[timeouts]\nprofile = \"pf\"\nclosed = \"1s\"\n").unwrap();
        let mut expected = Profile::Pf
            .seconds()
            .map(|s| ticks_from_ms(u64::from(s) * 1000));
        expected[Class::Closed as usize] = ticks_from_ms(1000);
        assert_eq!(config.timeouts, expected);
    }

    #[test]
    fn contradictions_are_told() {
        insta::assert_snapshot!(error("interfaces = [\"eth7\"]"), @"there is no interface `eth7`: this machine has lo, eth0, eth1; did you mean `eth1`?");
        insta::assert_snapshot!(error("interfaces = [\"wlan0\"]"), @"there is no interface `wlan0`: this machine has lo, eth0, eth1");
        insta::assert_snapshot!(error("[table]\ncapacity = 100\nhalf_open_limit = 101"), @"table.half_open_limit is 101, more than table.capacity, which is 100: lower the limit or raise the capacity");
        insta::assert_snapshot!(error("pin_dir = \"tracker\""), @"the pin directory tracker must be an absolute path, such as /sys/fs/bpf/tracker");
        insta::assert_snapshot!(error("run_dir = \"run\""), @"the runtime directory run must be an absolute path, such as /run/tracker");
        let zone = "[[zones]]\ninterface = \"eth0\"\nouter = 10\nzone = 1\n";
        insta::assert_snapshot!(error(&format!("{zone}{zone}")), @"[[zones]] number 2 repeats eth0, outer 10, inner 0");
        insta::assert_snapshot!(error("[[zones]]\ninterface = \"eth1\"\nzone = 1"), @"[[zones]] number 1 is about `eth1`, which is not tracked: the tracked interfaces are eth0");
        insta::assert_snapshot!(error("[[zones]]\ninterface = \"eth0\"\ninner = 2\nzone = 1"), @"[[zones]] number 1 has an inner VLAN identifier (2) without an outer one");
        let nowhere = System {
            default_routes: Vec::new(),
            ..system()
        };
        let message = check(&File::default(), &RunArgs::default(), &nowhere).unwrap_err();
        insta::assert_snapshot!(message, @"there is no default route that would say which interface to track: name one with `-i IFACE` (this machine has lo, eth0, eth1)");
    }
}
