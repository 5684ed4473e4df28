//! Arrow's C stream interface, both ends: arrays of one type, made one by one by whoever pulls.
//!
//! Arrow's Rust library has both ends for record batches only, panics over what it does not expect,
//! and loses what a producer said when its schema could not be had.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
    sync::Arc,
};

use arrow_array::{
    Array, ArrayRef, RecordBatch, RecordBatchOptions, StructArray, cast::AsArray,
    ffi_stream::FFI_ArrowArrayStream,
};
use arrow_data::ffi::FFI_ArrowArray;
use arrow_schema::{
    ArrowError, DataType, Field, FieldRef, Schema, SchemaRef,
    ffi::{FFI_ArrowSchema, Flags},
};

use super::foreign::import;

/// What the C interface calls invalid; consumers read the text, not the number.
const EINVAL: c_int = 22;

/// Arrays that are still to be made.
pub(super) type Arrays = Box<dyn Iterator<Item = Result<ArrayRef, ArrowError>> + Send>;

/// Behind a stream that somebody else pulls.
struct Producer {
    field: FieldRef,
    /// `None` once it has failed.
    arrays: Option<Arrays>,
    error: Option<CString>,
}

/// A stream that somebody else produces.
pub(super) struct Pulled {
    stream: FFI_ArrowArrayStream,
    field: FieldRef,
    ended: bool,
}

// === impl Producer ===

/// A stream of these arrays, which all are of the field's type.
pub(super) fn export(field: FieldRef, arrays: Arrays) -> FFI_ArrowArrayStream {
    let producer = Box::new(Producer { field, arrays: Some(arrays), error: None });
    FFI_ArrowArrayStream {
        get_schema: Some(get_schema),
        get_next: Some(get_next),
        get_last_error: Some(get_last_error),
        release: Some(release),
        private_data: Box::into_raw(producer).cast::<c_void>(),
    }
}

impl Producer {
    fn schema(&mut self) -> Result<FFI_ArrowSchema, ArrowError> {
        schema_for(&self.field)
    }

    /// The next array, or an empty one at the end.
    fn next(&mut self) -> Result<FFI_ArrowArray, ArrowError> {
        let Some(arrays) = &mut self.arrays else {
            return Err(ArrowError::CDataInterface("the stream has failed before".to_owned()));
        };
        let array = arrays.next().transpose()?;
        Ok(array.map_or_else(FFI_ArrowArray::empty, |array| FFI_ArrowArray::new(&array.to_data())))
    }

    /// Does one step; a failure or a panic in it is kept as text, and a stream that failed has
    /// nothing more to give.
    fn step<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T, ArrowError>) -> Option<T> {
        let done = catch_unwind(AssertUnwindSafe(|| step(self)));
        let text = match done {
            Ok(Ok(made)) => return Some(made),
            Ok(Err(error)) => error_text(&error),
            Err(_) => "the producer of the stream panicked".to_owned(),
        };
        // What is dropped here may panic, too.
        let arrays = self.arrays.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(arrays)));
        self.error = CString::new(text.replace('\0', " ")).ok();
        None
    }
}

/// The producer behind a stream that [`export`] made.
///
/// # Safety
/// The stream is one of those, not released, and nobody else uses it meanwhile.
unsafe fn producer<'a>(stream: *mut FFI_ArrowArrayStream) -> &'a mut Producer {
    // JUSTIFICATION: the C interface knows the producer only by this pointer.
    // SAFETY: `export` put it there, `release` alone takes it away, and callers of the interface
    // do one thing at a time with a stream.
    unsafe { &mut *(*stream).private_data.cast::<Producer>() }
}

unsafe extern "C" fn get_schema(
    stream: *mut FFI_ArrowArrayStream,
    out: *mut FFI_ArrowSchema,
) -> c_int {
    // SAFETY: the interface calls this with a stream of ours.
    let Some(schema) = (unsafe { producer(stream) }).step(Producer::schema) else { return EINVAL };
    // JUSTIFICATION: the interface hands results over by pointer.
    // SAFETY: the caller gives a place to write to, whose content does not matter.
    unsafe { ptr::write(out, schema) };
    0
}

unsafe extern "C" fn get_next(
    stream: *mut FFI_ArrowArrayStream,
    out: *mut FFI_ArrowArray,
) -> c_int {
    // SAFETY: the interface calls this with a stream of ours.
    let Some(array) = (unsafe { producer(stream) }).step(Producer::next) else { return EINVAL };
    // JUSTIFICATION: the interface hands results over by pointer.
    // SAFETY: the caller gives a place to write to, whose content does not matter.
    unsafe { ptr::write(out, array) };
    0
}

unsafe extern "C" fn get_last_error(stream: *mut FFI_ArrowArrayStream) -> *const c_char {
    // SAFETY: the interface calls this with a stream of ours; the text stays until the next step.
    let error = unsafe { &producer(stream).error };
    error.as_ref().map_or(ptr::null(), |text| text.as_ptr())
}

unsafe extern "C" fn release(stream: *mut FFI_ArrowArrayStream) {
    // JUSTIFICATION: the C interface knows the producer only by this pointer.
    // SAFETY: `export` made it of a box; a released stream is marked so, and released only once.
    let producer = unsafe {
        (*stream).release = None;
        Box::from_raw((*stream).private_data.cast::<Producer>())
    };
    let _ = catch_unwind(AssertUnwindSafe(|| drop(producer)));
}

// === impl Pulled ===

impl Pulled {
    /// Asks a stream for its type.
    pub(super) fn open(mut stream: FFI_ArrowArrayStream) -> Result<Self, ArrowError> {
        let Some(get_schema) = stream.get_schema.filter(|_| stream.release.is_some()) else {
            return Err(ArrowError::CDataInterface("this stream was used before".to_owned()));
        };
        let mut schema = FFI_ArrowSchema::empty();
        // JUSTIFICATION: the stream is a C interface.
        // SAFETY: it is alive (asked above), and `schema` a place to write to.
        let code = unsafe { get_schema(&raw mut stream, &raw mut schema) };
        if code != 0 {
            return Err(last_error(&mut stream, code));
        }
        let field = Arc::new(field_of(&schema)?);
        Ok(Self { stream, field, ended: false })
    }

    /// The type of what comes.
    pub(super) fn field(&self) -> &FieldRef {
        &self.field
    }

    fn pull(&mut self) -> Result<Option<ArrayRef>, ArrowError> {
        let Some(get_next) = self.stream.get_next else { return Ok(None) };
        let mut array = FFI_ArrowArray::empty();
        // JUSTIFICATION: the stream is a C interface.
        // SAFETY: it is alive, since it belongs to `self`, and `array` a place to write to.
        let code = unsafe { get_next(&raw mut self.stream, &raw mut array) };
        if code != 0 {
            return Err(last_error(&mut self.stream, code));
        }
        if array.is_released() {
            return Ok(None);
        }
        import(array, self.field.data_type()).map(Some)
    }
}

impl Iterator for Pulled {
    type Item = Result<ArrayRef, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let pulled = self.pull().transpose();
        self.ended = !matches!(pulled, Some(Ok(_)));
        pulled
    }
}

/// What the last thing done with a stream failed of.
fn last_error(stream: &mut FFI_ArrowArrayStream, code: c_int) -> ArrowError {
    let text = stream.get_last_error.and_then(|get_last_error| {
        // JUSTIFICATION: the stream is a C interface.
        // SAFETY: it is alive; what it answers is null, or a text that stays until it is used next.
        unsafe {
            let text = get_last_error(&raw mut *stream);
            (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    });
    let text = text.unwrap_or_else(|| format!("the stream failed with the code {code}"));
    ArrowError::CDataInterface(text)
}

/// A type of the C interface as one of ours.
pub(super) fn field_of(schema: &FFI_ArrowSchema) -> Result<Field, ArrowError> {
    let unread =
        |why: &str| ArrowError::CDataInterface(format!("the schema cannot be read: {why}"));
    if schema.release.is_none() {
        return Err(unread("it was used before"));
    }
    match catch_unwind(AssertUnwindSafe(|| Field::try_from(schema))) {
        Ok(made) => made.map_err(|error| unread(&error_text(&error))),
        Err(_) => Err(unread("it is broken")),
    }
}

/// A type for the C interface. Arrow's own conversion forgets whether the keys of a map are sorted.
pub(super) fn schema_for(field: &Field) -> Result<FFI_ArrowSchema, ArrowError> {
    let mut flags = Flags::empty();
    flags.set(Flags::NULLABLE, field.is_nullable());
    flags.set(Flags::DICTIONARY_ORDERED, field.dict_is_ordered().unwrap_or(false));
    flags.set(Flags::MAP_KEYS_SORTED, matches!(field.data_type(), DataType::Map(_, true)));
    let dictionary = match field.data_type() {
        DataType::Dictionary(_, value) => {
            Some(schema_for(&Field::new("", value.as_ref().clone(), true))?)
        }
        _ => None,
    };
    let children = children(field.data_type()).map(schema_for);
    let children = children.collect::<Result<Vec<_>, _>>()?;
    let plain;
    let format = match field.data_type() {
        DataType::Struct(_) => "+s",
        other => {
            plain = FFI_ArrowSchema::try_from(other)?;
            plain.format()
        }
    };
    FFI_ArrowSchema::try_new(format, children, dictionary)?
        .with_name(field.name())?
        .with_flags(flags)?
        .with_metadata(field.metadata())
}

/// The fields of what an array of a type has inside.
pub(super) fn children(data_type: &DataType) -> Box<dyn Iterator<Item = &Field> + '_> {
    use DataType as T;
    match data_type {
        T::List(child)
        | T::LargeList(child)
        | T::ListView(child)
        | T::LargeListView(child)
        | T::FixedSizeList(child, _)
        | T::Map(child, _) => Box::new(std::iter::once(child.as_ref())),
        T::Struct(fields) => Box::new(fields.iter().map(AsRef::as_ref)),
        T::Union(fields, _) => Box::new(fields.iter().map(|(_, field)| field.as_ref())),
        T::RunEndEncoded(ends, values) => Box::new([ends.as_ref(), values.as_ref()].into_iter()),
        _ => Box::new(std::iter::empty()),
    }
}

// === tables as arrays ===

/// A table's schema as the field that a stream of it has.
pub(super) fn struct_field(schema: &Schema) -> Field {
    let fields = DataType::Struct(schema.fields().clone());
    Field::new("", fields, false).with_metadata(schema.metadata().clone())
}

/// The schema of a table that comes as arrays of this type: of structs, or of plain values, which
/// make one column.
pub(super) fn schema_of(field: &Field) -> Schema {
    if let DataType::Struct(fields) = field.data_type() {
        return Schema::new_with_metadata(fields.clone(), field.metadata().clone());
    }
    let named = if field.name().is_empty() { "value" } else { field.name() };
    Schema::new(vec![field.clone().with_name(named)])
}

/// A batch as an array of structs.
pub(super) fn array_of(batch: RecordBatch) -> ArrayRef {
    Arc::new(StructArray::from(batch))
}

/// An array as a batch of the schema that [`schema_of`] made for it.
pub(super) fn batch_of(schema: &SchemaRef, array: ArrayRef) -> Result<RecordBatch, ArrowError> {
    let rows = array.len();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let columns = match array.as_struct_opt() {
        None => vec![array],
        Some(rows) if rows.null_count() > 0 => {
            let text = "a row of a table cannot be null as a whole".to_owned();
            return Err(ArrowError::InvalidArgumentError(text));
        }
        Some(rows) => rows.columns().to_vec(),
    };
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
}

/// What an error says, without the words Arrow puts before it where it was our own.
pub(super) fn error_text(error: &ArrowError) -> String {
    match error {
        ArrowError::CDataInterface(text)
        | ArrowError::InvalidArgumentError(text)
        | ArrowError::SchemaError(text)
        | ArrowError::ComputeError(text) => text.clone(),
        ArrowError::ExternalError(error) => error.to_string(),
        other => other.to_string(),
    }
}
