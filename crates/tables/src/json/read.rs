//! JSON to batches.

use std::{fmt, sync::Arc};

use arrow_array::RecordBatch;
use arrow_json::{ReaderBuilder, reader::Decoder};
use arrow_schema::{Field, Schema, SchemaRef};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::guess::{Context, Slot, Wrong};
use crate::{
    Format, Limits, ReadError, Table,
    schema::{self, too_wide},
    table::Budget,
};

/// So much JSON is parsed before a batch is made of it.
const GATHERED: usize = 8 << 20;

/// The parser makes room for so many values ahead, at most.
const VALUES_AHEAD: usize = 1 << 18;

/// Reads a table that is wholly there. Rows and columns are told apart by what they begin with.
pub(crate) fn read(format: Format, data: &[u8], limits: &Limits) -> Result<Table, ReadError> {
    let data = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
    let first = data.iter().find(|byte| !byte.is_ascii_whitespace());
    let reading = Reading { format, limits, data };
    match (format, first) {
        (Format::Ndjson, _) => reading.rows(&Rows::Lines),
        (_, Some(b'[')) => reading.rows(&Rows::List),
        (_, Some(b'{')) => reading.columns(),
        _ => Err(reading.wrong("it is neither a list of rows nor an object of columns")),
    }
}

/// A document that is being read.
struct Reading<'a> {
    format: Format,
    limits: &'a Limits,
    data: &'a [u8],
}

/// How rows follow one another.
enum Rows {
    Lines,
    List,
}

// === impl Reading ===

impl<'a> Reading<'a> {
    fn wrong(&self, why: impl Into<String>) -> ReadError {
        ReadError::malformed(self.format, why)
    }

    /// Says of a value that is refused where it stands.
    fn refused(&self, wrong: Wrong, place: impl fmt::Display) -> ReadError {
        match wrong {
            Wrong::Value(why) => self.wrong(format!("{place}{why}")),
            Wrong::TooWide => too_wide(self.format, self.limits),
        }
    }

    /// Calls `take` with each row and its number, from 0 on, or that of its line, from 1 on.
    fn each_row(
        &self,
        rows: &Rows,
        take: &mut dyn FnMut(usize, &'a RawValue) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        match rows {
            Rows::List => self.each_item(self.data, take),
            Rows::Lines => {
                for (number, line) in self.data.split(|byte| *byte == b'\n').enumerate() {
                    if let Some(row) = line_value(number + 1, line)? {
                        take(number + 1, row)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Calls `take` with each item of a list.
    fn each_item(
        &self,
        list: &'a [u8],
        take: &mut dyn FnMut(usize, &'a RawValue) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let mut refused = None;
        let items = Items { take, refused: &mut refused };
        let mut parser = serde_json::Deserializer::from_slice(list);
        let outcome = parser.deserialize_seq(items).and_then(|()| parser.end());
        match (outcome, refused) {
            (_, Some(error)) => Err(error),
            (Err(error), None) => Err(self.wrong(error.to_string())),
            (Ok(()), None) => Ok(()),
        }
    }

    fn rows(&self, rows: &Rows) -> Result<Table, ReadError> {
        let mut context = Context::new(self.limits);
        let mut slot = Slot::default();
        let word = if matches!(rows, Rows::Lines) { "line" } else { "row" };
        self.each_row(rows, &mut |number, row| {
            if !row.get().starts_with('{') {
                return Err(self.wrong(format!("{word} {number} is no object")));
            }
            let outcome = context.look(row, &mut slot);
            outcome.map_err(|wrong| self.refused(wrong, format_args!("{word} {number}: ")))
        })?;
        let mut budget = Budget::new(self.format, self.limits);
        budget.take(slot.cost(slot.seen()).saturating_add(context.text))?;
        let schema = Arc::new(Schema::new(slot.fields().unwrap_or_default()));
        schema::check(&schema, self.format, self.limits)?;
        let batches = self.decode_rows(rows, &schema, slot.seen())?;
        Ok(Table { schema, batches })
    }

    fn decode_rows(
        &self,
        rows: &Rows,
        schema: &SchemaRef,
        count: u64,
    ) -> Result<Vec<RecordBatch>, ReadError> {
        let size = batch_rows(schema.fields().len(), count, self.limits);
        let builder = ReaderBuilder::new(schema.clone()).with_batch_size(size);
        let mut gatherer = Gatherer::new(builder, size, self.format)?;
        self.each_row(rows, &mut |_, row| gatherer.push(row.get()))?;
        gatherer.finish()
    }

    fn columns(&self) -> Result<Table, ReadError> {
        let mut parser = serde_json::Deserializer::from_slice(self.data);
        let columns = parser.deserialize_map(Columns { limit: self.limits.max_columns });
        let columns = columns.and_then(|columns| parser.end().map(|()| columns));
        let columns = columns.map_err(|error| self.wrong(error.to_string()))?;
        let columns = columns.ok_or_else(|| too_wide(self.format, self.limits))?;
        let mut context = Context::new(self.limits);
        let mut budget = Budget::new(self.format, self.limits);
        let mut length: Option<(&str, u64)> = None;
        let mut fields = Vec::new();
        for (name, values) in &columns {
            let slot = self.look_at_column(name, values, &mut context)?;
            match length {
                Some((other, expected)) if expected != slot.seen() => {
                    let why = format!(
                        "column \"{name}\" has {} values, but \"{other}\" has {expected}",
                        slot.seen()
                    );
                    return Err(self.wrong(why));
                }
                _ => length = Some((name, slot.seen())),
            }
            budget.take(slot.cost(slot.seen()))?;
            fields.push(Field::new(name, slot.data_type(), true));
        }
        budget.take(context.text)?;
        let schema = Arc::new(Schema::new(fields));
        schema::check(&schema, self.format, self.limits)?;
        let batches = self.decode_columns(&columns, &schema, length.map_or(0, |(_, rows)| rows))?;
        Ok(Table { schema, batches })
    }

    fn look_at_column(
        &self,
        name: &str,
        values: &'a RawValue,
        context: &mut Context,
    ) -> Result<Slot, ReadError> {
        if !values.get().starts_with('[') {
            return Err(self.wrong(format!("column \"{name}\" is no list")));
        }
        let mut slot = Slot::default();
        self.each_item(values.get().as_bytes(), &mut |number, value| {
            let place = format_args!("column \"{name}\", row {number}: ").to_string();
            context.look(value, &mut slot).map_err(|wrong| self.refused(wrong, place))
        })?;
        Ok(slot)
    }

    fn decode_columns(
        &self,
        columns: &[(String, &'a RawValue)],
        schema: &SchemaRef,
        count: u64,
    ) -> Result<Vec<RecordBatch>, ReadError> {
        let size = batch_rows(1, count, self.limits);
        let mut pieces = Vec::new();
        for ((_, values), field) in columns.iter().zip(schema.fields()) {
            let builder = ReaderBuilder::new_with_field(field.clone()).with_batch_size(size);
            let mut gatherer = Gatherer::new(builder, size, self.format)?;
            gatherer.only_full = true;
            self.each_item(values.get().as_bytes(), &mut |_, value| gatherer.push(value.get()))?;
            pieces.push(gatherer.finish()?.into_iter());
        }
        let mut batches = Vec::new();
        // All columns are as long, and cut alike.
        while let Some(row) = pieces
            .iter_mut()
            .map(|column| column.next().map(|piece| piece.column(0).clone()))
            .collect::<Option<Vec<_>>>()
            .filter(|row| !row.is_empty())
        {
            let batch = RecordBatch::try_new(schema.clone(), row);
            batches.push(batch.map_err(|error| ReadError::arrow(self.format, error))?);
        }
        Ok(batches)
    }
}

/// Rows of a batch: no more than there are, since room is made for them ahead.
pub(super) fn batch_rows(columns: usize, count: u64, limits: &Limits) -> usize {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    limits.batch_rows.min(VALUES_AHEAD / columns.max(1)).min(count).max(1)
}

/// The value of a line, if there is one.
pub(super) fn line_value(number: usize, line: &[u8]) -> Result<Option<&RawValue>, ReadError> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    serde_json::from_slice(line).map(Some).map_err(|error| {
        // The parser counts lines within the line.
        let said = error.to_string();
        let said = said.rsplit_once(" at line 1").map_or(said.clone(), |(said, place)| {
            format!(
                "{said} at{}",
                place
                    .strip_prefix(" column")
                    .map_or(String::new(), |column| { format!(" column{column}") })
            )
        });
        ReadError::malformed(Format::Ndjson, format!("line {number}: {said}"))
    })
}

/// Makes batches of values of known types.
pub(super) struct Gatherer {
    decoder: Decoder,
    format: Format,
    size: usize,
    bytes: usize,
    only_full: bool,
    pub(super) batches: Vec<RecordBatch>,
}

// === impl Gatherer ===

impl Gatherer {
    pub(super) fn new(
        builder: ReaderBuilder,
        size: usize,
        format: Format,
    ) -> Result<Self, ReadError> {
        let decoder = builder.build_decoder().map_err(|error| ReadError::arrow(format, error))?;
        Ok(Self { decoder, format, size, bytes: 0, only_full: false, batches: Vec::new() })
    }

    pub(super) fn push(&mut self, value: &str) -> Result<(), ReadError> {
        // The space ends a number.
        for bytes in [value.as_bytes(), b" "] {
            let read = self.decoder.decode(bytes);
            read.map_err(|error| ReadError::arrow(self.format, error))?;
        }
        self.bytes += value.len();
        let large = self.bytes >= GATHERED && !self.only_full;
        if self.decoder.len() >= self.size || large { self.flush() } else { Ok(()) }
    }

    pub(super) fn flush(&mut self) -> Result<(), ReadError> {
        let batch = self.decoder.flush().map_err(|error| ReadError::arrow(self.format, error))?;
        self.batches.extend(batch);
        self.bytes = 0;
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<RecordBatch>, ReadError> {
        self.flush()?;
        Ok(self.batches)
    }
}

struct Items<'a, 'de> {
    take: &'a mut dyn FnMut(usize, &'de RawValue) -> Result<(), ReadError>,
    refused: &'a mut Option<ReadError>,
}

impl<'de> Visitor<'de> for Items<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut number = 0;
        while let Some(item) = items.next_element::<&'de RawValue>()? {
            if let Err(error) = (self.take)(number, item) {
                *self.refused = Some(error);
                return Err(A::Error::custom("refused"));
            }
            number += 1;
        }
        Ok(())
    }
}

/// The columns of an object; none if there are too many.
struct Columns {
    limit: usize,
}

impl<'de> Visitor<'de> for Columns {
    type Value = Option<Vec<(String, &'de RawValue)>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of lists")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut columns = Vec::new();
        let mut too_many = false;
        while let Some((name, values)) = entries.next_entry::<String, &'de RawValue>()? {
            too_many |= columns.len() >= self.limit;
            if !too_many {
                columns.push((name, values));
            }
        }
        Ok((!too_many).then_some(columns))
    }
}
