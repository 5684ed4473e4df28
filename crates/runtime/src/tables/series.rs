//! Time series as Python sees them: unit and gaps in a table's metadata.

use std::time::Duration;

use exuvia_tables::series::{self, Series, UNIT};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::{PyDelta, PyDict, PyList, PyString},
};

use super::{items::a, table::Table};
use crate::{convert, values::object::type_name};

/// Finds what is missing in a regular series, and notes it in the table's metadata, with what
/// columns are measured in.
///
/// # Errors
/// `ValueError` for times that are no series, by the row; `TypeError` for what is no table.
#[pyfunction(name = "series")]
#[pyo3(signature = (table, time, step, units=None))]
pub fn series_from_python(
    table: &Bound<'_, PyAny>,
    time: &str,
    step: &Bound<'_, PyAny>,
    units: Option<&Bound<'_, PyDict>>,
) -> PyResult<Table> {
    let py = table.py();
    let table = taken(table)?;
    let step = duration(step)?;
    let units = units.map_or_else(|| Ok(Vec::new()), texts)?;
    let noted = py.detach(|| {
        let units: Vec<_> = units.iter().map(|(name, unit)| (&**name, &**unit)).collect();
        series::put(&table, &series::describe(&table, time, step)?, &units)
    });
    noted.map(Table::from).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// What a table's metadata says of it as a series; `None` if nothing.
///
/// # Errors
/// `ValueError` for metadata that says something else; `TypeError` for what is no table.
#[pyfunction]
pub fn series_of<'py>(table: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyDict>>> {
    let py = table.py();
    let schema = taken(table)?.schema;
    let wrong = |error: &dyn ToString| PyValueError::new_err(error.to_string());
    let series = Series::from_metadata(schema.metadata()).map_err(|error| wrong(&error))?;
    let Some(series) = series else { return Ok(None) };
    let step = Duration::try_from_secs_f64(series.step_s).map_err(|error| wrong(&error))?;
    let units = PyDict::new(py);
    for field in schema.fields() {
        if let Some(unit) = field.metadata().get(UNIT) {
            units.set_item(field.name(), unit)?;
        }
    }
    let read = py.import("datetime")?.getattr("datetime")?.getattr("fromisoformat")?;
    let gaps = PyList::empty(py);
    for (first, last) in series.gaps {
        gaps.append((read.call1((first,))?, read.call1((last,))?))?;
    }
    let said = PyDict::new(py);
    said.set_item("time", series.time)?;
    said.set_item("step", step)?;
    said.set_item("gaps", gaps)?;
    said.set_item("units", units)?;
    Ok(Some(said))
}

fn taken(object: &Bound<'_, PyAny>) -> PyResult<exuvia_tables::Table> {
    let table = convert::take(object, &mut Vec::new())?;
    table.ok_or_else(|| {
        PyTypeError::new_err(format!("a series is a table, not {}", a(&type_name(object))))
    })
}

/// A step of time, in seconds or as a `timedelta`.
fn duration(step: &Bound<'_, PyAny>) -> PyResult<Duration> {
    if step.is_instance_of::<PyDelta>() {
        return step.extract();
    }
    let seconds = step.extract::<f64>().map_err(|_| {
        let name = a(&type_name(step));
        PyTypeError::new_err(format!("a step is a timedelta or a number of seconds, not {name}"))
    })?;
    Duration::try_from_secs_f64(seconds)
        .map_err(|error| PyValueError::new_err(format!("a step cannot be {seconds} s: {error}")))
}

fn texts(units: &Bound<'_, PyDict>) -> PyResult<Vec<(String, String)>> {
    let text = |object: &Bound<'_, PyAny>, what: &str| match object.cast::<PyString>() {
        Ok(text) => Ok(text.to_str()?.to_owned()),
        Err(_) => {
            let name = a(&type_name(object));
            Err(PyTypeError::new_err(format!("{what} is text, not {name}")))
        }
    };
    units
        .iter()
        .map(|(name, unit)| Ok((text(&name, "the name of a column")?, text(&unit, "a unit")?)))
        .collect()
}
