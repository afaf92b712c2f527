//! The kernel's view of its sockets.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use anyhow::{Context, Result, bail};

use crate::{
    netns::{Namespace, run},
    state::State,
};

/// One line of `ss -tano`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Its state.
    pub state: State,
    /// Its own address.
    pub local: SocketAddr,
    /// Whom it is connected to; port 0 for nobody.
    pub peer: SocketAddr,
    /// Retransmissions since the last progress, as the retransmission timer
    /// (or the request socket of a SYN-ACK) counts them.
    pub retransmits: u32,
}

/// All TCP sockets of a namespace, request sockets (SYN-RECV) and TIME-WAIT
/// included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(pub Vec<Socket>);

impl Snapshot {
    /// Asks `ss` inside `netns`.
    ///
    /// # Errors
    ///
    /// `ss` is missing, fails or prints what this cannot read.
    pub fn take(netns: &Namespace) -> Result<Self> {
        Self::parse(&run(netns.command("ss")?.args(["-tanoH"]))?)
    }

    /// Reads the output of `ss -tanoH`.
    ///
    /// # Errors
    ///
    /// Names the line that is not understood.
    pub fn parse(text: &str) -> Result<Self> {
        text.lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| socket(line).with_context(|| format!("reading {line:?}, a line of ss")))
            .collect::<Result<_>>()
            .map(Self)
    }

    /// The socket that connects `local` to `peer`.
    #[must_use]
    pub fn connection(&self, local: SocketAddr, peer: SocketAddr) -> Option<&Socket> {
        self.0
            .iter()
            .find(|socket| socket.local == local && socket.peer == peer)
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Socket {
            state,
            local,
            peer,
            retransmits,
        } in &self.0
        {
            writeln!(
                f,
                "    {state:<12} {local} {peer} retransmits {retransmits}"
            )?;
        }
        Ok(())
    }
}

fn socket(line: &str) -> Result<Socket> {
    let mut words = line.split_whitespace();
    let mut word = |what: &str| words.next().with_context(|| format!("no {what}"));
    let state = word("state")?;
    let state = State::from_ss(state).with_context(|| format!("unknown state {state:?}"))?;
    word("Recv-Q")?;
    word("Send-Q")?;
    let local = address(word("local address")?)?;
    let peer = address(word("peer address")?)?;
    let retransmits = match words.find_map(|word| word.strip_prefix("timer:(")) {
        Some(timer) => retransmits(timer).with_context(|| format!("timer {timer:?}"))?,
        None => 0,
    };
    Ok(Socket {
        state,
        local,
        peer,
        retransmits,
    })
}

/// `192.0.2.1:80`, `[2001:db8::1]:80`, `[fe80::1]%eth0:80`, `0.0.0.0:*`, `*:80`.
fn address(text: &str) -> Result<SocketAddr> {
    let Some((address, port)) = text.rsplit_once(':') else {
        bail!("no port in {text:?}")
    };
    let port = match port {
        "*" => 0,
        number => number
            .parse()
            .with_context(|| format!("port of {text:?}"))?,
    };
    let address = address.split('%').next().unwrap_or(address);
    let address = match address.trim_matches(['[', ']']) {
        "*" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        number => number
            .parse()
            .with_context(|| format!("address of {text:?}"))?,
    };
    Ok(SocketAddr::new(address, port))
}

/// Third item of `on,3.2sec,2)`.
///
/// Timers other than `on` (retransmission) count other things: probes of
/// keep-alive and of a zero window.
fn retransmits(timer: &str) -> Result<u32> {
    let mut items = timer.trim_end_matches(')').split(',');
    if items.next() != Some("on") {
        return Ok(0);
    }
    let count = items.nth(1).context("no count")?;
    count.parse().with_context(|| format!("count {count:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_line_is_read() {
        let snapshot = Snapshot::parse(
            "LISTEN    0 128 0.0.0.0:80 0.0.0.0:*\n\
             LISTEN    0 128 [::]:80 [::]:*\n\
             LISTEN    0 128 *:81 *:*\n\
             SYN-RECV  0 0   192.0.2.2:80 192.0.2.1:4000 timer:(on,3.2sec,2)\n\
             SYN-SENT  0 1   [2001:db8::1]:4000 [2001:db8::2]:80 timer:(on,812ms,4)\n\
             TIME-WAIT 0 0   192.0.2.1:4001 192.0.2.2:80 timer:(timewait,59sec,0)\n\
             ESTAB     0 0   [fe80::1]%eth0:4000 [fe80::2]:80 timer:(keepalive,10sec,3)\n",
        )
        .unwrap()
        .0;
        let short: Vec<_> = snapshot
            .iter()
            .map(|socket| {
                (
                    socket.state,
                    socket.local.port(),
                    socket.peer.port(),
                    socket.retransmits,
                )
            })
            .collect();
        assert_eq!(
            short,
            [
                (State::Listen, 80, 0, 0),
                (State::Listen, 80, 0, 0),
                (State::Listen, 81, 0, 0),
                (State::SynReceived, 80, 4000, 2),
                (State::SynSent, 4000, 80, 4),
                (State::TimeWait, 4001, 80, 0),
                (State::Established, 4000, 80, 0),
            ]
        );
        assert_eq!(snapshot[4].peer, "[2001:db8::2]:80".parse().unwrap());
        assert_eq!(snapshot[6].local, "[fe80::1]:4000".parse().unwrap());
    }

    #[test]
    fn a_line_of_something_else_is_refused_and_named() {
        let error = Snapshot::parse("NONSENSE 0 0 a b").unwrap_err();
        assert!(format!("{error:#}").contains("NONSENSE"), "{error:#}");
    }
}
