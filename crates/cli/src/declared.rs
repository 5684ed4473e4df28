//! Which routes there are: what the configuration says, then what modules say, then what follows
//! from the handlers' names.

use std::{collections::BTreeMap, sync::Arc};

use exuvia_core::{
    Broken, Call, Diagnostics, Failure, HandlerInfo, HandlerKind, Outcome, OutcomeFuture, Target,
    suggest,
};
use exuvia_host::Pool;
use exuvia_serve::{Route, RouteOptions};
use http::Method;

use crate::{
    exit::Stop,
    route_config::{RouteKey, RouteSettings},
    routes,
};

/// What routes are made of.
pub(crate) struct Declared<'a> {
    pub(crate) pool: &'a Arc<Pool>,
    /// What the configuration says of routes.
    pub(crate) settings: BTreeMap<String, RouteSettings>,
    /// Where it says so.
    pub(crate) origin: String,
    /// The limit of calls whose route has none of its own.
    pub(crate) timeout: std::time::Duration,
    /// Handlers that have their routes already.
    pub(crate) settled: Vec<String>,
}

/// A handler whose module could not be loaded.
struct Missing {
    info: Arc<HandlerInfo>,
    broken: Broken,
}

impl Target for Missing {
    fn info(&self) -> &Arc<HandlerInfo> {
        &self.info
    }

    fn call(&self, _call: Call) -> OutcomeFuture {
        let Broken { message, traceback, .. } = self.broken.clone();
        let handler = self.info.target();
        Box::pin(async move {
            Outcome {
                result: Err(Box::new(Failure::Load { message, traceback })),
                diagnostics: Diagnostics { handler, ..Diagnostics::default() },
            }
        })
    }
}

// === impl Declared ===

impl Declared<'_> {
    /// Every route.
    ///
    /// # Errors
    /// The configuration or a module speaks of what is not there.
    pub(crate) fn routes(mut self) -> Result<Vec<Route>, Stop> {
        let handlers = self.pool.handlers();
        let names: Vec<String> = handlers.iter().map(|handler| handler.target()).collect();
        if let Some((at, _)) =
            names.iter().enumerate().find(|(at, name)| names[..*at].contains(name))
        {
            let path = routes::path(&handlers[at]);
            return Err(Stop::usage(format!(
                "the route {path} is there twice: does one TARGET hold another?"
            )));
        }
        let mut routes = self.configured(&handlers)?;
        for handler in &handlers {
            let name = handler.target();
            let routed = routes.iter().any(|route| route.target.info().target() == name);
            if routed || self.settled.contains(&name) {
                continue;
            }
            // The pool gave the handler's name itself.
            let Some(target) = self.pool.target(&name) else { continue };
            if handler.routes.is_empty() {
                routes.push(self.own(handler, target));
            } else {
                for (key, options) in &handler.routes {
                    routes.push(self.of_module(handler, target.clone(), key, options)?);
                }
            }
        }
        self.all_meant(&routes)?;
        for route in &mut routes {
            let options = &mut route.options;
            if options.concurrency.is_some() {
                // The wait for the route's turn counts, so its limit must be known here.
                options.timeout.get_or_insert(self.timeout);
            }
            if options.memory.is_some() && route.target.info().kind == HandlerKind::Async {
                return Err(self.error(&format!(
                    "{}: `memory` holds for one call at a time, and {} is `async def`: its worker \
                     runs several",
                    route.name(),
                    route.target.info().target()
                )));
            }
        }
        Ok(routes)
    }

    /// What the configuration says of methods and paths.
    fn configured(&mut self, handlers: &[Arc<HandlerInfo>]) -> Result<Vec<Route>, Stop> {
        let mut routes = Vec::new();
        let paths = std::mem::take(&mut self.settings);
        for (key, said) in paths {
            // It was read before.
            match RouteKey::parse(&key).map_err(|message| self.error(&message))? {
                RouteKey::Own(_) => drop(self.settings.insert(key, said)),
                RouteKey::Path { methods, path } => {
                    let target = self.target(&key, &said, handlers)?;
                    let origin = self.place(said.line);
                    routes.push(route(&methods, path, target, said.options, origin));
                }
            }
        }
        Ok(routes)
    }

    /// The handler that a route is to lead to.
    fn target(
        &self,
        key: &str,
        said: &RouteSettings,
        handlers: &[Arc<HandlerInfo>],
    ) -> Result<Arc<dyn Target>, Stop> {
        let Some(name) = &said.handler else {
            return Err(self.error(&format!("there is no route {key}: it has no `handler`")));
        };
        if let Some(target) = self.pool.target(name) {
            return Ok(target);
        }
        let (module, function) = name.split_once(':').unwrap_or((name, ""));
        if let Some(broken) = self.pool.broken().into_iter().find(|broken| broken.module == module)
        {
            return Ok(Arc::new(Missing {
                info: Arc::new(nothing_known(module, function)),
                broken,
            }));
        }
        let names: Vec<String> = handlers.iter().map(|handler| handler.target()).collect();
        let hint = suggest::did_you_mean(name, names.iter().map(String::as_str));
        Err(self.error(&format!("{key}: there is no handler `{name}`.{hint}")))
    }

    /// The route a handler has without saying anything.
    fn own(&mut self, handler: &HandlerInfo, target: Arc<dyn Target>) -> Route {
        let path = routes::path(handler);
        let said = self.settings.remove(path.trim_start_matches('/')).unwrap_or_default();
        let origin = if said.line > 0 { self.place(said.line) } else { String::new() };
        route(&["POST".into()], path, target, said.options, origin)
    }

    /// A route as a module gives it.
    fn of_module(
        &self,
        handler: &HandlerInfo,
        target: Arc<dyn Target>,
        key: &str,
        options: &str,
    ) -> Result<Route, Stop> {
        let origin = format!("`__routes__` of {}", handler.module);
        let wrong = |message: String| Stop::usage(format!("{origin}: {message}"));
        let RouteKey::Path { methods, path } = RouteKey::parse(key).map_err(wrong)? else {
            return Err(wrong(format!("`{key}` is not a route: write `GET /path`")));
        };
        let mut said = RouteSettings::default();
        let options: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(options).map_err(|error| wrong(error.to_string()))?;
        for (option, value) in &options {
            let in_place = |message| wrong(format!("`{key}`: `{option}`: {message}"));
            // Dicts are written by Python, where a name has no dash.
            said.set(&option.replace('_', "-"), value).map_err(in_place)?;
        }
        Ok(route(&methods, path, target, said.options, origin))
    }

    /// Holds the configuration to routes that are there.
    fn all_meant(&self, routes: &[Route]) -> Result<(), Stop> {
        let Some(unknown) = self.settings.keys().next() else { return Ok(()) };
        let module = unknown.rsplit_once('/').map_or("", |(module, _)| module);
        if self.pool.broken().iter().any(|broken| broken.module == module) {
            return Ok(());
        }
        let handler = unknown.replacen('/', ":", 1);
        let elsewhere = routes.iter().find(|route| route.target.info().target() == handler);
        if let Some(route) = elsewhere {
            return Err(self.error(&format!(
                "there is no route {unknown}: {handler} has {} instead. Give it the options there",
                route.name()
            )));
        }
        let own = routes.iter().map(|route| route.path.as_str());
        let hint = suggest::did_you_mean(&format!("/{unknown}"), own).replace("`/", "`");
        Err(self.error(&format!("there is no route {unknown}.{hint}")))
    }

    /// A line of the file, or the flag.
    fn place(&self, line: usize) -> String {
        match (line, self.origin.rsplit_once(':')) {
            (1.., Some((file, _))) => format!("{file}:{line}"),
            _ => self.origin.clone(),
        }
    }

    fn error(&self, message: &str) -> Stop {
        Stop::usage(format!("{}: {message}", self.origin))
    }
}

fn route(
    methods: &[String],
    path: String,
    target: Arc<dyn Target>,
    options: RouteOptions,
    origin: String,
) -> Route {
    // Only known methods come this far.
    let methods = methods.iter().filter_map(|method| Method::from_bytes(method.as_bytes()).ok());
    Route { methods: methods.collect(), path, target, options, origin, stub: false }
}

/// What can be said of a handler that could not be loaded.
fn nothing_known(module: &str, name: &str) -> HandlerInfo {
    HandlerInfo {
        module: module.into(),
        name: name.into(),
        kind: HandlerKind::Sync,
        streams: false,
        reads: false,
        params: Vec::new(),
        open: true,
        doc: String::new(),
        returns: String::new(),
        routes: Vec::new(),
    }
}
