//! A short text that a regular expression matches.

use regex_syntax::{
    Parser,
    hir::{Class, Hir, HirKind},
};

/// The longest text that is made.
const LONGEST: usize = 1000;

/// A text that `pattern` matches, where one is easily made.
pub(super) fn matching(pattern: &str) -> Option<String> {
    // ECMA's way to write a character that must not be escaped elsewhere.
    let pattern = pattern.replace("\\/", "/");
    let hir = Parser::new().parse(&pattern).ok()?;
    let mut text = String::new();
    write(&hir, &mut text)?;
    Some(text)
}

/// Adds a text that `hir` matches. Its depth is bounded by the parser.
fn write(hir: &Hir, text: &mut String) -> Option<()> {
    if text.len() > LONGEST {
        return None;
    }
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => text.push_str(std::str::from_utf8(&literal.0).ok()?),
        HirKind::Class(class) => text.push(of(class)?),
        HirKind::Repetition(repetition) => {
            for _ in 0..repetition.min {
                write(&repetition.sub, text)?;
            }
        }
        HirKind::Capture(capture) => write(&capture.sub, text)?,
        HirKind::Concat(parts) => parts.iter().try_for_each(|part| write(part, text))?,
        HirKind::Alternation(parts) => write(parts.first()?, text)?,
    }
    Some(())
}

/// The plainest character of a class.
fn of(class: &Class) -> Option<char> {
    let ranges: Vec<(char, char)> = match class {
        Class::Unicode(class) => class.iter().map(|range| (range.start(), range.end())).collect(),
        Class::Bytes(class) => {
            class.iter().map(|range| (range.start().into(), range.end().into())).collect()
        }
    };
    let has = |wanted: char| ranges.iter().any(|(from, to)| (*from..=*to).contains(&wanted));
    let plain = ['a', 'A', '1', '0', '-', ' '].into_iter().chain('!'..='~');
    plain.into_iter().find(|wanted| has(*wanted)).or_else(|| Some(ranges.first()?.0))
}

#[cfg(test)]
mod tests {
    use super::matching;

    #[test]
    fn a_made_text_is_short_and_matches() {
        for (pattern, text) in [
            ("^[A-Z]{3}-\\d{2}$", "AAA-11"),
            ("^(cat|dog)s?$", "cat"),
            ("^\\/v1\\/", "/v1/"),
            ("a+b*", "a"),
            ("", ""),
        ] {
            assert_eq!(matching(pattern).as_deref(), Some(text), "{pattern}");
        }
        for pattern in ["(?=a)", "(", "a{1000}{1000}"] {
            assert_eq!(matching(pattern), None, "{pattern}");
        }
    }
}
