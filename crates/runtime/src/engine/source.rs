//! Source code that comes with its call, in an isolate.

use exuvia_core::{Failure, about};
use exuvia_protocol::IncomingCall;
use pyo3::{prelude::*, types::PyModule};

use super::{Engine, Running};
use crate::handler::Handler;

// === impl Engine ===

impl Engine {
    /// Makes this the engine of an isolate.
    pub(crate) fn confine(&self) {
        exuvia_sys::shared::keep_here();
        self.confined.set(true);
    }

    /// Runs the source code of a call, if it has any, and makes its handler the call's own.
    pub(super) fn define(
        &self,
        python: &Bound<'_, PyModule>,
        call: &mut IncomingCall,
        running: &mut Running,
    ) -> PyResult<Result<(), Failure>> {
        let said = |name: &str| {
            let mut texts = call.text_arguments.iter();
            texts.find(|(own, _)| own == name).map(|(_, text)| text.as_str())
        };
        let Some(source) = said(about::SOURCE) else { return Ok(Ok(())) };
        let define = python.py().import("_exuvia_source")?.getattr("define")?;
        let defined = define.call1((python, source, said(about::ENTRYPOINT)));
        let plan = match defined {
            Ok(plan) => plan,
            Err(error) if error.is_instance(python.py(), &python.getattr("LoadError")?) => {
                let message = error.value(python.py()).to_string();
                return Ok(Err(Failure::Load { message, traceback: String::new() }));
            }
            Err(error) => return Ok(Err(running.raised(python, &error))),
        };
        let (handler, info) = Handler::from_plan(&plan)?;
        let (mut handlers, mut names) = (self.handlers.borrow_mut(), self.names.borrow_mut());
        // The place of the last one that came like this.
        let place = call.head.handler as usize;
        handlers.truncate(place);
        names.truncate(place);
        handlers.push(handler);
        names.push(info.target());
        running.handler = call.head.handler;
        Ok(Ok(()))
    }

    /// Writes what an isolate has printed: it may not live to do it later.
    pub(super) fn flush(&self, python: &Bound<'_, PyModule>) -> PyResult<()> {
        if self.confined.get() {
            python.getattr("flush")?.call0()?;
        }
        Ok(())
    }
}
