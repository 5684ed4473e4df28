//! The small things both formats need of Python objects.

use pyo3::{
    PyTypeInfo, ffi,
    prelude::*,
    sync::PyOnceLock,
    types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyNone, PyString, PyType},
};

/// `object` as a `T`, if that is its very type and not a subclass.
#[inline]
pub(crate) fn exact<'a, 'py, T: PyTypeInfo>(
    object: &'a Bound<'py, PyAny>,
) -> Option<&'a Bound<'py, T>> {
    if object.is_exact_instance_of::<T>() {
        // JUSTIFICATION: `cast_exact` builds an error with a new reference to the type each time
        // the answer is no, which on this path is nearly always.
        // SAFETY: the type was compared just now.
        Some(unsafe { object.cast_unchecked() })
    } else {
        None
    }
}

/// An int that fits into 64 bits, or a bigger one.
pub(crate) enum Whole {
    Signed(i64),
    Unsigned(u64),
    Big,
}

/// The number in an int or an instance of a subclass; no method of a subclass is called.
#[inline]
pub(crate) fn whole(number: &Bound<'_, PyInt>) -> PyResult<Whole> {
    let mut overflow = 0;
    // JUSTIFICATION: PyO3's `extract` makes and drops a Python exception for each int beyond 64
    // bits, and goes through `__index__` for the others.
    // SAFETY: `number` is a live int and `overflow` a place to write to.
    let signed = unsafe { ffi::PyLong_AsLongLongAndOverflow(number.as_ptr(), &raw mut overflow) };
    if overflow == 0 {
        return if signed == -1
            && let Some(error) = PyErr::take(number.py())
        {
            Err(error)
        } else {
            Ok(Whole::Signed(signed))
        };
    }
    if overflow < 0 {
        return Ok(Whole::Big);
    }
    // JUSTIFICATION: as above.
    // SAFETY: `number` is a live int.
    let unsigned = unsafe { ffi::PyLong_AsUnsignedLongLong(number.as_ptr()) };
    if unsigned == u64::MAX && PyErr::take(number.py()).is_some() {
        return Ok(Whole::Big);
    }
    Ok(Whole::Unsigned(unsigned))
}

/// The items of a dict that may change while one of them is looked at.
///
/// PyO3's own iterator panics then; this one ends, and [`DictWalk::complete`] tells.
pub(crate) struct DictWalk<'a, 'py> {
    dict: &'a Bound<'py, PyDict>,
    position: ffi::Py_ssize_t,
    given: usize,
    length: usize,
}

impl<'a, 'py> DictWalk<'a, 'py> {
    pub(crate) fn new(dict: &'a Bound<'py, PyDict>) -> Self {
        Self { dict, position: 0, given: 0, length: dict.len() }
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Whether every item there was at the start was given, and no other is there now.
    pub(crate) fn complete(&self) -> bool {
        self.given == self.length && self.dict.len() == self.length
    }
}

impl<'py> Iterator for DictWalk<'_, 'py> {
    type Item = (Bound<'py, PyAny>, Bound<'py, PyAny>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.given == self.length {
            return None;
        }
        let (mut key, mut value) = (std::ptr::null_mut(), std::ptr::null_mut());
        // JUSTIFICATION: the safe iterator panics if the dict changes its size, which a guest's
        // `__reduce__` or property can do in the middle of a walk.
        // SAFETY: the dict is live and attached to; PyDict_Next takes any position and gives
        // borrowed references, of which owned ones are made before anything else runs.
        unsafe {
            let more = ffi::PyDict_Next(
                self.dict.as_ptr(),
                &raw mut self.position,
                &raw mut key,
                &raw mut value,
            );
            if more == 0 {
                return None;
            }
            self.given += 1;
            let py = self.dict.py();
            Some((Bound::from_borrowed_ptr(py, key), Bound::from_borrowed_ptr(py, value)))
        }
    }
}

/// New Python objects. PyO3's constructors panic when Python has no memory left; these answer with
/// its MemoryError.
pub(crate) mod new {
    use pyo3::types::{PyByteArray, PyBytes};

    use super::*;

    macro_rules! made {
        ($py:expr, $call:expr) => {
            // JUSTIFICATION: see the module.
            // SAFETY: each of these functions takes plain numbers or a slice's start and length
            // (no slice is longer than isize::MAX), and answers with a new reference of the type
            // that is cast to, or null and an exception set.
            unsafe {
                Bound::from_owned_ptr_or_err($py, $call).map(|made| made.cast_into_unchecked())
            }
        };
    }

    pub(crate) fn list(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
        made!(py, ffi::PyList_New(0))
    }

    pub(crate) fn dict(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
        made!(py, ffi::PyDict_New())
    }

    pub(crate) fn int(py: Python<'_>, number: i64) -> PyResult<Bound<'_, PyAny>> {
        made!(py, ffi::PyLong_FromLongLong(number))
    }

    pub(crate) fn uint(py: Python<'_>, number: u64) -> PyResult<Bound<'_, PyAny>> {
        made!(py, ffi::PyLong_FromUnsignedLongLong(number))
    }

    pub(crate) fn float(py: Python<'_>, number: f64) -> PyResult<Bound<'_, PyAny>> {
        made!(py, ffi::PyFloat_FromDouble(number))
    }

    pub(crate) fn bytes<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        made!(py, ffi::PyBytes_FromStringAndSize(bytes.as_ptr().cast(), bytes.len() as isize))
    }

    pub(crate) fn bytearray<'py>(
        py: Python<'py>,
        bytes: &[u8],
    ) -> PyResult<Bound<'py, PyByteArray>> {
        made!(py, ffi::PyByteArray_FromStringAndSize(bytes.as_ptr().cast(), bytes.len() as isize))
    }

    /// The str of UTF-8 in which surrogates may stand alone.
    pub(crate) fn surrogate_str<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        let (start, length) = (bytes.as_ptr().cast(), bytes.len() as isize);
        made!(py, ffi::PyUnicode_DecodeUTF8(start, length, c"surrogatepass".as_ptr()))
    }
}

/// A thing in a Python module, looked up once.
pub(crate) struct Lazy {
    module: &'static str,
    name: &'static str,
    found: PyOnceLock<Py<PyAny>>,
}

impl Lazy {
    pub(crate) const fn new(module: &'static str, name: &'static str) -> Self {
        Self { module, name, found: PyOnceLock::new() }
    }

    /// The thing, if anybody imported its module: only then can there be an instance of it.
    pub(crate) fn loaded<'a, 'py>(&'a self, py: Python<'py>) -> Option<&'a Bound<'py, PyAny>> {
        if let Some(found) = self.found.get(py) {
            return Some(found.bind(py));
        }
        let thing = imported(py, self.module)?.getattr(self.name).ok()?;
        Some(self.found.get_or_init(py, || thing.unbind()).bind(py))
    }

    /// The thing, importing its module if need be.
    pub(crate) fn get<'a, 'py>(&'a self, py: Python<'py>) -> PyResult<&'a Bound<'py, PyAny>> {
        let found = self.found.get_or_try_init(py, || {
            py.import(self.module)?.getattr(self.name).map(Bound::unbind)
        })?;
        Ok(found.bind(py))
    }

    /// Whether `ty` is this class.
    pub(crate) fn is(&self, ty: &Bound<'_, PyType>) -> bool {
        self.loaded(ty.py()).is_some_and(|class| class.is(ty))
    }

    /// Whether `ty` is this class or derived from it.
    pub(crate) fn is_base_of(&self, ty: &Bound<'_, PyType>) -> bool {
        let class = self.loaded(ty.py()).and_then(|class| class.cast::<PyType>().ok());
        class.is_some_and(|class| derives(ty, class))
    }

    /// Whether this thing is an object of the class `ty`.
    pub(crate) fn is_of(&self, ty: &Bound<'_, PyType>) -> bool {
        self.loaded(ty.py()).is_some_and(|thing| thing.get_type().is(ty))
    }
}

/// A module that is in `sys.modules`.
fn imported<'py>(py: Python<'py>, name: &str) -> Option<Bound<'py, PyAny>> {
    let name = PyString::from_bytes(py, name.as_bytes()).ok()?;
    // JUSTIFICATION: PyO3 has only an import that loads what is missing.
    // SAFETY: `name` is a live str; the answer is a new reference or null.
    let module =
        unsafe { Bound::from_owned_ptr_or_opt(py, ffi::PyImport_GetModule(name.as_ptr())) };
    if module.is_none() {
        drop(PyErr::take(py));
    }
    module
}

/// Whether `ty` really inherits from `class`; no metaclass is asked.
pub(crate) fn derives(ty: &Bound<'_, PyType>, class: &Bound<'_, PyType>) -> bool {
    // JUSTIFICATION: `is_subclass` asks the metaclass, which for abstract classes runs Python code
    // and remembers every type it was asked about.
    // SAFETY: both are live type objects.
    unsafe { ffi::PyType_IsSubtype(ty.as_type_ptr(), class.as_type_ptr()) != 0 }
}

/// What the types met in one document turned out to be. Documents hold few types and many objects.
pub(crate) struct Kinds<'py, K> {
    seen: Vec<(Bound<'py, PyType>, K)>,
    next: usize,
}

impl<'py, K: Copy> Kinds<'py, K> {
    const KEPT: usize = 8;

    pub(crate) const fn new() -> Self {
        Self { seen: Vec::new(), next: 0 }
    }

    pub(crate) fn of(
        &mut self,
        object: &Bound<'py, PyAny>,
        classify: impl FnOnce(&Bound<'py, PyType>) -> K,
    ) -> K {
        let pointer = object.get_type_ptr();
        if let Some((_, kind)) = self.seen.iter().find(|(ty, _)| ty.as_type_ptr() == pointer) {
            return *kind;
        }
        let ty = object.get_type();
        let kind = classify(&ty);
        if self.seen.len() < Self::KEPT {
            self.seen.push((ty, kind));
        } else if let Some(place) = self.seen.get_mut(self.next) {
            *place = (ty, kind);
            self.next = (self.next + 1) % Self::KEPT;
        }
        kind
    }
}

/// The class of an object for a message: with its module, unless that is plain.
pub(crate) fn type_name(object: &Bound<'_, PyAny>) -> String {
    let ty = object.get_type();
    let name = ty.fully_qualified_name().and_then(|name| name.extract::<String>());
    let name = name.unwrap_or_else(|_| "object".to_owned());
    name.strip_prefix("__main__.").map_or(name.clone(), str::to_owned)
}

/// The step of a path into a mapping: `["a"]`, `[3]`.
pub(crate) fn key_step(key: &Bound<'_, PyAny>) -> String {
    if let Some(text) = exact::<PyString>(key) {
        return text_step(&text.to_string_lossy());
    }
    let plain = key.is_exact_instance_of::<PyInt>()
        || key.is_exact_instance_of::<PyFloat>()
        || key.is_exact_instance_of::<PyBool>()
        || key.is_exact_instance_of::<PyNone>();
    // Only of these types is it sure that printing them runs none of the guest's code.
    if plain && let Ok(text) = key.str() {
        return format!("[{}]", shortened(&text.to_string_lossy()));
    }
    format!("[<{}>]", type_name(key))
}

/// The step of a path to the value of a text key.
pub(crate) fn text_step(key: &str) -> String {
    format!("[{:?}]", shortened(key))
}

/// The step of a path into a sequence.
pub(crate) fn index_step(index: usize) -> String {
    format!("[{index}]")
}

/// The step of a path to an attribute.
pub(crate) fn attribute_step(name: &str) -> String {
    format!(".{name}")
}

fn shortened(text: &str) -> String {
    const LONGEST: usize = 40;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
