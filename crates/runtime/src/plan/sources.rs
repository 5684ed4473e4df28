//! The Python half of type plans, loaded when the first typed handler is called.

use std::ffi::CStr;

use pyo3::{exceptions::PyValueError, ffi::c_str, prelude::*, sync::PyOnceLock, types::PyModule};

use crate::convert;

/// Source, file and name of a module.
type Source = (&'static CStr, &'static CStr, &'static CStr);

/// What compiles annotations; each imports those before it.
const COMPILE: [Source; 4] = [
    (c_str!(include_str!("bounds.py")), c"<exuvia plan bounds>", c"_exuvia_plan_bounds"),
    (c_str!(include_str!("names.py")), c"<exuvia plan names>", c"_exuvia_plan_names"),
    (c_str!(include_str!("fields.py")), c"<exuvia plan fields>", c"_exuvia_plan_fields"),
    (c_str!(include_str!("compile.py")), c"<exuvia plan>", c"_exuvia_plan"),
];
/// What knows pydantic and msgspec, after those.
const LIBRARY: [Source; 2] = [
    (c_str!(include_str!("patterns.py")), c"<exuvia plan patterns>", c"_exuvia_plan_patterns"),
    (c_str!(include_str!("library.py")), c"<exuvia plan library>", c"_exuvia_plan_library"),
];
/// What makes schemas, after all of those.
const SCHEMA: [Source; 2] = [
    (c_str!(include_str!("naming.py")), c"<exuvia plan naming>", c"_exuvia_plan_naming"),
    (c_str!(include_str!("schema.py")), c"<exuvia plan schema>", c"_exuvia_plan_schema"),
];

/// The module that compiles annotations.
pub(crate) fn compiler(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    static COMPILER: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let compiler = COMPILER.get_or_try_init(py, || load(py, &COMPILE))?;
    Ok(compiler.bind(py))
}

/// The module of type plans with this name.
#[pyfunction]
pub(crate) fn plan_module<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyModule>> {
    static LOADED: [PyOnceLock<Py<PyModule>>; 2] = [PyOnceLock::new(), PyOnceLock::new()];
    let compiler = compiler(py)?;
    let load = |place: usize, sources| {
        let module = LOADED[place].get_or_try_init(py, || load(py, sources))?;
        Ok(module.bind(py).clone())
    };
    match name {
        "compile" => Ok(compiler.clone()),
        "library" => load(0, &LIBRARY),
        "schema" => load(0, &LIBRARY).and_then(|_| load(1, &SCHEMA)),
        name => Err(PyValueError::new_err(format!("there is no module of plans called {name}"))),
    }
}

/// Loads modules one after the other; the last is the one that is asked for.
fn load(py: Python<'_>, sources: &[Source]) -> PyResult<Py<PyModule>> {
    let mut last = None;
    for (source, file, name) in sources {
        let module = PyModule::from_code(py, source, file, name)?;
        module.setattr("table_target", wrap_pyfunction!(convert::table_target, &module)?)?;
        module.setattr("plan_module", wrap_pyfunction!(plan_module, &module)?)?;
        last = Some(module.unbind());
    }
    last.ok_or_else(|| PyValueError::new_err("there is nothing to load"))
}
