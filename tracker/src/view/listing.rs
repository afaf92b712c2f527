//! A list of flows in the format that was asked for.

use std::io::{self, Write};

use super::{Details, Fit, LocalAddresses, Names, Row, Table, csv, json};
use crate::cli::ListFormat;

/// Takes flows one by one and writes them: the machine formats at once, the
/// table at the end.
#[derive(Debug)]
pub struct Listing<'a, W> {
    out: W,
    names: &'a Names,
    format: Format,
    detailed: bool,
}

/// What a list has beside what every list has.
#[derive(Clone, Copy, Debug, Default)]
struct Columns {
    detailed: bool,
    captures: bool,
}

#[derive(Debug)]
enum Format {
    Table(Table),
    Json { first: bool },
    Ndjson,
    Csv,
}

impl<'a, W: Write> Listing<'a, W> {
    /// Begins a list. Only a table asks for local addresses and colours.
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn begin(
        format: ListFormat,
        out: W,
        names: &'a Names,
        local: LocalAddresses,
        colours: bool,
    ) -> io::Result<Self> {
        Self::new(format, out, names, local, colours, Columns::default())
    }

    /// Begins a list that shows what is remembered beside the flows, too. As
    /// above.
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn begin_detailed(
        format: ListFormat,
        out: W,
        names: &'a Names,
        local: LocalAddresses,
        colours: bool,
    ) -> io::Result<Self> {
        let columns = Columns {
            detailed: true,
            ..Columns::default()
        };
        Self::new(format, out, names, local, colours, columns)
    }

    /// Begins a list of flows of captures, each made by [`Row::of_capture`];
    /// `detailed` as above.
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn begin_of_captures(
        format: ListFormat,
        out: W,
        names: &'a Names,
        colours: bool,
        detailed: bool,
    ) -> io::Result<Self> {
        let columns = Columns {
            detailed,
            captures: true,
        };
        let nowhere = LocalAddresses::default();
        Self::new(format, out, names, nowhere, colours, columns)
    }

    fn new(
        format: ListFormat,
        mut out: W,
        names: &'a Names,
        local: LocalAddresses,
        colours: bool,
        columns: Columns,
    ) -> io::Result<Self> {
        let Columns { detailed, captures } = columns;
        let format = match format {
            ListFormat::Table => {
                let mut table = Table::new(local, colours);
                table.name_rules(names);
                Format::Table(table)
            }
            ListFormat::Json => Format::Json { first: true },
            ListFormat::Ndjson => Format::Ndjson,
            ListFormat::Csv => {
                let beside = if detailed { csv::DETAILS_HEADER } else { "" };
                let more = if captures { csv::CAPTURE_HEADER } else { "" };
                writeln!(out, "{}{beside}{more}", csv::HEADER)?;
                Format::Csv
            }
        };
        Ok(Self {
            out,
            names,
            format,
            detailed,
        })
    }

    /// Adds one flow.
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn row(&mut self, row: &Row<'_>) -> io::Result<()> {
        self.detailed_row(row, &Details::default())
    }

    /// Adds one flow with what is remembered beside it, which a list shows that
    /// was begun as detailed.
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn detailed_row(&mut self, row: &Row<'_>, details: &Details) -> io::Result<()> {
        let beside = self.detailed.then_some(details);
        match &mut self.format {
            Format::Table(table) => {
                match beside {
                    Some(details) => table.push_detailed(row, details),
                    None => table.push(row),
                }
                Ok(())
            }
            Format::Json { first } => {
                self.out.write_all(if *first { b"[\n" } else { b",\n" })?;
                *first = false;
                json::object(&mut self.out, row, beside, self.names)
            }
            Format::Ndjson => {
                json::object(&mut self.out, row, beside, self.names)?;
                self.out.write_all(b"\n")
            }
            Format::Csv => csv::line(&mut self.out, row, beside, self.names),
        }
    }

    /// Ends the list and flushes it.
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn end(mut self) -> io::Result<()> {
        match self.format {
            Format::Table(mut table) => table.write(&mut self.out, Fit::default())?,
            Format::Json { first: true } => self.out.write_all(b"[]\n")?,
            Format::Json { first: false } => self.out.write_all(b"\n]\n")?,
            Format::Ndjson | Format::Csv => {}
        }
        self.out.flush()
    }
}
