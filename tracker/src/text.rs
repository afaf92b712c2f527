//! The text of a file, and places in it as people count them.

use std::{
    fmt::{self, Write as _},
    ops::Range,
};

/// Most of a line that an excerpt shows, in characters.
const WIDEST: usize = 120;

/// A text, and where its lines begin.
#[derive(Debug)]
pub struct Text<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// Its line, from 1.
    pub line: usize,
    /// Character in the line, from 1.
    pub column: usize,
    /// The whole line.
    pub text: &'a str,
    /// Characters from there that are meant, at least 1.
    pub width: usize,
}

impl<'a> Text<'a> {
    /// Finds the lines of `text`.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        let ends = text
            .bytes()
            .enumerate()
            .filter(|(_, octet)| *octet == b'\n');
        let starts = [0].into_iter().chain(ends.map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    /// Where `span` begins; its width ends with the line. Octets that are none of the
    /// text are its end.
    #[must_use]
    pub fn place(&self, span: &Range<usize>) -> Place<'a> {
        let start = self.text.floor_char_boundary(span.start);
        let end = self.text.floor_char_boundary(span.end).max(start);
        let line = self.starts.partition_point(|at| *at <= start).max(1);
        let line_start = self.starts.get(line - 1).copied().unwrap_or(0);
        let from_line = self.text.get(line_start..).unwrap_or("");
        let text = from_line.lines().next().unwrap_or("");
        let before = self.text.get(line_start..start).unwrap_or("");
        let column = before.chars().count() + 1;
        let meant = self.text.get(start..end).unwrap_or("");
        let rest = text.chars().count().saturating_sub(column - 1);
        Place {
            line,
            column,
            text,
            width: meant.chars().count().clamp(1, rest.max(1)),
        }
    }
}

impl<'a> Place<'a> {
    /// The line with marks beneath the place, and `hint` behind them. Of a long line
    /// only what is around the place.
    #[must_use]
    pub const fn excerpt(self, hint: Option<&'a str>) -> Excerpt<'a> {
        Excerpt { place: self, hint }
    }
}

/// See [`Place::excerpt`]. Begins with its line's margin, and does not end with a
/// line feed.
#[derive(Clone, Copy, Debug)]
pub struct Excerpt<'a> {
    place: Place<'a>,
    hint: Option<&'a str>,
}

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place {
            line,
            column,
            text,
            width,
        } = self.place;
        let margin = line.to_string().len();
        let at = column - 1;
        let (skipped, ahead) = if text.chars().count() <= WIDEST {
            (0, "")
        } else {
            // Some of what is before the place tells where it is.
            let skipped = at.saturating_sub(WIDEST / 3);
            (skipped, if skipped > 0 { "…" } else { "" })
        };
        let mut shown: String = text.chars().skip(skipped).take(WIDEST).collect();
        let width = width.min(WIDEST.saturating_sub(at - skipped)).max(1);
        // A tab is as wide as the terminal says, above as beneath.
        let blank: String = ahead
            .chars()
            .chain(shown.chars().take(at - skipped))
            .map(|shown| if shown == '\t' { '\t' } else { ' ' })
            .collect();
        let short = at - skipped - shown.chars().count().min(at - skipped);
        if text.chars().count() > skipped + WIDEST {
            shown.push('…');
        }
        write!(
            f,
            "{:margin$} |\n{line} | {ahead}{shown}\n{:margin$} | ",
            "", ""
        )?;
        write!(f, "{blank}{:short$}", "")?;
        for _ in 0..width {
            f.write_char('^')?;
        }
        match self.hint {
            Some(hint) => write!(f, " {hint}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, span: Range<usize>) -> String {
        let text = Text::new(text);
        text.place(&span).excerpt(Some("this")).to_string()
    }

    #[test]
    fn places_are_counted_as_people_count() {
        let text = Text::new("a = 1\n\nbß = 2\r\nlast");
        let place = |span| {
            let place = text.place(&span);
            (place.line, place.column, place.text, place.width)
        };
        assert_eq!(place(0..1), (1, 1, "a = 1", 1));
        assert_eq!(place(6..6), (2, 1, "", 1));
        assert_eq!(place(11..12), (3, 4, "bß = 2", 1));
        assert_eq!(place(7..40), (3, 1, "bß = 2", 6));
        assert_eq!(place(20..22), (4, 5, "last", 1));
        assert_eq!(place(90..99), (4, 5, "last", 1));
        let nothing = Text::new("").place(&(0..0));
        assert_eq!((nothing.line, nothing.column, nothing.width), (1, 1, 1));
    }

    #[test]
    fn the_place_is_marked() {
        insta::assert_snapshot!(shown("x\n\ty = 5\n", 7..8), @"
          |
        2 | 	y = 5
          | 	    ^ this
        ");
        insta::assert_snapshot!(shown("x", 40..41), @"
          |
        1 | x
          |  ^ this
        ");
    }

    #[test]
    fn of_a_long_line_what_is_around_the_place_is_shown() {
        let long = format!("from = [{}]", "\"192.0.2.1\", ".repeat(1000));
        insta::assert_snapshot!(shown(&long, 0..4), @r#"
          |
        1 | from = ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2…
          | ^^^^ this
        "#);
        insta::assert_snapshot!(shown(&long, 6508..6519), @r#"
          |
        1 | … "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1", "1…
          |                                          ^^^^^^^^^^^ this
        "#);
        insta::assert_snapshot!(shown(&long, 7..13_000), @r#"
          |
        1 | from = ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2…
          |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ this
        "#);
    }
}
