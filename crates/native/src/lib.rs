//! The one extension module: the wheel's `exuvia._native`, and what a worker loads as
//! `_exuvia_runtime`. Names only, no logic.

use pyo3::prelude::*;

#[pymodule(gil_used = true)]
mod _native {
    #[pymodule_export]
    use exuvia_python::{
        command::main,
        pool::Pool,
        results::Results,
        sandbox::{Bundle, Running, Sandbox, sandbox_support},
    };
    #[pymodule_export]
    use exuvia_runtime::Probe;
    #[pymodule_export]
    use exuvia_runtime::share::{Shared, share};
    #[pymodule_export]
    use exuvia_runtime::tables::{
        Column, Field, Stream, Table, Values, consume_into_python, produce_from_python,
        series_from_python, series_of,
    };
    #[pymodule_export]
    use exuvia_runtime::values::python::{
        MalformedError, UnfitError, json_dumps, json_loads, ndjson_dumps, ndjson_loads,
        value_dumps, value_loads,
    };
}

#[pymodule(gil_used = true)]
mod _exuvia_runtime {
    #[pymodule_export]
    use exuvia_runtime::tables::{Column, Field, Table, Values};
    #[pymodule_export]
    use exuvia_runtime::{main, zygote_main};
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        exuvia_runtime::tables::publish(module)
    }
}
