//! The command line of the policy.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use tracker_common::policy::Direction;

use super::{ListFormat, PinArgs, StatsFormat};

/// Arguments of `tracker policy`.
#[derive(Args, Debug)]
#[command(
    after_help = "The policy decides which TCP connections may be opened: it is asked for the first \
        packet of each, and the packets of connections that it allowed pass. It also rules the ICMP errors that quote TCP. \
        All else passes (`not_tcp`).\n\n\
        Examples:\n  \
        tracker policy check /etc/tracker/policy.toml\n  \
        tracker policy diff /etc/tracker/policy.toml\n  \
        tracker policy apply /etc/tracker/policy.toml --confirm 60\n  \
        tracker policy confirm\n  \
        tracker policy show\n  \
        tracker policy test 198.51.100.7:50000 192.0.2.1:443 --in eth0"
)]
pub struct PolicyArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: PolicyVerb,
}

/// What can be done about the policy.
#[derive(Debug, Subcommand)]
pub enum PolicyVerb {
    /// Check a policy and tell every error in it. Changes nothing, needs no root.
    Check(PolicyCheckArgs),
    /// Put a policy in force, whole and at once.
    Apply(PolicyApplyArgs),
    /// Keep the policy that `apply --confirm` put in force.
    Confirm(PolicyConfirmArgs),
    /// Tell which live flows would fare differently under a policy.
    Diff(PolicyDiffArgs),
    /// Show the policy in force, and what each of its rules has decided.
    Show(PolicyShowArgs),
    /// Tell which rule decides about a connection, and why the ones before it do
    /// not.
    Test(PolicyTestArgs),
}

/// Arguments of `tracker policy check`.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit status: 0 if the policy can be applied (there may be warnings), 1 if not.\n\n\
        Examples:\n  \
        tracker policy check policy.toml && tracker policy apply policy.toml\n  \
        tracker policy check -o json policy.toml | jq -r '.errors[] | \"\\(.file):\\(.line) \\(.message)\"'"
)]
pub struct PolicyCheckArgs {
    /// The policy: a file of its own, or the configuration of `tracker run` whose
    /// table `[policy]` holds or names it.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Output format.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: StatsFormat,
}

/// Arguments of `tracker policy apply`.
#[derive(Args, Debug)]
#[command(
    after_help = "A policy with an error is not applied, and the one in force stays as it is. While the tracker\n\
        observes (`--mode observe`) a policy counts what it would refuse and lets it pass.\n\n\
        Examples:\n  \
        tracker policy apply policy.toml --flows recheck\n  \
        tracker policy apply policy.toml --confirm 60   # the old one returns after 60 s\n  \
        tracker policy confirm                          # unless this is said before"
)]
pub struct PolicyApplyArgs {
    /// The policy, as `check` reads it.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What becomes of the connections that are open.
    #[arg(long, value_name = "WHAT", default_value = "keep")]
    pub flows: FlowsChoice,
    /// Return to the former policy unless `tracker policy confirm` comes within so
    /// many seconds, 1 to 3600.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub confirm: Option<Duration>,
    /// Apply it even if it cuts connections by which this machine is managed.
    #[arg(long)]
    pub force: bool,
    /// See [`PinArgs`].
    #[command(flatten)]
    pub pin: PinArgs,
}

/// What becomes of open connections when a policy takes effect.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum FlowsChoice {
    /// They go on, whatever the new policy says.
    #[default]
    Keep,
    /// Each is judged again at its next packet; a forbidden one is dropped from
    /// there on.
    Recheck,
    /// All are judged at once; both ends of a forbidden one get a reset.
    Kill,
}

/// Arguments of `tracker policy confirm`.
#[derive(Args, Debug)]
pub struct PolicyConfirmArgs {
    /// See [`PinArgs`].
    #[command(flatten)]
    pub pin: PinArgs,
}

/// Arguments of `tracker policy diff`.
#[derive(Args, Debug)]
#[command(
    after_help = "Nothing is applied. Exit status 0 also when there are differences.\n\n\
        Examples:\n  \
        tracker policy diff policy.toml\n  \
        tracker policy diff -o json policy.toml | jq '.flows | length'"
)]
pub struct PolicyDiffArgs {
    /// The policy to compare with the one in force, as `check` reads it.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Output format.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: StatsFormat,
    /// See [`PinArgs`].
    #[command(flatten)]
    pub pin: PinArgs,
}

/// Arguments of `tracker policy show`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
        tracker policy show\n  \
        tracker policy show -o json | jq -r '.rules[] | select(.hits == 0) | .name'")]
pub struct PolicyShowArgs {
    /// Output format; csv and ndjson are the rules only.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: ListFormat,
    /// See [`PinArgs`].
    #[command(flatten)]
    pub pin: PinArgs,
}

/// Arguments of `tracker policy test`.
#[derive(Args, Debug)]
#[command(
    after_help = "With FILE it needs neither root nor an agent; without, it asks about the policy in force.\n\n\
        Examples:\n  \
        tracker policy test 198.51.100.7:50000 192.0.2.1:443 policy.toml\n  \
        tracker policy test [2001:db8::7]:50000 [2001:db8:1::1]:22 --in eth0 --direction forward"
)]
pub struct PolicyTestArgs {
    /// Who opens the connection: `198.51.100.7:50000` or `[2001:db8::7]:50000`.
    #[arg(value_name = "SRC:PORT", value_parser = endpoint)]
    pub source: SocketAddr,
    /// To whom.
    #[arg(value_name = "DST:PORT", value_parser = endpoint)]
    pub destination: SocketAddr,
    /// The policy, as `check` reads it [default: the one in force].
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Interface where its first packet is seen [default: one that no rule names].
    #[arg(long = "in", value_name = "IFACE")]
    pub interface: Option<String>,
    /// Which way it goes [default: out from an address of this machine, in to one,
    /// else forward].
    #[arg(long, value_name = "WAY")]
    pub direction: Option<DirectionChoice>,
    /// Output format.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: StatsFormat,
    /// See [`PinArgs`].
    #[command(flatten)]
    pub pin: PinArgs,
}

/// Which way a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DirectionChoice {
    /// To this host.
    In,
    /// From this host.
    Out,
    /// Through this host.
    Forward,
}

impl From<DirectionChoice> for Direction {
    fn from(choice: DirectionChoice) -> Self {
        match choice {
            DirectionChoice::In => Self::In,
            DirectionChoice::Out => Self::Out,
            DirectionChoice::Forward => Self::Forward,
        }
    }
}

/// Arguments of `tracker explain`.
#[derive(Args, Debug)]
#[command(
    after_help = "The two ends may be given in either order. Told are flows that are in the table, and the last\n\
        refusals of connections that have none.\n\n\
        Examples:\n  \
        tracker explain 198.51.100.7:50000 192.0.2.1:443\n  \
        tracker explain [2001:db8::7]:50000 [2001:db8:1::1]:22 -o json"
)]
pub struct ExplainArgs {
    /// One end of the connection: `198.51.100.7:50000` or `[2001:db8::7]:50000`.
    #[arg(value_name = "SRC:PORT", value_parser = endpoint)]
    pub source: SocketAddr,
    /// The other end.
    #[arg(value_name = "DST:PORT", value_parser = endpoint)]
    pub destination: SocketAddr,
    /// Output format.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: StatsFormat,
    /// See [`PinArgs`].
    #[command(flatten)]
    pub pin: PinArgs,
}

/// An address and a port of it.
fn endpoint(text: &str) -> Result<SocketAddr, String> {
    const WRITTEN: &str = "it is written 192.0.2.1:443 or [2001:db8::1]:443";
    if let Ok(end) = text.parse::<SocketAddr>() {
        return match end {
            SocketAddr::V6(end) if end.scope_id() != 0 => {
                Err(format!("a zone cannot be given: {WRITTEN}"))
            }
            SocketAddr::V4(_) | SocketAddr::V6(_) => Ok(end),
        };
    }
    if text.parse::<IpAddr>().is_ok() {
        return Err(format!("the port is missing: {WRITTEN}"));
    }
    Err(format!("not an address and a port: {WRITTEN}"))
}

/// The time within which a policy is to be confirmed.
fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..=3600) => Ok(Duration::from_secs(seconds)),
        Ok(_) | Err(_) => Err("must be a whole number of seconds from 1 to 3600".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_an_address_and_a_port() {
        let end = |text| endpoint(text).map(|end| end.to_string());
        assert_eq!(end("192.0.2.1:443").as_deref(), Ok("192.0.2.1:443"));
        assert_eq!(end("[2001:db8::1]:0").as_deref(), Ok("[2001:db8::1]:0"));
        insta::assert_snapshot!(end("192.0.2.1").unwrap_err(), @"the port is missing: it is written 192.0.2.1:443 or [2001:db8::1]:443");
        insta::assert_snapshot!(end("example.org:443").unwrap_err(), @"not an address and a port: it is written 192.0.2.1:443 or [2001:db8::1]:443");
        insta::assert_snapshot!(end("[fe80::1%2]:22").unwrap_err(), @"a zone cannot be given: it is written 192.0.2.1:443 or [2001:db8::1]:443");
        for wrong in ["", ":443", "192.0.2.1:65536", "2001:db8::1:443:", "[::1]"] {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn who_is_to_confirm_has_an_hour_at_most() {
        assert_eq!(seconds("60"), Ok(Duration::from_secs(60)));
        for wrong in ["0", "3601", "1.5", "1m", "-1", ""] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
