//! Values as people read them.

use std::fmt;

/// How many characters of a text from a bundle are shown.
const MOST: usize = 200;

/// Text from a bundle, fit for a terminal: control characters escaped, and cut where it is long.
pub(crate) struct Shown<'a>(pub(crate) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars().take(MOST) {
            if c.is_control() || is_steering(c) {
                write!(f, "{}", c.escape_default())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        if self.0.chars().nth(MOST).is_some() { f.write_str("…") } else { Ok(()) }
    }
}

/// Characters that turn the direction of the text around them.
fn is_steering(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_a_bundle_cannot_steer_a_terminal() {
        assert_eq!(Shown("a\u{1b}[2Jb\nc\u{202e}d").to_string(), "a\\u{1b}[2Jb\\nc\\u{202e}d");
        assert_eq!(Shown(&"x".repeat(201)).to_string(), format!("{}…", "x".repeat(200)));
        assert_eq!(Shown("größer.py").to_string(), "größer.py");
    }
}
