//! The type that holds all values of a column.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, TimeUnit};
use pyo3::{exceptions::PyValueError, prelude::*, types::PyString};

use super::items::{Item, a, fault};
use crate::values::{
    Unfit,
    object::{index_step, text_step},
};

/// Digits of the widest decimal of each kind.
const DIGITS_128: i64 = 38;
const DIGITS_256: i64 = 76;

/// What the values seen so far have in common.
enum Shape {
    Null,
    Bool,
    Int {
        low: i128,
        high: i128,
    },
    Float,
    /// The bytes of all of them.
    Text(usize),
    Bytes(usize),
    Date,
    Time,
    Instant {
        zone: Option<Arc<str>>,
        fine: bool,
    },
    Delta {
        fine: bool,
    },
    /// The most digits before and after the point.
    Decimal {
        whole: i64,
        scale: i64,
    },
    List(Box<Self>),
    Struct(Vec<(String, Self)>),
}

/// The type that holds all of these values.
pub(super) fn data_type(
    items: &[Item<'_>],
    place: &impl Fn(usize) -> String,
) -> PyResult<DataType> {
    let mut shape = Shape::Null;
    for (index, item) in items.iter().enumerate() {
        shape.join(item).map_err(|unfit| fault(unfit, place(index)))?;
    }
    shape.data_type().map_err(PyValueError::new_err)
}

// === impl Shape ===

impl Shape {
    fn join(&mut self, item: &Item<'_>) -> Result<(), Unfit> {
        match (&mut *self, item) {
            (_, Item::Null) => {}
            (Self::Null, item) => *self = Self::of(item)?,
            (Self::Bool, Item::Bool(_))
            | (Self::Float, Item::Float(_) | Item::Int(_))
            | (Self::Date, Item::Date(_))
            | (Self::Time, Item::Time(_)) => {}
            (Self::Int { low, high }, Item::Int(number)) => {
                (*low, *high) = ((*low).min(*number), (*high).max(*number));
            }
            (Self::Int { .. }, Item::Float(_)) => *self = Self::Float,
            (Self::Text(bytes), Item::Text(text)) => *bytes += text.to_str()?.len(),
            (Self::Bytes(bytes), Item::Bytes(more)) => *bytes += more.as_bytes().len(),
            (Self::Instant { zone, fine }, Item::Instant { nanos, zone: other })
                if zone.is_some() == other.is_some() =>
            {
                *fine |= is_fine(*nanos);
                if zone != other {
                    *zone = Some("UTC".into());
                }
            }
            (Self::Delta { fine }, Item::Delta(nanos)) => *fine |= is_fine(*nanos),
            (Self::Decimal { whole, scale }, Item::Decimal(number)) => {
                let (more_whole, more_scale) = number.sizes();
                (*whole, *scale) = ((*whole).max(more_whole), (*scale).max(more_scale));
            }
            (Self::List(shape), Item::List(elements)) => shape.join_elements(elements)?,
            (Self::Struct(members), Item::Struct(more)) => join_members(members, more)?,
            (shape, item) => {
                let (kind, before) = (item.kind(), shape.kind());
                let message = format!("is {}, the ones before are {before}", a(kind));
                return Err(Unfit::new(message));
            }
        }
        Ok(())
    }

    fn of(item: &Item<'_>) -> Result<Self, Unfit> {
        Ok(match item {
            Item::Null => Self::Null,
            Item::Bool(_) => Self::Bool,
            Item::Int(number) => Self::Int { low: *number, high: *number },
            Item::Float(_) => Self::Float,
            Item::Text(text) => Self::Text(text.to_str()?.len()),
            Item::Bytes(bytes) => Self::Bytes(bytes.as_bytes().len()),
            Item::Date(_) => Self::Date,
            Item::Time(_) => Self::Time,
            Item::Instant { nanos, zone } => {
                Self::Instant { zone: zone.clone(), fine: is_fine(*nanos) }
            }
            Item::Delta(nanos) => Self::Delta { fine: is_fine(*nanos) },
            Item::Decimal(number) => {
                let (whole, scale) = number.sizes();
                Self::Decimal { whole, scale }
            }
            Item::List(elements) => {
                let mut shape = Self::Null;
                shape.join_elements(elements)?;
                Self::List(Box::new(shape))
            }
            Item::Struct(members) => {
                let mut all = Vec::new();
                join_members(&mut all, members)?;
                Self::Struct(all)
            }
        })
    }

    fn join_elements(&mut self, elements: &[Item<'_>]) -> Result<(), Unfit> {
        let mut elements = elements.iter().enumerate();
        elements.try_for_each(|(index, element)| {
            self.join(element).map_err(|unfit| unfit.at(|| index_step(index)))
        })
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "None",
            Self::Bool => "bool",
            Self::Int { .. } => "int",
            Self::Float => "float",
            Self::Text(_) => "str",
            Self::Bytes(_) => "bytes",
            Self::Date => "date",
            Self::Time => "time",
            Self::Instant { zone: None, .. } => "datetime",
            Self::Instant { zone: Some(_), .. } => "datetime with a zone",
            Self::Delta { .. } => "timedelta",
            Self::Decimal { .. } => "Decimal",
            Self::List(_) => "list",
            Self::Struct(_) => "dict",
        }
    }

    fn data_type(self) -> Result<DataType, String> {
        let unit = |fine| if fine { TimeUnit::Nanosecond } else { TimeUnit::Microsecond };
        let long = |bytes: usize| i32::try_from(bytes).is_err();
        Ok(match self {
            Self::Null => DataType::Null,
            Self::Bool => DataType::Boolean,
            Self::Int { high, .. } if high <= i64::MAX.into() => DataType::Int64,
            Self::Int { low, .. } if low >= 0 => DataType::UInt64,
            Self::Int { low, high } => {
                return Err(format!("{low} and {high} do not fit into one type of 64 bits"));
            }
            Self::Float => DataType::Float64,
            Self::Text(bytes) if long(bytes) => DataType::LargeUtf8,
            Self::Text(_) => DataType::Utf8,
            Self::Bytes(bytes) if long(bytes) => DataType::LargeBinary,
            Self::Bytes(_) => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Instant { zone, fine } => DataType::Timestamp(unit(fine), zone),
            Self::Delta { fine } => DataType::Duration(unit(fine)),
            Self::Decimal { whole, scale } => decimal_type(whole, scale)?,
            Self::List(shape) => DataType::new_list(shape.data_type()?, true),
            Self::Struct(members) => {
                let fields = members
                    .into_iter()
                    .map(|(name, shape)| Ok(Field::new(name, shape.data_type()?, true)));
                DataType::Struct(fields.collect::<Result<Fields, String>>()?)
            }
        })
    }
}

fn join_members(
    members: &mut Vec<(String, Shape)>,
    more: &[(Bound<'_, PyString>, Item<'_>)],
) -> Result<(), Unfit> {
    for (position, (name, item)) in more.iter().enumerate() {
        let name = name.to_str()?;
        // Dicts of one kind have their keys in one order.
        let found = match members.get(position) {
            Some((known, _)) if known == name => Some(position),
            _ => members.iter().position(|(known, _)| known == name),
        };
        let index = found.unwrap_or_else(|| {
            members.push((name.to_owned(), Shape::Null));
            members.len() - 1
        });
        let joined = members.get_mut(index).map_or(Ok(()), |(_, shape)| shape.join(item));
        joined.map_err(|unfit| unfit.at(|| text_step(name)))?;
    }
    Ok(())
}

fn decimal_type(whole: i64, scale: i64) -> Result<DataType, String> {
    let precision = (whole + scale).max(1);
    let (precision, scale) = match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(small), Ok(scale)) if precision <= DIGITS_256 => (small, scale),
        _ => {
            return Err(format!(
                "{whole} digits before the point and {scale} after it are more than {DIGITS_256}"
            ));
        }
    };
    if i64::from(precision) <= DIGITS_128 {
        return Ok(DataType::Decimal128(precision, scale));
    }
    Ok(DataType::Decimal256(precision, scale))
}

/// Whether there is more to it than microseconds.
fn is_fine(nanos: i128) -> bool {
    nanos % 1_000 != 0
}
