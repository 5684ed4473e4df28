//! Lists and dicts read from Python objects as an array of a given type.

use std::{iter, sync::Arc};

use arrow_array::{
    ArrayRef, FixedSizeListArray, GenericListArray, MapArray, OffsetSizeTrait, StructArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, Field, FieldRef, Fields};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::PyString,
};

use super::{
    build::{Builder, Misfit, array},
    capsule::raised,
    items::Item,
    types,
};

/// A dict's keys and values.
type Members<'py> = [(Bound<'py, PyString>, Item<'py>)];

/// The elements of lists one after the other, and where each list ends.
struct Flat<'a, 'py> {
    elements: Vec<&'a Item<'py>>,
    ends: Vec<usize>,
    nulls: Option<NullBuffer>,
}

// === impl Builder ===

impl<'a, 'py> Builder<'a, 'py> {
    pub(super) fn nested(&self) -> PyResult<ArrayRef> {
        use DataType as T;
        match self.data_type {
            T::List(element) => self.list::<i32>(element),
            T::LargeList(element) => self.list::<i64>(element),
            T::FixedSizeList(element, size) => self.fixed_list(element, *size),
            T::Struct(fields) => self.members(fields),
            T::Map(entries, ordered) => self.map(entries, *ordered),
            T::Dictionary(_, values) => self.dictionary(values),
            _ => Err(self.unmade()),
        }
    }

    fn list<O: OffsetSizeTrait>(&self, field: &FieldRef) -> PyResult<ArrayRef> {
        let flat = self.flat()?;
        let values = self.elements(&flat, field)?;
        let offsets = flat.offsets::<O>(self)?;
        let made = GenericListArray::<O>::try_new(field.clone(), offsets, values, flat.nulls);
        Ok(Arc::new(made.map_err(raised)?))
    }

    fn fixed_list(&self, field: &FieldRef, size: i32) -> PyResult<ArrayRef> {
        let length = usize::try_from(size).map_err(|_| self.unmade())?;
        let mut flat = Flat { elements: Vec::new(), ends: vec![0], nulls: None };
        let lists = self.lists()?;
        for (index, list) in lists.iter().enumerate() {
            match list {
                Some(list) if list.len() != length => {
                    let (place, found) = ((self.place)(index), list.len());
                    let message = format!("{place} has {found} values, not {length}");
                    return Err(PyValueError::new_err(message));
                }
                Some(list) => flat.elements.extend(*list),
                None => flat.elements.extend(iter::repeat_n(&Item::Null, length)),
            }
            flat.ends.push(flat.elements.len());
        }
        let values = self.elements(&flat, field)?;
        let nulls = nulls(lists.iter().map(Option::is_some));
        let made = FixedSizeListArray::try_new_with_length(
            field.clone(),
            size,
            values,
            nulls,
            lists.len(),
        );
        Ok(Arc::new(made.map_err(raised)?))
    }

    /// A map is a list of pairs, each a tuple or a list.
    fn map(&self, entries: &FieldRef, ordered: bool) -> PyResult<ArrayRef> {
        let DataType::Struct(fields) = entries.data_type() else { return Err(self.unmade()) };
        let [key, value] = fields.as_ref() else { return Err(self.unmade()) };
        let flat = self.flat()?;
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (index, pair) in flat.elements.iter().enumerate() {
            let Item::List(pair) = pair else { return Err(self.no_pair(&flat, index)) };
            let [key, value] = pair.as_slice() else { return Err(self.no_pair(&flat, index)) };
            keys.push(key);
            values.push(value);
        }
        let part = |items: &[&Item<'_>], field: &Field, part: usize| {
            let place = |index: usize| format!("{}[{part}]", flat.place(self, index));
            array(items, field.data_type(), &place)
        };
        let columns = vec![part(&keys, key, 0)?, part(&values, value, 1)?];
        let pairs = StructArray::try_new(fields.clone(), columns, None).map_err(raised)?;
        let offsets = flat.offsets::<i32>(self)?;
        let made = MapArray::try_new(entries.clone(), offsets, pairs, flat.nulls, ordered);
        Ok(Arc::new(made.map_err(raised)?))
    }

    #[cold]
    fn no_pair(&self, flat: &Flat<'_, '_>, index: usize) -> PyErr {
        let (place, name) = (flat.place(self, index), types::name(self.data_type));
        PyTypeError::new_err(format!("{place} is no pair of key and value, as {name} has them"))
    }

    fn members(&self, fields: &Fields) -> PyResult<ArrayRef> {
        let dicts = self.valid(|item| match item {
            Item::Struct(members) => Ok(members.as_slice()),
            _ => Err(Misfit::Kind),
        })?;
        for (index, dict) in dicts.iter().enumerate() {
            if let Some(key) = unknown(dict.unwrap_or_default(), fields) {
                let (place, name) = ((self.place)(index), types::name(self.data_type));
                let message = format!("{place} has {key:?}, for which {name} has no place");
                return Err(PyTypeError::new_err(message));
            }
        }
        let column = |(position, field): (usize, &FieldRef)| {
            let name = field.name().as_str();
            let members: Vec<&Item<'_>> =
                dicts.iter().map(|dict| member(dict.unwrap_or_default(), name, position)).collect();
            let place = |index: usize| format!("{}[{name:?}]", (self.place)(index));
            array(&members, field.data_type(), &place)
        };
        let columns = fields.iter().enumerate().map(column).collect::<PyResult<Vec<_>>>()?;
        let nulls = nulls(dicts.iter().map(Option::is_some));
        let array = StructArray::try_new_with_length(fields.clone(), columns, nulls, dicts.len());
        Ok(Arc::new(array.map_err(raised)?))
    }

    /// The values, each kept once.
    fn dictionary(&self, values: &DataType) -> PyResult<ArrayRef> {
        let plain = array(self.items, values, self.place)?;
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(&plain, self.data_type, &strict).map_err(raised)
    }

    fn lists(&self) -> PyResult<Vec<Option<&'a [Item<'py>]>>> {
        self.valid(|item| match item {
            Item::List(elements) => Ok(elements.as_slice()),
            _ => Err(Misfit::Kind),
        })
    }

    fn flat(&self) -> PyResult<Flat<'a, 'py>> {
        let lists = self.lists()?;
        let nulls = nulls(lists.iter().map(Option::is_some));
        let mut flat = Flat { elements: Vec::new(), ends: vec![0], nulls };
        for list in lists {
            flat.elements.extend(list.unwrap_or_default());
            flat.ends.push(flat.elements.len());
        }
        Ok(flat)
    }

    fn elements(&self, flat: &Flat<'_, '_>, field: &Field) -> PyResult<ArrayRef> {
        array(&flat.elements, field.data_type(), &|index| flat.place(self, index))
    }
}

// === impl Flat ===

impl Flat<'_, '_> {
    /// Where an element was: `value 3[1]`.
    fn place(&self, builder: &Builder<'_, '_>, index: usize) -> String {
        let list = self.ends.partition_point(|end| *end <= index).saturating_sub(1);
        let start = self.ends.get(list).copied().unwrap_or(0);
        format!("{}[{}]", (builder.place)(list), index - start)
    }

    fn offsets<O: OffsetSizeTrait>(&self, builder: &Builder<'_, '_>) -> PyResult<OffsetBuffer<O>> {
        if !O::IS_LARGE {
            builder.viewable(self.elements.len())?;
        }
        let offsets: ScalarBuffer<O> = self.ends.iter().map(|end| O::usize_as(*end)).collect();
        Ok(OffsetBuffer::new(offsets))
    }
}

/// The first key that no field is called by.
fn unknown(dict: &Members<'_>, fields: &Fields) -> Option<String> {
    let is_known = |at: usize, key: &str| {
        // Most dicts have their keys in the order of the fields.
        fields.get(at).is_some_and(|field| field.name() == key) || fields.find(key).is_some()
    };
    let mut keys = dict.iter().enumerate();
    let found = keys.find(|(at, (key, _))| !key.to_str().is_ok_and(|key| is_known(*at, key)));
    found.map(|(_, (key, _))| key.to_string_lossy().into_owned())
}

/// The value of a key, which is most often where it was in the dicts before.
fn member<'a, 'py>(dict: &'a Members<'py>, name: &str, position: usize) -> &'a Item<'py> {
    let is = |key: &Bound<'_, PyString>| key.to_str().is_ok_and(|key| key == name);
    if let Some((key, item)) = dict.get(position)
        && is(key)
    {
        return item;
    }
    dict.iter().find(|(key, _)| is(key)).map_or(&Item::Null, |(_, item)| item)
}

fn nulls(valid: impl Iterator<Item = bool>) -> Option<NullBuffer> {
    let valid: NullBuffer = valid.collect::<Vec<_>>().into();
    (valid.null_count() > 0).then_some(valid)
}
