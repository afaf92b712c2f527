//! What `tracker policy` shows.
//!
//! | module | what it shows |
//! |---|---|
//! | [`show`] | the policy in force and its counters |
//! | [`mod@test`] | which rule decides, and why the others do not |
//! | [`diff`] | flows that would fare differently |

pub mod diff;
pub mod show;
pub mod test;

use std::io::{self, Write};

/// Writes lines whose cells stand below each other; those of the columns in `right`
/// end there.
fn columns(out: &mut impl Write, lines: &[Vec<String>], right: &[usize]) -> io::Result<()> {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    for line in lines {
        let mut text = String::new();
        for (column, (cell, &width)) in line.iter().zip(&widths).enumerate() {
            if column > 0 {
                text.push_str("  ");
            }
            if right.contains(&column) {
                text.push_str(&format!("{cell:>width$}"));
            } else {
                text.push_str(&format!("{cell:<width$}"));
            }
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

/// "1 flow", "2 flows".
fn counted(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
