//! The command line of the defence against floods.

use std::time::Duration;

use clap::{Args, Subcommand};
use ipnet::IpNet;

use super::{ListFormat, PinArgs, StatsFormat};
use crate::prefix;

/// Arguments of `tracker listeners`.
#[derive(Args, Debug)]
#[command(after_help = "Without a tracker only the sockets are shown.\n\n\
        Examples:\n  \
        tracker listeners | grep FULL\n  \
        tracker listeners --addresses\n  \
        tracker listeners -o ndjson | jq -c 'select(.half_open > 100) | [.address, .port]'")]
pub struct ListenersArgs {
    /// Output format.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: ListFormat,
    /// Show beneath each socket the addresses on which connections came in.
    #[arg(short, long)]
    pub addresses: bool,
    /// See [`PinArgs`].
    #[command(flatten)]
    pub pin: PinArgs,
}

/// Arguments of `tracker ban`.
#[derive(Args, Debug)]
#[command(
    after_help = "Packets from a banned prefix are dropped while the tracker enforces, but for those of\n\
        connections that it knows. It needs no running agent.\n\n\
        Examples:\n  \
        tracker ban add 198.51.100.0/24 --for 10m\n  \
        tracker ban list -o json | jq -r '.[].prefix'"
)]
pub struct BanArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: BanVerb,
}

/// What can be done about bans.
#[derive(Debug, Subcommand)]
pub enum BanVerb {
    /// List the bans.
    List(BanListArgs),
    /// Ban a prefix, or change for how long it is.
    Add(BanAddArgs),
    /// End the ban of a prefix.
    Remove(BanRemoveArgs),
}

/// Arguments of `tracker ban list`.
#[derive(Args, Debug)]
pub struct BanListArgs {
    /// Output format.
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: StatsFormat,
    /// See [`PinArgs`].
    #[command(flatten)]
    pub pin: PinArgs,
}

/// Arguments of `tracker ban add`.
#[derive(Args, Debug)]
pub struct BanAddArgs {
    /// 192.0.2.0/24, 2001:db8::/64, or a single address.
    #[arg(value_name = "PREFIX", value_parser = prefix::parse)]
    pub prefix: IpNet,
    /// How long, such as 90s, 10m or 1d [default: until it is removed].
    #[arg(long = "for", value_name = "TIME", value_parser = lasting)]
    pub lasts: Option<Duration>,
    /// See [`PinArgs`].
    #[command(flatten)]
    pub pin: PinArgs,
}

/// Arguments of `tracker ban remove`.
#[derive(Args, Debug)]
pub struct BanRemoveArgs {
    /// The prefix as it was banned.
    #[arg(value_name = "PREFIX", value_parser = prefix::parse)]
    pub prefix: IpNet,
    /// See [`PinArgs`].
    #[command(flatten)]
    pub pin: PinArgs,
}

/// A year, beyond which a ban is for good.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// How long a ban lasts.
fn lasting(text: &str) -> Result<Duration, String> {
    let lasts = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; it is written 90s, 10m or 1d"))?;
    if lasts < Duration::from_secs(1) || lasts > LONGEST {
        return Err(
            "must lie between a second and a year; without --for it is for good".to_owned(),
        );
    }
    Ok(lasts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_lasts_for_a_sensible_time() {
        assert_eq!(lasting("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(lasting("1h 30s"), Ok(Duration::from_secs(3630)));
        for wrong in ["0s", "10", "-1s", "2years", "soon"] {
            assert!(lasting(wrong).is_err(), "{wrong}");
        }
    }
}
