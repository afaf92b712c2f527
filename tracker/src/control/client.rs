//! The asking side of the agent's socket.

use std::{io, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::{net::UnixStream, time::timeout};

use super::{
    frames::Frames,
    message::{Asked, Reply, Request, VERSION},
    place::Place,
};

/// How long an answer may take: a policy of the most rules over a full table of
/// flows takes seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// A connection to an agent.
pub struct Agent(Frames);

impl Agent {
    /// Connects to the agent whose socket is there.
    ///
    /// # Errors
    ///
    /// No agent listens, or this user may not talk to it.
    pub async fn connect(place: &Place) -> Result<Self> {
        let socket = place.socket();
        let stream = UnixStream::connect(&socket).await.map_err(|error| {
            let at = socket.display();
            let kind = error.kind();
            if matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
                return anyhow!(
                    "no agent listens at {at}: a policy is put in force by a running `tracker run`; \
                     start it first"
                );
            }
            if kind == io::ErrorKind::PermissionDenied {
                return anyhow!("permission denied at {at}: the agent answers root; run this with sudo");
            }
            anyhow!(error).context(format!("cannot reach the agent at {at}"))
        })?;
        Ok(Self(Frames::new(stream)))
    }

    /// Asks something, and gives the first answer. A refusal is an error.
    ///
    /// # Errors
    ///
    /// The agent refuses, or ends before it has answered.
    pub async fn ask(&mut self, request: &Request) -> Result<Reply> {
        self.say(request).await?;
        timeout(PATIENCE, self.answer()).await.map_err(|_| {
            anyhow!(
                "the agent has not answered for {} s; `tracker stats` tells whether it lives",
                PATIENCE.as_secs()
            )
        })?
    }

    /// Says something without waiting for the answer.
    ///
    /// # Errors
    ///
    /// The agent is gone.
    pub async fn say(&mut self, request: &Request) -> Result<()> {
        let asked = Asked {
            version: VERSION,
            request: serde_json::to_value(request).context("cannot write the request as JSON")?,
        };
        self.0.send(&asked).await.context("the agent is gone")
    }

    /// The next answer, however long that takes.
    ///
    /// # Errors
    ///
    /// The agent refuses, or ends.
    pub async fn answer(&mut self) -> Result<Reply> {
        match self.0.receive().await? {
            Some(Reply::Refused { why }) => bail!("{why}"),
            Some(reply) => Ok(reply),
            None => bail!("the agent has ended before it answered"),
        }
    }
}
