//! How wide the columns are, and which are shown at all.

use std::collections::HashMap;

use super::Line;
use crate::view::text;

/// Names of the columns between the addresses and the timer.
pub const STATE: &str = "State";
pub const PEER: &str = "Peer State";
pub const TIMER: &str = "Timer";
pub const ENDED: &str = "Ended";
pub const RULE: &str = "Rule";
/// Characters of a rule's name that are shown, at most.
pub const RULE_WIDTH: usize = 20;
/// Of the longest state's name.
pub const STATE_WIDTH: usize = 11;
/// Columns that a narrow terminal goes without, from the right.
pub const PACKETS_WIDTH: usize = 7;
pub const BYTES_WIDTH: usize = 5;
/// Addresses are not cut below this.
const LEAST_ADDRESS: usize = 12;

/// Widths and what is shown at all.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Widths of the addresses.
    pub address: [usize; 2],
    /// Width of the VLAN, where one is shown.
    pub vlan: Option<usize>,
    /// Whether packets are.
    pub packets: bool,
    /// Whether octets are.
    pub bytes: bool,
    /// Width of why flows have ended, 0 where none has.
    pub ended: usize,
    /// Width of the rules' names, 0 where none is shown.
    pub rule: usize,
    /// Width of the timer's name and gap, 0 where it is not shown.
    pub timer: usize,
    /// Width of the timer's numbers, 0 where they are not shown.
    pub left: usize,
}

impl Layout {
    /// Where the column of the first state begins.
    pub fn states(&self) -> usize {
        let [first, second] = self.address;
        6 + first + 1 + second + 1 + self.vlan.map_or(0, |width| width + 1)
    }

    /// Width of everything but the addresses.
    fn rest(&self) -> usize {
        let optional = |shown, width| if shown { width + 1 } else { 0 };
        // Proto, and the gaps behind it, both addresses and each state.
        6 + 1
            + 1
            + 2 * (STATE_WIDTH + 1)
            + self.vlan.map_or(0, |width| width + 1)
            + optional(self.packets, PACKETS_WIDTH)
            + optional(self.bytes, BYTES_WIDTH)
            + optional(self.ended > 0, self.ended)
            + optional(self.rule > 0, self.rule)
            + self.timer
            + self.left
    }

    /// Makes it at most `width` wide, if it can be: columns that matter least
    /// go first, then addresses are cut in their middle.
    pub fn narrow(&mut self, width: usize) {
        let fits = |layout: &Self| layout.rest() + layout.address.iter().sum::<usize>() <= width;
        for drop in [
            |layout: &mut Self| layout.rule = 0,
            |layout: &mut Self| layout.timer = 0,
            |layout: &mut Self| layout.packets = false,
            |layout: &mut Self| layout.bytes = false,
        ] {
            if fits(self) {
                return;
            }
            drop(self);
        }
        if self.rest() + 2 * LEAST_ADDRESS > width {
            self.left = 0;
        }
        if !fits(self) {
            let both = width.saturating_sub(self.rest()).max(2 * LEAST_ADDRESS);
            let [first, second] = self.address;
            self.address = if first <= both / 2 {
                [first, both - first]
            } else if second <= both / 2 {
                [both - second, second]
            } else {
                [both / 2, both - both / 2]
            };
        }
    }
}

/// The layout in which everything fits.
pub fn measure(lines: &[Line], titles: [&str; 2], rules: &HashMap<u16, String>) -> Layout {
    let mut address = titles.map(str::len);
    let (mut vlan, mut timer, mut left, mut ended) = (0, 0, TIMER.len(), 0);
    let mut rule = 0;
    for line in lines {
        for (width, &at) in address.iter_mut().zip(&line.ends) {
            *width = (*width).max(text::socket_width(at));
        }
        vlan = vlan.max(match line.vlan {
            [0, _] => 0,
            [_, 0] => "VLAN".len(),
            _ => "4094.4094".len(),
        });
        timer = timer.max(line.timer.as_str().len() + 1);
        left = left.max(text::width(line.left()));
        if let Some(name) = rules.get(&line.rule) {
            rule = rule.max(name.chars().count()).max(RULE.len());
        }
        if let Some(cause) = line.ended {
            ended = ended.max(cause.as_str().len()).max(ENDED.len());
        }
    }
    Layout {
        address,
        vlan: (vlan > 0).then_some(vlan),
        packets: true,
        bytes: true,
        ended,
        rule,
        timer,
        left,
    }
}
