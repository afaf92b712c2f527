//! What each connection is to do, drawn from a seed.

use std::{net::SocketAddr, time::Duration};

use tracker_tests::{
    program::random::Random,
    topology::{Family, Topology},
};

/// The server listens here.
pub const PORT: u16 = 7001;
/// And here with a receive buffer of [`SMALL`].
pub const SMALL_PORT: u16 = 7002;
/// And here for clients that send data with their SYN (RFC 7413).
pub const FAST_PORT: u16 = 7003;
/// Nobody listens here.
pub const CLOSED_PORT: u16 = 7009;
/// Where the server connects from when both ends open at once, plus the number
/// of the connection.
const CROSSING_PORTS: u16 = 30_000;
/// Where clients connect from, plus the number of the connection.
const CLIENT_PORTS: u16 = 10_000;

/// A small receive buffer, in octets. The kernel doubles it, and keeps half of
/// that for its own account.
pub const SMALL: u32 = 4096;

/// Most octets that go through a small buffer.
const SLOW_MOST: u32 = 40_000;

/// Most octets that go one way.
const MOST: u32 = 200_000;

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Client,
    Server,
}

/// How a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// The client connects.
    Plain,
    /// The client connects with data in its SYN, if it has a cookie already.
    Fast,
    /// Both connect at once.
    Crossing,
    /// The client connects to a port where nobody listens.
    Refused,
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything has been sent and read, then this one closes, and the other
    /// when it sees that.
    First(Who),
    /// Both close at once.
    Both,
    /// This one sends everything and shuts down; the other begins to send when
    /// it sees that, and closes.
    Half(Who),
    /// This one closes abortively in the middle.
    Abort(Who),
    /// This one closes with data unread, which makes a reset of it
    /// (RFC 9293 section 3.6.1).
    Unread(Who),
    /// It stays as it is.
    Open,
    /// This one shuts down and both stay as they are.
    HalfOpen(Who),
}

/// What one end does.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Octets that it sends.
    pub sends: u32,
    /// In pieces of so many octets.
    pub piece: u32,
    /// Waits for so long before it reads, so that its window closes.
    pub pause: Duration,
    /// Whether its buffer is [`SMALL`].
    pub small: bool,
    /// Sends an octet in the middle as urgent data.
    pub urgent: bool,
}

/// One connection.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Its address at the client; the port is this connection's alone.
    pub client: SocketAddr,
    /// Its address at the server.
    pub server: SocketAddr,
    /// When it begins, after the wave has.
    pub start: Duration,
    pub beginning: Beginning,
    pub ending: Ending,
    /// Client's and server's.
    pub habits: [Habits; 2],
    /// Idle behind the exchange, with keep-alive probes.
    pub idles: bool,
    /// When all is over, once more from the same port.
    pub again: bool,
}

/// What a wave allows.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// A client may use a port of its own that is in TIME-WAIT
    /// (`tcp_tw_reuse`, which needs timestamps).
    pub reuse: bool,
    /// Both ends may open at once. Linux, when it has offered to scale its
    /// window and is called by somebody who has not, scales nevertheless: such
    /// connections crawl.
    pub crossing: bool,
}

/// Time in which all connections of a wave begin.
const BEGINNING: u32 = 3000;

impl Plan {
    /// Draws connection number `number`.
    pub fn draw(number: u16, topology: &Topology, allowed: Allowed, random: &mut Random) -> Self {
        let family = random.pick(&[Family::V4, Family::V6]);
        let who = random.pick(&[Who::Client, Who::Server]);
        let mut beginning = match random.below(100) {
            0..80 => Beginning::Plain,
            80..90 => Beginning::Fast,
            90..94 if allowed.crossing => Beginning::Crossing,
            90..97 => Beginning::Refused,
            _ => Beginning::Plain,
        };
        let ending = match random.below(100) {
            0..35 => Ending::First(who),
            35..45 => Ending::Both,
            45..65 => Ending::Half(who),
            65..75 => Ending::Abort(who),
            75..80 => Ending::Unread(who),
            80..90 => Ending::Open,
            _ => Ending::HalfOpen(who),
        };
        // The SYN goes out with the first data; and a socket that is shut down
        // before it is answered disconnects.
        if matches!(ending, Ending::Half(_) | Ending::Unread(Who::Client))
            && beginning == Beginning::Fast
        {
            beginning = Beginning::Plain;
        }
        let mut habits = [Habits::draw(random), Habits::draw(random)];
        let [client, server] = &mut habits;
        if !matches!(beginning, Beginning::Plain) {
            server.small = false;
        }
        // Both know of the connection when it is torn down.
        let least = if matches!(ending, Ending::Abort(_) | Ending::Unread(_)) {
            2
        } else {
            u32::from(beginning == Beginning::Fast)
        };
        client.sends = client.sends.max(least);
        server.sends = server.sends.max(least);
        if client.small || server.small {
            client.sends = client.sends.min(SLOW_MOST);
            server.sends = server.sends.min(SLOW_MOST);
        }

        let server_port = match beginning {
            Beginning::Plain if server.small => SMALL_PORT,
            Beginning::Plain => PORT,
            Beginning::Fast => FAST_PORT,
            Beginning::Crossing => CROSSING_PORTS + number,
            Beginning::Refused => CLOSED_PORT,
        };
        let reusable = ending == Ending::First(Who::Server)
            || (ending == Ending::First(Who::Client) && allowed.reuse);
        Self {
            client: topology.client.at(family, CLIENT_PORTS + number),
            server: topology.server.at(family, server_port),
            start: Duration::from_millis(random.below(BEGINNING).into()),
            beginning,
            ending,
            habits,
            idles: random.once_in(15),
            again: beginning == Beginning::Plain && reusable && random.once_in(3),
        }
    }

    /// What an end does.
    pub const fn of(&self, who: Who) -> &Habits {
        let [client, server] = &self.habits;
        match who {
            Who::Client => client,
            Who::Server => server,
        }
    }

    /// How many conversations the server has.
    pub const fn conversations(&self) -> usize {
        if matches!(self.beginning, Beginning::Refused) {
            0
        } else if self.again {
            2
        } else {
            1
        }
    }
}

impl Habits {
    fn draw(random: &mut Random) -> Self {
        let sends = match random.below(10) {
            0 => 0,
            1..4 => random.below(1000),
            4..7 => random.below(20_000),
            _ => random.below(MOST),
        };
        Self {
            sends,
            piece: random.pick(&[1 << 16, 1 << 14, 4000, 1460, 700]),
            pause: Duration::from_millis(match random.below(12) {
                0 => 1500 + u64::from(random.below(1000)),
                _ => 0,
            }),
            small: random.once_in(8),
            urgent: random.once_in(10),
        }
    }
}

impl Who {
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}
