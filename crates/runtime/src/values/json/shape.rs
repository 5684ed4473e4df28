//! What is known of a type, so that it is asked once and not for each object.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::{
    ffi, intern,
    prelude::*,
    types::{PyString, PyTuple, PyType},
};

use super::{convert::Kind, text};
use crate::values::{Unfit, object::Lazy};

static FIELDS: Lazy = Lazy::new("dataclasses", "fields");
static ENUM: Lazy = Lazy::new("enum", "Enum");
static DATE: Lazy = Lazy::new("datetime", "date");
static DATETIME: Lazy = Lazy::new("datetime", "datetime");
static UUID: Lazy = Lazy::new("uuid", "UUID");
static PYDANTIC: Lazy = Lazy::new("pydantic", "BaseModel");

/// A type: what its objects are written as, and how.
pub(super) struct Shape {
    ty: Py<PyType>,
    pub(super) kind: Kind,
    /// What comes before the first attribute: a comma and a tag.
    pub(super) head: Vec<u8>,
    pub(super) attributes: Vec<Attribute>,
    /// Attributes are written as an array.
    pub(super) as_array: bool,
    /// The library's or Python's own way is used, which may be cut short: a tuple's items, an enum's
    /// value, a model's serializer.
    pub(super) plain: bool,
    /// Which of Python's own times it is.
    pub(super) clock: Option<Clock>,
    /// What a model is written by.
    pub(super) to_json: Option<Py<PyAny>>,
}

/// Python's own times; others may write themselves in another way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    DateTime,
    Date,
}

/// An attribute of an object, and what it is called in JSON.
pub(super) struct Attribute {
    pub(super) name: Py<PyString>,
    /// `,"name":`
    pub(super) key: Vec<u8>,
}

/// Types that were met, by their address: each has one place, and the last to need it has it.
static SHAPES: Mutex<Vec<Option<Arc<Shape>>>> = Mutex::new(Vec::new());
const PLACES: usize = 512;

// === impl Shape ===

impl Shape {
    /// What is known of the type of an object.
    pub(super) fn of(object: &Bound<'_, PyAny>) -> Result<Arc<Self>, Unfit> {
        let place = Self::place(object, PLACES);
        let known = {
            let shapes = SHAPES.lock().unwrap_or_else(PoisonError::into_inner);
            shapes.get(place).and_then(Clone::clone)
        };
        match known {
            Some(shape) if shape.is_of(object) => Ok(shape),
            _ => Self::learn(object, place),
        }
    }

    /// The place of an object's type among some.
    #[inline]
    pub(super) fn place(object: &Bound<'_, PyAny>, places: usize) -> usize {
        // Types lie at multiples of 16, and are some hundred bytes long.
        let address = object.get_type_ptr() as usize;
        (address >> 4 ^ address >> 10) % places
    }

    /// Whether an object is of this very type.
    #[inline]
    pub(super) fn is_of(&self, object: &Bound<'_, PyAny>) -> bool {
        self.ty.as_ptr() == object.get_type_ptr().cast()
    }

    #[cold]
    fn learn(object: &Bound<'_, PyAny>, place: usize) -> Result<Arc<Self>, Unfit> {
        let ty = object.get_type();
        let shape = Arc::new(Self::build(&ty, object)?);
        // A type that is nothing now may be something once a library is loaded.
        if shape.kind != Kind::Other {
            let mut shapes = SHAPES.lock().unwrap_or_else(PoisonError::into_inner);
            if shapes.is_empty() {
                shapes.resize_with(PLACES, || None);
            }
            let before = shapes[place].replace(shape.clone());
            drop(shapes);
            // It may be the last to hold a class, whose end may run code.
            drop(before);
        }
        Ok(shape)
    }

    fn build(ty: &Bound<'_, PyType>, object: &Bound<'_, PyAny>) -> Result<Self, Unfit> {
        let kind = Kind::of(ty);
        let mut shape = Self {
            ty: ty.clone().unbind(),
            kind,
            head: Vec::new(),
            attributes: Vec::new(),
            as_array: false,
            plain: false,
            clock: None,
            to_json: None,
        };
        match kind {
            Kind::Dataclass => shape.add_dataclass(ty)?,
            Kind::Msgspec => shape.add_msgspec(ty)?,
            Kind::Pydantic => shape.add_pydantic(ty)?,
            Kind::Enum => shape.plain = has_plain_value(ty)?,
            Kind::Iso => shape.clock = Clock::of(ty),
            Kind::Uuid => shape.plain = UUID.is(ty),
            Kind::Items => shape.plain = object.is_instance_of::<PyTuple>() && has_plain_items(ty),
            _ => {}
        }
        Ok(shape)
    }

    fn add_dataclass(&mut self, ty: &Bound<'_, PyType>) -> Result<(), Unfit> {
        let py = ty.py();
        for field in FIELDS.get(py)?.call1((ty,))?.try_iter()? {
            let name: Bound<'_, PyString> =
                field?.getattr(intern!(py, "name"))?.cast_into().map_err(PyErr::from)?;
            self.attributes.push(Attribute::new(&name, &name)?);
        }
        Ok(())
    }

    fn add_msgspec(&mut self, ty: &Bound<'_, PyType>) -> Result<(), Unfit> {
        let names: Vec<Bound<'_, PyString>> = ty.getattr("__struct_fields__")?.extract()?;
        let written: Vec<Bound<'_, PyString>> =
            ty.getattr("__struct_encode_fields__")?.extract()?;
        for (name, written) in names.iter().zip(&written) {
            self.attributes.push(Attribute::new(name, written)?);
        }
        let config = ty.getattr("__struct_config__")?;
        self.as_array = config.getattr("array_like")?.is_truthy()?;
        if self.as_array {
            self.attributes.iter_mut().for_each(|attribute| attribute.key.truncate(1));
        }
        let tag = config.getattr("tag")?;
        if !tag.is_none() {
            self.head = match self.as_array {
                true => vec![b','],
                false => {
                    let field = config.getattr("tag_field")?;
                    Attribute::key(field.cast().map_err(PyErr::from)?)?
                }
            };
            match tag.cast::<PyString>() {
                Ok(tag) => text::write(&mut self.head, tag.to_str()?)?,
                Err(_) => self.head.extend_from_slice(tag.str()?.to_str()?.as_bytes()),
            }
        }
        Ok(())
    }

    /// Whether a model is written as its class was made to be.
    fn add_pydantic(&mut self, ty: &Bound<'_, PyType>) -> Result<(), Unfit> {
        let py = ty.py();
        let dump = intern!(py, "model_dump");
        self.plain = ty.getattr(dump)?.is(&PYDANTIC.get(py)?.getattr(dump)?);
        if self.plain {
            let serializer = ty.getattr("__pydantic_serializer__")?;
            self.to_json = serializer.getattr_opt("to_json")?.map(Bound::unbind);
        }
        Ok(())
    }
}

/// Whether an enum's `value` is the one every enum has.
fn has_plain_value(ty: &Bound<'_, PyType>) -> PyResult<bool> {
    let py = ty.py();
    for base in ty.mro() {
        if base.getattr(intern!(py, "__dict__"))?.contains(intern!(py, "value"))? {
            return Ok(ENUM.loaded(py).is_some_and(|plain| base.is(plain)));
        }
    }
    Ok(false)
}

/// Whether a tuple gives its items as tuples do.
fn has_plain_items(ty: &Bound<'_, PyType>) -> bool {
    let tuple = ty.py().get_type::<PyTuple>();
    // JUSTIFICATION: a type has no attribute that says which function in C walks over it.
    // SAFETY: both are live types; the slots are only compared.
    unsafe {
        ffi::PyType_GetSlot(ty.as_type_ptr(), ffi::Py_tp_iter)
            == ffi::PyType_GetSlot(tuple.as_type_ptr(), ffi::Py_tp_iter)
    }
}

// === impl Clock ===

impl Clock {
    fn of(ty: &Bound<'_, PyType>) -> Option<Self> {
        if DATETIME.is(ty) { Some(Self::DateTime) } else { DATE.is(ty).then_some(Self::Date) }
    }
}

// === impl Attribute ===

impl Attribute {
    fn new(name: &Bound<'_, PyString>, written: &Bound<'_, PyString>) -> Result<Self, Unfit> {
        Ok(Self { name: name.clone().unbind(), key: Self::key(written)? })
    }

    fn key(written: &Bound<'_, PyString>) -> Result<Vec<u8>, Unfit> {
        let misfit = |_| Unfit::new("a name with a lone surrogate has no place in JSON");
        let written = written.to_str().map_err(misfit)?;
        let mut key = Vec::with_capacity(written.len() + 4);
        key.push(b',');
        text::write(&mut key, written)?;
        key.push(b':');
        Ok(key)
    }
}
