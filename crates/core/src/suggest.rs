//! The nearest right spelling.

/// The candidate nearest to `wrong`, if one is near enough to be what was meant.
#[must_use]
pub fn nearest<'a, S: AsRef<str> + ?Sized + 'a>(
    wrong: &str,
    candidates: impl IntoIterator<Item = &'a S>,
) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| {
            (strsim::damerau_levenshtein(wrong, candidate.as_ref()), candidate.as_ref())
        })
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// ` Did you mean X?`, or nothing.
#[must_use]
pub fn did_you_mean<'a, S: AsRef<str> + ?Sized + 'a>(
    wrong: &str,
    candidates: impl IntoIterator<Item = &'a S>,
) -> String {
    nearest(wrong, candidates).map_or(String::new(), |near| format!(" Did you mean `{near}`?"))
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_is_recognised_and_a_different_word_is_not() {
        assert_eq!(nearest("sprad", ["spread", "mean"]), Some("spread"));
        assert_eq!(nearest("tiemout", ["timeout", "port"]), Some("timeout"));
        assert_eq!(nearest("banana", ["spread", "mean"]), None);
    }
}
