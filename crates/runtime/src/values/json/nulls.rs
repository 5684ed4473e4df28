//! Whether a `null` that pydantic wrote is a None.
//!
//! It writes `null` for NaN and for infinities, too. That is not for us to do, so where there is one,
//! the model is looked through: it has as many Nones as there are nulls, and no such float.

use pyo3::{
    intern,
    prelude::*,
    types::{PyDict, PyFloat, PyFrozenSet, PyList, PySet, PyTuple},
};

use crate::values::object::{DictWalk, Lazy, exact};

static MODEL: Lazy = Lazy::new("pydantic", "BaseModel");

/// How deep models are looked through.
const DEEPEST: u32 = 64;

/// What is in a model.
#[derive(Default)]
struct Found {
    nones: usize,
    /// There is a float that JSON does not have, or it is too deep to tell.
    odd: bool,
}

/// Whether every `null` in what a model was written as stands for a None in it.
pub(super) fn has_own_nulls(model: &Bound<'_, PyAny>, written: &[u8]) -> PyResult<bool> {
    let nulls = written.windows(4).filter(|four| *four == b"null").count();
    if nulls == 0 {
        return Ok(true);
    }
    let mut found = Found::default();
    found.look(model, 0)?;
    Ok(!found.odd && found.nones == nulls)
}

// === impl Found ===

impl Found {
    fn look(&mut self, object: &Bound<'_, PyAny>, depth: u32) -> PyResult<()> {
        if depth > DEEPEST {
            self.odd = true;
        } else if object.is_none() {
            self.nones += 1;
        } else if let Some(number) = exact::<PyFloat>(object) {
            self.odd |= !number.value().is_finite();
        } else if let Some(dict) = exact::<PyDict>(object) {
            for (_, value) in DictWalk::new(dict) {
                self.look(&value, depth + 1)?;
            }
        } else if object.is_exact_instance_of::<PyList>()
            || object.is_exact_instance_of::<PyTuple>()
            || object.is_exact_instance_of::<PySet>()
            || object.is_exact_instance_of::<PyFrozenSet>()
        {
            for item in object.try_iter()? {
                self.look(&item?, depth + 1)?;
            }
        } else if MODEL.is_base_of(&object.get_type()) {
            let py = object.py();
            self.look(&object.getattr(intern!(py, "__dict__"))?, depth + 1)?;
            let extra = object.getattr(intern!(py, "__pydantic_extra__"))?;
            if !extra.is_none() {
                self.look(&extra, depth + 1)?;
            }
        }
        Ok(())
    }
}
