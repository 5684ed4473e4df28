//! A column's description, for Python.

use std::collections::HashMap;

use arrow_schema::{DataType, FieldRef};
use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    types::{PyBytes, PyDict},
};

use super::types;
use crate::values::object::new;

/// What a column is called and of what type it is.
#[pyclass(frozen, module = "exuvia")]
pub struct Field(FieldRef);

impl Field {
    pub(super) fn new(field: FieldRef) -> Self {
        Self(field)
    }
}

#[pymethods]
impl Field {
    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }

    /// The type in Arrow's words.
    #[getter]
    fn r#type(&self) -> String {
        types::name(self.0.data_type())
    }

    /// The first word of the type.
    #[getter]
    fn kind(&self) -> &'static str {
        types::kind(self.0.data_type())
    }

    /// The unit of a time: `s`, `ms`, `us` or `ns`.
    #[getter]
    fn unit(&self) -> Option<&'static str> {
        types::unit(self.0.data_type()).map(types::unit_name)
    }

    /// The time zone of a timestamp that has one.
    #[getter]
    fn tz(&self) -> Option<&str> {
        match self.0.data_type() {
            DataType::Timestamp(_, zone) => zone.as_deref(),
            _ => None,
        }
    }

    #[getter]
    fn nullable(&self) -> bool {
        self.0.is_nullable()
    }

    /// Whether the order of a dictionary's values means something.
    #[getter]
    fn ordered(&self) -> bool {
        self.0.dict_is_ordered().unwrap_or(false)
    }

    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        metadata_dict(py, self.0.metadata())
    }

    /// The bytes of each value, where all have the same.
    #[getter]
    fn width(&self) -> Option<usize> {
        types::width(self.0.data_type())
    }

    fn __repr__(&self) -> String {
        let null = if self.0.is_nullable() { "" } else { " not null" };
        format!("<exuvia.Field {:?}: {}{null}>", self.0.name(), self.r#type())
    }

    fn __eq__(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

/// Arrow's metadata as Python has it: bytes, since other programs put anything there.
pub(super) fn metadata_dict<'py>(
    py: Python<'py>,
    metadata: &HashMap<String, String>,
) -> PyResult<Bound<'py, PyDict>> {
    let mut entries: Vec<_> = metadata.iter().collect();
    entries.sort();
    let dict = new::dict(py)?;
    for (key, value) in entries {
        dict.set_item(new::bytes(py, key.as_bytes())?, new::bytes(py, value.as_bytes())?)?;
    }
    Ok(dict)
}

/// Metadata from Python.
pub(super) fn metadata_map(dict: &Bound<'_, PyDict>) -> PyResult<HashMap<String, String>> {
    let text = |object: &Bound<'_, PyAny>| -> PyResult<String> {
        let bytes = object.cast::<PyBytes>()?.as_bytes();
        let text = std::str::from_utf8(bytes);
        Ok(text.map_err(|_| PyValueError::new_err("metadata has to be UTF-8"))?.to_owned())
    };
    dict.iter().map(|(key, value)| Ok((text(&key)?, text(&value)?))).collect()
}
