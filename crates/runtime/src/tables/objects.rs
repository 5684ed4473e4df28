//! Arrow's values as plain Python objects.
//!
//! Nothing is rounded and nothing is cut off: what a Python type has no place for is an error that
//! names the column.

use std::{collections::HashSet, fmt::Display};

use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, GenericListArray, GenericListViewArray, OffsetSizeTrait,
    PrimitiveArray, RunArray, cast::AsArray, downcast_dictionary_array, downcast_run_array,
    types as t,
};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, FieldRef, Fields, IntervalUnit, TimeUnit};
use pyo3::{
    exceptions::{PyArithmeticError, PyKeyError, PyOverflowError, PyTypeError, PyValueError},
    prelude::*,
    types::{PyBool, PyList, PyString, PyTuple},
};

use super::{capsule::raised, times, types};
use crate::values::object::{Lazy, new};

static DECIMAL: Lazy = Lazy::new("decimal", "Decimal");

/// Makes the object of the value at a place.
type Give<'a, 'py> = Box<dyn Fn(usize) -> PyResult<Bound<'py, PyAny>> + 'a>;

/// All values of a column.
pub(super) fn list<'py>(
    py: Python<'py>,
    field: &FieldRef,
    chunks: &[ArrayRef],
) -> PyResult<Bound<'py, PyList>> {
    let list = new::list(py)?;
    let filled = chunks.iter().try_for_each(|chunk| {
        let give = giver(py, chunk.as_ref())?;
        (0..chunk.len()).try_for_each(|index| list.append(give(index)?))
    });
    match filled {
        Ok(()) => Ok(list),
        Err(error) => Err(blamed(py, error, &format!("column {:?}", field.name()))),
    }
}

/// An error about a value, with the place where it is put before it.
pub(super) fn blamed(py: Python<'_>, error: PyErr, place: &str) -> PyErr {
    let message = format!("{place}: {}", error.value(py));
    let other = if error.is_instance_of::<PyTypeError>(py) {
        PyTypeError::new_err(message)
    } else if error.is_instance_of::<PyValueError>(py)
        || error.is_instance_of::<PyArithmeticError>(py)
        || error.is_instance_of::<PyKeyError>(py)
    {
        PyValueError::new_err(message)
    } else {
        return error;
    };
    other.set_cause(py, Some(error));
    other
}

/// Whether all names differ, as the keys of a dict have to.
pub(super) fn distinct(fields: &Fields, what: &str) -> PyResult<()> {
    let mut seen = HashSet::new();
    match fields.iter().find(|field| !seen.insert(field.name())) {
        None => Ok(()),
        Some(field) => {
            let message = format!("several {what} are called {:?}", field.name());
            Err(PyValueError::new_err(message))
        }
    }
}

/// How to make an object of any value of an array, null or not.
fn giver<'a, 'py: 'a>(py: Python<'py>, array: &'a dyn Array) -> PyResult<Give<'a, 'py>> {
    let give = valid_giver(py, array)?;
    let Some(nulls) = array.nulls() else { return Ok(give) };
    Ok(Box::new(
        move |index| {
            if nulls.is_null(index) { Ok(py.None().into_bound(py)) } else { give(index) }
        },
    ))
}

/// How to make an object of any value of an array that is not null.
fn valid_giver<'a, 'py: 'a>(py: Python<'py>, array: &'a dyn Array) -> PyResult<Give<'a, 'py>> {
    use DataType as T;
    Ok(match array.data_type() {
        T::Null => Box::new(move |_| Ok(py.None().into_bound(py))),
        T::Boolean => {
            let array = array.as_boolean();
            Box::new(move |index| Ok(PyBool::new(py, array.value(index)).to_owned().into_any()))
        }
        T::Int8 => int::<t::Int8Type>(py, array),
        T::Int16 => int::<t::Int16Type>(py, array),
        T::Int32 => int::<t::Int32Type>(py, array),
        T::Int64 => int::<t::Int64Type>(py, array),
        T::UInt8 => int::<t::UInt8Type>(py, array),
        T::UInt16 => int::<t::UInt16Type>(py, array),
        T::UInt32 => int::<t::UInt32Type>(py, array),
        T::UInt64 => {
            let array = array.as_primitive::<t::UInt64Type>();
            Box::new(move |index| new::uint(py, array.value(index)))
        }
        T::Float16 => {
            let array = array.as_primitive::<t::Float16Type>();
            Box::new(move |index| new::float(py, array.value(index).to_f64()))
        }
        T::Float32 => {
            let array = array.as_primitive::<t::Float32Type>();
            Box::new(move |index| new::float(py, array.value(index).into()))
        }
        T::Float64 => {
            let array = array.as_primitive::<t::Float64Type>();
            Box::new(move |index| new::float(py, array.value(index)))
        }
        T::Decimal32(..) | T::Decimal64(..) | T::Decimal128(..) | T::Decimal256(..) => {
            decimal(py, array)?
        }
        _ => other_giver(py, array)?,
    })
}

fn other_giver<'a, 'py: 'a>(py: Python<'py>, array: &'a dyn Array) -> PyResult<Give<'a, 'py>> {
    use DataType as T;
    Ok(match array.data_type() {
        T::Utf8 => text(py, array.as_string::<i32>(), |array, index| array.value(index)),
        T::LargeUtf8 => text(py, array.as_string::<i64>(), |array, index| array.value(index)),
        T::Utf8View => text(py, array.as_string_view(), |array, index| array.value(index)),
        T::Binary => bytes(py, array.as_binary::<i32>(), |array, index| array.value(index)),
        T::LargeBinary => bytes(py, array.as_binary::<i64>(), |array, index| array.value(index)),
        T::BinaryView => bytes(py, array.as_binary_view(), |array, index| array.value(index)),
        T::FixedSizeBinary(_) => {
            bytes(py, array.as_fixed_size_binary(), |array, index| array.value(index))
        }
        T::Date32 | T::Date64 | T::Timestamp(..) | T::Time32(_) | T::Time64(_) | T::Duration(_) => {
            time(py, array)?
        }
        T::Interval(unit) => interval(py, array, *unit),
        T::List(_) => lists(py, array.as_list::<i32>())?,
        T::LargeList(_) => lists(py, array.as_list::<i64>())?,
        T::ListView(_) => list_views(py, array.as_list_view::<i32>())?,
        T::LargeListView(_) => list_views(py, array.as_list_view::<i64>())?,
        T::FixedSizeList(_, length) => {
            let list = array.as_fixed_size_list();
            let length = usize::try_from(*length).unwrap_or(0);
            let give = giver(py, list.values().as_ref())?;
            Box::new(move |index| items(py, &give, index * length, length))
        }
        T::Struct(_) => structs(py, array)?,
        T::Map(..) => maps(py, array)?,
        T::Union(..) => unions(py, array)?,
        T::Dictionary(..) => entries(py, array)?,
        T::RunEndEncoded(..) => runs(py, array)?,
        other => {
            let message = format!("Python has no object for {}", types::name(other));
            return Err(PyTypeError::new_err(message));
        }
    })
}

fn int<'a, 'py: 'a, T>(py: Python<'py>, array: &'a dyn Array) -> Give<'a, 'py>
where
    T: ArrowPrimitiveType<Native: Into<i64>>,
{
    let array: &PrimitiveArray<T> = array.as_primitive();
    Box::new(move |index| new::int(py, array.value(index).into()))
}

fn decimal<'a, 'py: 'a>(py: Python<'py>, array: &'a dyn Array) -> PyResult<Give<'a, 'py>> {
    let formatter = ArrayFormatter::try_new(array, &FormatOptions::default()).map_err(raised)?;
    Ok(Box::new(move |index| {
        let text = formatter.value(index).try_to_string().map_err(raised)?;
        DECIMAL.get(py)?.call1((text,))
    }))
}

fn text<'a, 'py: 'a, A>(
    py: Python<'py>,
    array: &'a A,
    value: fn(&'a A, usize) -> &'a str,
) -> Give<'a, 'py> {
    let make = move |index| PyString::from_bytes(py, value(array, index).as_bytes());
    Box::new(move |index| Ok(make(index)?.into_any()))
}

fn bytes<'a, 'py: 'a, A>(
    py: Python<'py>,
    array: &'a A,
    value: fn(&'a A, usize) -> &'a [u8],
) -> Give<'a, 'py> {
    Box::new(move |index| Ok(new::bytes(py, value(array, index))?.into_any()))
}

fn number<'a, T>(array: &'a dyn Array) -> impl Fn(usize) -> i64 + 'a
where
    T: ArrowPrimitiveType<Native: Into<i64>>,
{
    let array: &PrimitiveArray<T> = array.as_primitive();
    move |index| array.value(index).into()
}

/// Dates, times, timestamps and durations.
fn time<'a, 'py: 'a>(py: Python<'py>, array: &'a dyn Array) -> PyResult<Give<'a, 'py>> {
    use TimeUnit as U;
    // All are whole numbers of days or of a unit.
    let value: Box<dyn Fn(usize) -> i64 + 'a> = match array.data_type() {
        DataType::Date32 => Box::new(number::<t::Date32Type>(array)),
        DataType::Date64 => Box::new(number::<t::Date64Type>(array)),
        DataType::Time32(U::Second) => Box::new(number::<t::Time32SecondType>(array)),
        DataType::Time32(_) => Box::new(number::<t::Time32MillisecondType>(array)),
        DataType::Time64(U::Nanosecond) => Box::new(number::<t::Time64NanosecondType>(array)),
        DataType::Time64(_) => Box::new(number::<t::Time64MicrosecondType>(array)),
        DataType::Timestamp(U::Second, _) => Box::new(number::<t::TimestampSecondType>(array)),
        DataType::Timestamp(U::Millisecond, _) => {
            Box::new(number::<t::TimestampMillisecondType>(array))
        }
        DataType::Timestamp(U::Microsecond, _) => {
            Box::new(number::<t::TimestampMicrosecondType>(array))
        }
        DataType::Timestamp(U::Nanosecond, _) => {
            Box::new(number::<t::TimestampNanosecondType>(array))
        }
        DataType::Duration(U::Second) => Box::new(number::<t::DurationSecondType>(array)),
        DataType::Duration(U::Millisecond) => Box::new(number::<t::DurationMillisecondType>(array)),
        DataType::Duration(U::Microsecond) => Box::new(number::<t::DurationMicrosecondType>(array)),
        _ => Box::new(number::<t::DurationNanosecondType>(array)),
    };
    let make = times::maker(py, array.data_type())?;
    Ok(Box::new(move |index| make(value(index))))
}

/// Months, days and nanoseconds.
fn interval<'a, 'py: 'a>(
    py: Python<'py>,
    array: &'a dyn Array,
    unit: IntervalUnit,
) -> Give<'a, 'py> {
    Box::new(move |index| {
        let (months, days, nanoseconds) = match unit {
            IntervalUnit::YearMonth => {
                (array.as_primitive::<t::IntervalYearMonthType>().value(index), 0, 0)
            }
            IntervalUnit::DayTime => {
                let value = array.as_primitive::<t::IntervalDayTimeType>().value(index);
                (0, value.days, i64::from(value.milliseconds) * 1_000_000)
            }
            IntervalUnit::MonthDayNano => {
                let value = array.as_primitive::<t::IntervalMonthDayNanoType>().value(index);
                (value.months, value.days, value.nanoseconds)
            }
        };
        Ok((months, days, nanoseconds).into_pyobject(py)?.into_any())
    })
}

/// A list of values that stand one after the other.
fn items<'py>(
    py: Python<'py>,
    give: &Give<'_, 'py>,
    start: usize,
    length: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let list = new::list(py)?;
    for index in start..start + length {
        list.append(give(index)?)?;
    }
    Ok(list.into_any())
}

fn lists<'a, 'py: 'a, O: OffsetSizeTrait>(
    py: Python<'py>,
    list: &'a GenericListArray<O>,
) -> PyResult<Give<'a, 'py>> {
    let give = giver(py, list.values().as_ref())?;
    let offsets = list.value_offsets();
    Ok(Box::new(move |index| {
        let start = offsets[index].as_usize();
        items(py, &give, start, offsets[index + 1].as_usize() - start)
    }))
}

fn list_views<'a, 'py: 'a, O: OffsetSizeTrait>(
    py: Python<'py>,
    list: &'a GenericListViewArray<O>,
) -> PyResult<Give<'a, 'py>> {
    let give = giver(py, list.values().as_ref())?;
    let (offsets, sizes) = (list.value_offsets(), list.value_sizes());
    Ok(Box::new(move |index| items(py, &give, offsets[index].as_usize(), sizes[index].as_usize())))
}

fn structs<'a, 'py: 'a>(py: Python<'py>, array: &'a dyn Array) -> PyResult<Give<'a, 'py>> {
    let array = array.as_struct();
    distinct(array.fields(), "members")?;
    let members =
        array.fields().iter().zip(array.columns()).map(|(field, column)| {
            Ok((PyString::new(py, field.name()), giver(py, column.as_ref())?))
        });
    let members = members.collect::<PyResult<Vec<_>>>()?;
    Ok(Box::new(move |index| {
        let dict = new::dict(py)?;
        for (name, give) in &members {
            dict.set_item(name, give(index)?)?;
        }
        Ok(dict.into_any())
    }))
}

/// A map is a list of pairs: its keys need not be hashable, nor differ.
fn maps<'a, 'py: 'a>(py: Python<'py>, array: &'a dyn Array) -> PyResult<Give<'a, 'py>> {
    let map = array.as_map();
    let key = giver(py, map.keys().as_ref())?;
    let value = giver(py, map.values().as_ref())?;
    let offsets = map.value_offsets();
    let pair: Give<'a, 'py> =
        Box::new(move |index| Ok(PyTuple::new(py, [key(index)?, value(index)?])?.into_any()));
    Ok(Box::new(move |index| {
        let (start, end) = (offsets[index] as usize, offsets[index + 1] as usize);
        items(py, &pair, start, end - start)
    }))
}

fn unions<'a, 'py: 'a>(py: Python<'py>, array: &'a dyn Array) -> PyResult<Give<'a, 'py>> {
    let union = array.as_union();
    let ids: HashSet<i8> = union.type_ids().iter().copied().collect();
    let members = ids.into_iter().map(|id| Ok((id, giver(py, union.child(id).as_ref())?)));
    let members = members.collect::<PyResult<std::collections::HashMap<_, _>>>()?;
    Ok(Box::new(move |index| match members.get(&union.type_id(index)) {
        Some(give) => give(union.value_offset(index)),
        None => Ok(py.None().into_bound(py)),
    }))
}

fn entries<'a, 'py: 'a>(py: Python<'py>, array: &'a dyn Array) -> PyResult<Give<'a, 'py>> {
    let values = array.as_any_dictionary().values();
    let (give, count) = (giver(py, values.as_ref())?, values.len());
    let none = move || Ok(py.None().into_bound(py));
    Ok(downcast_dictionary_array!(
        array => Box::new(move |index| match array.key(index) {
            Some(key) if key < count => give(key),
            Some(key) => Err(outside(key, count)),
            None => none(),
        }),
        _ => Box::new(move |_| none()),
    ))
}

fn runs<'a, 'py: 'a>(py: Python<'py>, array: &'a dyn Array) -> PyResult<Give<'a, 'py>> {
    fn one<'a, 'py: 'a, R: t::RunEndIndexType>(
        py: Python<'py>,
        runs: &'a RunArray<R>,
    ) -> PyResult<Give<'a, 'py>> {
        let give = giver(py, runs.values().as_ref())?;
        Ok(Box::new(move |index| give(runs.get_physical_index(index))))
    }
    downcast_run_array!(
        array => one(py, array),
        other => Err(PyTypeError::new_err(format!("{other} has no runs"))),
    )
}

fn outside(key: impl Display, count: usize) -> PyErr {
    PyOverflowError::new_err(format!("index {key} into a dictionary of {count} values"))
}
