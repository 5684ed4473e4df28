//! Time series: what a table's columns are measured in, and where rows are missing, as metadata.
//!
//! Two conventions, kept by every format that keeps metadata (Arrow and Parquet):
//!
//! * a column's unit stands in the metadata of its field, under [`UNIT`]: `kW`, `degC`;
//! * that a table is a regular series stands in the metadata of the schema, under [`SERIES`], as
//!   JSON: `{"time": "at", "step_s": 3600, "gaps": [["2010-03-28T02:00:00", "2010-03-28T02:00:00"]]}`.
//!   Each gap is the first and the last time that is missing.

use std::{collections::HashMap, sync::Arc, time::Duration};

use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, cast::AsArray, types::Int64Type};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType, Field, Schema, TimeUnit};
use exuvia_core::suggest::did_you_mean;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Table, error::said, iso::Texts, names::type_name};

/// Under this key a field's metadata says what its column is measured in.
pub const UNIT: &str = "unit";

/// Under this key a schema's metadata says that the table is a series.
pub const SERIES: &str = "exuvia:series";

/// A regular series: a row for every step of time, but for the gaps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// The column with the times.
    pub time: String,
    /// Seconds from one row to the next.
    pub step_s: f64,
    /// First and last of the times that are missing in a row, as ISO 8601.
    pub gaps: Vec<(String, String)>,
}

/// Why a table is no series.
#[derive(Debug, Error)]
pub enum SeriesError {
    /// There is no such column.
    #[error("there is no column \"{name}\".{hint}")]
    NoColumn {
        /// The name that was given.
        name: String,
        /// What may have been meant.
        hint: String,
    },
    /// The column holds no times, or none so fine.
    #[error("column \"{name}\" {why}")]
    Column {
        /// The column with the times.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// A time does not follow the one before it as it should.
    #[error("column \"{name}\", row {row}: {why}")]
    Row {
        /// The column with the times.
        name: String,
        /// Its place, from 0 on.
        row: usize,
        /// What is wrong with it.
        why: String,
    },
    /// The metadata is not what this module writes.
    #[error("the metadata `{SERIES}` cannot be read: {0}")]
    Metadata(#[from] serde_json::Error),
}

// === impl Series ===

impl Series {
    /// The entry for the metadata of a schema.
    #[must_use]
    pub fn to_metadata(&self) -> (String, String) {
        // Texts and numbers that are no NaN: they are always JSON.
        (SERIES.to_owned(), serde_json::json!(self).to_string())
    }

    /// Reads the entry in the metadata of a schema, if there is one.
    ///
    /// # Errors
    /// There is one, but it says something else.
    pub fn from_metadata(metadata: &HashMap<String, String>) -> Result<Option<Self>, SeriesError> {
        Ok(metadata.get(SERIES).map(|text| serde_json::from_str(text)).transpose()?)
    }
}

/// Looks at the times in column `time`, which should be `step` apart: finds what is missing.
///
/// # Errors
/// A time is missing in its row, comes twice, goes back, or falls between two steps; the error
/// names the row.
pub fn describe(table: &Table, time: &str, step: Duration) -> Result<Series, SeriesError> {
    let index = find(&table.schema, time)?;
    let data_type = table.schema.field(index).data_type();
    let wrong = |why: String| SeriesError::Column { name: time.to_owned(), why };
    let ticks = ticks(data_type, step).map_err(wrong)?;
    let mut walk = Walk { name: time, data_type, ticks, row: 0, before: None, gaps: Vec::new() };
    for batch in &table.batches {
        let times = numbers(batch.column(index)).map_err(|error| wrong(said(&error)))?;
        walk.take(&times)?;
    }
    let gaps = walk.gaps;
    Ok(Series { time: time.to_owned(), step_s: step.as_secs_f64(), gaps })
}

/// The table with the series, and units of columns, in its metadata. Its columns are not copied.
///
/// # Errors
/// A column that is named is not there.
pub fn put(table: &Table, series: &Series, units: &[(&str, &str)]) -> Result<Table, SeriesError> {
    find(&table.schema, &series.time)?;
    let mut fields: Vec<Field> =
        table.schema.fields().iter().map(|field| field.as_ref().clone()).collect();
    for (name, unit) in units {
        let field = &mut fields[find(&table.schema, name)?];
        let mut metadata = field.metadata().clone();
        metadata.insert(UNIT.to_owned(), (*unit).to_owned());
        field.set_metadata(metadata);
    }
    let mut metadata = table.schema.metadata().clone();
    metadata.extend([series.to_metadata()]);
    let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
    let batches: Result<Vec<RecordBatch>, ArrowError> =
        table.batches.iter().map(|batch| batch.clone().with_schema(schema.clone())).collect();
    let batches = batches.map_err(|error| SeriesError::Column {
        name: series.time.clone(),
        why: format!("is in a batch of another schema: {}", said(&error)),
    })?;
    Ok(Table { schema, batches })
}

fn find(schema: &Schema, name: &str) -> Result<usize, SeriesError> {
    schema.index_of(name).map_err(|_| {
        let names = schema.fields().iter().map(|field| field.name());
        SeriesError::NoColumn { name: name.to_owned(), hint: did_you_mean(name, names) }
    })
}

/// How many of the column's own ticks a step is.
fn ticks(data_type: &DataType, step: Duration) -> Result<i64, String> {
    let tick: u128 = match data_type {
        DataType::Timestamp(unit, _) => match unit {
            TimeUnit::Second => 1_000_000_000,
            TimeUnit::Millisecond => 1_000_000,
            TimeUnit::Microsecond => 1_000,
            TimeUnit::Nanosecond => 1,
        },
        DataType::Date32 => 86_400_000_000_000,
        DataType::Date64 => 1_000_000,
        other => return Err(format!("holds no times: it is of type {}", type_name(other))),
    };
    let nanos = step.as_nanos();
    match i64::try_from(nanos / tick) {
        Ok(ticks) if ticks > 0 && nanos.is_multiple_of(tick) => Ok(ticks),
        _ => Err(format!("cannot have steps of {} s", step.as_secs_f64())),
    }
}

/// Times as their numbers of ticks.
fn numbers(times: &ArrayRef) -> Result<Int64Array, ArrowError> {
    let times = match times.data_type() {
        DataType::Date32 => cast(times, &DataType::Int32)?,
        _ => times.clone(),
    };
    Ok(cast(&times, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

/// Goes from time to time.
struct Walk<'a> {
    name: &'a str,
    data_type: &'a DataType,
    ticks: i64,
    row: usize,
    before: Option<i64>,
    gaps: Vec<(String, String)>,
}

// === impl Walk ===

impl Walk<'_> {
    fn take(&mut self, times: &Int64Array) -> Result<(), SeriesError> {
        for time in times {
            let time = time.ok_or_else(|| self.wrong("it is null".to_owned()))?;
            if let Some(before) = self.before {
                self.follow(before, time)?;
            }
            self.before = Some(time);
            self.row += 1;
        }
        Ok(())
    }

    fn follow(&mut self, before: i64, time: i64) -> Result<(), SeriesError> {
        let passed = i128::from(time) - i128::from(before);
        let step = i128::from(self.ticks);
        match () {
            () if passed == step => return Ok(()),
            () if passed == 0 => {
                return Err(self.wrong(format!("{} comes a second time", self.text(time))));
            }
            () if passed < 0 => {
                let why = format!("{} comes after {}", self.text(time), self.text(before));
                return Err(self.wrong(why));
            }
            () if passed % step != 0 => {
                let why = format!("{} is no step from {}", self.text(time), self.text(before));
                return Err(self.wrong(why));
            }
            () => {}
        }
        // Both lie between two times that there are.
        let (first, last) = (before + self.ticks, time - self.ticks);
        self.gaps.push((self.text(first), self.text(last)));
        Ok(())
    }

    fn wrong(&self, why: String) -> SeriesError {
        SeriesError::Row { name: self.name.to_owned(), row: self.row, why }
    }

    /// A time as ISO 8601; if it lies outside the calendar, its number.
    fn text(&self, time: i64) -> String {
        let text = || {
            let number: ArrayRef = Arc::new(Int64Array::from(vec![time]));
            let number = match self.data_type {
                DataType::Date32 => cast(&number, &DataType::Int32)?,
                _ => number,
            };
            let time = cast(&number, self.data_type)?;
            let mut text = String::new();
            Texts::new(&time)?.put(0, &mut text)?;
            Ok::<_, ArrowError>(text)
        };
        text().unwrap_or_else(|_| time.to_string())
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{Date32Array, Float64Array, TimestampSecondArray};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn table(times: ArrayRef) -> Table {
        let power: ArrayRef = Arc::new(Float64Array::from(vec![1.5; times.len()]));
        let batch = RecordBatch::try_from_iter([("at", times), ("power", power)]).unwrap();
        let (first, second) = (batch.slice(0, 2), batch.slice(2, batch.num_rows() - 2));
        Table { schema: batch.schema(), batches: vec![first, second] }
    }

    fn hours(hours: &[i64]) -> Table {
        let times = hours.iter().map(|hour| hour * 3600).collect::<Vec<_>>();
        table(Arc::new(TimestampSecondArray::from(times)))
    }

    #[track_caller]
    fn refused(table: &Table, time: &str, step: Duration, said: &str) {
        let error = describe(table, time, step).unwrap_err().to_string();
        assert_eq!(error, said);
    }

    #[test]
    fn what_is_missing_is_found() {
        let series = describe(&hours(&[0, 1, 4, 5, 7]), "at", HOUR).unwrap();
        let gap = |first: &str, last: &str| (first.to_owned(), last.to_owned());
        assert_eq!(
            series.gaps,
            [
                gap("1970-01-01T02:00:00", "1970-01-01T03:00:00"),
                gap("1970-01-01T06:00:00", "1970-01-01T06:00:00"),
            ]
        );
        assert_eq!(describe(&hours(&[0, 1, 2]), "at", HOUR).unwrap().gaps, []);
        let zoned = TimestampSecondArray::from(vec![0, 3600, 10_800]).with_timezone("+01:00");
        let series = describe(&table(Arc::new(zoned)), "at", HOUR).unwrap();
        assert_eq!(series.gaps[0].0, "1970-01-01T03:00:00+01:00");
        let days = table(Arc::new(Date32Array::from(vec![0, 1, 3])));
        let series = describe(&days, "at", 24 * HOUR).unwrap();
        assert_eq!(series.gaps, [gap("1970-01-03", "1970-01-03")]);
    }

    #[test]
    fn times_out_of_step_are_refused_by_their_row() {
        let refuse = |hours_: &[i64], said: &str| refused(&hours(hours_), "at", HOUR, said);
        let (two, one) = ("1970-01-01T02:00:00", "1970-01-01T01:00:00");
        refuse(&[0, 1, 2, 2], &format!("column \"at\", row 3: {two} comes a second time"));
        refuse(&[0, 2, 1], &format!("column \"at\", row 2: {one} comes after {two}"));
        let two_hours = "column \"at\", row 2: 1970-01-01T03:00:00 is no step from ";
        refused(&hours(&[0, 2, 3]), "at", 2 * HOUR, &format!("{two_hours}{two}"));
        let null = TimestampSecondArray::from(vec![Some(0), None, Some(3600)]);
        refused(&table(Arc::new(null)), "at", HOUR, "column \"at\", row 1: it is null");
        let (table, half) = (hours(&[0, 1, 2]), Duration::from_millis(500));
        refused(&table, "power", HOUR, "column \"power\" holds no times: it is of type float64");
        refused(&table, "att", HOUR, "there is no column \"att\". Did you mean `at`?");
        refused(&table, "at", half, "column \"at\" cannot have steps of 0.5 s");
        refused(&table, "at", Duration::ZERO, "column \"at\" cannot have steps of 0 s");
    }

    #[test]
    fn unit_and_gaps_are_kept_by_arrow_and_parquet() {
        let table = hours(&[0, 1, 4]);
        let series = describe(&table, "at", HOUR).unwrap();
        let typed = put(&table, &series, &[("power", "kW")]).unwrap();
        for format in [crate::Format::ArrowStream, crate::Format::ArrowFile, crate::Format::Parquet]
        {
            let mut bytes = Vec::new();
            crate::write(format, &typed, &mut bytes).unwrap();
            let read = crate::read(format, &bytes.into(), &crate::Limits::default()).unwrap();
            let schema = read.table.schema;
            assert_eq!(schema.field(1).metadata()[UNIT], "kW");
            assert_eq!(Series::from_metadata(schema.metadata()).unwrap(), Some(series.clone()));
        }
        assert_eq!(
            series.to_metadata().1,
            r#"{"time":"at","step_s":3600.0,"gaps":[["1970-01-01T02:00:00","1970-01-01T03:00:00"]]}"#
        );
        let unknown = put(&table, &series, &[("powre", "kW")]).unwrap_err().to_string();
        assert_eq!(unknown, "there is no column \"powre\". Did you mean `power`?");
    }
}
