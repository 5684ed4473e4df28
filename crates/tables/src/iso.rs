//! Values as text, in CSV and JSON: times as Python's `isoformat()` writes them.

use arrow_array::{Array, ArrayRef};
use arrow_cast::display::{ArrayFormatter, DurationFormat, FormatOptions};
use arrow_schema::{ArrowError, DataType};

/// Times too far from now are errors, never text that looks like a value.
const OPTIONS: FormatOptions<'static> =
    FormatOptions::new().with_display_error(false).with_duration_format(DurationFormat::ISO8601);

/// Writes the values of a column as text.
pub(crate) struct Texts<'a> {
    formatter: ArrayFormatter<'a>,
    is_time: bool,
}

// === impl Texts ===

impl<'a> Texts<'a> {
    pub(crate) fn new(array: &'a dyn Array) -> Result<Self, ArrowError> {
        let formatter = ArrayFormatter::try_new(array, &OPTIONS)?;
        let is_time = matches!(
            array.data_type(),
            DataType::Timestamp(..) | DataType::Time32(_) | DataType::Time64(_)
        );
        Ok(Self { formatter, is_time })
    }

    /// Puts the text of a value, which must not be null, in place of what is in `text`.
    pub(crate) fn put(&self, row: usize, text: &mut String) -> Result<(), ArrowError> {
        text.clear();
        self.formatter.value(row).write(text)?;
        if self.is_time {
            as_isoformat(text);
        }
        Ok(())
    }
}

/// From `12:00:00.500Z` to `12:00:00.500000+00:00`.
fn as_isoformat(text: &mut String) {
    if text.ends_with('Z') {
        text.truncate(text.len() - 1);
        text.push_str("+00:00");
    }
    if let Some(point) = text.find('.') {
        let fraction = &text[point + 1..];
        let digits = fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len());
        if digits < 6 {
            text.insert_str(point + 1 + digits, &"000000"[digits..]);
        }
    }
}

/// The column with its dictionary looked up and its runs spelt out, which may hide nulls.
pub(crate) fn plain(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match array.data_type() {
        DataType::Dictionary(_, values) => plain(&arrow_cast::cast(array, values)?),
        DataType::RunEndEncoded(_, values) => plain(&arrow_cast::cast(array, values.data_type())?),
        _ => Ok(array.clone()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_are_written_like_isoformat() {
        for (given, wanted) in [
            ("2010-07-28T00:00:00", "2010-07-28T00:00:00"),
            ("2010-07-28T00:00:00Z", "2010-07-28T00:00:00+00:00"),
            ("2010-07-28T00:00:00.500+02:00", "2010-07-28T00:00:00.500000+02:00"),
            ("12:00:00.000000001", "12:00:00.000000001"),
        ] {
            let mut text = given.to_owned();
            super::as_isoformat(&mut text);
            assert_eq!(text, wanted);
        }
    }
}
