//! Which path leads where.

use std::{borrow::Cow, collections::HashMap, sync::Arc, time::Duration};

use exuvia_core::{Broken, Failure, Target, suggest};
use exuvia_observe::{HttpMetrics, RouteMetrics};
use http::{HeaderName, HeaderValue, Method};

use crate::{gate::Gate, media::Accepted, pages::Page, route::Route, watch::RouteName};

/// Why routes cannot be served. Each names the routes as they were written, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// One request could reach two routes.
    #[error("the route {second} is there already: {first}")]
    Duplicate {
        /// The route that was there first, with its handler and where it was written.
        first: String,
        /// The other, likewise.
        second: String,
    },
    /// The path is one of the server's own pages.
    #[error("{route} cannot be: the path is one of the server's own pages")]
    Reserved {
        /// The route.
        route: String,
    },
    /// The path cannot be asked for.
    #[error("{route} cannot be: {why}")]
    NotAPath {
        /// The route.
        route: String,
        /// What is wrong with it.
        why: String,
    },
    /// A parameter that the handler does not have.
    #[error("{route}: {handler} has no parameter `{name}`{of}.{hint}")]
    NoParameter {
        /// The route.
        route: String,
        /// The handler.
        handler: String,
        /// The parameter.
        name: String,
        /// Where it is named: ` (in query)`.
        of: &'static str,
        /// The nearest right spelling.
        hint: String,
    },
    /// An option has a value that cannot be.
    #[error("{route}: {why}")]
    Option {
        /// The route.
        route: String,
        /// What is wrong.
        why: String,
    },
}

/// Every path of a server.
pub(crate) struct Routes {
    /// As they were given.
    pub(crate) declared: Vec<Route>,
    exact: HashMap<String, Arc<Place>>,
    patterns: matchit::Router<Arc<Place>>,
    /// Where requests are counted that lead nowhere: one name for all, or a scanner could make
    /// metrics without end.
    pub(crate) unmatched: Arc<Entry>,
    /// Modules that could not be loaded.
    pub(crate) broken: Vec<Broken>,
}

/// What is at one path, by method.
pub(crate) struct Place {
    by_method: Vec<(Method, Arc<Entry>)>,
    /// What `Allow` says.
    pub(crate) allow: HeaderValue,
}

/// What a path leads to.
pub(crate) struct Found<'a> {
    pub(crate) place: &'a Arc<Place>,
    /// What stands in the path where the pattern has names, decoded, in order.
    pub(crate) values: Vec<String>,
}

/// A route, or a page.
pub(crate) struct Entry {
    /// The path as it is declared.
    pub(crate) path: String,
    pub(crate) metrics: RouteMetrics,
    pub(crate) leads_to: LeadsTo,
    /// Its place among [`Routes::declared`].
    pub(crate) number: Option<usize>,
}

pub(crate) enum LeadsTo {
    Handler(Box<Calls>),
    Page(Page),
    Nothing,
}

/// How a route calls its handler.
pub(crate) struct Calls {
    pub(crate) target: Arc<dyn Target>,
    pub(crate) name: String,
    pub(crate) timeout: Option<Duration>,
    /// Names of the path's parts.
    pub(crate) path_params: Vec<String>,
    /// What the query may give; `None`: it is not looked at.
    pub(crate) query: Option<Vec<String>>,
    pub(crate) headers: Vec<(String, HeaderName)>,
    pub(crate) status: Option<http::StatusCode>,
    /// What who accepts anything gets.
    pub(crate) usual: Accepted,
    pub(crate) max_body: Option<u64>,
    pub(crate) memory: Option<u64>,
    pub(crate) gate: Option<Gate>,
    pub(crate) stub: bool,
}

// === impl Routes ===

impl Routes {
    pub(crate) fn new(
        declared: Vec<Route>,
        broken: Vec<Broken>,
        metrics: &HttpMetrics,
    ) -> Result<Self, RouteError> {
        let mut places: HashMap<String, Vec<(Method, Arc<Entry>)>> = HashMap::new();
        for (number, route) in declared.iter().enumerate() {
            check(route)?;
            let shape = shape(&route.path);
            let place = places.entry(shape).or_default();
            let entry = Arc::new(Entry {
                metrics: metrics.route(&route.path),
                path: route.path.clone(),
                leads_to: LeadsTo::Handler(Box::new(Calls::new(route)?)),
                number: Some(number),
            });
            for method in &route.methods {
                let taken = place.iter().find(|(other, _)| other == method);
                if let Some(other) = taken.and_then(|(_, entry)| entry.number) {
                    let first = shown(&declared[other]);
                    return Err(RouteError::Duplicate { first, second: shown(route) });
                }
                place.push((method.clone(), entry.clone()));
            }
        }
        for (path, page) in Page::ALL {
            let entry = Entry::new(path, metrics, LeadsTo::Page(page));
            places.insert(path.to_owned(), vec![(Method::GET, entry)]);
        }
        let (mut exact, mut patterns) = (HashMap::new(), matchit::Router::new());
        for (shape, by_method) in places {
            let place = Arc::new(Place::new(by_method));
            if !shape.contains('{') {
                exact.insert(shape, place);
            } else if let Err(error) = patterns.insert(shape.clone(), place) {
                let by_shape = |route: &&Route| self::shape(&route.path) == shape;
                let route = declared.iter().find(by_shape).map(shown).unwrap_or_default();
                return Err(RouteError::NotAPath { route, why: error.to_string() });
            }
        }
        let unmatched = Entry::new("unmatched", metrics, LeadsTo::Nothing);
        Ok(Self { declared, exact, patterns, unmatched, broken })
    }

    /// What `path`, as in the request line, leads to.
    pub(crate) fn find(&self, path: &str) -> Option<Found<'_>> {
        let exactly = |path: &str| {
            let place = self.exact.get(path)?;
            Some(Found { place, values: Vec::new() })
        };
        if let Some(found) = exactly(path) {
            return Some(found);
        }
        if let Some(decoded) = decode(path)?.into_changed()
            && let Some(found) = exactly(&decoded)
        {
            return Some(found);
        }
        let matched = self.patterns.at(path).ok()?;
        let values = matched.params.iter().map(|(_, value)| decode(value).map(Cow::into_owned));
        Some(Found { place: matched.value, values: values.collect::<Option<_>>()? })
    }

    /// Why nothing is at `path`, where a module that is not there would have been.
    pub(crate) fn broken_at(&self, path: &str) -> Option<Failure> {
        let module = path.strip_prefix('/')?.split('/').next()?;
        let Broken { message, traceback, .. } =
            self.broken.iter().find(|broken| broken.module == module)?;
        Some(Failure::Load { message: message.clone(), traceback: traceback.clone() })
    }

    /// The known path nearest to `path`, as ` Did you mean ...?`.
    pub(crate) fn did_you_mean(&self, path: &str) -> String {
        // Comparing is quadratic in the length, and nobody mistypes a path of a thousand letters.
        if path.len() > 256 {
            return String::new();
        }
        let known = self.declared.iter().filter(|route| !route.options.hidden);
        let pages = Page::ALL.iter().map(|(path, _)| *path);
        let known = known.map(|route| route.path.as_str()).chain(pages);
        let path = decode(path).unwrap_or(Cow::Borrowed(path));
        suggest::did_you_mean(&path, known)
    }

    /// The routes as the page names them, by their numbers.
    pub(crate) fn names(&self) -> Vec<RouteName> {
        let name = |route: &Route| RouteName {
            route: route.name(),
            handler: route.target.info().target(),
        };
        self.declared.iter().map(name).collect()
    }

    /// The routes by their paths.
    pub(crate) fn sorted(&self) -> Vec<&Route> {
        let mut routes: Vec<_> =
            self.declared.iter().filter(|route| !route.options.hidden).collect();
        routes.sort_by_key(|route| (route.path.as_str(), route.name()));
        routes
    }
}

// === impl Place ===

impl Place {
    fn new(by_method: Vec<(Method, Arc<Entry>)>) -> Self {
        let mut allowed: Vec<&str> = by_method.iter().map(|(method, _)| method.as_str()).collect();
        if allowed.contains(&"GET") && !allowed.contains(&"HEAD") {
            allowed.push("HEAD");
        }
        allowed.push("OPTIONS");
        let allow = HeaderValue::try_from(allowed.join(", "));
        // Methods are tokens, which a header may hold.
        let allow = allow.unwrap_or_else(|_| HeaderValue::from_static("OPTIONS"));
        Self { by_method, allow }
    }

    /// What answers to `method`.
    pub(crate) fn by(&self, method: &Method) -> Option<&Arc<Entry>> {
        let find = |wanted: &Method| {
            self.by_method.iter().find(|(own, _)| own == wanted).map(|(_, entry)| entry)
        };
        find(method).or_else(|| if method == Method::HEAD { find(&Method::GET) } else { None })
    }

    /// Any of them, for what goes wrong before one is chosen.
    pub(crate) fn any(&self) -> &Arc<Entry> {
        // A place is made from at least one method.
        &self.by_method[0].1
    }
}

// === impl Entry ===

impl Entry {
    fn new(path: &str, metrics: &HttpMetrics, leads_to: LeadsTo) -> Arc<Self> {
        let metrics = metrics.route(path);
        Arc::new(Self { metrics, path: path.to_owned(), leads_to, number: None })
    }
}

// === impl Calls ===

impl Calls {
    fn new(route: &Route) -> Result<Self, RouteError> {
        let options = &route.options;
        let wrong = |why: String| RouteError::Option { route: shown(route), why };
        let header = |(param, name): (&String, &String)| {
            let header = HeaderName::try_from(name.as_str());
            let why = || wrong(format!("`{name}` cannot be the name of a header"));
            Ok((param.clone(), header.map_err(|_| why())?))
        };
        let status = options.status.map(|status| {
            let success = (200..300).contains(&status);
            http::StatusCode::from_u16(status).ok().filter(|_| success).ok_or_else(|| {
                wrong(format!("the status of a result is from 200 to 299, not {status}"))
            })
        });
        let usual = options.media.as_deref().map(|media| {
            Accepted::named(media).ok_or_else(|| wrong(format!("`{media}` is not a media type")))
        });
        let query = route.query_params();
        let any = route.target.info().open && route.is_bodiless() && options.query.is_none();
        Ok(Self {
            target: route.target.clone(),
            name: route.target.info().target(),
            timeout: options.timeout,
            path_params: route.path_params().into_iter().map(str::to_owned).collect(),
            query: (any || !query.is_empty()).then_some(query),
            headers: options.headers.iter().map(header).collect::<Result<_, _>>()?,
            status: status.transpose()?,
            usual: usual.transpose()?.unwrap_or_default(),
            max_body: options.max_body,
            memory: options.memory,
            gate: options.concurrency.map(|most| Gate::new(most, options.queue)),
            stub: route.stub,
        })
    }
}

/// A route with its handler and where it was written.
fn shown(route: &Route) -> String {
    let handler = route.target.info().target();
    match route.origin.as_str() {
        "" => format!("{} ({handler})", route.name()),
        origin => format!("{} ({handler}, in {origin})", route.name()),
    }
}

fn check(route: &Route) -> Result<(), RouteError> {
    let path = route.path.as_str();
    let own = Page::ALL.iter().any(|(own, _)| *own == path);
    if own || path.starts_with(Page::PREFIX) {
        return Err(RouteError::Reserved { route: shown(route) });
    }
    let not_a_path = |why: String| Err(RouteError::NotAPath { route: shown(route), why });
    let bad = |c: char| matches!(c, '?' | '#' | '%') || c.is_whitespace() || c.is_control();
    if !path.starts_with('/') || path.contains(bad) {
        let why = "a path begins with `/` and has no `?`, `#`, `%`, space or control character";
        return not_a_path(why.into());
    }
    let names = route.path_params();
    for (place, segment) in path.split('/').enumerate() {
        let braces = segment.contains(['{', '}']);
        let inside = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        match inside.map(|name| name.strip_prefix('*').unwrap_or(name)) {
            None if braces => {
                return not_a_path(format!("`{segment}` is neither text nor `{{name}}`"));
            }
            Some(name) if name.is_empty() || name.contains(['{', '}']) => {
                return not_a_path(format!("`{segment}` has no name"));
            }
            Some(_) if segment.starts_with("{*") && place + 1 < path.split('/').count() => {
                return not_a_path(format!("`{segment}` takes all that is left and comes last"));
            }
            _ => {}
        }
    }
    if let Some(twice) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
        return not_a_path(format!("`{{{}}}` is in it twice", twice.1));
    }
    let query = route.options.query.iter().flatten().map(|name| (name.as_str(), " (in query)"));
    let headers = route.options.headers.keys().map(|name| (name.as_str(), " (in headers)"));
    let mut given: Vec<&str> = Vec::new();
    for (name, of) in names.iter().map(|name| (*name, "")).chain(query).chain(headers) {
        known(route, name, of)?;
        if given.contains(&name) {
            let why = format!("`{name}` is to come from two places");
            return Err(RouteError::Option { route: shown(route), why });
        }
        given.push(name);
    }
    Ok(())
}

/// Holds a route to the parameters of its handler.
fn known(route: &Route, name: &str, of: &'static str) -> Result<(), RouteError> {
    let info = route.target.info();
    if info.open || info.params.iter().any(|param| param.name == name) {
        return Ok(());
    }
    let names = info.params.iter().map(|param| param.name.as_str());
    Err(RouteError::NoParameter {
        route: route.name(),
        handler: info.target(),
        name: name.to_owned(),
        of,
        hint: suggest::did_you_mean(name, names),
    })
}

/// A path without the names in it: two that are the same lead the same requests.
fn shape(path: &str) -> String {
    let mut number = 0;
    let segments = path.split('/').map(|segment| {
        if !segment.starts_with('{') {
            return Cow::Borrowed(segment);
        }
        number += 1;
        let star = if segment.starts_with("{*") { "*" } else { "" };
        Cow::Owned(format!("{{{star}p{number}}}"))
    });
    segments.collect::<Vec<_>>().join("/")
}

/// `path` without its percent signs: Python names may hold letters that a request line may not.
/// `None` where it is not UTF-8 then.
fn decode(path: &str) -> Option<Cow<'_, str>> {
    percent_encoding::percent_decode_str(path).decode_utf8().ok()
}

/// Text that is another than it was.
trait Changed {
    fn into_changed(self) -> Option<String>;
}

impl Changed for Cow<'_, str> {
    fn into_changed(self) -> Option<String> {
        match self {
            Cow::Borrowed(_) => None,
            Cow::Owned(text) => Some(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{decode, shape};

    #[test]
    fn percent_signs_are_read_and_broken_ones_left() {
        for (path, expected) in [
            ("/a/b", Some("/a/b")),
            ("/caf%C3%A9/%c3%a9t%C3%a9", Some("/café/été")),
            ("/a%2Fb", Some("/a/b")),
            ("/100%", Some("/100%")),
            ("/%zz/%4", Some("/%zz/%4")),
            ("/%ff", None),
        ] {
            assert_eq!(decode(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn names_do_not_tell_paths_apart() {
        assert_eq!(shape("/a/{x}/b/{*rest}"), shape("/a/{other}/b/{*all}"));
        assert_ne!(shape("/a/{x}"), shape("/a/{*x}"));
        assert_eq!(shape("/a/b"), "/a/b");
    }
}
