//! What does not fit a schema, in plain sentences: those of `docs/types.md`, as near as can be.

use exuvia_core::{InputFault, suggest::did_you_mean};
use jsonschema::{
    ValidationError,
    error::{TypeKind, ValidationErrorKind as Kind},
};
use serde_json::Value;

use super::document::{escape, kind};

/// Faults that are told of one call.
pub(super) const MOST: usize = 100;

/// Letters of a value that are shown.
const SHOWN: usize = 60;

/// The words that `type` takes.
const TYPES: [&str; 7] = ["string", "number", "integer", "boolean", "array", "object", "null"];

/// Adds what `error` says.
pub(super) fn tell(error: &ValidationError<'_>, told: &mut Vec<InputFault>) {
    let at = error.instance_path().as_str();
    let mut add = |pointer: String, message: String| told.push(InputFault { pointer, message });
    match error.kind() {
        Kind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            add(format!("{at}/{}", escape(name)), "is missing".into());
        }
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            for name in unexpected {
                let near = near(name, error);
                let message = format!("there is no member of this name.{near}");
                add(format!("{at}/{}", escape(name)), message);
            }
        }
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
            for error in best(context, at) {
                tell(error, told);
            }
            if context.is_empty() {
                told.push(InputFault { pointer: at.into(), message: sentence(error) });
            }
        }
        Kind::PropertyNames { error: name } => {
            let name = sentence(name);
            add(at.to_owned(), format!("has a member whose name does not fit: it {name}"));
        }
        _ => add(at.to_owned(), sentence(error)),
    }
}

/// The alternative that was most probably meant: of the right type, with the right constants and
/// the members it needs, and with the fewest faults.
fn best<'e>(
    context: &'e [Vec<ValidationError<'static>>],
    at: &str,
) -> impl Iterator<Item = &'e ValidationError<'static>> + use<'e> {
    let rank = |errors: &&Vec<ValidationError<'static>>| {
        let count = |of: fn(&Kind) -> bool| errors.iter().filter(|error| of(error.kind())).count();
        let other_type = errors.iter().any(|error| {
            matches!(error.kind(), Kind::Type { .. }) && error.instance_path().as_str() == at
        });
        let constants = count(|kind| matches!(kind, Kind::Constant { .. } | Kind::Enum { .. }));
        let missing = errors.iter().filter(|error| {
            matches!(error.kind(), Kind::Required { .. }) && error.instance_path().as_str() == at
        });
        (other_type, constants, missing.count(), errors.len())
    };
    context.iter().min_by_key(rank).into_iter().flatten()
}

/// ` Did you mean ...?`, of the members that the schema names.
fn near(name: &str, error: &ValidationError<'_>) -> String {
    // The schema is not at hand here; what is there already was spelled right.
    if name.len() > SHOWN {
        return String::new();
    }
    let members = error.instance().as_object();
    let others = members.into_iter().flat_map(|members| members.keys());
    let twin = others.filter(|other| *other != name && squashed(other) == squashed(name));
    did_you_mean(name, twin)
}

fn squashed(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', '-'], "")
}

/// What is wrong with one value.
fn sentence(error: &ValidationError<'_>) -> String {
    let found = error.instance();
    let not = || shown(found);
    let having = |words: &str, limit: u64, of: &str| {
        let s = if limit == 1 { "" } else { "s" };
        format!("must have {words} {limit} {of}{s}, not {}", size(found))
    };
    match error.kind() {
        Kind::Type { kind: wanted } => format!("must be {}, not {}", types(wanted), kind(found)),
        Kind::Enum { options } => match options.as_array() {
            Some(options) => format!("must be {}, not {}", listed(options), not()),
            None => format!("must be one of {}, not {}", shown(options), not()),
        },
        Kind::Constant { expected_value } => {
            format!("must be {}, not {}", shown(expected_value), not())
        }
        Kind::Minimum { limit } => format!("must be at least {limit}, not {}", not()),
        Kind::Maximum { limit } => format!("must be at most {limit}, not {}", not()),
        Kind::ExclusiveMinimum { limit } => format!("must be above {limit}, not {}", not()),
        Kind::ExclusiveMaximum { limit } => format!("must be below {limit}, not {}", not()),
        Kind::MultipleOf { multiple_of } => {
            format!("must be a multiple of {multiple_of}, not {}", not())
        }
        Kind::MinLength { limit } => having("at least", *limit, "character"),
        Kind::MaxLength { limit } => having("at most", *limit, "character"),
        Kind::MinItems { limit } => having("at least", *limit, "item"),
        Kind::MaxItems { limit } => having("at most", *limit, "item"),
        Kind::MinProperties { limit } => having("at least", *limit, "member"),
        Kind::MaxProperties { limit } => having("at most", *limit, "member"),
        Kind::Pattern { pattern } => format!("must match `{pattern}`, and {} does not", not()),
        Kind::Format { format } => format!("must be {}, not {}", format_words(format), not()),
        Kind::UniqueItems => "must have no two equal items".into(),
        Kind::Contains => "must have an item that fits `contains`".into(),
        Kind::AdditionalItems { limit } => format!("must have at most {limit} items"),
        Kind::FalseSchema => "must not be here".into(),
        Kind::Not { .. } => "must not be what the schema excludes".into(),
        Kind::OneOfMultipleValid { .. } => {
            "fits several of the alternatives, where it must fit exactly one".into()
        }
        _ => "does not fit the schema".into(),
    }
}

/// What is wrong with the schemas themselves.
pub(super) fn of_schema(error: &ValidationError<'_>) -> String {
    match error.kind() {
        Kind::Format { format } if format == "regex" => {
            format!("{} is not a regular expression", shown(error.instance()))
        }
        // `type` is one word or a list of them.
        Kind::AnyOf { .. } if error.instance_path().as_str().ends_with("/type") => {
            let words = error.instance().as_array();
            let words = words.map_or(std::slice::from_ref(&**error.instance()), Vec::as_slice);
            let known = |word: &&Value| word.as_str().is_some_and(|word| TYPES.contains(&word));
            let wrong = words.iter().find(|word| !known(word)).unwrap_or(error.instance());
            let near = wrong.as_str().map(|word| did_you_mean(word, TYPES)).unwrap_or_default();
            format!("{} is no type.{near}", shown(wrong))
        }
        Kind::AnyOf { .. } | Kind::OneOfNotValid { .. } => {
            format!("{} is not what stands here in a schema", shown(error.instance()))
        }
        Kind::Type { .. } | Kind::Minimum { .. } | Kind::UniqueItems | Kind::MinItems { .. } => {
            sentence(error)
        }
        _ => {
            let text = error.to_string();
            format!("this is no JSON Schema: {}", cut(&text, 200))
        }
    }
}

fn types(wanted: &TypeKind) -> String {
    let words = |word: &str| match word {
        "null" => "null".to_owned(),
        "boolean" => "true or false".to_owned(),
        "integer" | "array" | "object" => format!("an {word}"),
        word => format!("a {word}"),
    };
    match wanted {
        TypeKind::Single(one) => words(one.as_str()),
        TypeKind::Multiple(set) => {
            let mut types: Vec<&str> = set.iter().map(|one| one.as_str()).collect();
            types.sort_by_key(|word| *word == "null");
            or(&types.into_iter().map(words).collect::<Vec<_>>())
        }
    }
}

/// Values with `or` before the last.
fn listed(values: &[Value]) -> String {
    match values.len() {
        0..=12 => or(&values.iter().map(shown).collect::<Vec<_>>()),
        more => {
            let first: Vec<String> = values.iter().take(10).map(shown).collect();
            format!("{} or one of {} more", first.join(", "), more - 10)
        }
    }
}

fn or(words: &[String]) -> String {
    match words {
        [] => "nothing".into(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

fn format_words(format: &str) -> String {
    let words = match format {
        "date-time" => "a time as RFC 3339 writes it",
        "date" => "a date such as 2026-01-31",
        "time" => "a time such as 12:00:00Z",
        "duration" => "a duration such as P1DT2H",
        "email" => "an e-mail address",
        "hostname" => "the name of a host",
        "ipv4" => "an IPv4 address",
        "ipv6" => "an IPv6 address",
        "uri" => "a URI",
        "uuid" => "a UUID",
        other => return format!("in the format `{other}`"),
    };
    words.to_owned()
}

fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.chars().count(),
        Value::Array(items) => items.len(),
        Value::Object(members) => members.len(),
        _ => 0,
    }
}

/// A value as sentences quote it.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) | Value::Object(_) => kind(value).to_owned(),
        other => cut(&other.to_string(), SHOWN),
    }
}

/// The start of a text.
pub(super) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}
