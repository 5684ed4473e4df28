//! What JSON has no type for, and the nearest thing it has.

use std::sync::Arc;

use pyo3::{
    ffi, intern,
    prelude::*,
    types::{
        PyByteArray, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PyMemoryView, PySet,
        PyString, PyTuple, PyType,
    },
};

use super::{
    encode::{Encoder, SHAPES, SHORT, deeper},
    iso,
    nulls::has_own_nulls,
    shape::{Clock, Shape},
    table::Layout,
    text,
};
use crate::tables::Table;
use crate::values::{
    Unfit,
    object::{Lazy, attribute_step, derives, exact, index_step, key_step, type_name},
};

static ENUM: Lazy = Lazy::new("enum", "Enum");
static DATE: Lazy = Lazy::new("datetime", "date");
static TIME: Lazy = Lazy::new("datetime", "time");
static UTC: Lazy = Lazy::new("datetime", "UTC");
static TIMEDELTA: Lazy = Lazy::new("datetime", "timedelta");
static DECIMAL: Lazy = Lazy::new("decimal", "Decimal");
static UUID: Lazy = Lazy::new("uuid", "UUID");
static PATH: Lazy = Lazy::new("pathlib", "PurePath");
static IPV4_ADDRESS: Lazy = Lazy::new("ipaddress", "IPv4Address");
static IPV6_ADDRESS: Lazy = Lazy::new("ipaddress", "IPv6Address");
static IPV4_NETWORK: Lazy = Lazy::new("ipaddress", "IPv4Network");
static IPV6_NETWORK: Lazy = Lazy::new("ipaddress", "IPv6Network");
static MAPPING: Lazy = Lazy::new("collections.abc", "Mapping");
static PYDANTIC: Lazy = Lazy::new("pydantic", "BaseModel");
static MSGSPEC: Lazy = Lazy::new("msgspec", "Struct");
static NUMPY_SCALAR: Lazy = Lazy::new("numpy", "generic");
static NUMPY_ARRAY: Lazy = Lazy::new("numpy", "ndarray");
static NUMPY_DATES: Lazy = Lazy::new("numpy", "datetime_as_string");
static PANDAS_NAT: Lazy = Lazy::new("pandas", "NaT");
static PANDAS_NA: Lazy = Lazy::new("pandas", "NA");
static PANDAS_TIMEDELTA: Lazy = Lazy::new("pandas", "Timedelta");
static PANDAS_FRAME: Lazy = Lazy::new("pandas", "DataFrame");
static PANDAS_SERIES: Lazy = Lazy::new("pandas", "Series");
static PANDAS_INDEX: Lazy = Lazy::new("pandas", "Index");
static POLARS_FRAME: Lazy = Lazy::new("polars", "DataFrame");
static POLARS_LAZY: Lazy = Lazy::new("polars", "LazyFrame");
static POLARS_SERIES: Lazy = Lazy::new("polars", "Series");

/// What an object of a type JSON does not have is written as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// pandas' NaT and NA.
    Missing,
    Enum,
    Str,
    Int,
    Float,
    Mapping,
    Items,
    Bytes,
    Iso,
    Duration,
    Text,
    Uuid,
    Pydantic,
    Msgspec,
    Dataclass,
    NumpyScalar,
    NumpyArray,
    PandasFrame,
    PandasSeries,
    PolarsFrame,
    PolarsSeries,
    /// A table, or a column, of any other library that gives Arrow data.
    Arrow,
    Other,
}

// === impl Kind ===

impl Kind {
    /// By the type alone. Where a type is several things, the first one counts.
    pub(super) fn of(ty: &Bound<'_, PyType>) -> Self {
        let py = ty.py();
        // NaT claims to be a datetime, and an IntEnum is an int too: before those.
        if PANDAS_NAT.is_of(ty) || PANDAS_NA.is_of(ty) {
            return Self::Missing;
        }
        if ENUM.is_base_of(ty) {
            return Self::Enum;
        }
        if PANDAS_TIMEDELTA.is_base_of(ty) {
            return Self::Iso;
        }
        let builtins = [
            (py.get_type::<PyString>(), Self::Str),
            (py.get_type::<PyInt>(), Self::Int),
            (py.get_type::<PyFloat>(), Self::Float),
            (py.get_type::<PyDict>(), Self::Mapping),
            (py.get_type::<PyList>(), Self::Items),
            (py.get_type::<PyTuple>(), Self::Items),
            (py.get_type::<PySet>(), Self::Items),
            (py.get_type::<PyFrozenSet>(), Self::Items),
            (py.get_type::<PyBytes>(), Self::Bytes),
            (py.get_type::<PyByteArray>(), Self::Bytes),
            (py.get_type::<PyMemoryView>(), Self::Bytes),
        ];
        if let Some((_, kind)) = builtins.iter().find(|(class, _)| derives(ty, class)) {
            return *kind;
        }
        let library = [
            (&DATE, Self::Iso), // datetime is a date
            (&TIME, Self::Iso),
            (&TIMEDELTA, Self::Duration),
            (&DECIMAL, Self::Text),
            (&UUID, Self::Uuid),
            (&PATH, Self::Text),
            (&IPV4_ADDRESS, Self::Text),
            (&IPV6_ADDRESS, Self::Text),
            (&IPV4_NETWORK, Self::Text),
            (&IPV6_NETWORK, Self::Text),
            (&PYDANTIC, Self::Pydantic),
            (&MSGSPEC, Self::Msgspec),
            (&NUMPY_SCALAR, Self::NumpyScalar),
            (&NUMPY_ARRAY, Self::NumpyArray),
            (&PANDAS_FRAME, Self::PandasFrame),
            (&PANDAS_SERIES, Self::PandasSeries),
            (&PANDAS_INDEX, Self::PandasSeries),
            (&POLARS_FRAME, Self::PolarsFrame),
            (&POLARS_SERIES, Self::PolarsSeries),
            (&POLARS_LAZY, Self::Arrow),
        ];
        if let Some((_, kind)) = library.iter().find(|(class, _)| class.is_base_of(ty)) {
            return *kind;
        }
        if ty.hasattr(intern!(py, "__dataclass_fields__")).unwrap_or(false) {
            return Self::Dataclass;
        }
        // A mapping may only be registered as one, so the abstract class itself is asked.
        let mapping = MAPPING.loaded(py).and_then(|class| ty.is_subclass(class).ok());
        let has = |name| ty.hasattr(name).unwrap_or(false);
        if mapping == Some(true) {
            Self::Mapping
        } else if has(intern!(py, "__arrow_c_stream__")) || has(intern!(py, "__arrow_c_array__")) {
            Self::Arrow
        } else {
            Self::Other
        }
    }
}

/// Whether an object is of NumPy's own array class.
pub(crate) fn is_plain_array(object: &Bound<'_, PyAny>) -> bool {
    NUMPY_ARRAY.is(&object.get_type())
}

// === impl Encoder ===

impl<'py> Encoder<'_, 'py> {
    pub(super) fn kind(&mut self, object: &Bound<'py, PyAny>) -> Result<Kind, Unfit> {
        let (place, shape) = self.shape(object)?;
        let kind = shape.kind;
        self.shapes[place] = Some(shape);
        Ok(kind)
    }

    /// What is known of an object's type, and where that is to be put back. Documents hold few types
    /// and many objects.
    fn shape(&mut self, object: &Bound<'py, PyAny>) -> Result<(usize, Arc<Shape>), Unfit> {
        let place = Shape::place(object, SHAPES);
        match self.shapes[place].take() {
            Some(shape) if shape.is_of(object) => Ok((place, shape)),
            _ => Ok((place, Shape::of(object)?)),
        }
    }

    /// An object of a type that JSON does not have. What a library's method answers counts as a
    /// level deeper: a method of the guest's may answer the same object again.
    pub(super) fn converted(
        &mut self,
        object: &Bound<'py, PyAny>,
        depth: u32,
    ) -> Result<(), Unfit> {
        let (place, shape) = self.shape(object)?;
        let written = self.shaped(object, &shape, depth);
        self.shapes[place] = Some(shape);
        written
    }

    fn shaped(
        &mut self,
        object: &Bound<'py, PyAny>,
        shape: &Shape,
        depth: u32,
    ) -> Result<(), Unfit> {
        let py = self.py;
        match shape.kind {
            Kind::Missing => {
                self.out.extend_from_slice(b"null");
                Ok(())
            }
            // An enum's value may be any object, another enum's member too.
            Kind::Enum if shape.plain => {
                self.value(&object.getattr(intern!(py, "_value_"))?, deeper(depth)?)
            }
            Kind::Enum => self.value(&object.getattr(intern!(py, "value"))?, deeper(depth)?),
            Kind::Str => self.string(object.cast().map_err(PyErr::from)?),
            Kind::Int => self.int(object.cast().map_err(PyErr::from)?),
            Kind::Float => self.float(object.cast::<PyFloat>().map_err(PyErr::from)?.value()),
            Kind::Mapping => self.mapping(object, depth),
            Kind::Items if shape.plain => self.tuple(object.cast().map_err(PyErr::from)?, depth),
            Kind::Items => self.items(object, depth),
            Kind::Bytes => Err(Unfit::new(format!(
                "`{}` has no place in JSON; send it as base64 text, or ask for the value format",
                type_name(object)
            ))),
            Kind::Iso if self.time(object, shape.clock)? => Ok(()),
            Kind::Iso => self.plain_text(&object.call_method0(intern!(py, "isoformat"))?),
            Kind::Duration => self.duration(object),
            Kind::Uuid if shape.plain => self.uuid(object),
            Kind::Uuid | Kind::Text => self.plain_text(object.str()?.as_any()),
            Kind::Pydantic => self.pydantic(object, shape, depth),
            Kind::Msgspec | Kind::Dataclass => self.attributes(object, shape, depth),
            Kind::NumpyScalar => self.numpy_scalar(object, depth),
            Kind::NumpyArray => self.numpy_array(object, depth),
            Kind::PandasFrame => self.pandas_rows(object, depth, Layout::Array),
            Kind::PandasSeries => self.pandas_column(object, depth, Layout::Array),
            Kind::PolarsFrame => self.polars_rows(object, depth, Layout::Array),
            Kind::PolarsSeries => {
                let items = object.call_method0(intern!(py, "to_list"))?;
                self.value(&items, deeper(depth)?)
            }
            Kind::Arrow => self.value(&plain_rows(object)?, deeper(depth)?),
            Kind::Other => Err(Unfit::new(format!("`{}` has no place in JSON", type_name(object)))),
        }
    }

    fn plain_text(&mut self, text: &Bound<'py, PyAny>) -> Result<(), Unfit> {
        self.string(text.cast::<PyString>().map_err(PyErr::from)?)
    }

    fn mapping(&mut self, mapping: &Bound<'py, PyAny>, depth: u32) -> Result<(), Unfit> {
        let depth = deeper(depth)?;
        let mut empty = true;
        for item in mapping.call_method0(intern!(self.py, "items"))?.try_iter()? {
            let (key, value): (Bound<'py, PyAny>, Bound<'py, PyAny>) = item?.extract()?;
            self.out.push(if empty { b'{' } else { b',' });
            empty = false;
            match exact::<PyString>(&key) {
                Some(key) => self.string(key).map_err(|unfit| unfit.at(|| "<key>".into()))?,
                None => self.odd_key(&key, mapping)?,
            }
            self.out.push(b':');
            self.value(&value, depth).map_err(|unfit| unfit.at(|| key_step(&key)))?;
        }
        self.close(empty, b'{', b'}')
    }

    fn items(&mut self, items: &Bound<'py, PyAny>, depth: u32) -> Result<(), Unfit> {
        let depth = deeper(depth)?;
        let ordered = items.is_instance_of::<PyList>() || items.is_instance_of::<PyTuple>();
        let mut index = 0;
        for item in items.try_iter()? {
            self.out.push(if index == 0 { b'[' } else { b',' });
            self.value(&item?, depth).map_err(|unfit| {
                unfit.at(|| if ordered { index_step(index) } else { "<element>".into() })
            })?;
            index += 1;
        }
        self.close(index == 0, b'[', b']')
    }

    /// One of Python's own times; false, and nothing written, if it is another.
    fn time(&mut self, time: &Bound<'py, PyAny>, clock: Option<Clock>) -> Result<bool, Unfit> {
        let py = self.py;
        let Some(clock) = clock else { return Ok(false) };
        // What it is pickled as: one call in place of one for each of its parts. Python itself keeps
        // to this form, so that it can read pickles of other versions.
        let reduced = time.call_method0(intern!(py, "__reduce__"))?;
        let parts = reduced.get_item(1)?.cast_into::<PyTuple>().map_err(PyErr::from)?;
        let state = parts.get_item(0)?.cast_into::<PyBytes>().map_err(PyErr::from)?;
        let zone = if parts.len() > 1 { Some(parts.get_item(1)?) } else { None };
        if zone.as_ref().is_some_and(|zone| !UTC.get(py).is_ok_and(|utc| utc.is(zone))) {
            return Ok(false);
        }
        let utc = zone.is_some();
        match (clock, state.as_bytes()) {
            (Clock::Date, date) if date.len() == 4 => {
                iso::write_state(self.out, date, &[], utc);
            }
            (Clock::DateTime, state) if state.len() == 10 => {
                iso::write_state(self.out, &state[..4], &state[4..], utc);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Its own `str()` is Python code.
    fn uuid(&mut self, uuid: &Bound<'py, PyAny>) -> Result<(), Unfit> {
        let number = uuid.getattr(intern!(self.py, "int"))?;
        // JUSTIFICATION: PyO3 takes 128 bits by arithmetic in Python where the ABI is the limited one.
        // SAFETY: `number` is live, whatever it is; the answer is a new reference, or null and an
        // exception set.
        let hex = unsafe {
            Bound::from_owned_ptr_or_err(self.py, ffi::PyNumber_ToBase(number.as_ptr(), 16))?
        };
        let hex = hex.cast::<PyString>().map_err(PyErr::from)?.to_str()?;
        match hex.strip_prefix("0x").filter(|digits| digits.len() <= 32) {
            Some(digits) => iso::write_uuid(self.out, digits),
            None => self.plain_text(uuid.str()?.as_any())?,
        }
        Ok(())
    }

    fn duration(&mut self, delta: &Bound<'py, PyAny>) -> Result<(), Unfit> {
        let py = self.py;
        let days: i64 = delta.getattr(intern!(py, "days"))?.extract()?;
        let seconds: i64 = delta.getattr(intern!(py, "seconds"))?.extract()?;
        let micros: i64 = delta.getattr(intern!(py, "microseconds"))?.extract()?;
        let whole = i128::from(days) * 86_400 + i128::from(seconds);
        iso::write_duration(self.out, whole * 1_000_000 + i128::from(micros));
        Ok(())
    }

    /// A model as its library writes it.
    fn pydantic(
        &mut self,
        object: &Bound<'py, PyAny>,
        shape: &Shape,
        depth: u32,
    ) -> Result<(), Unfit> {
        let py = self.py;
        // What raises here does so below, too, and there it is said as ever.
        if let Some(to_json) = &shape.to_json
            && let Ok(written) = to_json.bind(py).call1((object,))
            && let Some(written) = exact::<PyBytes>(&written)
        {
            let written = written.as_bytes();
            if has_own_nulls(object, written)? {
                Unfit::room(self.out, written.len() + SHORT)?;
                self.out.extend_from_slice(written);
                return Ok(());
            }
        }
        let arguments = PyDict::new(py);
        arguments.set_item(intern!(py, "mode"), intern!(py, "json"))?;
        let plain = object.call_method(intern!(py, "model_dump"), (), Some(&arguments))?;
        self.value(&plain, deeper(depth)?)
    }

    /// An object of its attributes.
    fn attributes(
        &mut self,
        object: &Bound<'py, PyAny>,
        shape: &Shape,
        depth: u32,
    ) -> Result<(), Unfit> {
        let py = self.py;
        let depth = deeper(depth)?;
        let (opening, closing) = if shape.as_array { (b'[', b']') } else { (b'{', b'}') };
        Unfit::room(self.out, shape.head.len() + SHORT)?;
        let start = self.out.len();
        self.out.extend_from_slice(&shape.head);
        for attribute in &shape.attributes {
            let name = attribute.name.bind(py);
            Unfit::room(self.out, attribute.key.len() + SHORT)?;
            self.out.extend_from_slice(&attribute.key);
            let value = object.getattr(name)?;
            self.value(&value, depth)
                .map_err(|unfit| unfit.at(|| attribute_step(&name.to_string_lossy())))?;
        }
        let empty = self.out.len() == start;
        if let Some(comma) = self.out.get_mut(start) {
            *comma = opening;
        }
        self.close(empty, opening, closing)
    }

    fn numpy_scalar(&mut self, scalar: &Bound<'py, PyAny>, depth: u32) -> Result<(), Unfit> {
        let py = self.py;
        let plain = match self.numpy_kind(scalar)? {
            'M' => return self.numpy_date(&NUMPY_DATES.get(py)?.call1((scalar,))?),
            'm' => self.numpy_micros(scalar)?.call_method0(intern!(py, "item"))?,
            _ => scalar.call_method0(intern!(py, "item"))?,
        };
        // A longdouble's item is a longdouble again.
        if NUMPY_SCALAR.is_base_of(&plain.get_type()) {
            return Err(Unfit::new(format!("`{}` has no place in JSON", type_name(scalar))));
        }
        self.value(&plain, deeper(depth)?)
    }

    fn numpy_array(&mut self, array: &Bound<'py, PyAny>, depth: u32) -> Result<(), Unfit> {
        let py = self.py;
        let items = match self.numpy_kind(array)? {
            'M' => {
                let dates = NUMPY_DATES.get(py)?.call1((array,))?;
                let items = dates.call_method0(intern!(py, "tolist"))?;
                return self.numpy_dates(&items, depth);
            }
            'm' => self.numpy_micros(array)?.call_method0(intern!(py, "tolist"))?,
            _ => array.call_method0(intern!(py, "tolist"))?,
        };
        self.value(&items, deeper(depth)?)
    }

    /// numpy's letter for the kind of a dtype: `M` times, `m` durations.
    fn numpy_kind(&self, object: &Bound<'py, PyAny>) -> PyResult<char> {
        let py = self.py;
        object.getattr(intern!(py, "dtype"))?.getattr(intern!(py, "kind"))?.extract()
    }

    /// Durations in the unit whose items are Python's own timedelta, and None for NaT.
    fn numpy_micros(&self, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        object.call_method1(intern!(self.py, "astype"), (intern!(self.py, "timedelta64[us]"),))
    }

    /// The nested lists of times that numpy wrote as text.
    fn numpy_dates(&mut self, items: &Bound<'py, PyAny>, depth: u32) -> Result<(), Unfit> {
        let Ok(list) = items.cast::<PyList>() else { return self.numpy_date(items) };
        let depth = deeper(depth)?;
        for index in 0..list.len() {
            self.out.push(if index == 0 { b'[' } else { b',' });
            self.numpy_dates(&list.get_item(index)?, depth)?;
        }
        self.close(list.is_empty(), b'[', b']')
    }

    fn numpy_date(&mut self, date: &Bound<'py, PyAny>) -> Result<(), Unfit> {
        let date = date.str()?;
        match date.to_str()? {
            "NaT" => {
                Unfit::room(self.out, SHORT)?;
                self.out.extend_from_slice(b"null");
                Ok(())
            }
            date => text::write(self.out, date),
        }
    }
}

/// The rows of a table, or the values of a column, as plain objects.
pub(super) fn plain_rows<'py>(object: &Bound<'py, PyAny>) -> Result<Bound<'py, PyAny>, Unfit> {
    let py = object.py();
    let missing = || Unfit::new(format!("`{}` has no place in JSON", type_name(object)));
    let table = crate::convert::take(object, &mut Vec::new())?.ok_or_else(missing)?;
    let table = Table::from(table);
    let rows = Bound::new(py, table)?.call_method0(intern!(py, "rows"))?;
    Ok(rows)
}
