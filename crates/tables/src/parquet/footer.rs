//! The end of a Parquet file, looked at before the library makes objects of it.

use crate::{
    Format, Limits, ReadError,
    parquet::thrift::{I32, LIST, STRUCT, Thrift},
    schema::too_wide,
    table::{Budget, MAX_PARQUET_DEPTH},
};

const MAGIC: &[u8] = b"PAR1";

/// What a byte of the footer can become in memory, as objects, when much of it is made of little.
const SWELLING: u64 = 24;

/// Row groups, at most: the format numbers them with 16 bits.
const MAX_GROUPS: usize = 1 << 15;

/// A list in Arrow is two levels in Parquet.
const LEVELS: usize = 2;

/// Compares what the footer says with its own length and the limits.
pub(super) fn check(data: &[u8], limits: &Limits, budget: &Budget) -> Result<(), ReadError> {
    let wrong = |why: &str| ReadError::malformed(Format::Parquet, why);
    let footer = footer(data).ok_or_else(|| wrong("its end is missing or broken"))?;
    budget.check((footer.len() as u64).saturating_mul(SWELLING))?;
    let mut fault = None;
    let outcome = Thrift::new(footer).fields(&mut |thrift, id, kind| match (id, kind) {
        (2, LIST) => {
            let (kind, size) = thrift.list()?;
            // Besides its columns a schema has groups, about as many.
            if size > limits.max_columns.saturating_mul(1 + LEVELS).saturating_add(1) {
                fault = Some(too_wide(Format::Parquet, limits));
                return None;
            }
            let is_flat = kind == STRUCT && schema(thrift, size)?;
            if !is_flat {
                let why = format!("its schema is nested more than {MAX_PARQUET_DEPTH} deep");
                fault = Some(wrong(&why));
                return None;
            }
            Some(true)
        }
        (4, LIST) => {
            let (_, size) = (*thrift).list()?;
            // Room is made for all of them at once.
            (size <= MAX_GROUPS).then_some(false)
        }
        _ => Some(false),
    });
    match (outcome, fault) {
        (Some(()), _) => Ok(()),
        (None, Some(fault)) => Err(fault),
        (None, None) => Err(wrong("its footer is broken")),
    }
}

fn footer(data: &[u8]) -> Option<&[u8]> {
    let rest = data.strip_prefix(MAGIC)?.strip_suffix(MAGIC)?;
    let (rest, length) = rest.split_last_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    rest.get(rest.len().checked_sub(length)?..)
}

/// Goes through the schema's elements, which stand in the order of the tree. Whether it is flat
/// enough for being read by a function that calls itself.
fn schema(thrift: &mut Thrift<'_>, size: usize) -> Option<bool> {
    // For each group that is open, how many of its children are still to come.
    let mut open: Vec<i64> = Vec::new();
    let mut flat = true;
    for _ in 0..size {
        let mut children = 0;
        thrift.fields(&mut |thrift, id, kind| match (id, kind) {
            (5, I32) => {
                children = thrift.integer()?;
                Some(true)
            }
            _ => Some(false),
        })?;
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        if children > 0 {
            open.push(children);
        }
        flat &= open.len() <= MAX_PARQUET_DEPTH * LEVELS;
        while open.last().is_some_and(|left| *left <= 0) {
            open.pop();
        }
    }
    Some(flat)
}
