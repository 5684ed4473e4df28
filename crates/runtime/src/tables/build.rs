//! Values read from Python objects as an array of a given type.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, ArrowPrimitiveType, BooleanArray, FixedSizeBinaryArray, NullArray, PrimitiveArray,
    builder::{
        BinaryViewBuilder, FixedSizeBinaryBuilder, GenericBinaryBuilder, GenericStringBuilder,
        StringViewBuilder,
    },
    types as t,
};
use arrow_buffer::i256;
use arrow_schema::{DataType, TimeUnit};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
};

use super::{
    items::{Item, a},
    types,
};

type Half = <t::Float16Type as ArrowPrimitiveType>::Native;

/// Names the place of a value.
pub(super) type Place<'a> = &'a dyn Fn(usize) -> String;

/// Why a value is not one of the type that is asked for.
pub(super) enum Misfit {
    /// It is something else.
    Kind,
    /// It is, but has no place there.
    Range(String),
}

/// The array of these values; `place` names the one that is not of the type.
pub(super) fn array(
    items: &[&Item<'_>],
    data_type: &DataType,
    place: Place<'_>,
) -> PyResult<ArrayRef> {
    Builder { items, data_type, place }.array()
}

/// Values on their way into an array.
pub(super) struct Builder<'a, 'py> {
    pub(super) items: &'a [&'a Item<'py>],
    pub(super) data_type: &'a DataType,
    pub(super) place: Place<'a>,
}

impl<'a, 'py> Builder<'a, 'py> {
    fn array(&self) -> PyResult<ArrayRef> {
        use DataType as T;
        match self.data_type {
            T::Null => {
                self.valid(|_| Err::<(), _>(Misfit::Kind))?;
                Ok(Arc::new(NullArray::new(self.items.len())))
            }
            T::Boolean => {
                let values = self.valid(|item| match item {
                    Item::Bool(truth) => Ok(*truth),
                    _ => Err(Misfit::Kind),
                })?;
                Ok(Arc::new(BooleanArray::from(values)))
            }
            T::Int8 => self.primitive::<t::Int8Type>(int),
            T::Int16 => self.primitive::<t::Int16Type>(int),
            T::Int32 => self.primitive::<t::Int32Type>(int),
            T::Int64 => self.primitive::<t::Int64Type>(int),
            T::UInt8 => self.primitive::<t::UInt8Type>(int),
            T::UInt16 => self.primitive::<t::UInt16Type>(int),
            T::UInt32 => self.primitive::<t::UInt32Type>(int),
            T::UInt64 => self.primitive::<t::UInt64Type>(int),
            T::Float16 => self.primitive::<t::Float16Type>(|item| Ok(Half::from_f64(float(item)?))),
            T::Float32 => self.primitive::<t::Float32Type>(|item| Ok(float(item)? as f32)),
            T::Float64 => self.primitive::<t::Float64Type>(float),
            T::Decimal32(precision, scale) => self.primitive::<t::Decimal32Type>(|item| {
                let digits = unscaled(item, *precision, *scale)?;
                digits.parse().map_err(|_| Misfit::Kind)
            }),
            T::Decimal64(precision, scale) => self.primitive::<t::Decimal64Type>(|item| {
                let digits = unscaled(item, *precision, *scale)?;
                digits.parse().map_err(|_| Misfit::Kind)
            }),
            T::Decimal128(precision, scale) => self.primitive::<t::Decimal128Type>(|item| {
                let digits = unscaled(item, *precision, *scale)?;
                digits.parse().map_err(|_| Misfit::Kind)
            }),
            T::Decimal256(precision, scale) => self.primitive::<t::Decimal256Type>(|item| {
                i256::from_string(&unscaled(item, *precision, *scale)?).ok_or(Misfit::Kind)
            }),
            T::Date32 | T::Date64 | T::Time32(_) | T::Time64(_) => self.day_or_time(),
            T::Timestamp(..) | T::Duration(_) => self.time(),
            T::Utf8 | T::LargeUtf8 | T::Utf8View => self.text(),
            T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => self.bytes(),
            _ => self.nested(),
        }
    }

    fn day_or_time(&self) -> PyResult<ArrayRef> {
        use TimeUnit as U;
        let day = |item: &Item<'_>| match item {
            Item::Date(days) => Ok(*days),
            _ => Err(Misfit::Kind),
        };
        match self.data_type {
            DataType::Date32 => self.primitive::<t::Date32Type>(day),
            DataType::Date64 => {
                self.primitive::<t::Date64Type>(|item| Ok(i64::from(day(item)?) * 86_400_000))
            }
            DataType::Time32(U::Second) => {
                self.primitive::<t::Time32SecondType>(|item| coarse(item, 1_000_000))
            }
            DataType::Time32(_) => {
                self.primitive::<t::Time32MillisecondType>(|item| coarse(item, 1_000))
            }
            DataType::Time64(U::Nanosecond) => {
                self.primitive::<t::Time64NanosecondType>(|item| Ok(time(item)? * 1_000))
            }
            _ => self.primitive::<t::Time64MicrosecondType>(time),
        }
    }

    fn time(&self) -> PyResult<ArrayRef> {
        use TimeUnit as U;
        match self.data_type {
            DataType::Timestamp(unit, zone) => {
                let value = |item: &Item<'_>| instant(item, *unit, zone.is_some());
                match unit {
                    U::Second => self.primitive::<t::TimestampSecondType>(value),
                    U::Millisecond => self.primitive::<t::TimestampMillisecondType>(value),
                    U::Microsecond => self.primitive::<t::TimestampMicrosecondType>(value),
                    U::Nanosecond => self.primitive::<t::TimestampNanosecondType>(value),
                }
            }
            DataType::Duration(unit) => {
                let value = |item: &Item<'_>| match item {
                    Item::Delta(nanos) => in_unit(*nanos, *unit),
                    _ => Err(Misfit::Kind),
                };
                match unit {
                    U::Second => self.primitive::<t::DurationSecondType>(value),
                    U::Millisecond => self.primitive::<t::DurationMillisecondType>(value),
                    U::Microsecond => self.primitive::<t::DurationMicrosecondType>(value),
                    U::Nanosecond => self.primitive::<t::DurationNanosecondType>(value),
                }
            }
            _ => Err(self.unmade()),
        }
    }

    pub(super) fn unmade(&self) -> PyErr {
        let name = types::name(self.data_type);
        PyTypeError::new_err(format!("columns of {name} are not made of Python objects"))
    }

    /// Each value by `make`, `None` for nulls.
    pub(super) fn valid<T>(
        &self,
        make: impl Fn(&'a Item<'py>) -> Result<T, Misfit>,
    ) -> PyResult<Vec<Option<T>>> {
        let one = |(index, item): (usize, &&'a Item<'py>)| match *item {
            Item::Null => Ok(None),
            item => make(item).map(Some).map_err(|misfit| self.wrong(index, item, misfit)),
        };
        self.items.iter().enumerate().map(one).collect()
    }

    #[cold]
    fn wrong(&self, index: usize, item: &Item<'_>, misfit: Misfit) -> PyErr {
        let (place, name) = ((self.place)(index), types::name(self.data_type));
        match misfit {
            Misfit::Kind => {
                PyTypeError::new_err(format!("{place} is {}, not {name}", a(item.kind())))
            }
            Misfit::Range(value) => {
                PyValueError::new_err(format!("{place}, {value}, has no exact place in {name}"))
            }
        }
    }

    fn primitive<T: ArrowPrimitiveType>(
        &self,
        make: impl Fn(&Item<'_>) -> Result<T::Native, Misfit>,
    ) -> PyResult<ArrayRef> {
        let array: PrimitiveArray<T> = self.valid(make)?.into_iter().collect();
        Ok(Arc::new(array.with_data_type(self.data_type.clone())))
    }

    fn text(&self) -> PyResult<ArrayRef> {
        let values = self.valid(|item| match item {
            Item::Text(text) => text.to_str().map_err(|_| Misfit::Kind),
            _ => Err(Misfit::Kind),
        })?;
        let bytes = values.iter().flatten().map(|text| text.len()).sum();
        match self.data_type {
            DataType::LargeUtf8 => {
                let mut builder = GenericStringBuilder::<i64>::with_capacity(values.len(), bytes);
                values.into_iter().for_each(|value| builder.append_option(value));
                Ok(Arc::new(builder.finish()))
            }
            DataType::Utf8View => {
                let mut builder = StringViewBuilder::with_capacity(values.len());
                for value in values {
                    self.viewable(value.map_or(0, str::len))?;
                    builder.append_option(value);
                }
                Ok(Arc::new(builder.finish()))
            }
            _ => {
                self.viewable(bytes)?;
                let mut builder = GenericStringBuilder::<i32>::with_capacity(values.len(), bytes);
                values.into_iter().for_each(|value| builder.append_option(value));
                Ok(Arc::new(builder.finish()))
            }
        }
    }

    fn bytes(&self) -> PyResult<ArrayRef> {
        let values = self.valid(|item| match item {
            Item::Bytes(bytes) => Ok(bytes.as_bytes()),
            _ => Err(Misfit::Kind),
        })?;
        let bytes = values.iter().flatten().map(|bytes| bytes.len()).sum();
        match self.data_type {
            DataType::LargeBinary => {
                let mut builder = GenericBinaryBuilder::<i64>::with_capacity(values.len(), bytes);
                values.into_iter().for_each(|value| builder.append_option(value));
                Ok(Arc::new(builder.finish()))
            }
            DataType::BinaryView => {
                let mut builder = BinaryViewBuilder::with_capacity(values.len());
                for value in values {
                    self.viewable(value.map_or(0, <[u8]>::len))?;
                    builder.append_option(value);
                }
                Ok(Arc::new(builder.finish()))
            }
            DataType::FixedSizeBinary(width) => self.fixed(&values, *width),
            _ => {
                self.viewable(bytes)?;
                let mut builder = GenericBinaryBuilder::<i32>::with_capacity(values.len(), bytes);
                values.into_iter().for_each(|value| builder.append_option(value));
                Ok(Arc::new(builder.finish()))
            }
        }
    }

    fn fixed(&self, values: &[Option<&[u8]>], width: i32) -> PyResult<ArrayRef> {
        let mut builder = FixedSizeBinaryBuilder::with_capacity(values.len(), width);
        for (index, value) in values.iter().enumerate() {
            match value {
                None => builder.append_null(),
                Some(value) => builder.append_value(value).map_err(|_| {
                    let length = value.len();
                    let message =
                        format!("{} has {length} bytes, not {width}", (self.place)(index));
                    PyValueError::new_err(message)
                })?,
            }
        }
        let array: FixedSizeBinaryArray = builder.finish();
        Ok(Arc::new(array))
    }

    /// Arrow's smaller types count bytes in 32 bits, and its builders panic beyond.
    pub(super) fn viewable(&self, count: usize) -> PyResult<()> {
        if i32::try_from(count).is_ok() {
            return Ok(());
        }
        let name = types::name(self.data_type);
        Err(PyValueError::new_err(format!("{} column holds less than 2 GiB", a(&name))))
    }
}

fn int<T: TryFrom<i128>>(item: &Item<'_>) -> Result<T, Misfit> {
    let Item::Int(number) = item else { return Err(Misfit::Kind) };
    T::try_from(*number).map_err(|_| Misfit::Range(number.to_string()))
}

fn float(item: &Item<'_>) -> Result<f64, Misfit> {
    match item {
        Item::Float(number) => Ok(*number),
        Item::Int(number) if (*number as f64) as i128 == *number => Ok(*number as f64),
        Item::Int(number) => Err(Misfit::Range(number.to_string())),
        _ => Err(Misfit::Kind),
    }
}

fn time(item: &Item<'_>) -> Result<i64, Misfit> {
    match item {
        Item::Time(micros) => Ok(*micros),
        _ => Err(Misfit::Kind),
    }
}

/// A time of day in a unit of so many microseconds.
fn coarse(item: &Item<'_>, micros: i64) -> Result<i32, Misfit> {
    let time = time(item)?;
    let exact = (time % micros == 0).then(|| i32::try_from(time / micros).ok()).flatten();
    exact.ok_or_else(|| Misfit::Range(format!("{time} us")))
}

fn instant(item: &Item<'_>, unit: TimeUnit, aware: bool) -> Result<i64, Misfit> {
    match item {
        Item::Instant { nanos, zone } if zone.is_some() == aware => in_unit(*nanos, unit),
        _ => Err(Misfit::Kind),
    }
}

fn in_unit(nanos: i128, unit: TimeUnit) -> Result<i64, Misfit> {
    let size = match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    };
    let exact = (nanos % size == 0).then(|| i64::try_from(nanos / size).ok()).flatten();
    exact.ok_or_else(|| Misfit::Range(format!("{nanos} ns")))
}

fn unscaled(item: &Item<'_>, precision: u8, scale: i8) -> Result<String, Misfit> {
    let Item::Decimal(number) = item else { return Err(Misfit::Kind) };
    let shown = || Misfit::Range(format!("{}e{}", number.digits, number.exponent));
    number.unscaled(precision, scale).ok_or_else(shown)
}
