//! Dictionary columns of several batches as one.
//!
//! Each batch may have a dictionary of its own. Put one after the other they would have values that
//! come twice, which pandas refuses for its categories.

use arrow_array::{Array, ArrayRef, cast::AsArray, make_array};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType};
use arrow_select::{concat::concat, take::take};

/// Puts pieces of a column together, under one dictionary that has the values of all, used or not,
/// in the order in which they come. No value comes twice in it, if none did in the pieces' own.
pub(crate) fn join(pieces: &[ArrayRef]) -> Result<ArrayRef, ArrowError> {
    let Some(DataType::Dictionary(_, values)) = pieces.first().map(|piece| piece.data_type())
    else {
        return concat_all(pieces);
    };
    if let Some(same) = under_longest(pieces) {
        return concat_all(&same);
    }
    if let Ok(same) = under_all(pieces) {
        return concat_all(&same);
    }
    // There may be more values than keys, but not more in use.
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

/// The pieces under a dictionary made of those of all.
fn under_all(pieces: &[ArrayRef]) -> Result<Vec<ArrayRef>, ArrowError> {
    let data_type = pieces[0].data_type();
    let values: Vec<ArrayRef> =
        pieces.iter().map(|piece| piece.as_any_dictionary().values().clone()).collect();
    // A dictionary of the dictionaries' values: its keys say which of them each is.
    let all = cast(&concat_all(&values)?, data_type)?;
    let all = all.as_any_dictionary();
    let mut start = 0;
    let under = |(piece, values): (&ArrayRef, &ArrayRef)| {
        let places = all.keys().slice(start, values.len());
        start += values.len();
        let keys = take(&places, piece.as_any_dictionary().keys(), None)?;
        let data = keys.to_data().into_builder().data_type(data_type.clone());
        Ok(make_array(data.add_child_data(all.values().to_data()).build()?))
    };
    pieces.iter().zip(&values).map(under).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{
        DictionaryArray, Int8Array, Int32Array, StringArray,
        types::{Int8Type, Int32Type},
    };

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

    #[test]
    fn of_different_dictionaries_values_that_nobody_uses_are_kept() {
        let pieces = [
            piece(&[Some(1), None], &["unused", "x"]),
            piece(&[Some(2), Some(0)], &["z", "also", "x"]),
        ];
        let texts = [Some("x"), None, Some("x"), Some("z")];
        check(&pieces, &["unused", "x", "z", "also"], &texts);
    }

    #[test]
    fn more_values_than_there_are_keys_are_no_error_if_few_are_used() {
        let piece = |from: i32| -> ArrayRef {
            let values = (from..from + 100).map(|n| n.to_string());
            let values = Arc::new(StringArray::from_iter_values(values));
            Arc::new(DictionaryArray::<Int8Type>::new(Int8Array::from(vec![7]), values))
        };
        let joined = join(&[piece(0), piece(100)]).unwrap();
        let joined = joined.as_dictionary::<Int8Type>();
        let found: Vec<_> = joined.downcast_dict::<StringArray>().unwrap().into_iter().collect();
        assert_eq!(found, [Some("7"), Some("107")]);
    }
}
