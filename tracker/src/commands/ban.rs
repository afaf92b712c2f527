//! `tracker ban`: prefixes that are kept out.

use std::{
    io::Write,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;
use tracker_common::abi::{Ban, Mode, defence_flags};

use super::say;
use crate::{
    cli::{BanAddArgs, BanArgs, BanListArgs, BanRemoveArgs, BanVerb, StatsFormat},
    datapath::Pinned,
    prefix,
    view::{
        bans::{self, Banned, left_ms},
        head::Health,
    },
};

/// Does what `args` say.
pub fn ban(args: &BanArgs, out: &mut impl Write) -> Result<()> {
    match &args.verb {
        BanVerb::List(args) => list(args, out),
        BanVerb::Add(args) => add(args, out),
        BanVerb::Remove(args) => remove(args, out),
    }
}

fn list(args: &BanListArgs, out: &mut impl Write) -> Result<()> {
    let pinned = Pinned::open(&args.pin.pin_dir)?;
    let banned = banned(&pinned)?;
    match args.output {
        StatsFormat::Table => bans::table(out, &banned)?,
        StatsFormat::Json => bans::json(out, &banned)?,
    }
    note_mode(&pinned)?;
    Ok(out.flush()?)
}

/// Bans that have not ended.
fn banned(pinned: &Pinned) -> Result<Vec<Banned>> {
    let now_ns = Pinned::now_ns()?;
    let found = pinned.bans()?;
    Ok(found
        .iter()
        .filter_map(|(key, ban)| Banned::new(key, ban, now_ns))
        .collect())
}

fn add(args: &BanAddArgs, out: &mut impl Write) -> Result<()> {
    let pinned = Pinned::open(&args.pin.pin_dir)?;
    let now_ns = Pinned::now_ns()?;
    let key = prefix::ban_key(&args.prefix);
    let before = pinned.ban(&key)?;
    let ban = Ban {
        until_ns: args.lasts.map_or(0, |lasts| ends(now_ns, lasts)),
        refused: before.map_or(0, |ban| ban.refused),
        ..Ban::default()
    };
    pinned.set_ban(&key, &ban).with_context(|| {
        format!(
            "cannot ban {}; the map holds 65536 bans, `tracker ban list` shows them",
            args.prefix
        )
    })?;
    let was = before.filter(|ban| left_ms(ban, now_ns) != Some(0));
    let was = was.map_or_else(String::new, |ban| {
        format!("; it was {}", bans::Lasting(left_ms(&ban, now_ns)))
    });
    until_in_force(&pinned)?;
    let lasting = bans::Lasting(left_ms(&ban, now_ns));
    say(out, &format!("{} banned {lasting}{was}", args.prefix))?;
    note_mode(&pinned)
}

/// Waits until the programs look bans up, which the agent sees to soon after the
/// first; says so where nobody does.
fn until_in_force(pinned: &Pinned) -> Result<()> {
    const LONGEST: Duration = Duration::from_secs(3);
    let start = Instant::now();
    loop {
        let live = pinned.live()?;
        if live.mode != Mode::Enforce as u8 || live.defence & defence_flags::BANS != 0 {
            return Ok(());
        }
        let agent = Health::of(&live, Pinned::now_ns()?);
        if !matches!(agent, Health::Well { .. }) || start.elapsed() > LONGEST {
            eprintln!(
                "note: no agent tells the programs that there is a ban; it takes effect when \
                 `tracker run` does"
            );
            return Ok(());
        }
        sleep(Duration::from_millis(20));
    }
}

/// When a ban ends that begins at `now_ns`; never 0, which stands for never.
fn ends(now_ns: u64, lasts: Duration) -> u64 {
    let lasts = u64::try_from(lasts.as_nanos()).unwrap_or(u64::MAX);
    now_ns.saturating_add(lasts).max(1)
}

fn remove(args: &BanRemoveArgs, out: &mut impl Write) -> Result<()> {
    let pinned = Pinned::open(&args.pin.pin_dir)?;
    let banned = banned(&pinned)?;
    let asked = args.prefix;
    let there = pinned.clear_ban(&prefix::ban_key(&asked))?;
    if there && banned.iter().any(|ban| ban.prefix == asked) {
        return say(out, &format!("{asked} is banned no more"));
    }
    let related = |which: fn(&IpNet, &IpNet) -> bool| {
        let mut bans = banned.iter();
        bans.find(|ban| which(&ban.prefix, &asked))
            .map(|ban| ban.prefix)
    };
    if let Some(around) = related(|ban, asked| ban.contains(asked)) {
        bail!("{asked} is not banned by itself, but lies in {around}, which is");
    }
    if let Some(within) = related(|ban, asked| asked.contains(ban)) {
        bail!("{asked} is not banned as a whole; {within} in it is");
    }
    bail!("{asked} is not banned; `tracker ban list` shows what is");
}

/// Says when bans do nothing.
fn note_mode(pinned: &Pinned) -> Result<()> {
    if pinned.live()?.mode != Mode::Enforce as u8 {
        eprintln!(
            "note: this tracker observes: banned packets pass; `tracker run --mode enforce` drops them"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_that_ends_never_looks_endless() {
        assert_eq!(ends(0, Duration::ZERO), 1);
        assert_eq!(ends(5, Duration::from_nanos(7)), 12);
        assert_eq!(ends(5, Duration::MAX), u64::MAX);
    }
}
