//! The policy in the hands of its users: how it comes into force, who is kept from
//! cutting himself off, and what becomes of connections that are there.

mod apply;
mod guard;
mod records;
mod reload;
mod resets;
mod seeds;

use std::{
    fs,
    io::{self, Read, Write},
    path::PathBuf,
    process::Output,
    time::Duration,
};

use serde_json::Value;
use socket2::Socket;
use tempfile::TempDir;
use tracker_tests::{
    agent::{Options, Tracker, binary},
    sockets,
    topology::{Family, Topology},
    wait::eventually,
};

/// How long anything may take that happens by itself, on a busy machine.
const SOON: Duration = Duration::from_secs(20);
/// How long a socket waits for what is not to come.
const NEVER: Duration = Duration::from_millis(1500);

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// Lets everything pass.
const OPEN: &str = "default = \"allow\"\n";
/// Lets nothing in but to port 80.
const WEB: &str =
    "default = \"drop\"\n[[rules]]\nname = \"web\"\nports = [80]\naction = \"allow\"\n";
/// Lets nothing pass at all.
const CLOSED: &str = "default = \"drop\"\n";

/// A configuration and policies, gone when dropped.
struct Files(TempDir);

impl Files {
    /// An enforcing configuration whose policy is `policy`.
    fn new(policy: &str) -> Self {
        Self::with(policy, "mode = \"enforce\"\n", "")
    }

    /// The same with lines of its own, above `[policy]` and in it.
    fn with(policy: &str, above: &str, within: &str) -> Self {
        let files = Self(TempDir::new().unwrap());
        files.write("configured.toml", policy);
        let text =
            format!("{above}xdp = \"generic\"\n[policy]\nfile = \"configured.toml\"\n{within}");
        files.write("tracker.toml", &text);
        files
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn options<'a>(&self, topology: &'a Topology) -> Options<'a> {
        let path = self.0.path().join("tracker.toml");
        Options::on(topology).with(["-c".as_ref(), path.as_os_str()])
    }

    fn start<'a>(&self, topology: &'a Topology) -> Tracker<'a> {
        self.options(topology).start().unwrap()
    }
}

/// Runs a verb of the command line to its end, whatever that is.
fn tell(topology: &Topology, tracker: &Tracker<'_>, arguments: &[&str]) -> Output {
    let (netns, _) = topology.tracked();
    let mut command = netns.command(binary().unwrap()).unwrap();
    command
        .args(arguments)
        .arg("--pin-dir")
        .arg(tracker.pin_dir())
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap()
}

/// Applies a policy, and expects to be refused: gives why.
fn refused(topology: &Topology, tracker: &Tracker<'_>, arguments: &[&str]) -> String {
    let output = tell(topology, tracker, arguments);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    message
}

/// `tracker policy show -o json`.
fn shown(tracker: &Tracker<'_>) -> Value {
    serde_json::from_str(&tracker.ask(&["policy", "show", "-o", "json"]).unwrap()).unwrap()
}

/// Names of the rules in force.
fn rules(tracker: &Tracker<'_>) -> Vec<String> {
    let shown = shown(tracker);
    let rules = shown["rules"].as_array().unwrap();
    rules
        .iter()
        .map(|rule| rule["name"].as_str().unwrap().to_owned())
        .collect()
}

/// `tracker stats -o json` of the policy.
fn policy_stats(tracker: &Tracker<'_>) -> Value {
    let text = tracker.ask(&["stats", "-o", "json"]).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["policy"].clone()
}

/// A connection from the client to the server, both ends of it.
struct Pair {
    client: Socket,
    server: Socket,
}

impl Pair {
    fn open(topology: &Topology, family: Family, ports: (u16, u16)) -> Self {
        let server = topology.server.at(family, ports.1);
        let listener = sockets::listen(&topology.server.netns, server).unwrap();
        let client = topology.client.at(family, ports.0);
        let client = sockets::connect(&topology.client.netns, client, server).unwrap();
        let server = sockets::accept(&listener).unwrap();
        let pair = Self { client, server };
        pair.talk().unwrap();
        pair
    }

    /// Sends something each way.
    fn talk(&self) -> io::Result<()> {
        for (mut from, mut to) in [(&self.client, &self.server), (&self.server, &self.client)] {
            to.set_read_timeout(Some(NEVER))?;
            from.write_all(b"hello")?;
            let mut heard = [0; 5];
            to.read_exact(&mut heard)?;
        }
        Ok(())
    }

    /// Whether both ends have been told by an RST that it is over.
    fn is_reset(&self) -> Result<(), String> {
        for (name, mut end) in [("client", &self.client), ("server", &self.server)] {
            end.set_read_timeout(Some(NEVER)).unwrap();
            match end.read(&mut [0; 16]) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                other => return Err(format!("the {name} reads {other:?}")),
            }
        }
        Ok(())
    }
}

/// Whether a new connection to a port of the server comes about.
fn connects(topology: &Topology, family: Family, ports: (u16, u16)) -> bool {
    let server = topology.server.at(family, ports.1);
    // The listener before it may not have let go of what it never accepted.
    let _listener = eventually(SOON, || {
        sockets::listen(&topology.server.netns, server).map_err(|error| format!("{error:#}"))
    });
    let client = topology.client.at(family, ports.0);
    let socket = sockets::bind(&topology.client.netns, client).unwrap();
    socket.connect_timeout(&server.into(), NEVER).is_ok()
}

/// Waits until the rules in force are these, the default left out.
fn until_rules(tracker: &Tracker<'_>, expected: &[&str]) {
    eventually(SOON, || {
        let mut found = rules(tracker);
        found.pop();
        match found == expected {
            true => Ok(()),
            false => Err(format!("the rules are {found:?}, not {expected:?}")),
        }
    });
}
