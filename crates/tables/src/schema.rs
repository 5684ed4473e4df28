//! What a schema from outside may hold.

use arrow_schema::{DataType, Field, Schema};

use crate::{
    Format, Limits, ReadError, WriteError,
    table::{MAX_DEPTH, MAX_PARQUET_DEPTH},
};

/// Refuses schemas that no library could take over: too wide, too deep, with impossible types.
pub(crate) fn check(schema: &Schema, format: Format, limits: &Limits) -> Result<(), ReadError> {
    let mut left = limits.max_columns;
    for field in schema.fields() {
        check_field(field, 1, &mut left).map_err(|fault| match fault {
            Fault::Width => too_wide(format, limits),
            Fault::Wrong(why) => ReadError::malformed(format, why),
        })?;
    }
    Ok(())
}

pub(crate) fn too_wide(format: Format, limits: &Limits) -> ReadError {
    ReadError::too_large(format, format!("it has more than {} columns", limits.max_columns))
}

/// The types that a type is made of.
pub(crate) fn inner(data_type: &DataType) -> Vec<&DataType> {
    match data_type {
        DataType::Dictionary(_, values) => vec![values],
        DataType::List(child)
        | DataType::LargeList(child)
        | DataType::ListView(child)
        | DataType::LargeListView(child)
        | DataType::FixedSizeList(child, _)
        | DataType::Map(child, _)
        | DataType::RunEndEncoded(_, child) => vec![child.data_type()],
        DataType::Struct(children) => children.iter().map(|child| child.data_type()).collect(),
        DataType::Union(children, _) => {
            children.iter().map(|(_, child)| child.data_type()).collect()
        }
        _ => Vec::new(),
    }
}

/// How deep types are nested in one another, at most.
pub(crate) fn depth(data_type: &DataType) -> usize {
    let deepest = inner(data_type).into_iter().map(depth).max().unwrap_or(0);
    deepest + 1
}

/// Refuses to write what readers could not read, or what would take too much stack.
pub(crate) fn check_depth(schema: &Schema, format: Format) -> Result<(), WriteError> {
    let most = if format == Format::Parquet { MAX_PARQUET_DEPTH } else { MAX_DEPTH };
    let deep = schema.fields().iter().find(|field| depth(field.data_type()) > most);
    deep.map_or(Ok(()), |field| {
        let why = format!("column \"{}\" is nested more than {most} deep", field.name());
        Err(WriteError::unsupported(format, why))
    })
}

pub(crate) fn too_deep(name: &str) -> String {
    format!("column \"{name}\" is nested more than {MAX_DEPTH} deep")
}

enum Fault {
    Width,
    Wrong(String),
}

fn check_field(field: &Field, depth: usize, left: &mut usize) -> Result<(), Fault> {
    *left = left.checked_sub(1).ok_or(Fault::Width)?;
    let name = field.name();
    if depth > MAX_DEPTH {
        return Err(Fault::Wrong(too_deep(name)));
    }
    // The C data interface, by which all libraries take tables, ends names at a NUL.
    if name.contains('\0') {
        return Err(Fault::Wrong(format!("the name of column {name:?} has a NUL in it")));
    }
    check_type(name, field.data_type(), depth, left)
}

fn check_type(
    name: &str,
    data_type: &DataType,
    depth: usize,
    left: &mut usize,
) -> Result<(), Fault> {
    let impossible = || Fault::Wrong(format!("column \"{name}\" cannot be of type {data_type}"));
    let decimal = |precision: u8, scale: i8, most: u8| {
        let fits = (1..=most).contains(&precision)
            && scale.unsigned_abs() <= most
            && (scale < 0 || scale.unsigned_abs() <= precision);
        if fits { Ok(()) } else { Err(impossible()) }
    };
    match data_type {
        DataType::Decimal32(precision, scale) => decimal(*precision, *scale, 9),
        DataType::Decimal64(precision, scale) => decimal(*precision, *scale, 18),
        DataType::Decimal128(precision, scale) => decimal(*precision, *scale, 38),
        DataType::Decimal256(precision, scale) => decimal(*precision, *scale, 76),
        DataType::FixedSizeBinary(width) if *width < 0 => Err(impossible()),
        DataType::FixedSizeList(_, length) if *length < 0 => Err(impossible()),
        DataType::Timestamp(_, Some(zone)) if zone.contains('\0') => Err(impossible()),
        DataType::Dictionary(_, values) => check_type(name, values, depth + 1, left),
        DataType::List(child)
        | DataType::LargeList(child)
        | DataType::ListView(child)
        | DataType::LargeListView(child)
        | DataType::FixedSizeList(child, _)
        | DataType::Map(child, _) => check_field(child, depth + 1, left),
        DataType::Struct(children) => {
            children.iter().try_for_each(|child| check_field(child, depth + 1, left))
        }
        DataType::Union(children, _) => {
            children.iter().try_for_each(|(_, child)| check_field(child, depth + 1, left))
        }
        DataType::RunEndEncoded(ends, values) => {
            check_field(ends, depth + 1, left)?;
            check_field(values, depth + 1, left)
        }
        _ => Ok(()),
    }
}
