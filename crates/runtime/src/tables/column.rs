//! A column, for Python.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, cast::AsArray, make_array, new_empty_array};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, bit_util};
use arrow_data::ArrayData;
use arrow_schema::{DataType, FieldRef};
use arrow_select::concat::concat;
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::{PyByteArray, PyCapsule, PyList},
};

use super::{
    build, capsule, dictionary, field::Field, infer, items, memory, objects, table::no_arrow,
    types, uniform, values::Values,
};
use crate::values::object::new;

/// All values of a column, in one piece or several.
#[pyclass(frozen, module = "exuvia")]
pub struct Column {
    field: FieldRef,
    chunks: Vec<ArrayRef>,
    access: Access,
}

/// Who may write to the values of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Whoever has them, where they lie in a payload that is mapped for this process alone.
    ByPlace,
    /// Whoever has them: they were made for one table of one call.
    Free,
    /// Nobody.
    Locked,
}

// === impl Column ===

impl Column {
    pub(super) fn new(field: FieldRef, chunks: Vec<ArrayRef>) -> Self {
        Self { field, chunks, access: Access::ByPlace }
    }

    /// A column without a name, of one array.
    pub(super) fn of(array: ArrayRef) -> Self {
        let field = arrow_schema::Field::new("", array.data_type().clone(), true);
        Self::new(Arc::new(field), vec![array])
    }

    /// The same, free to be written to.
    pub(super) fn free(self) -> Self {
        Self { access: Access::Free, ..self }
    }

    /// The same, whose values cannot be written to.
    pub(super) fn locked(self) -> Self {
        Self { access: Access::Locked, ..self }
    }

    pub(super) fn field(&self) -> &FieldRef {
        &self.field
    }

    pub(super) fn chunks(&self) -> &[ArrayRef] {
        &self.chunks
    }

    pub(super) fn rows(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.len()).sum()
    }

    /// All values in one array; several chunks are copied together.
    pub(super) fn whole(&self) -> PyResult<ArrayRef> {
        match self.chunks.as_slice() {
            [] => Ok(new_empty_array(self.field.data_type())),
            [only] => Ok(only.clone()),
            several => {
                let several: Vec<&dyn Array> = several.iter().map(AsRef::as_ref).collect();
                concat(&several).map_err(capsule::raised)
            }
        }
    }

    /// The bytes of a value.
    fn width(&self) -> PyResult<usize> {
        types::width(self.field.data_type()).ok_or_else(|| {
            let name = types::name(self.field.data_type());
            PyTypeError::new_err(format!(
                "the values of {} column are not of fixed width",
                items::a(&name)
            ))
        })
    }
}

#[pymethods]
impl Column {
    #[getter(field)]
    fn py_field(&self) -> Field {
        Field::new(self.field.clone())
    }

    #[getter]
    fn null_count(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.logical_null_count()).sum()
    }

    #[getter]
    fn num_chunks(&self) -> usize {
        self.chunks.len()
    }

    /// The bytes that `values` has to copy because the column is in several chunks.
    #[getter]
    fn copied(&self) -> usize {
        if self.chunks.len() < 2 {
            return 0;
        }
        self.rows() * types::width(self.field.data_type()).unwrap_or(0)
    }

    fn __len__(&self) -> usize {
        self.rows()
    }

    fn __repr__(&self) -> String {
        let name = types::name(self.field.data_type());
        format!("<exuvia.Column {:?}: {} values, {name}>", self.field.name(), self.rows())
    }

    /// The values side by side, whatever stands where there are nulls; copied together if they are
    /// in several chunks.
    fn values(&self, py: Python<'_>) -> PyResult<Values> {
        let width = self.width()?;
        let whole = self.whole()?.to_data();
        let buffer = whole.buffers().first().cloned().unwrap_or_default();
        let buffer = buffer.slice_with_length(whole.offset() * width, whole.len() * width);
        // What was copied together is nobody else's.
        let access = match self.access {
            Access::ByPlace if self.chunks.len() > 1 => Access::Free,
            access => access,
        };
        Ok(Values::new(py, buffer, access))
    }

    /// A byte for each value: 1 where it is null.
    fn mask<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyByteArray>> {
        let mut mask = Vec::with_capacity(self.rows());
        for chunk in &self.chunks {
            match chunk.logical_nulls() {
                Some(nulls) => mask.extend(nulls.iter().map(|valid| u8::from(!valid))),
                None => mask.resize(mask.len() + chunk.len(), 0),
            }
        }
        new::bytearray(py, &mask)
    }

    /// A byte for each value of a column of bools.
    fn bools<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyByteArray>> {
        let mut bools = Vec::with_capacity(self.rows());
        for chunk in &self.chunks {
            let Some(chunk) = chunk.as_boolean_opt() else {
                let name = types::name(self.field.data_type());
                return Err(PyTypeError::new_err(format!(
                    "{} column has no bools",
                    items::a(&name)
                )));
            };
            bools.extend(chunk.values().iter().map(u8::from));
        }
        new::bytearray(py, &bools)
    }

    /// The values as plain Python objects.
    pub(super) fn to_list<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        objects::list(py, &self.field, &self.chunks)
    }

    /// The indices and the values of a dictionary, one set of values for all chunks.
    fn dictionary(&self) -> PyResult<(Self, Self)> {
        dictionary::split(&self.field, &self.chunks)
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        // A wish, which the interface allows not to be heard.
        let _ = requested_schema;
        let chunks = self.chunks.clone().into_iter().map(Ok);
        capsule::stream(py, self.field.clone(), Box::new(chunks))
    }

    /// Several chunks are copied together; `__arrow_c_stream__` gives them as they are.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
        let _ = requested_schema;
        capsule::array(py, &self.field, &self.whole()?)
    }

    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        capsule::schema(py, &self.field)
    }

    /// Makes a column of any object with `__arrow_c_stream__` or `__arrow_c_array__`; a table
    /// becomes one of structs.
    #[staticmethod]
    fn from_arrow(obj: &Bound<'_, PyAny>) -> PyResult<Self> {
        let Some((field, arrays)) = capsule::taken(obj)? else { return Err(no_arrow(obj)) };
        let chunks = obj.py().detach(|| arrays.collect::<Result<Vec<_>, _>>());
        Ok(Self::new(field, chunks.map_err(capsule::raised)?))
    }

    /// Makes a column of the memory of any C-contiguous buffer object, which is kept, not copied.
    #[staticmethod]
    #[pyo3(signature = (buffer, r#type, nulls=None, unit=None, tz=None))]
    fn from_buffer(
        buffer: &Bound<'_, PyAny>,
        r#type: &str,
        nulls: Option<&Bound<'_, PyAny>>,
        unit: Option<&str>,
        tz: Option<&str>,
    ) -> PyResult<Self> {
        let data_type = types::parse(r#type, unit, tz).map_err(PyValueError::new_err)?;
        let Some(width) = types::width(&data_type) else {
            return Err(PyTypeError::new_err(format!("{} is not of fixed width", r#type)));
        };
        let values = memory::lent(buffer)?;
        if values.len() % width != 0 {
            let bytes = values.len();
            let message = format!("{bytes} bytes are no whole number of values of {width} bytes");
            return Err(PyValueError::new_err(message));
        }
        let rows = values.len() / width;
        Ok(Self::of(fixed(data_type, rows, values, null_buffer(nulls, rows)?)?))
    }

    /// Makes a column of bools of a buffer object with one byte for each.
    #[staticmethod]
    #[pyo3(signature = (buffer, nulls=None))]
    fn from_bools(buffer: &Bound<'_, PyAny>, nulls: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let values = BooleanBuffer::from(memory::flags(buffer)?);
        let nulls = null_buffer(nulls, values.len())?;
        Ok(Self::of(Arc::new(arrow_array::BooleanArray::new(values, nulls))))
    }

    /// Makes a column of plain Python objects, of the type given or of one that holds them all.
    #[staticmethod]
    #[pyo3(signature = (values, r#type=None))]
    fn from_objects(values: &Bound<'_, PyAny>, r#type: Option<&str>) -> PyResult<Self> {
        let data_type = r#type.map(|text| types::parse(text, None, None)).transpose();
        let data_type = data_type.map_err(PyValueError::new_err)?;
        let values = values.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        Ok(Self::of(objects_to_array(&values, data_type.as_ref(), |index| {
            format!("value {index}")
        })?))
    }

    /// Makes a column of dictionary values out of indices and what they stand for.
    #[staticmethod]
    fn from_dictionary(indices: &Self, values: &Self, ordered: bool) -> PyResult<Self> {
        dictionary::join(indices, values, ordered)
    }
}

/// An array of Python objects; `place` names the one that does not fit.
pub(super) fn objects_to_array(
    values: &[Bound<'_, PyAny>],
    data_type: Option<&DataType>,
    place: impl Fn(usize) -> String,
) -> PyResult<ArrayRef> {
    if data_type.is_none()
        && let Some(array) = uniform::array(values)
    {
        return Ok(array);
    }
    let items = items::read(values, &place)?;
    let data_type = match data_type {
        Some(data_type) => data_type.clone(),
        None => infer::data_type(&items, &place)?,
    };
    build::array(&items.iter().collect::<Vec<_>>(), &data_type, &place)
}

/// An array of fixed-width values, copied only if they do not lie where the type has to lie.
fn fixed(
    data_type: DataType,
    rows: usize,
    values: Buffer,
    nulls: Option<NullBuffer>,
) -> PyResult<ArrayRef> {
    let data = ArrayData::builder(data_type)
        .len(rows)
        .add_buffer(values)
        .nulls(nulls)
        .align_buffers(true)
        .build()
        .map_err(capsule::raised)?;
    Ok(make_array(data))
}

/// Nulls from flags, one byte for each value: 1 is null.
fn null_buffer(flags: Option<&Bound<'_, PyAny>>, rows: usize) -> PyResult<Option<NullBuffer>> {
    let Some(flags) = flags.filter(|flags| !flags.is_none()) else { return Ok(None) };
    let flags = memory::flags(flags)?;
    if flags.len() != rows {
        let message = format!("{} flags for {rows} values", flags.len());
        return Err(PyValueError::new_err(message));
    }
    if !flags.contains(&true) {
        return Ok(None);
    }
    let mut valid = arrow_buffer::MutableBuffer::from_len_zeroed(bit_util::ceil(rows, 8));
    for (index, null) in flags.iter().enumerate() {
        if !null {
            bit_util::set_bit(valid.as_slice_mut(), index);
        }
    }
    Ok(Some(NullBuffer::new(BooleanBuffer::new(valid.into(), 0, rows))))
}
