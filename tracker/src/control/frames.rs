//! Messages in frames: four octets with the length, in network order, then JSON.

use anyhow::{Context as _, Result};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

/// Octets of one frame, at most: a policy of the most rules and prefixes fits.
const LONGEST: usize = 64 << 20;

/// One end of a connection over the agent's socket.
pub struct Frames(Framed<UnixStream, LengthDelimitedCodec>);

impl Frames {
    /// Over a connected stream.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        let codec = LengthDelimitedCodec::builder()
            .max_frame_length(LONGEST)
            .new_codec();
        Self(Framed::new(stream, codec))
    }

    /// Says something.
    ///
    /// # Errors
    ///
    /// The other end is gone.
    pub async fn send(&mut self, message: &impl Serialize) -> Result<()> {
        let octets = serde_json::to_vec(message).context("cannot write a message as JSON")?;
        Ok(self.0.send(Bytes::from(octets)).await?)
    }

    /// What the other end says next; `None` if it has ended.
    ///
    /// # Errors
    ///
    /// It is cut off, too long, or not what it should be.
    pub async fn receive<M: DeserializeOwned>(&mut self) -> Result<Option<M>> {
        let Some(frame) = self.0.next().await else {
            return Ok(None);
        };
        read(&frame?).map(Some)
    }
}

fn read<M: DeserializeOwned>(frame: &BytesMut) -> Result<M> {
    serde_json::from_slice(frame).context("a message is not what this version of tracker expects")
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn what_is_said_is_heard_and_the_end_is_noticed() {
        block_on(async {
            let (one, other) = UnixStream::pair().unwrap();
            let (mut one, mut other) = (Frames::new(one), Frames::new(other));
            let long = "x".repeat(1 << 20);
            let hear = tokio::spawn(async move {
                let heard: Option<String> = other.receive().await.unwrap();
                let end: Option<String> = other.receive().await.unwrap();
                (heard, end)
            });
            one.send(&long).await.unwrap();
            drop(one);
            assert_eq!(hear.await.unwrap(), (Some(long), None));
        });
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        block_on(async {
            for octets in [
                &[0, 0, 0, 2, b'{', b'{'][..],
                &[0, 0, 0, 9, b'1'],
                &[0xff; 8],
            ] {
                let (mut one, other) = UnixStream::pair().unwrap();
                one.write_all(octets).await.unwrap();
                drop(one);
                let heard = Frames::new(other).receive::<String>().await;
                assert!(heard.is_err(), "{octets:?}");
            }
        });
    }
}
