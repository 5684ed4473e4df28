//! A handler as its plan in `worker.py` describes it.

use std::{
    cell::{Cell, OnceCell},
    time::Duration,
};

use exuvia_core::{HandlerInfo, HandlerKind, Param};
use pyo3::{
    prelude::*,
    types::{PyDict, PyString},
};

use crate::plan;

/// Which values a parameter takes; the same numbers are in `worker.py`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mask(pub(crate) u16);

impl Mask {
    pub(crate) const NONE: Self = Self(1);
    pub(crate) const BOOL: Self = Self(1 << 1);
    pub(crate) const INT: Self = Self(1 << 2);
    pub(crate) const FLOAT: Self = Self(1 << 3);
    pub(crate) const STR: Self = Self(1 << 4);
    pub(crate) const LIST: Self = Self(1 << 5);
    pub(crate) const DICT: Self = Self(1 << 6);
    pub(crate) const TABLE: Self = Self(1 << 7);
    pub(crate) const ANY: Self = Self(1 << 8);
    /// What JSON data as a whole may be for.
    const DATA: Self = Self(Self::LIST.0 | Self::DICT.0 | Self::TABLE.0);

    /// Whether any of `other` is taken.
    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// What is taken, in words: `an integer or null`.
    pub(crate) fn words(self) -> String {
        const WORDS: [(Mask, &str); 8] = [
            (Mask::BOOL, "true or false"),
            (Mask::INT, "an integer"),
            (Mask::FLOAT, "a number"),
            (Mask::STR, "a string"),
            (Mask::LIST, "a list"),
            (Mask::DICT, "an object"),
            (Mask::TABLE, "a table (a list of objects)"),
            (Mask::NONE, "null"),
        ];
        let words: Vec<_> =
            WORDS.iter().filter(|(bit, _)| self.has(*bit)).map(|(_, word)| *word).collect();
        words.join(" or ")
    }
}

/// How a parameter is given; the same numbers are in `worker.py`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParamKind {
    PositionalOnly,
    PositionalOrKeyword,
    KeywordOnly,
}

/// One parameter.
pub(crate) struct PlannedParam {
    pub(crate) key: Py<PyString>,
    pub(crate) name: String,
    pub(crate) kind: ParamKind,
    pub(crate) required: bool,
    pub(crate) mask: Mask,
    /// The kind of table it asks for, as `asked.py` has them.
    pub(crate) table: Option<Py<PyAny>>,
    /// Whether it asks for one that is read piece by piece.
    pub(crate) reads: bool,
}

impl PlannedParam {
    /// Whether it takes nothing but a table or array: lists of objects are data like other.
    pub(crate) fn is_table(&self) -> bool {
        self.mask.has(Mask::TABLE) || (self.mask.has(Mask::ANY) && self.table.is_some())
    }
}

/// A handler and all that a call needs to know of it.
pub(crate) struct Handler {
    pub(crate) function: Py<PyAny>,
    pub(crate) is_async: bool,
    pub(crate) params: Vec<PlannedParam>,
    pub(crate) required: usize,
    pub(crate) has_positional_only: bool,
    pub(crate) open_positional: bool,
    pub(crate) open_keywords: bool,
    /// The parameter that an object as a whole may be for, by place.
    pub(crate) whole: Option<usize>,
    /// Its annotations, where masks do not say all of them.
    pub(crate) hints: Option<Py<PyDict>>,
    /// What was made of `hints`: see [`Handler::plan`].
    pub(crate) compiled: OnceCell<plan::Plan>,
    /// How long it ran last time; before the first, for ever.
    pub(crate) last_run: Cell<Duration>,
}

/// A plan as `worker.py` makes it.
type Plan<'py> = (
    Bound<'py, PyAny>,
    String,
    String,
    bool,
    bool,
    Vec<(Bound<'py, PyString>, u8, bool, u16, Option<Bound<'py, PyAny>>, String, Option<String>)>,
    bool,
    bool,
    String,
    String,
    Vec<(String, String)>,
    Option<Bound<'py, PyDict>>,
);

impl Handler {
    /// Reads a plan: the handler, and what the host is told of it.
    pub(crate) fn from_plan(plan: &Bound<'_, PyAny>) -> PyResult<(Self, HandlerInfo)> {
        let (
            function,
            module,
            name,
            is_async,
            streams,
            planned,
            open_positional,
            open_keywords,
            doc,
            returns,
            routes,
            hints,
        ): Plan<'_> = plan.extract()?;
        let mut params = Vec::with_capacity(planned.len());
        let mut told = Vec::with_capacity(planned.len());
        for (key, kind, required, mask, table, annotation, default) in planned {
            let name: String = key.extract()?;
            told.push(Param { name: name.clone(), annotation, required, default });
            params.push(PlannedParam {
                // The decoders intern short keys, so the usual comparison is of pointers.
                key: PyString::intern(key.py(), &name).unbind(),
                name,
                kind: match kind {
                    0 => ParamKind::PositionalOnly,
                    1 => ParamKind::PositionalOrKeyword,
                    _ => ParamKind::KeywordOnly,
                },
                required,
                mask: Mask(mask),
                reads: table.as_ref().is_some_and(is_reader),
                table: table.map(Bound::unbind),
            });
        }
        let required = params.iter().filter(|param| param.required).count();
        let whole = whole(&params, required);
        let has_positional_only =
            params.iter().any(|param| param.kind == ParamKind::PositionalOnly);
        let kind = if is_async { HandlerKind::Async } else { HandlerKind::Sync };
        let reads = params.first().is_some_and(|first| first.reads);
        let info = HandlerInfo {
            module,
            name,
            kind,
            streams,
            reads,
            params: told,
            open: open_keywords,
            doc,
            returns,
            routes,
        };
        let handler = Self {
            function: function.unbind(),
            is_async,
            params,
            required,
            has_positional_only,
            open_positional,
            open_keywords,
            whole,
            hints: hints.map(Bound::unbind),
            compiled: OnceCell::new(),
            last_run: Cell::new(Duration::MAX),
        };
        Ok((handler, info))
    }

    /// The place of a parameter by its name; `expected` is tried first.
    #[inline]
    pub(crate) fn find_param(&self, name: &str, expected: usize) -> Option<usize> {
        match self.params.get(expected) {
            Some(param) if param.name == name => Some(expected),
            _ => self.params.iter().position(|param| param.name == name),
        }
    }
}

/// Whether a kind of table is one that is read piece by piece.
fn is_reader(table: &Bound<'_, PyAny>) -> bool {
    table.extract::<String>().is_ok_and(|kind| kind.ends_with("-reader"))
}

/// An object is normally a set of arguments by name. It is one argument where the first parameter
/// takes a table, or where the only one that must be given takes nothing but data.
fn whole(params: &[PlannedParam], required: usize) -> Option<usize> {
    let first = params.first()?;
    let only_data = first.mask.has(Mask::DATA)
        && !first.mask.has(Mask::ANY)
        && first.mask.0 & !(Mask::DATA.0 | Mask::NONE.0) == 0;
    let alone = required <= usize::from(first.required);
    (first.mask.has(Mask::TABLE) || (only_data && alone)).then_some(0)
}
