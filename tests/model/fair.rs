//! The ability to finish: from a point where nothing is on the way, the rest of
//! the run is played to its end without losses, once with a tracker that
//! enforces and once without any, and both must come to the same end.

use super::{
    endpoint::{Again, Call, Endpoint, State},
    properties::Finding,
    scenario::Place,
    world::{Event, FAR, NEAR, Notes, Setting, World},
};

/// Steps after which a run that does not end has failed.
const STEPS: usize = 200;

/// Plays `world`, whose channel is empty, to its end both ways.
pub fn check(world: &World, setting: &Setting<'_>, notes: &mut Notes) {
    let enforced = play(*world, setting, true);
    // Without a refusal the tracker has changed nothing.
    if !enforced.refused {
        notes.apart.push((
            if enforced.ended {
                "fair"
            } else {
                "fair_endless"
            },
            None,
        ));
        return;
    }
    // Forged segments have the tracker believe what is not so.
    if world.past.misled {
        notes.apart.push(("fair_misled", None));
        return;
    }
    let free = play(*world, setting, false);
    if enforced.world.ends == free.world.ends && enforced.ended == free.ended {
        notes.apart.push(("fair_refused", None));
    } else {
        notes.findings.push(Finding {
            kind: format!(
                "enforcing hinders: ends {:?} instead of {:?}",
                enforced.world.states(),
                free.world.states()
            ),
        });
    }
}

/// A run that was played.
struct Played {
    world: World,
    /// The tracker refused something on the way.
    refused: bool,
    /// It came to its end.
    ended: bool,
}

/// Plays to the end.
fn play(mut world: World, setting: &Setting<'_>, enforces: bool) -> Played {
    let mut scenario = *setting.scenario;
    scenario.place = Place::Middle;
    let setting = Setting {
        scenario: &scenario,
        enforces,
        ..*setting
    };
    world.budget.forgeries = 0;
    let mut notes = Notes::default();
    let mut refused = false;
    // Whose time-out comes first.
    let mut turn = 0;
    for _ in 0..STEPS {
        world.budget.retransmissions = [1; 2];
        let Some(event) = next(&world, turn, &setting) else {
            return Played {
                world,
                refused,
                ended: true,
            };
        };
        if let Event::Retransmit { end, .. } = event {
            turn = end ^ 1;
        }
        // Where there is no room a segment is lost, and sent again later.
        world.step(event, &setting, &mut notes);
        refused |= std::mem::take(&mut notes.refused);
        notes.clear();
    }
    Played {
        world,
        refused,
        ended: false,
    }
}

/// What happens next when nothing is lost, time-outs come only when all is
/// still, and users close when they have nothing else to do.
fn next(world: &World, turn: u8, setting: &Setting<'_>) -> Option<Event> {
    for half in [FAR, NEAR] {
        for end in 0..2_u8 {
            if !world.halves[usize::from(end)][half].segments().is_empty() {
                let half = half as u8;
                return Some(Event::Move {
                    end,
                    half,
                    index: 0,
                });
            }
        }
    }
    let ends = || world.ends.iter().zip(0_u8..);
    let first = |wanted: &dyn Fn(&Endpoint) -> bool| {
        ends().find(|(end, _)| wanted(end)).map(|(_, index)| index)
    };
    if let Some(end) = first(&|end| end.owes_ack) {
        return Some(Event::Acknowledge { end });
    }
    if let Some(end) = first(&|end| end.unread > 0) {
        return Some(Event::Call {
            end,
            call: Call::Receive,
        });
    }
    let mut out = Vec::new();
    for end in [turn, turn ^ 1] {
        let manner = setting.manner(end.into());
        let mut sender = world.ends[usize::from(end)];
        if sender.retransmit(Again::All, manner, &mut out) {
            return Some(Event::Retransmit {
                end,
                again: Again::All,
            });
        }
    }
    for (end, index) in ends() {
        let open = matches!(end.state, State::Established | State::CloseWait);
        if open && !end.closing {
            return Some(Event::Call {
                end: index,
                call: Call::Close,
            });
        }
    }
    None
}
