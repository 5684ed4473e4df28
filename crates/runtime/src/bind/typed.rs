//! Arguments by a type plan.

use exuvia_core::{Codec, Copied, Failure};
use pyo3::{
    prelude::*,
    types::{PyDict, PyModule, PyTuple},
};

use super::{Arguments, Given, fault, fit, refuse, text, text::Texts};
use crate::{
    handler::{Handler, ParamKind},
    plan::{Arg, Args, Plan},
    raised,
    received::Making,
};

/// Reads a call's data by `plan`.
pub(super) fn bind<'py>(
    python: &Bound<'py, PyModule>,
    handler: &Handler,
    plan: &Plan,
    (given, texts): (&Given<'_>, &Texts<'_>),
    copies: &mut Vec<Copied>,
) -> Result<Arguments<'py>, Failure> {
    let py = python.py();
    let body = given.data.bytes();
    let read = match given.data.codec {
        Codec::Json => plan.read_json(py, handler, body),
        Codec::Ndjson => plan.read_ndjson(py, handler, body),
        _ => Ok(Args::none(handler)),
    };
    let mut args = read.map_err(|error| raised::malformed(python, &error))?;
    read_texts(python, (handler, plan), texts, &mut args)?;
    let making = &mut Making { copies, limits: given.limits };
    for (place, param) in handler.params.iter().enumerate() {
        match &args.slots[place] {
            Arg::Missing if param.required => {
                args.faults.push(fault(&param.name, "is missing".into()));
            }
            // A table, or what a library makes one of.
            Arg::Given(value) if plan.params[place].is_none() => {
                let faults = (&mut args.faults, &mut *making);
                if let Some(better) = fit(python, param, value, true, faults)? {
                    args.slots[place] = Arg::Given(better);
                }
            }
            _ => {}
        }
    }
    refuse(args.faults)?;
    let by_place = plan.by_place;
    finish(handler, by_place, (args.slots, args.more, args.first_by_place), py)
        .map_err(|error| raised::exception(python, &error))
}

/// Adds what came as text.
fn read_texts<'py>(
    python: &Bound<'py, PyModule>,
    (handler, plan): (&Handler, &Plan),
    texts: &Texts<'_>,
    args: &mut Args<'py>,
) -> Result<(), Failure> {
    for (place, texts) in texts.by_place() {
        let param = &handler.params[place];
        if !matches!(args.slots[place], Arg::Missing) {
            args.faults.push(fault(&param.name, "is given twice".into()));
            continue;
        }
        args.slots[place] = match text::argument(python, (handler, Some(plan)), place, texts)? {
            Ok(value) => Arg::Given(value),
            Err(found) => {
                args.faults.extend(found);
                Arg::Faulty
            }
        };
    }
    if texts.has_others() {
        let more = args.more(python.py());
        let more = more.map_err(|error| raised::exception(python, &error))?.clone();
        text::others(python, handler, texts, (&more, &mut args.faults))?;
    }
    Ok(())
}

/// Arguments as a call takes them: by place as far as that goes.
fn finish<'py>(
    handler: &Handler,
    by_place: bool,
    (slots, more, first_by_place): (Vec<Arg<'py>>, Option<Bound<'py, PyDict>>, bool),
    py: Python<'py>,
) -> PyResult<Arguments<'py>> {
    let mut positional = Vec::with_capacity(slots.len());
    let mut keywords = more;
    let mut gap = false;
    for (place, (param, slot)) in handler.params.iter().zip(slots).enumerate() {
        let Arg::Given(value) = slot else {
            gap = true;
            continue;
        };
        let may =
            by_place || param.kind == ParamKind::PositionalOnly || (place == 0 && first_by_place);
        gap |= !may || param.kind == ParamKind::KeywordOnly;
        if gap {
            let keywords = keywords.get_or_insert_with(|| PyDict::new(py));
            keywords.set_item(&param.key, value)?;
        } else {
            positional.push(value);
        }
    }
    let positional = match positional.is_empty() {
        true => PyTuple::empty(py),
        false => PyTuple::new(py, positional)?,
    };
    Ok(Arguments { positional, keywords: keywords.filter(|keywords| !keywords.is_empty()) })
}
