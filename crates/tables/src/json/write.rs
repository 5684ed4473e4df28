//! Batches to JSON.

use std::{
    io::Write,
    sync::{Arc, Mutex, PoisonError},
};

use arrow_array::{Array, ArrayRef, RecordBatch, cast::AsArray};
use arrow_json::writer::{Encoder, EncoderFactory, EncoderOptions, NullableEncoder, make_encoder};
use arrow_schema::{ArrowError, DataType, FieldRef, SchemaRef};

use crate::{Format, WriteError, error::said, iso::Texts, schema::inner};

/// So many bytes are gathered before they are written.
const GATHERED: usize = 64 << 10;

/// Writes rows, columns, or a row per line. Nulls are explicit, and NaN is null.
pub(crate) struct JsonWriter<W> {
    format: Format,
    out: W,
    schema: SchemaRef,
    /// The names as they stand before values, with quotes and colon.
    keys: Vec<Vec<u8>>,
    /// Rows written.
    rows: usize,
    /// Columns are only written at the end.
    held: Vec<RecordBatch>,
}

// === impl JsonWriter ===

impl<W: Write> JsonWriter<W> {
    pub(crate) fn new(format: Format, schema: &SchemaRef, mut out: W) -> Result<Self, WriteError> {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        for field in schema.fields() {
            if let Some(why) = refused(field.data_type()) {
                let why = format!("column \"{}\" is {why}", field.name());
                return Err(WriteError::unsupported(format, why));
            }
            let mut key = serde_json::Value::from(field.name().as_str()).to_string().into_bytes();
            key.push(b':');
            keys.push(key);
        }
        let mut sorted: Vec<_> = keys.iter().collect();
        sorted.sort();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            let name = String::from_utf8_lossy(&pair[0][..pair[0].len() - 1]);
            let why = format!("two columns are named {name}");
            return Err(WriteError::unsupported(format, why));
        }
        if format == Format::JsonRows {
            out.write_all(b"[")?;
            out.flush()?;
        }
        Ok(Self { format, out, schema: schema.clone(), keys, rows: 0, held: Vec::new() })
    }

    pub(crate) fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }

    pub(crate) fn write(&mut self, batch: RecordBatch) -> Result<(), WriteError> {
        self.check(&batch)?;
        if self.format == Format::JsonColumns {
            self.rows += batch.num_rows();
            self.held.push(batch);
            return Ok(());
        }
        let texts = IsoTexts::default();
        let options = texts.options();
        let mut columns = Vec::new();
        for (field, array) in self.schema.fields().iter().zip(batch.columns()) {
            columns.push(self.encoder(field, array, &options)?);
        }
        let mut text = Vec::with_capacity(GATHERED);
        for row in 0..batch.num_rows() {
            if self.format == Format::JsonRows && self.rows + row > 0 {
                text.push(b',');
            }
            text.push(b'{');
            for (index, (key, column)) in self.keys.iter().zip(&mut columns).enumerate() {
                if index > 0 {
                    text.push(b',');
                }
                text.extend_from_slice(key);
                put(column, row, &mut text);
            }
            text.push(b'}');
            if self.format == Format::Ndjson {
                text.push(b'\n');
            }
            if text.len() >= GATHERED {
                texts.check(self.format)?;
                self.out.write_all(&text)?;
                text.clear();
            }
        }
        texts.check(self.format)?;
        self.rows += batch.num_rows();
        self.out.write_all(&text)?;
        Ok(self.out.flush()?)
    }

    pub(crate) fn finish(mut self) -> Result<W, WriteError> {
        match self.format {
            Format::JsonRows => self.out.write_all(b"]")?,
            Format::JsonColumns => self.write_columns()?,
            _ => {}
        }
        self.out.flush()?;
        Ok(self.out)
    }

    fn write_columns(&mut self) -> Result<(), WriteError> {
        let batches = std::mem::take(&mut self.held);
        let mut text = b"{".to_vec();
        for (index, (field, key)) in self.schema.fields().iter().zip(&self.keys).enumerate() {
            if index > 0 {
                text.push(b',');
            }
            text.extend_from_slice(key);
            text.push(b'[');
            let mut first = true;
            for batch in &batches {
                let texts = IsoTexts::default();
                let options = texts.options();
                let mut column = self.encoder(field, batch.column(index), &options)?;
                for row in 0..batch.num_rows() {
                    if !std::mem::take(&mut first) {
                        text.push(b',');
                    }
                    put(&mut column, row, &mut text);
                    if text.len() >= GATHERED {
                        self.out.write_all(&text)?;
                        text.clear();
                    }
                }
                texts.check(self.format)?;
            }
            text.push(b']');
        }
        text.push(b'}');
        Ok(self.out.write_all(&text)?)
    }

    fn encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a ArrayRef,
        options: &'a EncoderOptions,
    ) -> Result<NullableEncoder<'a>, WriteError> {
        make_encoder(field, array, options).map_err(|error| {
            let why = format!("column \"{}\": {}", field.name(), said(&error));
            WriteError::unsupported(self.format, why)
        })
    }

    /// Refuses infinities, for which JSON has no word.
    fn check(&self, batch: &RecordBatch) -> Result<(), WriteError> {
        for (field, column) in self.schema.fields().iter().zip(batch.columns()) {
            if let Some(row) = infinity(column) {
                let row = self.rows + row;
                let why = format!("column \"{}\" has an infinity in row {row}", field.name());
                return Err(WriteError::unsupported(self.format, why));
            }
        }
        Ok(())
    }
}

fn put(column: &mut NullableEncoder<'_>, row: usize, text: &mut Vec<u8>) {
    if column.is_null(row) {
        text.extend_from_slice(b"null");
    } else {
        column.encode(row, text);
    }
}

/// Why a column of this type cannot be written.
fn refused(data_type: &DataType) -> Option<&'static str> {
    match data_type {
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => {
            Some("binary: make text of it (base64, say), or use Arrow")
        }
        DataType::Union(..) => Some("a union: use Arrow"),
        _ => inner(data_type).into_iter().find_map(refused),
    }
}

/// The first row in which there is an infinity.
fn infinity(array: &dyn Array) -> Option<usize> {
    let valid = |row: &usize| array.is_valid(*row);
    let item = |item: &dyn Fn(usize) -> ArrayRef| {
        (0..array.len()).filter(valid).find(|row| infinity(&item(*row)).is_some())
    };
    // Before every list is looked at by itself, all their items are.
    let child =
        |values: &ArrayRef, at: &dyn Fn(usize) -> ArrayRef| infinity(values).and_then(|_| item(at));
    macro_rules! floats {
        ($type:ty) => {{
            let floats = array.as_primitive::<$type>();
            let found = floats.values().iter().position(|number| number.is_infinite());
            found.and_then(|_| {
                (0..floats.len()).filter(valid).find(|row| floats.value(*row).is_infinite())
            })
        }};
    }
    use arrow_array::types::{Float16Type, Float32Type, Float64Type};
    match array.data_type() {
        DataType::Float16 => floats!(Float16Type),
        DataType::Float32 => floats!(Float32Type),
        DataType::Float64 => floats!(Float64Type),
        DataType::List(_) => {
            child(array.as_list::<i32>().values(), &|row| array.as_list::<i32>().value(row))
        }
        DataType::LargeList(_) => {
            child(array.as_list::<i64>().values(), &|row| array.as_list::<i64>().value(row))
        }
        DataType::ListView(_) => child(array.as_list_view::<i32>().values(), &|row| {
            array.as_list_view::<i32>().value(row)
        }),
        DataType::LargeListView(_) => child(array.as_list_view::<i64>().values(), &|row| {
            array.as_list_view::<i64>().value(row)
        }),
        DataType::FixedSizeList(..) => {
            let lists = array.as_fixed_size_list();
            child(lists.values(), &|row| lists.value(row))
        }
        DataType::Map(..) => {
            let maps = array.as_map();
            child(maps.values(), &|row| maps.value(row).column(1).clone())
        }
        DataType::Struct(_) => {
            let columns = array.as_struct().columns().iter();
            columns.filter_map(|column| infinity(column)).filter(valid).min()
        }
        DataType::Dictionary(..) | DataType::RunEndEncoded(..) => {
            crate::iso::plain(&array.slice(0, array.len())).ok().and_then(|plain| infinity(&plain))
        }
        _ => None,
    }
}

/// Encodes times and decimals as text, and remembers what could not be.
#[derive(Debug, Default, Clone)]
struct IsoTexts {
    fault: Arc<Mutex<Option<String>>>,
}

// === impl IsoTexts ===

impl IsoTexts {
    fn options(&self) -> EncoderOptions {
        EncoderOptions::default()
            .with_explicit_nulls(true)
            .with_encoder_factory(Arc::new(self.clone()))
    }

    /// Whether all that was encoded so far could be.
    fn check(&self, format: Format) -> Result<(), WriteError> {
        match self.fault.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(why) => Err(WriteError::unsupported(format, why)),
            None => Ok(()),
        }
    }
}

impl EncoderFactory for IsoTexts {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let data_type = array.data_type();
        if data_type.is_temporal() || data_type.is_decimal() {
            let encoder = TextEncoder {
                texts: Texts::new(array)?,
                text: String::new(),
                column: field.name(),
                fault: self.fault.clone(),
            };
            return Ok(Some(NullableEncoder::new(Box::new(encoder), array.nulls().cloned())));
        }
        if let Some(dictionary) = array.as_any_dictionary_opt() {
            let values = make_encoder(field, dictionary.values().as_ref(), options)?;
            let encoder = KeyEncoder { keys: dictionary.normalized_keys(), values };
            // A key may stand for null, too.
            return Ok(Some(NullableEncoder::new(Box::new(encoder), array.logical_nulls())));
        }
        Ok(None)
    }
}

struct TextEncoder<'a> {
    texts: Texts<'a>,
    text: String,
    column: &'a str,
    fault: Arc<Mutex<Option<String>>>,
}

impl Encoder for TextEncoder<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        if let Err(error) = self.texts.put(row, &mut self.text) {
            let why = format!("column \"{}\": {}", self.column, said(&error));
            *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        }
        // Digits, signs and letters: nothing to escape.
        out.push(b'"');
        out.extend_from_slice(self.text.as_bytes());
        out.push(b'"');
    }
}

struct KeyEncoder<'a> {
    keys: Vec<usize>,
    values: NullableEncoder<'a>,
}

impl Encoder for KeyEncoder<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        self.values.encode(self.keys[row], out);
    }
}
