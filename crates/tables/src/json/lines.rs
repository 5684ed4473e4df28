//! NDJSON that is read while it comes.

use std::{
    collections::VecDeque,
    io::{self, Read},
    sync::Arc,
};

use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_json::ReaderBuilder;
use arrow_schema::{ArrowError, Schema, SchemaRef};

use super::{
    guess::{Context, Slot, Wrong},
    read::{Gatherer, batch_rows, line_value},
};
use crate::{
    Format, Limits, ReadError,
    quiet::guarded,
    schema::{self, too_wide},
};

/// So much is read from a source at once.
const PIECE: usize = 64 << 10;

/// A row per line; the columns and their types are those of the first lines that came.
pub(crate) struct LineReader<R> {
    source: R,
    limits: Limits,
    schema: SchemaRef,
    context: Context,
    slot: Slot,
    gatherer: Option<Gatherer>,
    /// What has come and is not parsed yet.
    held: Vec<u8>,
    /// Lines parsed.
    lines: usize,
    ready: VecDeque<RecordBatch>,
    done: bool,
}

// === impl LineReader ===

impl<R: Read> LineReader<R> {
    /// Reads the first lines.
    pub(crate) fn open(source: R, limits: &Limits) -> Result<Self, ReadError> {
        let mut reader = Self {
            source,
            limits: *limits,
            schema: Arc::new(Schema::empty()),
            context: Context::new(limits),
            slot: Slot::default(),
            gatherer: None,
            held: Vec::new(),
            lines: 0,
            ready: VecDeque::new(),
            done: false,
        };
        let mut end = None;
        while end.is_none() && !reader.done {
            end = reader.more()?;
        }
        if reader.held.starts_with(b"\xef\xbb\xbf") {
            reader.held.drain(..3);
            end = end.map(|end| end - 3);
        }
        let first = reader.split(end);
        reader.look(&first, false)?;
        let schema = Schema::new(reader.slot.fields().unwrap_or_default());
        schema::check(&schema, Format::Ndjson, limits)?;
        reader.schema = Arc::new(schema);
        let size = batch_rows(reader.schema.fields().len(), u64::MAX, limits);
        let builder = ReaderBuilder::new(reader.schema.clone()).with_batch_size(size);
        reader.gatherer = Some(Gatherer::new(builder, size, Format::Ndjson)?);
        reader.decode(&first)?;
        Ok(reader)
    }

    /// Takes more from the source. Where the last line that is complete ends.
    fn more(&mut self) -> Result<Option<usize>, ReadError> {
        if self.held.len() as u64 > self.limits.max_bytes {
            let why = format!("a line has more than {} bytes", self.limits.max_bytes);
            return Err(ReadError::too_large(Format::Ndjson, why));
        }
        let before = self.held.len();
        self.held.resize(before + PIECE, 0);
        let read = loop {
            match self.source.read(&mut self.held[before..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome.map_err(|error| ReadError::io(Format::Ndjson, error))?,
            }
        };
        self.held.truncate(before + read);
        self.done = read == 0;
        let end = self.held[before..].iter().rposition(|byte| *byte == b'\n');
        Ok(end.map(|end| before + end + 1))
    }

    /// The lines up to `end`, and at the end of the source all of them.
    fn split(&mut self, end: Option<usize>) -> Vec<u8> {
        let end = if self.done { self.held.len() } else { end.unwrap_or(0) };
        let rest = self.held.split_off(end);
        std::mem::replace(&mut self.held, rest)
    }

    /// Looks at the types. From the second time on they must be those that are known.
    fn look(&mut self, lines: &[u8], known: bool) -> Result<(), ReadError> {
        let ends_line = usize::from(lines.ends_with(b"\n"));
        for line in lines[..lines.len() - ends_line].split(|byte| *byte == b'\n') {
            self.lines += 1;
            let number = self.lines;
            let wrong =
                |why: String| ReadError::malformed(Format::Ndjson, format!("line {number}: {why}"));
            let Some(row) = line_value(number, line)? else { continue };
            if !row.get().starts_with('{') {
                return Err(wrong("it is no object".to_owned()));
            }
            self.context.look(row, &mut self.slot).map_err(|refused| match refused {
                Wrong::Value(why) => wrong(why),
                Wrong::TooWide => too_wide(Format::Ndjson, &self.limits),
            })?;
            if known && let Some(place) = self.context.take_widened() {
                let why = "of another type than in the rows by which the types were told";
                return Err(wrong(format!("column \"{place}\" is new, or {why}")));
            }
        }
        self.context.take_widened();
        Ok(())
    }

    fn decode(&mut self, lines: &[u8]) -> Result<(), ReadError> {
        let Some(gatherer) = &mut self.gatherer else { return Ok(()) };
        for line in lines.split(|byte| *byte == b'\n') {
            if let Some(row) = line_value(self.lines, line)? {
                gatherer.push(row.get())?;
            }
        }
        gatherer.flush()?;
        self.ready.extend(gatherer.batches.drain(..));
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<RecordBatch>, ReadError> {
        while self.ready.is_empty() && !self.done {
            let end = self.more()?;
            let lines = self.split(end);
            if !lines.is_empty() {
                self.look(&lines, true)?;
                self.decode(&lines)?;
            }
        }
        Ok(self.ready.pop_front())
    }
}

impl<R: Read> Iterator for LineReader<R> {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = guarded(|| self.advance())
            .unwrap_or_else(|why| Err(ReadError::malformed(Format::Ndjson, why)));
        if next.is_err() {
            self.done = true;
            self.ready.clear();
        }
        next.map_err(ArrowError::from).transpose()
    }
}

impl<R: Read> RecordBatchReader for LineReader<R> {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}
