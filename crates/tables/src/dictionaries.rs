//! Dictionary columns of several batches as one.
//!
//! Each batch may have a dictionary of its own. Put one after the other they would have values that
//! come twice, which pandas refuses for its categories.

use arrow_array::{Array, ArrayRef, cast::AsArray};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType};
use arrow_select::concat::concat;

/// Puts pieces of a column together, under one dictionary in which no value comes twice, if none
/// did in the pieces' own.
pub(crate) fn join(pieces: &[ArrayRef]) -> Result<ArrayRef, ArrowError> {
    let Some(DataType::Dictionary(_, values)) = pieces.first().map(|piece| piece.data_type())
    else {
        return concat_all(pieces);
    };
    if let Some(same) = under_longest(pieces) {
        return concat_all(&same);
    }
    let plain: Result<Vec<_>, _> = pieces.iter().map(|piece| cast(piece, values)).collect();
    let looked_up = plain.and_then(|plain| cast(&concat_all(&plain)?, pieces[0].data_type()));
    // Of some types a dictionary cannot be made anew.
    looked_up.or_else(|_| concat_all(pieces))
}

fn concat_all(pieces: &[ArrayRef]) -> Result<ArrayRef, ArrowError> {
    let pieces: Vec<&dyn Array> = pieces.iter().map(AsRef::as_ref).collect();
    concat(&pieces)
}

/// The pieces under the longest of their dictionaries, if all others are the beginning of it: of a
/// dictionary that grows from batch to batch.
fn under_longest(pieces: &[ArrayRef]) -> Option<Vec<ArrayRef>> {
    let dictionaries: Option<Vec<_>> =
        pieces.iter().map(|piece| piece.as_any_dictionary_opt()).collect();
    let dictionaries = dictionaries?;
    let longest = dictionaries.iter().map(|piece| piece.values()).max_by_key(|v| v.len())?;
    let begins = |values: &ArrayRef| {
        let beginning = longest.slice(0, values.len());
        values.to_data().ptr_eq(&beginning.to_data()) || values.to_data() == beginning.to_data()
    };
    let fits = dictionaries.iter().all(|piece| begins(piece.values()));
    fits.then(|| dictionaries.iter().map(|piece| piece.with_values(longest.clone())).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{DictionaryArray, Int32Array, StringArray, types::Int32Type};

    use super::*;

    fn piece(keys: &[Option<i32>], values: &[&str]) -> ArrayRef {
        let values = Arc::new(StringArray::from(values.to_vec()));
        Arc::new(DictionaryArray::<Int32Type>::new(Int32Array::from(keys.to_vec()), values))
    }

    #[track_caller]
    fn check(pieces: &[ArrayRef], dictionary: &[&str], texts: &[Option<&str>]) {
        let joined = join(pieces).unwrap();
        let joined = joined.as_dictionary::<Int32Type>();
        assert_eq!(joined.values().as_string::<i32>(), &StringArray::from(dictionary.to_vec()));
        let found: Vec<_> = joined.downcast_dict::<StringArray>().unwrap().into_iter().collect();
        assert_eq!(found, texts);
    }

    #[test]
    fn a_dictionary_that_grows_is_kept_as_it_is_at_the_end() {
        let pieces = [
            piece(&[Some(1), None], &["b", "a"]),
            piece(&[Some(0)], &["b", "a", "unused"]),
            piece(&[], &[]),
        ];
        check(&pieces, &["b", "a", "unused"], &[Some("a"), None, Some("b")]);
    }

    #[test]
    fn of_different_dictionaries_no_value_comes_twice() {
        let pieces =
            [piece(&[Some(0), Some(1)], &["x", "y"]), piece(&[Some(1), Some(0)], &["x", "z"])];
        check(&pieces, &["x", "y", "z"], &[Some("x"), Some("y"), Some("z"), Some("x")]);
    }
}
