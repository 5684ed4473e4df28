//! The ways to name handlers: `module`, `module:function`, `file.py`, `file.py:function`, a folder.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

/// Where handlers come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TargetSpec {
    /// The code.
    pub source: Source,
    /// One attribute of it; `None` is everything it makes public.
    pub attribute: Option<String>,
}

/// Code, by file or by import.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A Python file, or a folder of them.
    Path(PathBuf),
    /// A module found as Python finds it, starting in the working folder.
    Module(String),
}

impl TargetSpec {
    /// Reads a target as written on a command line. Whether it exists is not looked at: a name
    /// with a slash, a `.py` ending or a leading dot is a path, all else a module.
    ///
    /// # Errors
    /// A sentence that says what a target looks like.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (source, attribute) = match text.rsplit_once(':') {
            // A path may hold a colon; an attribute may not hold a slash.
            Some((source, attribute)) if !attribute.contains('/') => (source, Some(attribute)),
            _ => (text, None),
        };
        if source.is_empty() {
            return Err(format!(
                "`{text}` is not a target: write file.py:function, module:function, a file or a folder"
            ));
        }
        if let Some(attribute) = attribute
            && !attribute.split('.').all(is_identifier)
        {
            return Err(format!(
                "`{text}` is not a target: `{attribute}` is not the name of a Python function"
            ));
        }
        let looks_like_path =
            source.contains('/') || source.starts_with('.') || source.ends_with(".py");
        let source = if looks_like_path {
            Source::Path(source.into())
        } else if source.split('.').all(is_identifier) {
            Source::Module(source.into())
        } else {
            return Err(format!(
                "`{text}` is not a target: `{source}` is neither a .py file nor the name of a module"
            ));
        };
        Ok(Self { source, attribute: attribute.map(Into::into) })
    }
}

impl fmt::Display for TargetSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Path(path) => write!(f, "{}", path.display())?,
            Source::Module(module) => f.write_str(module)?,
        }
        match &self.attribute {
            Some(attribute) => write!(f, ":{attribute}"),
            None => Ok(()),
        }
    }
}

/// Whether `text` can be a Python name (keywords are left to Python).
fn is_identifier(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c == '_' || c.is_alphabetic())
        && chars.all(|c| c == '_' || c.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_read_as_people_write_them() {
        let path = |path: &str, attribute: Option<&str>| TargetSpec {
            source: Source::Path(path.into()),
            attribute: attribute.map(Into::into),
        };
        let module = |name: &str, attribute: Option<&str>| TargetSpec {
            source: Source::Module(name.into()),
            attribute: attribute.map(Into::into),
        };
        for (text, expected) in [
            ("weather.py:spread", path("weather.py", Some("spread"))),
            ("examples/weather", path("examples/weather", None)),
            ("./algos", path("./algos", None)),
            ("/tmp/a:b/x.py", path("/tmp/a:b/x.py", None)),
            ("pkg.mod:Class.method", module("pkg.mod", Some("Class.method"))),
            ("pkg", module("pkg", None)),
        ] {
            assert_eq!(TargetSpec::parse(text), Ok(expected), "{text}");
        }
        for bad in ["", ":f", "a b", "mod:", "mod:1x", "x.py:f()", "mod-name:f"] {
            assert!(TargetSpec::parse(bad).is_err(), "{bad}");
        }
    }
}
