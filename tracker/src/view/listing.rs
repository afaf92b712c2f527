//! A list of flows in the format that was asked for.

use std::io::{self, Write};

use super::{Fit, LocalAddresses, Names, Row, Table, csv, json};
use crate::cli::ListFormat;

/// Takes flows one by one and writes them: the machine formats at once, the
/// table at the end.
#[derive(Debug)]
pub struct Listing<'a, W> {
    out: W,
    names: &'a Names,
    format: Format,
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
        mut out: W,
        names: &'a Names,
        local: LocalAddresses,
        colours: bool,
    ) -> io::Result<Self> {
        let format = match format {
            ListFormat::Table => Format::Table(Table::new(local, colours)),
            ListFormat::Json => Format::Json { first: true },
            ListFormat::Ndjson => Format::Ndjson,
            ListFormat::Csv => {
                out.write_all(csv::HEADER.as_bytes())?;
                Format::Csv
            }
        };
        Ok(Self { out, names, format })
    }

    /// Adds one flow.
    ///
    /// # Errors
    ///
    /// When `out` fails.
    pub fn row(&mut self, row: &Row<'_>) -> io::Result<()> {
        match &mut self.format {
            Format::Table(table) => {
                table.push(row);
                Ok(())
            }
            Format::Json { first } => {
                self.out.write_all(if *first { b"[\n" } else { b",\n" })?;
                *first = false;
                json::object(&mut self.out, row, self.names)
            }
            Format::Ndjson => {
                json::object(&mut self.out, row, self.names)?;
                self.out.write_all(b"\n")
            }
            Format::Csv => csv::line(&mut self.out, row, self.names),
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
