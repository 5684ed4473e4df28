//! Bounds of values, in the words of JSON Schema.

use std::cmp::Ordering;

use pyo3::{
    exceptions::PyArithmeticError,
    intern,
    prelude::*,
    pyclass::CompareOp,
    types::{PyDict, PyFloat, PyInt},
};

use super::{
    fault::{plural, quoted, shortened},
    leaf::call,
};
use crate::values::object::{Lazy, exact};

/// Of numbers.
pub(super) struct NumberBounds {
    minimum: Option<Limit>,
    above: Option<Limit>,
    maximum: Option<Limit>,
    below: Option<Limit>,
    multiple: Option<Limit>,
}

struct Limit {
    object: Py<PyAny>,
    int: Option<i64>,
    float: Option<f64>,
    shown: String,
}

/// Of strings.
pub(super) struct TextBounds {
    shortest: Option<usize>,
    longest: Option<usize>,
    pattern: Option<Pattern>,
}

struct Pattern {
    /// `search` of the compiled pattern.
    search: Py<PyAny>,
    shown: String,
}

/// Of arrays and objects.
#[derive(Debug, Clone, Copy)]
pub(super) struct SizeBounds {
    least: Option<usize>,
    most: Option<usize>,
}

static DECIMAL: Lazy = Lazy::new("decimal", "Decimal");

/// Bounds: `None` where there are none.
pub(super) type Given<'a, 'py> = Option<&'a Bound<'py, PyDict>>;

// === impl NumberBounds ===

impl NumberBounds {
    pub(super) fn build(given: Given<'_, '_>) -> PyResult<Option<Box<Self>>> {
        let Some(given) = given else { return Ok(None) };
        let limit = |word: &str| match given.get_item(word)? {
            Some(object) => Limit::build(object).map(Some),
            None => Ok(None),
        };
        let bounds = Self {
            minimum: limit("minimum")?,
            above: limit("exclusiveMinimum")?,
            maximum: limit("maximum")?,
            below: limit("exclusiveMaximum")?,
            multiple: limit("multipleOf")?,
        };
        let limits =
            [&bounds.minimum, &bounds.above, &bounds.maximum, &bounds.below, &bounds.multiple];
        let any = limits.iter().any(|limit| limit.is_some());
        Ok(any.then(|| Box::new(bounds)))
    }

    /// What is wrong with a number, if anything.
    pub(super) fn check(&self, number: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
        // Nearly all are floats within their bounds.
        if let Some(number) = exact::<PyFloat>(number)
            && self.has(number.value())
        {
            return Ok(None);
        }
        use Ordering::{Equal, Greater, Less};
        let rules: [(&Option<Limit>, &[Ordering], &str); 4] = [
            (&self.minimum, &[Greater, Equal], "at least"),
            (&self.above, &[Greater], "above"),
            (&self.maximum, &[Less, Equal], "at most"),
            (&self.below, &[Less], "below"),
        ];
        for (limit, right, words) in rules {
            let Some(limit) = limit else { continue };
            if !limit.compare(number)?.is_some_and(|order| right.contains(&order)) {
                let number = shortened(&number.str()?.to_string_lossy());
                return Ok(Some(format!("must be {words} {}, not {number}", limit.shown)));
            }
        }
        if let Some(limit) = &self.multiple
            && !limit.divides(number)?
        {
            let number = shortened(&number.str()?.to_string_lossy());
            return Ok(Some(format!("must be a multiple of {}, not {number}", limit.shown)));
        }
        Ok(None)
    }
}

impl NumberBounds {
    /// Whether a float is within bounds that are floats.
    fn has(&self, number: f64) -> bool {
        let is = |limit: &Option<Limit>, right: fn(&f64, &f64) -> bool| match limit {
            Some(Limit { float: Some(limit), .. }) => right(&number, limit),
            Some(_) => false,
            None => true,
        };
        self.multiple.is_none()
            && is(&self.minimum, f64::ge)
            && is(&self.above, f64::gt)
            && is(&self.maximum, f64::le)
            && is(&self.below, f64::lt)
    }
}

// === impl Limit ===

impl Limit {
    fn build(object: Bound<'_, PyAny>) -> PyResult<Self> {
        let int = exact::<PyInt>(&object).and_then(|number| number.extract().ok());
        Ok(Self {
            int,
            float: match int {
                // Every int so small is a float, too.
                Some(number) if number.unsigned_abs() <= 1 << 53 => Some(number as f64),
                _ => exact::<PyFloat>(&object).map(|number| number.value()),
            },
            shown: object.str()?.to_string_lossy().into_owned(),
            object: object.unbind(),
        })
    }

    /// How a number stands to this one; `None` for NaN.
    fn compare(&self, number: &Bound<'_, PyAny>) -> PyResult<Option<Ordering>> {
        if let (Some(limit), Some(number)) = (self.int, exact::<PyInt>(number))
            && let Ok(number) = number.extract::<i64>()
        {
            return Ok(Some(number.cmp(&limit)));
        }
        if let (Some(limit), Some(number)) = (self.float, exact::<PyFloat>(number)) {
            return Ok(number.value().partial_cmp(&limit));
        }
        // Python compares numbers of different types by what they are exactly.
        let limit = self.object.bind(number.py());
        let is = |op| number.rich_compare(limit, op)?.is_truthy();
        Ok(if is(CompareOp::Lt)? {
            Some(Ordering::Less)
        } else if is(CompareOp::Gt)? {
            Some(Ordering::Greater)
        } else {
            is(CompareOp::Eq)?.then_some(Ordering::Equal)
        })
    }

    /// Whether a number is this one times an integer, by the digits that both are written with.
    fn divides(&self, number: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = number.py();
        if let (Some(limit), Some(number)) = (self.int, exact::<PyInt>(number))
            && let Ok(number) = number.extract::<i64>()
        {
            return Ok(number.checked_rem(limit).unwrap_or(0) == 0);
        }
        let divided = || {
            let class = DECIMAL.get(py)?;
            let number = class.call1((number.str()?,))?;
            let limit = class.call1((self.object.bind(py).str()?,))?;
            let rest = number.call_method1(intern!(py, "__mod__"), (limit,))?;
            rest.call_method0(intern!(py, "is_zero"))?.is_truthy()
        };
        match divided() {
            // Infinite, or with more digits between them than there are to divide with.
            Err(error) if error.is_instance_of::<PyArithmeticError>(py) => Ok(false),
            divided => divided,
        }
    }
}

// === impl TextBounds ===

impl TextBounds {
    pub(super) fn build(given: Given<'_, '_>) -> PyResult<Option<Box<Self>>> {
        let Some(given) = given else { return Ok(None) };
        let pattern = match given.get_item("pattern")? {
            Some(pattern) => Some(Pattern {
                search: pattern.getattr("search")?.unbind(),
                shown: quoted(&pattern.getattr("pattern")?.str()?.to_string_lossy()),
            }),
            None => None,
        };
        let bounds = Self {
            shortest: size(given, "minLength")?,
            longest: size(given, "maxLength")?,
            pattern,
        };
        let any = bounds.shortest.is_some() || bounds.longest.is_some() || bounds.pattern.is_some();
        Ok(any.then(|| Box::new(bounds)))
    }

    /// What is wrong with a str or bytes of this length, if anything.
    pub(super) fn check(
        &self,
        text: &Bound<'_, PyAny>,
        length: impl FnOnce() -> usize,
        unit: &str,
    ) -> PyResult<Option<String>> {
        if self.shortest.is_some() || self.longest.is_some() {
            let sizes = SizeBounds { least: self.shortest, most: self.longest };
            let wrong = sizes.check(length(), unit);
            if wrong.is_some() {
                return Ok(wrong);
            }
        }
        if let Some(pattern) = &self.pattern
            && call(pattern.search.bind(text.py()), text)?.is_none()
        {
            return Ok(Some(format!("must match {}", pattern.shown)));
        }
        Ok(None)
    }
}

// === impl SizeBounds ===

impl SizeBounds {
    /// By the words for arrays, `Items`, or for objects, `Properties`.
    pub(super) fn build(given: Given<'_, '_>, of: &str) -> PyResult<Option<Self>> {
        let Some(given) = given else { return Ok(None) };
        let bounds = Self {
            least: size(given, &format!("min{of}"))?,
            most: size(given, &format!("max{of}"))?,
        };
        Ok((bounds.least.is_some() || bounds.most.is_some()).then_some(bounds))
    }

    /// What is wrong with a number of things, if anything.
    pub(super) fn check(self, count: usize, unit: &str) -> Option<String> {
        let (words, limit) = match (self.least, self.most) {
            (Some(least), _) if count < least => ("at least", least),
            (_, Some(most)) if count > most => ("at most", most),
            _ => return None,
        };
        Some(format!("must have {words} {}, not {count}", plural(limit, unit)))
    }
}

fn size(given: &Bound<'_, PyDict>, word: &str) -> PyResult<Option<usize>> {
    match given.get_item(word)? {
        Some(size) => size.extract().map(Some),
        None => Ok(None),
    }
}
