//! A route as it is declared: what `docs/routes.md` says of options, with its target.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use exuvia_core::Target;
use http::Method;

/// A path, its methods, and what answers.
#[derive(Clone)]
pub struct Route {
    /// Never empty. `HEAD` and `OPTIONS` are added where they are answered.
    pub methods: Vec<Method>,
    /// `/forecast/{asset}`: `{name}` is a segment, `{*name}` the rest.
    pub path: String,
    /// What answers.
    pub target: Arc<dyn Target>,
    /// What else there is to say.
    pub options: RouteOptions,
    /// Where it was written, for people: `exuvia.toml`, `forecast.py`, or empty.
    pub origin: String,
    /// Whether `target` is a stub of an OpenAPI document, and no handler.
    pub stub: bool,
}

/// The options of a route.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteOptions {
    /// Parameters that the query string may give; `None` is what follows from the methods.
    pub query: Option<Vec<String>>,
    /// Parameters that headers give, by parameter; names of headers in lower case.
    pub headers: BTreeMap<String, String>,
    /// The status of a result.
    pub status: Option<u16>,
    /// The media type of a result for clients that accept anything.
    pub media: Option<String>,
    /// The wall time of a call; `None` leaves it to the target.
    pub timeout: Option<Duration>,
    /// Calls that may run, or wait in the pool, at a time.
    pub concurrency: Option<usize>,
    /// Calls that may wait beyond those.
    pub queue: Option<usize>,
    /// Bytes of memory a call may take beyond what its worker had.
    pub memory: Option<u64>,
    /// The largest body.
    pub max_body: Option<u64>,
    /// One line for the documentation.
    pub summary: Option<String>,
    /// Groups in the documentation.
    pub tags: Vec<String>,
    /// Whether the documentation says to use something else.
    pub deprecated: bool,
    /// In no documentation.
    pub hidden: bool,
}

// === impl Route ===

impl Route {
    /// `POST path`, and nothing else to say.
    pub fn post(path: impl Into<String>, target: Arc<dyn Target>) -> Self {
        Self {
            methods: vec![Method::POST],
            path: path.into(),
            target,
            options: RouteOptions::default(),
            origin: String::new(),
            stub: false,
        }
    }

    /// `POST /shop/price`, as configurations and people write it; several methods with commas.
    #[must_use]
    pub fn name(&self) -> String {
        let methods: Vec<_> = self.methods.iter().map(Method::as_str).collect();
        format!("{} {}", methods.join(","), self.path)
    }

    /// Names in the path, in order.
    #[must_use]
    pub fn path_params(&self) -> Vec<&str> {
        let inside = self.path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
        inside.map(|name| name.trim_start_matches('*')).collect()
    }

    /// Whether none of its methods usually has a body.
    pub(crate) fn is_bodiless(&self) -> bool {
        let bodiless = [Method::GET, Method::HEAD, Method::DELETE];
        self.methods.iter().all(|method| bodiless.contains(method))
    }

    /// Parameters that the query string may give.
    #[must_use]
    pub fn query_params(&self) -> Vec<String> {
        if let Some(query) = &self.options.query {
            return query.clone();
        }
        if !self.is_bodiless() {
            return Vec::new();
        }
        let in_path = self.path_params();
        let params = self.target.info().params.iter().map(|param| param.name.clone());
        let elsewhere = |name: &String| {
            in_path.contains(&name.as_str()) || self.options.headers.contains_key(name)
        };
        params.filter(|name| !elsewhere(name)).collect()
    }
}
