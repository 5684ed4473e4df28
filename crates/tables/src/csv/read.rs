//! CSV to batches.

use std::{
    collections::VecDeque,
    io::{self, Read},
    sync::Arc,
};

use arrow_array::{RecordBatch, RecordBatchReader, cast::AsArray};
use arrow_csv::reader::{Decoder, Format as CsvFormat, ReaderBuilder};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};

use super::{guess::Guess, rows, rows::Rows};
use crate::{
    Format, Limits, ReadError, Table, buffers,
    quiet::guarded,
    schema::{self, too_wide},
    table::Budget,
};

const BOM: &[u8] = b"\xef\xbb\xbf";

/// The parser makes room for so many fields ahead, at most.
const FIELDS_AHEAD: usize = 1 << 20;

/// So much is read from a source at once.
const PIECE: usize = 64 << 10;

/// Names are in memory so many times at once: for two parsers, two schemas, what parsers and schemas
/// are made of.
const NAMES: u64 = 8;

/// Reads a table that is wholly there. The types are those that hold all rows.
pub(crate) fn read(data: &[u8], limits: &Limits) -> Result<Table, ReadError> {
    let data = data.strip_prefix(BOM).unwrap_or(data);
    let mut budget = Budget::new(Format::Csv, limits);
    let names = header(data, limits, &mut budget)?;
    let rows = batch_rows(names.len(), data, limits);
    let mut guesses = Guesses::new(&names, rows);
    guesses.widen(data)?;
    guesses.widen(END)?;
    let schema = guesses.schema(limits)?;
    let mut parser = Parser::new(&schema, rows);
    let mut batches = Vec::new();
    let mut take = |batch: RecordBatch| {
        budget.take(buffers::bytes(std::slice::from_ref(&batch)))?;
        batches.push(batch);
        Ok(())
    };
    parser.feed(data, &mut take)?;
    parser.feed(END, &mut take)?;
    parser.flush(&mut take)?;
    Ok(Table { schema, batches })
}

fn wrong(why: impl Into<String>) -> ReadError {
    ReadError::malformed(Format::Csv, why)
}

fn arrow(error: ArrowError) -> ReadError {
    ReadError::arrow(Format::Csv, error)
}

/// The names of the columns.
fn header(data: &[u8], limits: &Limits, budget: &mut Budget) -> Result<Vec<String>, ReadError> {
    // Before names are made of them, fields and bytes are counted.
    let first = rows::first(data, limits.max_columns);
    let length = first.ok_or_else(|| too_wide(Format::Csv, limits))? as u64;
    budget.check(length.saturating_mul(NAMES))?;
    budget.take(length)?;
    let format = CsvFormat::default().with_header(true);
    let (schema, _) = format.infer_schema(data, Some(0)).map_err(|error| match error {
        ArrowError::CsvError(_) => wrong("line 1: the header is no valid UTF-8"),
        other => arrow(other),
    })?;
    if schema.fields().is_empty() {
        return Err(wrong("it has no header"));
    }
    Ok(schema.fields().iter().map(|field| field.name().clone()).collect())
}

/// Rows of a batch: no more than there can be, since room is made for them ahead.
fn batch_rows(columns: usize, data: &[u8], limits: &Limits) -> usize {
    let lines = data.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count() + 1;
    limits.batch_rows.min(FIELDS_AHEAD / columns.max(1)).min(lines).max(1)
}

/// A parser for columns of known types.
struct Parser {
    decoder: Decoder,
    schema: SchemaRef,
}

/// To the parser, nothing means that there will be nothing more.
const END: &[u8] = &[];

// === impl Parser ===

impl Parser {
    fn new(schema: &SchemaRef, rows: usize) -> Self {
        let builder = ReaderBuilder::new(schema.clone()).with_header(true).with_batch_size(rows);
        Self { decoder: builder.build_decoder(), schema: schema.clone() }
    }

    /// Parses `bytes`; takes the batches that are full.
    fn feed(&mut self, mut bytes: &[u8], take: &mut Take<'_>) -> Result<(), ReadError> {
        loop {
            let read = self.decoder.decode(bytes).map_err(|error| self.wrong(error))?;
            bytes = &bytes[read..];
            let full = self.decoder.capacity() == 0;
            if full {
                self.flush(take)?;
            }
            if bytes.is_empty() {
                return Ok(());
            }
            if read == 0 && !full {
                return Err(wrong("a row does not end"));
            }
        }
    }

    /// Takes the rows that are there. The last one must be complete.
    fn flush(&mut self, take: &mut Take<'_>) -> Result<(), ReadError> {
        match self.decoder.flush().map_err(|error| self.wrong(error))? {
            Some(batch) => take(batch),
            None => Ok(()),
        }
    }

    /// What the parser said, with the name of the column in place of its number.
    fn wrong(&self, error: ArrowError) -> ReadError {
        let error = match arrow(error) {
            ReadError::Malformed { why, .. } => why,
            other => return other,
        };
        let said = error.split_once(". Row data").map_or(error.as_str(), |(said, _)| said);
        let named = said.split_once("column ").and_then(|(before, rest)| {
            let (number, after) = rest.split_once(' ')?;
            let field = self.schema.fields().get(number.parse::<usize>().ok()?)?;
            Some(format!("{before}column \"{}\" {after}", field.name()))
        });
        wrong(named.unwrap_or_else(|| said.to_owned()))
    }
}

type Take<'a> = dyn FnMut(RecordBatch) -> Result<(), ReadError> + 'a;

/// What is known of the columns' types.
struct Guesses {
    names: Vec<String>,
    guesses: Vec<Guess>,
    parser: Parser,
}

// === impl Guesses ===

impl Guesses {
    fn new(names: &[String], rows: usize) -> Self {
        let fields: Vec<_> =
            names.iter().map(|name| Field::new(name, DataType::Utf8, true)).collect();
        let parser = Parser::new(&Arc::new(Schema::new(fields)), rows);
        Self { names: names.to_vec(), guesses: vec![Guess::default(); names.len()], parser }
    }

    /// Takes more rows into account, of which the last one is complete.
    fn widen(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        let guesses = &mut self.guesses;
        let mut widen = |batch: RecordBatch| {
            for (guess, column) in guesses.iter_mut().zip(batch.columns()) {
                column.as_string::<i32>().iter().flatten().for_each(|field| guess.widen(field));
            }
            Ok(())
        };
        self.parser.feed(bytes, &mut widen)?;
        if bytes.is_empty() { self.parser.flush(&mut widen) } else { Ok(()) }
    }

    fn schema(&self, limits: &Limits) -> Result<SchemaRef, ReadError> {
        let fields = self.names.iter().zip(&self.guesses);
        let fields: Vec<_> =
            fields.map(|(name, guess)| Field::new(name, guess.data_type(), true)).collect();
        let schema = Schema::new(fields);
        schema::check(&schema, Format::Csv, limits)?;
        Ok(Arc::new(schema))
    }
}

/// CSV that is read while it comes.
pub(crate) struct CsvReader<R> {
    source: R,
    parser: Parser,
    schema: SchemaRef,
    limits: Limits,
    rows: Rows,
    /// The beginning of a row whose end is not there yet.
    held: Vec<u8>,
    ready: VecDeque<RecordBatch>,
    done: bool,
}

// === impl CsvReader ===

impl<R: Read> CsvReader<R> {
    /// Reads the header and the first rows, by which it tells the types.
    pub(crate) fn open(mut source: R, limits: &Limits) -> Result<Self, ReadError> {
        let (mut rows, mut held, mut done, mut end) = (Rows::default(), Vec::new(), false, 0);
        while rows.ended < 2 && !done {
            let before = held.len();
            done = read_piece(&mut source, &mut held, limits)?;
            end = rows.last_end(&held[before..]).map_or(end, |end| before + end);
        }
        if held.starts_with(BOM) {
            held.drain(..BOM.len());
            end = end.saturating_sub(BOM.len());
        }
        let first = if done { held.as_slice() } else { &held[..end] };
        let names = header(first, limits, &mut Budget::new(Format::Csv, limits))?;
        let batch = limits.batch_rows.min(PIECE / names.len()).max(1);
        let mut guesses = Guesses::new(&names, batch);
        guesses.widen(first)?;
        guesses.widen(END)?;
        let schema = guesses.schema(limits)?;
        let parser = Parser::new(&schema, batch);
        let ready = VecDeque::new();
        let mut reader = Self { source, parser, schema, limits: *limits, rows, held, ready, done };
        reader.parse(if done { reader.held.len() } else { end })?;
        Ok(reader)
    }

    /// Parses the rows that end within the first `end` bytes.
    fn parse(&mut self, end: usize) -> Result<(), ReadError> {
        let Self { parser, held, ready, .. } = self;
        let mut take = |batch: RecordBatch| {
            ready.push_back(batch);
            Ok(())
        };
        if end > 0 {
            parser.feed(&held[..end], &mut take)?;
        }
        if self.done {
            parser.feed(END, &mut take)?;
        }
        parser.flush(&mut take)?;
        self.held.drain(..end);
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<RecordBatch>, ReadError> {
        while self.ready.is_empty() && !self.done {
            let before = self.held.len();
            self.done = read_piece(&mut self.source, &mut self.held, &self.limits)?;
            let end = self.rows.last_end(&self.held[before..]).map_or(0, |end| before + end);
            self.parse(if self.done { self.held.len() } else { end })?;
        }
        Ok(self.ready.pop_front())
    }
}

/// Adds what the source has to `held`; whether that was all.
fn read_piece(
    source: &mut impl Read,
    held: &mut Vec<u8>,
    limits: &Limits,
) -> Result<bool, ReadError> {
    if held.len() as u64 > limits.max_bytes {
        let why = format!("a row has more than {} bytes", limits.max_bytes);
        return Err(ReadError::too_large(Format::Csv, why));
    }
    let before = held.len();
    held.resize(before + PIECE, 0);
    let read = loop {
        match source.read(&mut held[before..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => break outcome.map_err(|error| ReadError::io(Format::Csv, error))?,
        }
    };
    held.truncate(before + read);
    Ok(read == 0)
}

impl<R: Read> Iterator for CsvReader<R> {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = guarded(|| self.advance())
            .unwrap_or_else(|why| Err(ReadError::malformed(Format::Csv, why)));
        if next.is_err() {
            self.done = true;
            self.ready.clear();
        }
        next.map_err(ArrowError::from).transpose()
    }
}

impl<R: Read> RecordBatchReader for CsvReader<R> {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}
