//! Routes from an OpenAPI document: operations lead to handlers, or to stubs that answer with
//! examples. What is promised of it is in `docs/routes.md`, "From OpenAPI to routes".
//!
//! * `document`: the text as data, references, places; `operation`: what it says of each operation;
//! * `matching`: which handler an operation leads to, and with which arguments; `renamed`: a
//!   handler that knows a parameter by another name;
//! * `schemas`: the document's schemas as JSON Schema, `graph`: which of them lead to which, `faults`:
//!   sentences of what does not fit;
//! * `stub`: what answers where there is no handler, `text`: its arguments, `example` and `pattern`:
//!   its answer, `described`: what the server's own document says of it.

mod described;
mod document;
mod example;
mod faults;
mod graph;
mod matching;
mod operation;
mod pattern;
mod renamed;
mod schemas;
mod stub;
#[cfg(test)]
mod tests;
mod text;

use std::{fmt, sync::Arc};

use exuvia_core::{CallIds, Target};
use serde_json::Value;

use self::{
    described::Description,
    document::{Document, Wrong},
    matching::Match,
    operation::Operation,
    schemas::Schemas,
};
use crate::route::Route;

/// Memory for the stack on which a document is read.
const STACK: usize = 64 << 20;

/// What a document makes.
pub struct FromDocument {
    /// One for each operation. Handlers that none of them leads to are not among these.
    pub routes: Vec<Route>,
    /// Operations without a handler, as people name routes: `GET /x/{y}`.
    pub stubs: Vec<String>,
    /// What is left out or looks wrong, in sentences.
    pub warnings: Vec<String>,
    /// The stubs as workers describe handlers (`docs/types.md`, "Inside"): for [`merge`].
    pub description: Value,
}

/// Why a document cannot be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecError {
    /// The document's file.
    pub file: String,
    /// The line, from 1, where it is known.
    pub line: Option<usize>,
    /// The place as a JSON Pointer; empty for the whole.
    pub pointer: String,
    /// What is wrong, in a sentence.
    pub message: String,
}

/// Routes of `document`, which is JSON or YAML; `origin` is its file's name.
///
/// # Errors
/// The document cannot be understood, or does not fit the handlers.
pub fn routes(
    document: &str,
    origin: &str,
    handlers: &[Arc<dyn Target>],
) -> Result<FromDocument, SpecError> {
    let read = || {
        let document = Document::read(document, origin)?;
        make(&document, origin, handlers).map_err(|wrong| document.error(wrong))
    };
    // As deep as a document may be nested, so deep are the stacks of those who read it.
    let read = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("openapi".into()).stack_size(STACK);
        thread.spawn_scoped(scope, read).map(std::thread::ScopedJoinHandle::join)
    });
    let failed = |message: String| {
        Err(SpecError { file: origin.to_owned(), line: None, pointer: String::new(), message })
    };
    match read {
        Ok(Ok(read)) => read,
        Ok(Err(_)) => failed("reading the document failed: this is a fault of Exuvia".into()),
        Err(error) => failed(format!("there is no thread to read the document: {error}")),
    }
}

fn make(
    document: &Document,
    origin: &str,
    handlers: &[Arc<dyn Target>],
) -> Result<FromDocument, Wrong> {
    let mut made = FromDocument {
        routes: Vec::new(),
        stubs: Vec::new(),
        warnings: Vec::new(),
        description: Value::Null,
    };
    let operations = operation::all(document, &mut made.warnings)?;
    let mut schemas = Schemas::new(document);
    let mut stubs = Vec::new();
    for operation in &operations {
        // Those with a handler too: what is wrong with a document does not depend on handlers.
        let plan = stub::Plan::new(operation, &mut schemas)?;
        match matching::find(operation, handlers)? {
            Match::Handler(target) => {
                let route = matching::route(operation, target, origin, &mut made.warnings)?;
                made.routes.push(route);
            }
            Match::None(why) => {
                made.stubs.push(operation.name());
                made.warnings.extend(why);
                stubs.push(plan);
            }
        }
    }
    let schemas = Arc::new(schemas.compile()?);
    let ids = Arc::new(CallIds::new());
    let mut description = Description::default();
    for plan in stubs {
        description.add(&schemas, &plan.told());
        made.routes.push(plan.route(document, &schemas, &ids, origin, &mut made.warnings)?);
    }
    made.description = description.finish(&schemas);
    Ok(made)
}

/// Adds to what workers say of handlers what is said of stubs.
pub fn merge(description: &mut Value, stubs: &Value) {
    if !description.is_object() {
        *description = Value::Object(serde_json::Map::new());
    }
    for part in ["handlers", "definitions"] {
        let Some(more) = stubs[part].as_object().filter(|more| !more.is_empty()) else { continue };
        if !description[part].is_object() {
            description[part] = Value::Object(serde_json::Map::new());
        }
        if let Some(all) = description[part].as_object_mut() {
            all.extend(more.iter().map(|(name, said)| (name.clone(), said.clone())));
        }
    }
}

// === impl SpecError ===

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.message)?;
        if !self.pointer.is_empty() {
            write!(f, " (at {})", self.pointer)?;
        }
        Ok(())
    }
}

impl std::error::Error for SpecError {}

// === impl Operation ===

impl Operation<'_> {
    /// `GET /x/{y}`.
    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}
