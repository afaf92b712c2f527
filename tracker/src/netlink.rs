//! Questions to the kernel of this thread's network namespace (netlink(7)).

use std::{fmt::Debug, io};

use anyhow::{Context as _, Result, bail};
use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};

/// Octets of one reply, at most: the kernel fills 32 KiB (`netlink_dump` in
/// net/netlink/af_netlink.c).
const REPLY: usize = 1 << 16;

/// A family of netlink, ready to be asked.
pub struct Netlink {
    socket: Socket,
    reply: Vec<u8>,
}

impl Netlink {
    /// Opens a socket of a family ([`netlink_sys::protocols`]).
    ///
    /// # Errors
    ///
    /// The kernel does not have it.
    pub fn open(family: isize) -> io::Result<Self> {
        let mut socket = Socket::new(family)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self {
            socket,
            reply: Vec::with_capacity(REPLY),
        })
    }

    /// Asks for all there are of something, and hands each to `each`.
    ///
    /// # Errors
    ///
    /// The kernel does not tell, or `each` fails.
    pub fn dump<M>(&mut self, question: M, mut each: impl FnMut(M) -> Result<()>) -> Result<()>
    where
        M: NetlinkSerializable + NetlinkDeserializable + Debug,
    {
        self.send(question, NLM_F_REQUEST | NLM_F_DUMP)?;
        loop {
            self.receive()?;
            if read(&self.reply, &mut each)? {
                return Ok(());
            }
        }
    }

    /// Asks for one thing.
    ///
    /// # Errors
    ///
    /// The kernel does not tell; why is an [`io::Error`] at the root.
    pub fn ask<M>(&mut self, question: M) -> Result<M>
    where
        M: NetlinkSerializable + NetlinkDeserializable + Debug,
    {
        self.send(question, NLM_F_REQUEST)?;
        self.receive()?;
        let mut answer = None;
        read(&self.reply, &mut |message| {
            answer = Some(message);
            Ok(())
        })?;
        answer.context("the kernel's reply is empty")
    }

    fn send<M: NetlinkSerializable>(&self, question: M, flags: u16) -> Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(question));
        message.finalize();
        let mut octets = vec![0; message.buffer_len()];
        message.serialize(&mut octets);
        self.socket.send(&octets, 0)?;
        Ok(())
    }

    fn receive(&mut self) -> io::Result<()> {
        self.reply.clear();
        self.socket.recv(&mut self.reply, 0)?;
        Ok(())
    }
}

/// Takes the messages out of one reply; true after the last.
pub(crate) fn read<M>(reply: &[u8], each: &mut impl FnMut(M) -> Result<()>) -> Result<bool>
where
    M: NetlinkDeserializable + Debug,
{
    let mut rest = reply;
    while !rest.is_empty() {
        let message =
            NetlinkMessage::<M>::deserialize(rest).context("the reply is not what it should be")?;
        match message.payload {
            NetlinkPayload::InnerMessage(message) => each(message)?,
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) => return Err(error.to_io().into()),
            NetlinkPayload::Overrun(_) => {
                return Err(io::Error::from_raw_os_error(libc::ENOBUFS).into());
            }
            NetlinkPayload::Noop => {}
            other => bail!("the kernel sent something else than was asked for: {other:?}"),
        }
        // Messages begin at multiples of four (`NLMSG_ALIGN`).
        let length = (message.header.length as usize).next_multiple_of(4);
        rest = rest.get(length.max(4)..).unwrap_or_default();
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use netlink_packet_sock_diag::SockDiagMessage;

    use super::*;

    #[test]
    fn a_reply_that_is_cut_off_is_an_error() {
        // A header that promises 20 octets, of which 19 came.
        let mut octets = [0_u8; 19];
        octets[..4].copy_from_slice(&20_u32.to_ne_bytes());
        let mut found = 0;
        let read = read::<SockDiagMessage>(&octets, &mut |_| {
            found += 1;
            Ok(())
        });
        assert!(read.is_err());
        assert_eq!(found, 0);
    }

    #[test]
    fn the_end_of_a_reply_is_seen() {
        let mut octets = [0_u8; 20];
        octets[..4].copy_from_slice(&20_u32.to_ne_bytes());
        octets[4..6].copy_from_slice(&(libc::NLMSG_DONE as u16).to_ne_bytes());
        let done = read::<SockDiagMessage>(&octets, &mut |_| Ok(())).unwrap();
        assert!(done);
        assert!(!read::<SockDiagMessage>(&[], &mut |_| Ok(())).unwrap());
    }
}
