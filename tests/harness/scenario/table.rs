//! The scenarios.
//!
//! A socket that is shut down for writing is not closed: `close` would make an
//! orphan of it, whose time the kernel limits.
//!
//! Three pairs that two stacks can rest in are absent, because what decides
//! them is invisible from between the two: whether an ACK that passed the
//! tracker arrived. The tracker takes silent moves (RFC 9293 moves on arrival
//! and answers nothing) on sight of the ACK, so a stack that is held in
//! SYN-RECEIVED by a lost third ACK, in FIN-WAIT-1 by a lost ACK of its FIN,
//! or in CLOSING on both sides, is one step behind what is shown until it
//! retransmits.

use std::{
    io::{Read, Write},
    net::Shutdown,
};

use anyhow::{Context, Result};
use socket2::Socket;

use super::{
    Scenario,
    stage::{Connected, Held, Stage},
};
use crate::{nft::Packets, sockets, state::State};

use State::{
    CloseWait, Closed, Closing, Established, FinWait1, FinWait2, LastAck, Listen, SynReceived,
    SynSent, TimeWait,
};

const fn scenario(
    name: &'static str,
    client: State,
    server: State,
    script: for<'a> fn(&Stage<'a>) -> Result<Held<'a>>,
) -> Scenario {
    Scenario {
        name,
        rest: (client, server),
        syn_retransmits: 0,
        synack_retransmits: 0,
        script,
    }
}

/// Every scenario. Those that end in CLOSED come last: the tracker forgets
/// them soonest.
pub const TABLE: &[Scenario] = &[
    Scenario {
        // Linux sends the first ones linearly: after 1, 2, 3 and 4 s.
        syn_retransmits: 3,
        ..scenario("SYN unanswered", SynSent, Listen, syn_unanswered)
    },
    Scenario {
        // After 1 and 3 s, and for each SYN that the client repeats.
        synack_retransmits: 2,
        ..scenario("SYN-ACK lost", SynSent, SynReceived, synack_lost)
    },
    scenario(
        "simultaneous open, both SYNs lost",
        SynSent,
        SynSent,
        open_held,
    ),
    scenario(
        "simultaneous open",
        Established,
        Established,
        simultaneous_open,
    ),
    scenario("established", Established, Established, established),
    scenario("data both ways", Established, Established, data_both_ways),
    scenario(
        "closed by client, FIN lost",
        FinWait1,
        Established,
        client_fin_lost,
    ),
    scenario(
        "closed by server, FIN lost",
        Established,
        FinWait1,
        server_fin_lost,
    ),
    scenario(
        "closed by both, both FINs lost",
        FinWait1,
        FinWait1,
        both_fins_lost,
    ),
    scenario(
        "half-closed by client",
        FinWait2,
        CloseWait,
        half_closed_by_client,
    ),
    scenario(
        "half-closed by server",
        CloseWait,
        FinWait2,
        half_closed_by_server,
    ),
    scenario(
        "half-closed by client, server goes on",
        FinWait2,
        CloseWait,
        server_goes_on,
    ),
    scenario(
        "half-closed by server, client goes on",
        CloseWait,
        FinWait2,
        client_goes_on,
    ),
    scenario(
        "closed by both, client's FIN lost",
        Closing,
        FinWait2,
        client_closing,
    ),
    scenario(
        "closed by both, server's FIN lost",
        FinWait2,
        Closing,
        server_closing,
    ),
    scenario(
        "closed after client, FIN lost",
        FinWait2,
        LastAck,
        server_last_ack,
    ),
    scenario(
        "closed after server, FIN lost",
        LastAck,
        FinWait2,
        client_last_ack,
    ),
    scenario(
        "closed, client first",
        TimeWait,
        Closed,
        closed_client_first,
    ),
    scenario(
        "closed, server first",
        Closed,
        TimeWait,
        closed_server_first,
    ),
    scenario(
        "closed simultaneously",
        TimeWait,
        TimeWait,
        simultaneous_close,
    ),
    scenario(
        "opened again out of TIME-WAIT",
        Established,
        Established,
        reopened,
    ),
    scenario(
        "opened again after a reset",
        Established,
        Established,
        reopened_after_reset,
    ),
    scenario("refused", Closed, Closed, refused),
    scenario("reset by client", Closed, Closed, reset_by_client),
    scenario("reset by server", Closed, Closed, reset_by_server),
    scenario(
        "half-closed, then reset by the other",
        Closed,
        Closed,
        half_closed_then_reset,
    ),
];

fn syn_unanswered<'a>(stage: &Stage<'a>) -> Result<Held<'a>> {
    let listener = stage.listen()?;
    let rule = stage.deafen_server(Packets::All)?;
    Ok(Held::sockets([listener, stage.begin_connect()?]).behind([rule]))
}

fn synack_lost<'a>(stage: &Stage<'a>) -> Result<Held<'a>> {
    let listener = stage.listen()?;
    let rule = stage.deafen_client(Packets::SynAck)?;
    Ok(Held::sockets([listener, stage.begin_connect()?]).behind([rule]))
}

/// The client is the first to send, which makes it the initiator: its SYN has
/// passed the tracker before the server sends one.
fn open_held<'a>(stage: &Stage<'a>) -> Result<Held<'a>> {
    let rules = [
        stage.deafen_server(Packets::Syn)?,
        stage.deafen_client(Packets::Syn)?,
    ];
    let client = stage.begin_connect()?;
    rules[0].wait_for_packet()?;
    let server = stage.begin_connect_back()?;
    Ok(Held::sockets([client, server]).behind(rules))
}

fn simultaneous_open<'a>(stage: &Stage<'a>) -> Result<Held<'a>> {
    let held = open_held(stage)?;
    stage.until(SynSent, SynSent)?;
    let Held { rules, sockets } = held;
    drop(rules);
    Ok(Held::sockets(sockets))
}

fn established<'a>(stage: &Stage<'a>) -> Result<Held<'a>> {
    Ok(stage.establish()?.hold())
}

fn data_both_ways<'a>(stage: &Stage<'a>) -> Result<Held<'a>> {
    let connected = stage.establish()?;
    for size in [1, 1000, 50_000] {
        carry(&connected.client, &connected.server, size)?;
        carry(&connected.server, &connected.client, size)?;
    }
    Ok(connected.hold())
}

fn client_fin_lost<'a>(stage: &Stage<'a>) -> Result<Held<'a>> {
    let connected = stage.establish()?;
    let rule = stage.deafen_server(Packets::Fin)?;
    close(&connected.client)?;
    Ok(connected.hold().behind([rule]))
}

fn server_fin_lost<'a>(stage: &Stage<'a>) -> Result<Held<'a>> {
    let connected = stage.establish()?;
    let rule = stage.deafen_client(Packets::Fin)?;
    close(&connected.server)?;
    Ok(connected.hold().behind([rule]))
}

fn both_fins_lost<'a>(stage: &Stage<'a>) -> Result<Held<'a>> {
    let connected = stage.establish()?;
    let rules = [
        stage.deafen_server(Packets::Fin)?,
        stage.deafen_client(Packets::Fin)?,
    ];
    close(&connected.client)?;
    close(&connected.server)?;
    Ok(connected.hold().behind(rules))
}

fn half_closed_by_client<'a>(stage: &Stage<'a>) -> Result<Held<'a>> {
    let connected = stage.establish()?;
    close(&connected.client)?;
    Ok(connected.hold())
}

fn half_closed_by_server<'a>(stage: &Stage<'a>) -> Result<Held<'a>> {
    let connected = stage.establish()?;
    close(&connected.server)?;
    Ok(connected.hold())
}

fn server_goes_on<'a>(stage: &Stage<'a>) -> Result<Held<'a>> {
    let connected = stage.establish()?;
    carry(&connected.client, &connected.server, 100)?;
    close(&connected.client)?;
    stage.until(FinWait2, CloseWait)?;
    carry(&connected.server, &connected.client, 50_000)?;
    Ok(connected.hold())
}

fn client_goes_on<'a>(stage: &Stage<'a>) -> Result<Held<'a>> {
    let connected = stage.establish()?;
    carry(&connected.server, &connected.client, 100)?;
    close(&connected.server)?;
    stage.until(CloseWait, FinWait2)?;
    carry(&connected.client, &connected.server, 50_000)?;
    Ok(connected.hold())
}

/// The client's FIN never arrives; the server closes by itself, and its FIN
/// does arrive: the client acknowledges it and goes on waiting for the
/// acknowledgement of its own.
fn client_closing<'a>(stage: &Stage<'a>) -> Result<Held<'a>> {
    let connected = stage.establish()?;
    let rule = stage.deafen_server(Packets::Fin)?;
    close(&connected.client)?;
    stage.until(FinWait1, Established)?;
    close(&connected.server)?;
    Ok(connected.hold().behind([rule]))
}

fn server_closing<'a>(stage: &Stage<'a>) -> Result<Held<'a>> {
    let connected = stage.establish()?;
    let rule = stage.deafen_client(Packets::Fin)?;
    close(&connected.server)?;
    stage.until(Established, FinWait1)?;
    close(&connected.client)?;
    Ok(connected.hold().behind([rule]))
}

fn server_last_ack<'a>(stage: &Stage<'a>) -> Result<Held<'a>> {
    let connected = stage.establish()?;
    close(&connected.client)?;
    stage.until(FinWait2, CloseWait)?;
    let rule = stage.deafen_client(Packets::Fin)?;
    close(&connected.server)?;
    Ok(connected.hold().behind([rule]))
}

fn client_last_ack<'a>(stage: &Stage<'a>) -> Result<Held<'a>> {
    let connected = stage.establish()?;
    close(&connected.server)?;
    stage.until(CloseWait, FinWait2)?;
    let rule = stage.deafen_server(Packets::Fin)?;
    close(&connected.client)?;
    Ok(connected.hold().behind([rule]))
}

fn closed_client_first<'a>(stage: &Stage<'a>) -> Result<Held<'a>> {
    let connected = stage.establish()?;
    close(&connected.client)?;
    stage.until(FinWait2, CloseWait)?;
    close(&connected.server)?;
    Ok(connected.hold())
}

fn closed_server_first<'a>(stage: &Stage<'a>) -> Result<Held<'a>> {
    let connected = stage.establish()?;
    close(&connected.server)?;
    stage.until(CloseWait, FinWait2)?;
    close(&connected.client)?;
    Ok(connected.hold())
}

/// Neither has received the other's FIN when it sends its own. Whichever is
/// repeated first, both ends receive a FIN while theirs is on its way.
fn simultaneous_close<'a>(stage: &Stage<'a>) -> Result<Held<'a>> {
    let Held { rules, sockets } = both_fins_lost(stage)?;
    stage.until(FinWait1, FinWait1)?;
    drop(rules);
    Ok(Held::sockets(sockets))
}

/// The same four numbers again. The server is the one in TIME-WAIT, which
/// gives way to a new SYN (RFC 1122 section 4.2.2.13).
fn reopened<'a>(stage: &Stage<'a>) -> Result<Held<'a>> {
    let Connected {
        listener,
        client,
        server,
    } = stage.establish()?;
    close(&server)?;
    stage.until(CloseWait, FinWait2)?;
    close(&client)?;
    stage.until(Closed, TimeWait)?;
    drop((client, server));
    let client = stage.connect()?;
    let server = sockets::accept(&listener)?;
    Ok(Held::sockets([listener, client, server]))
}

fn reopened_after_reset<'a>(stage: &Stage<'a>) -> Result<Held<'a>> {
    let Connected {
        listener,
        client,
        server,
    } = stage.establish()?;
    sockets::reset(client)?;
    stage.until(Closed, Closed)?;
    drop(server);
    let client = stage.connect()?;
    let server = sockets::accept(&listener)?;
    Ok(Held::sockets([listener, client, server]))
}

fn refused<'a>(stage: &Stage<'a>) -> Result<Held<'a>> {
    Ok(Held::sockets([stage.begin_connect()?]))
}

fn reset_by_client<'a>(stage: &Stage<'a>) -> Result<Held<'a>> {
    let Connected {
        listener,
        client,
        server,
    } = stage.establish()?;
    sockets::reset(client)?;
    Ok(Held::sockets([listener, server]))
}

fn reset_by_server<'a>(stage: &Stage<'a>) -> Result<Held<'a>> {
    let Connected {
        listener,
        client,
        server,
    } = stage.establish()?;
    sockets::reset(server)?;
    Ok(Held::sockets([listener, client]))
}

fn half_closed_then_reset<'a>(stage: &Stage<'a>) -> Result<Held<'a>> {
    let Connected {
        listener,
        client,
        server,
    } = stage.establish()?;
    close(&client)?;
    stage.until(FinWait2, CloseWait)?;
    sockets::reset(server)?;
    Ok(Held::sockets([listener, client]))
}

/// Sends the FIN.
fn close(socket: &Socket) -> Result<()> {
    socket
        .shutdown(Shutdown::Write)
        .context("shutting a socket down for writing")
}

/// Sends `size` octets and reads them on the other side; small enough for the
/// socket buffers, so that one thread can do both.
fn carry(mut from: &Socket, mut to: &Socket, size: usize) -> Result<()> {
    from.write_all(&vec![b'x'; size]).context("sending")?;
    to.read_exact(&mut vec![0; size]).context("receiving")
}
