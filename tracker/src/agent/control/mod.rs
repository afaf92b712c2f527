//! The answering side of the agent's socket.
//!
//! | module | concern |
//! |---|---|
//! | `conversation` | what is asked over one connection, and answered |

mod conversation;

use std::{
    fs::{Permissions, remove_file, set_permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use tokio::{net::UnixListener, sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{policy::Policies, trouble::Trouble};
use crate::control::{frames::Frames, place::Place};

/// Conversations at once; more of them wait to be accepted.
const CONVERSATIONS: usize = 64;

/// The socket; its file goes when this is dropped.
pub struct Control {
    listener: UnixListener,
    place: Place,
}

impl Control {
    /// Makes the socket, for its owner alone. Whoever has the lock of the pin
    /// directory may replace what an agent left that was killed.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub fn open(place: &Place) -> Result<Self> {
        let path = place.socket();
        let making = || -> io::Result<UnixListener> {
            match remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            // Nobody can connect in between: the directory is its owner's alone.
            let listener = UnixListener::bind(&path)?;
            set_permissions(&path, Permissions::from_mode(0o600))?;
            Ok(listener)
        };
        let listener = making()
            .with_context(|| format!("cannot make the agent's socket {}", path.display()))?;
        Ok(Self {
            listener,
            place: place.clone(),
        })
    }

    /// Answers until `stop`.
    pub async fn run(self, policies: Arc<Policies>, stop: CancellationToken) {
        let mut trouble = Trouble::about("nobody can connect to the agent's socket");
        let places = Arc::new(Semaphore::new(CONVERSATIONS));
        let mut conversations = JoinSet::new();
        loop {
            let Ok(turn) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
                Some(ended) = conversations.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!("a conversation over the agent's socket failed: {error}");
                    }
                    continue;
                }
            };
            match accepted {
                Ok((stream, _)) => {
                    trouble.over();
                    let policies = Arc::clone(&policies);
                    conversations.spawn(async move {
                        let _turn = turn;
                        if let Err(error) = conversation::hold(Frames::new(stream), &policies).await
                        {
                            tracing::debug!("a conversation over the agent's socket: {error:#}");
                        }
                    });
                }
                Err(error) => {
                    trouble.tell(&error.to_string());
                    // No descriptors are left, perhaps, and trying at once finds none.
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let path = self.place.socket();
        if let Err(error) = remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("{} stays: {error}", path.display());
        }
    }
}
