//! Type plans: a handler's annotations, compiled once, and data read by them.
//!
//! `compile.py` makes nodes of annotations ([`sources`] loads it, `docs/types.md` says which there
//! are), [`build`] puts them into an arena ([`node`]). [`read`] reads JSON by it in one pass, with
//! [`objects`], [`arrays`] and [`union`] for what holds other values and [`leaf`] for strings;
//! [`text`] reads what came as text, and [`args`] gives all of it to a handler's parameters.

mod args;
mod arrays;
mod bounds;
mod build;
mod fault;
mod leaf;
mod node;
mod objects;
mod read;
pub(crate) mod sources;
mod text;
mod times;
mod union;

use exuvia_core::Failure;
use pyo3::{prelude::*, types::PyModule};

pub(crate) use args::{Arg, Args};
pub(crate) use fault::{MOST, escaped};
pub(crate) use node::Plan;

use crate::{handler::Handler, raised};

// === impl Handler ===

impl Handler {
    /// The plan of what the parameters take, made when it is first asked for; `None` where masks say
    /// all of it.
    ///
    /// # Errors
    /// An annotation promises what cannot be kept.
    pub(crate) fn plan(&self, python: &Bound<'_, PyModule>) -> Result<Option<&Plan>, Failure> {
        let Some(hints) = &self.hints else { return Ok(None) };
        if let Some(plan) = self.compiled.get() {
            return Ok(Some(plan));
        }
        let plan = build::plan(python.py(), self, hints).map_err(|error| load(python, &error))?;
        Ok(Some(self.compiled.get_or_init(|| plan)))
    }
}

// === impl Plan ===

impl Plan {
    /// What is wrong with bytes that came as a file for the parameter at a place.
    ///
    /// # Errors
    /// Python raised.
    pub(crate) fn misfit_of_bytes(
        &self,
        place: usize,
        bytes: &Bound<'_, PyAny>,
    ) -> PyResult<Option<String>> {
        let Some(Some(id)) = self.params.get(place) else { return Ok(None) };
        match self.node(*id) {
            node::Node::Bytes(Some(bounds)) => {
                let length = bytes.len()?;
                bounds.check(bytes, || length, "byte")
            }
            _ => Ok(None),
        }
    }
}

/// A handler that cannot be called.
fn load(python: &Bound<'_, PyModule>, error: &PyErr) -> Failure {
    match raised::exception(python, error) {
        Failure::Exception { message, traceback, .. } => Failure::Load { message, traceback },
        other => other,
    }
}
