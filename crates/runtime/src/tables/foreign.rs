//! Arrays of the C interface as ours.
//!
//! Arrow's Rust library panics over some arrays that are as the interface wants them, which are
//! therefore brought into a shape that it takes, without a copy.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::{ArrayRef, ffi::from_ffi_and_data_type, make_array};
use arrow_data::{ArrayData, ArrayDataBuilder, ffi::FFI_ArrowArray};
use arrow_schema::{ArrowError, DataType, UnionMode};

use super::stream::children;

/// An array of the C interface as one of ours; nothing is copied that is aligned.
pub(super) fn import(
    mut array: FFI_ArrowArray,
    data_type: &DataType,
) -> Result<ArrayRef, ArrowError> {
    let made = catch_unwind(AssertUnwindSafe(|| {
        drop_bitmaps_of_nulls(&mut array, data_type);
        // JUSTIFICATION: the array is a C interface.
        // SAFETY: it comes from code in this very process, which vouches for it.
        let data: ArrayData = unsafe { from_ffi_and_data_type(array, data_type.clone()) }?;
        Ok(make_array(settled(data)?))
    }));
    made.unwrap_or_else(|_| Err(misfit()))
}

fn misfit() -> ArrowError {
    let text = "the array does not fit the type that was given for it".to_owned();
    ArrowError::CDataInterface(text)
}

/// Arrays of the type null have no buffers, but some libraries (polars) count a bitmap that is not
/// there, as Arrow did before 1.0.
fn drop_bitmaps_of_nulls(array: &mut FFI_ArrowArray, data_type: &DataType) {
    // A producer whose release goes by the number misses nothing: what is not counted any more is
    // a null pointer.
    if data_type.is_null()
        && array.n_buffers == 1
        && (array.buffers.is_null() || array.buffer(0).is_null())
    {
        array.n_buffers = 0;
    }
    if let DataType::Dictionary(_, values) = data_type {
        // JUSTIFICATION: the array is a C interface.
        // SAFETY: it has null there or an array of its own, which nobody else uses.
        if let Some(dictionary) = unsafe { array.dictionary.as_mut() } {
            drop_bitmaps_of_nulls(dictionary, values);
        }
    }
    let count = usize::try_from(array.n_children).unwrap_or(0);
    for (index, field) in children(data_type).enumerate().take(count) {
        // JUSTIFICATION: the array is a C interface.
        // SAFETY: it has so many children, each an array of its own, which nobody else uses.
        if let Some(child) = unsafe { (*array.children.add(index)).as_mut() } {
            drop_bitmaps_of_nulls(child, field.data_type());
        }
    }
}

/// The same array; what is in it begins where it begins itself.
///
/// The library applies the offset of a struct twice to what is in structs within it, and likewise
/// that of lists of a fixed size and of sparse unions. Here none of these has an offset any more.
fn settled(data: ArrayData) -> Result<ArrayData, ArrowError> {
    let length = data.len();
    part(data, 0, length)
}

/// A part of an array, settled.
fn part(data: ArrayData, start: usize, length: usize) -> Result<ArrayData, ArrowError> {
    if start.checked_add(length).is_none_or(|end| end > data.len()) {
        return Err(misfit());
    }
    if !data.data_type().is_nested() {
        return Ok(if length == data.len() { data } else { data.slice(start, length) });
    }
    let (data_type, _, nulls, offset, mut buffers, children) = data.into_parts();
    let nulls = nulls.map(|nulls| nulls.slice(start, length));
    let start = offset + start;
    // Where the values begin here, and which part of what is inside belongs to them, if not all.
    let (offset, inside) = match &data_type {
        DataType::Struct(_) => (0, Some((start, length))),
        DataType::FixedSizeList(_, size) => {
            let size = usize::try_from(*size).map_err(|_| misfit())?;
            let product = |count: usize| count.checked_mul(size).ok_or_else(misfit);
            (0, Some((product(start)?, product(length)?)))
        }
        DataType::Union(_, UnionMode::Sparse) => {
            // They are a byte each.
            buffers = buffers.iter().map(|ids| ids.slice_with_length(start, length)).collect();
            (0, Some((start, length)))
        }
        _ => (start, None),
    };
    let children = children.into_iter().map(|child| match inside {
        Some((start, length)) => part(child, start, length),
        None => settled(child),
    });
    let children: Result<Vec<_>, _> = children.collect();
    let builder = ArrayDataBuilder::new(data_type).len(length).offset(offset).nulls(nulls);
    let builder = builder.buffers(buffers).child_data(children?);
    // JUSTIFICATION: checked data would be read whole, which its producer vouches for.
    // SAFETY: these are the parts of an array that was vouched for, each with all that it needs:
    // no part reaches beyond what it is taken of.
    Ok(unsafe { builder.build_unchecked() })
}
