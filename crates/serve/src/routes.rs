//! Which path leads where.

use std::{borrow::Cow, collections::HashMap, sync::Arc, time::Duration};

use exuvia_core::{Target, suggest};
use exuvia_observe::{HttpMetrics, RouteMetrics};

use crate::pages::Page;

/// A path and what answers a `POST` to it.
pub struct Route {
    /// As in the request line: `/weather/spread`.
    pub path: String,
    /// What answers.
    pub target: Arc<dyn Target>,
    /// The wall time of a call; `None` leaves it to the target.
    pub timeout: Option<Duration>,
}

/// Why routes cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Two targets want one path.
    #[error("two handlers want the route {path}: {first} and {second}")]
    Duplicate {
        /// The path.
        path: String,
        /// The target that has it.
        first: String,
        /// The target that wants it too.
        second: String,
    },
    /// The path is one of the server's own pages.
    #[error("{handler} cannot have the route {path}: it is one of the server's own pages")]
    Reserved {
        /// The path.
        path: String,
        /// The target that wants it.
        handler: String,
    },
    /// The path cannot be asked for.
    #[error(
        "{handler} cannot have the route `{path}`: a route begins with `/` and has no `?`, `#`, \
         `%`, space or control character"
    )]
    NotAPath {
        /// The text.
        path: String,
        /// The target that wants it.
        handler: String,
    },
}

/// Every path of a server.
pub(crate) struct Routes {
    by_path: HashMap<String, Arc<Entry>>,
    /// Where requests are counted that lead nowhere: one name for all, or a scanner could make
    /// metrics without end.
    pub(crate) unmatched: Arc<Entry>,
}

/// One path.
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) metrics: RouteMetrics,
    pub(crate) leads_to: LeadsTo,
}

pub(crate) enum LeadsTo {
    Handler { target: Arc<dyn Target>, name: String, timeout: Option<Duration> },
    Page(Page),
    Nothing,
}

// === impl Routes ===

impl Routes {
    pub(crate) fn new(routes: Vec<Route>, metrics: &HttpMetrics) -> Result<Self, RouteError> {
        let mut by_path: HashMap<String, Arc<Entry>> = HashMap::new();
        for Route { path, target, timeout } in routes {
            let name = target.info().target();
            check(&path, &name)?;
            if let Some(LeadsTo::Handler { name: first, .. }) =
                by_path.get(&path).map(|entry| &entry.leads_to)
            {
                return Err(RouteError::Duplicate { path, first: first.clone(), second: name });
            }
            let leads_to = LeadsTo::Handler { target, name, timeout };
            by_path.insert(path.clone(), Entry::new(path, metrics, leads_to));
        }
        for (path, page) in Page::ALL {
            let entry = Entry::new(path.to_owned(), metrics, LeadsTo::Page(page));
            by_path.insert(path.to_owned(), entry);
        }
        let unmatched = Entry::new("unmatched".to_owned(), metrics, LeadsTo::Nothing);
        Ok(Self { by_path, unmatched })
    }

    /// What `path`, as in the request line, leads to.
    pub(crate) fn find(&self, path: &str) -> Option<&Arc<Entry>> {
        self.by_path.get(path).or_else(|| match decode(path) {
            Cow::Owned(decoded) => self.by_path.get(&decoded),
            Cow::Borrowed(_) => None,
        })
    }

    /// The known path nearest to `path`, as ` Did you mean ...?`.
    pub(crate) fn did_you_mean(&self, path: &str) -> String {
        // Comparing is quadratic in the length, and nobody mistypes a path of a thousand letters.
        if path.len() > 256 {
            return String::new();
        }
        suggest::did_you_mean(&decode(path), self.by_path.keys().map(String::as_str))
    }

    /// The handlers' paths in order.
    pub(crate) fn handlers(&self) -> Vec<(&str, &Arc<dyn Target>)> {
        let mut handlers: Vec<_> = self
            .by_path
            .values()
            .filter_map(|entry| match &entry.leads_to {
                LeadsTo::Handler { target, .. } => Some((entry.path.as_str(), target)),
                _ => None,
            })
            .collect();
        handlers.sort_by_key(|(path, _)| *path);
        handlers
    }
}

// === impl Entry ===

impl Entry {
    fn new(path: String, metrics: &HttpMetrics, leads_to: LeadsTo) -> Arc<Self> {
        Arc::new(Self { metrics: metrics.route(&path), path, leads_to })
    }
}

fn check(path: &str, handler: &str) -> Result<(), RouteError> {
    let reserved = Page::RESERVED.contains(&path) || Page::ALL.iter().any(|(own, _)| *own == path);
    if reserved {
        return Err(RouteError::Reserved { path: path.to_owned(), handler: handler.to_owned() });
    }
    let bad = |c: char| matches!(c, '?' | '#' | '%') || c.is_whitespace() || c.is_control();
    if !path.starts_with('/') || path.contains(bad) {
        return Err(RouteError::NotAPath { path: path.to_owned(), handler: handler.to_owned() });
    }
    Ok(())
}

/// `path` without its percent signs: Python names may hold letters that a request line may not.
fn decode(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let bytes = path.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digit =
            |offset: usize| bytes.get(at + offset).and_then(|byte| (*byte as char).to_digit(16));
        match (bytes[at], digit(1), digit(2)) {
            (b'%', Some(high), Some(low)) => {
                // Two hexadecimal digits fit a byte.
                decoded.push((high << 4 | low) as u8);
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).map_or(Cow::Borrowed(path), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn percent_signs_are_read_and_broken_ones_left() {
        for (path, expected) in [
            ("/a/b", "/a/b"),
            ("/caf%C3%A9/%c3%a9t%C3%a9", "/café/été"),
            ("/a%2Fb", "/a/b"),
            ("/100%", "/100%"),
            ("/%zz/%4", "/%zz/%4"),
            ("/%ff", "/%ff"),
        ] {
            assert_eq!(decode(path), expected, "{path}");
        }
    }
}
