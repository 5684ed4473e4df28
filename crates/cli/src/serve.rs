//! `exuvia serve`: a listener, a pool, and a good end.

use std::{
    collections::HashMap, ffi::OsStr, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration,
};

use clap::ArgMatches;
use exuvia_core::Broken;
use exuvia_env::Environment;
use exuvia_host::{ImageConfig, Pool, PoolConfig, PoolStatus, StartMethod};
use exuvia_observe::{Metrics, trace};
use exuvia_serve::{Listeners, Route, Server, ServerConfig, spec};
use tokio::sync::oneshot;

use crate::{
    args,
    backend::{self, PoolBackend, Shown},
    declared::Declared,
    edge,
    exit::{Exit, Stop},
    image,
    listen::bind,
    logging, project,
    resolve::{self, Resolved},
    routes::{self, Listed},
    settings::Cmd,
    signals::{self, Scale, Scaling, Signals},
    start::{self, Origins, aside},
    targets::{self, Plan},
    terminal,
};

/// How long answers may take to leave once every call has ended.
const FLUSH: Duration = Duration::from_secs(2);

/// What was asked for.
struct Asked {
    typed: Vec<String>,
    plan: Plan,
    image: ImageConfig,
    settings: Resolved,
    list: Option<Format>,
}

/// What there is to serve.
#[derive(Default)]
struct Served {
    routes: Vec<Route>,
    /// What the stubs among them take and give.
    stubs: serde_json::Value,
}

/// How the routes are listed.
#[derive(Clone, Copy)]
enum Format {
    Human,
    Json,
    /// The document that describes them.
    OpenApi,
}

/// Runs the command.
pub(crate) fn run(matches: &ArgMatches, as_document: bool, origins: Origins) -> Result<Exit, Stop> {
    let asked = Asked::read(matches, as_document, &origins)?;
    logging::start(&asked.settings, &origins.variables);
    // What waits to be sent is sent when this is dropped, after the runtime.
    let _traces =
        trace::start(env!("CARGO_PKG_VERSION")).map_err(|error| Stop::usage(error.to_string()))?;
    if !trace::BUILT_IN && origins.variables.contains_key(OsStr::new(trace::ENDPOINT)) {
        tracing::debug!("{} is set, but this build has no traces", trace::ENDPOINT);
    }
    let runtime = start::event_loop()?;
    let result = runtime.block_on(async {
        let mut signals = Signals::new()?;
        // From now on these stop no process: what they ask for is done once there are workers.
        let scaling = Scaling::new()?;
        let started = tokio::select! {
            biased;
            // There is nothing yet to drain.
            exit = signals.next() => return Ok(exit),
            started = asked.start(origins) => started?,
        };
        match started {
            Some(serving) => serving.until_stopped(&mut signals, scaling).await,
            None => Ok(Exit::Ok),
        }
    });
    runtime.shutdown_background();
    result
}

// === impl Asked ===

impl Asked {
    fn read(matches: &ArgMatches, as_document: bool, origins: &Origins) -> Result<Self, Stop> {
        let cwd = &origins.cwd;
        let flag = |name| !as_document && matches.get_flag(name);
        let typed: Vec<String> =
            matches.get_many::<String>("target").into_iter().flatten().cloned().collect();
        let list = match (as_document, flag("list"), flag("json")) {
            (true, ..) => Some(Format::OpenApi),
            (false, true, true) => Some(Format::Json),
            (false, true, false) => Some(Format::Human),
            (false, false, true) => return Err(Stop::usage("--json goes with --list")),
            (false, false, false) => None,
        };
        let sorted = targets::sort(&typed, cwd)?;
        let found = if sorted.project.is_none() { project::discover(cwd)? } else { None };
        let project = sorted.project.as_ref().or(found.as_ref());
        let flags = args::flags(matches, Cmd::Serve);
        let settings = resolve::resolve(Cmd::Serve, &flags, &origins.variables, project)?;
        let has_document = settings.path("openapi").is_some();
        let plan = targets::plan(&sorted, settings.list("targets"), project, cwd, has_document)?;
        let mut image = image::config(&settings, project, &plan, cwd)?;
        if list.is_some() {
            // One worker for no call: a zygote would only come in between.
            image = ImageConfig { start: StartMethod::Spawn, ..ImageConfig::default() };
        }
        Ok(Self { typed, plan, image, settings, list })
    }

    /// Comes up to the point where requests can be answered; with `--list` prints the routes
    /// instead.
    async fn start(self, origins: Origins) -> Result<Option<Serving>, Stop> {
        let as_json = logging::is_json(&self.settings);
        let document = self.document()?;
        // First, because it fails fastest: nobody waits for imports to hear of a taken port.
        let listener = match self.list {
            Some(_) => None,
            None => Some(bind(self.settings.text("host"), self.settings.port("port")).await?),
        };
        let admin = match self.list {
            Some(_) => None,
            None => edge::admin(&self.settings).await?,
        };
        let metrics = Metrics::new();
        let shown = Shown::default();
        let (asked, pool) = self.pool(origins, &metrics, &shown).await?;
        let served = asked.routes(pool.as_ref(), document)?;
        let listed: Vec<Listed> = served.routes.iter().map(Listed::from).collect();
        let Some((listener, address)) = listener else {
            return asked.print_list(served, listed, pool, metrics).await.map(|()| None);
        };
        let server = asked.server(served, pool.clone(), metrics, address.ip().is_loopback())?;
        // It is set nowhere else.
        let _ = shown.set(server.clone());
        if let Some(pool) = &pool {
            image::tell(&pool.image(), as_json);
        }
        let base = format!("http://{address}");
        if as_json {
            tracing::info!(url = base, routes = listed.len(), "listening");
        } else {
            announce(&listed, &base, address);
        }
        let admin = admin.map(|(admin, address)| {
            let pages = format!("http://{address}");
            if as_json {
                tracing::info!(url = pages, "pages");
            } else {
                terminal::say(&format!("pages on {pages}"));
            }
            admin
        });
        let drain = asked.settings.duration("drain-timeout");
        let listeners = Listeners { data: listener, admin };
        Ok(Some(Serving { pool, server, listeners, drain }))
    }

    /// The workers, where there is anything for them to do.
    async fn pool(
        self,
        origins: Origins,
        metrics: &Arc<Metrics>,
        shown: &Shown,
    ) -> Result<(Self, Option<Arc<Pool>>), Stop> {
        if self.plan.specs.is_empty() {
            return Ok((self, None));
        }
        let as_json = logging::is_json(&self.settings);
        let cwd = origins.cwd.clone();
        let found = aside(move || {
            let (environment, runtime) = start::find(&origins, &self.settings, &self.plan.folders)?;
            Ok::<_, Stop>((self, environment, runtime))
        });
        let (asked, environment, runtime) = found.await??;
        if as_json {
            tracing::info!(
                python = %environment.executable.display(),
                origin = %environment.origin,
                "python"
            );
        } else {
            terminal::say(&format!("python: {environment}"));
        }
        let config = asked.config(&environment, runtime, metrics.clone(), shown);
        let pool = start::pool(config, &environment, &asked.typed, &cwd, true).await?;
        for Broken { module, message, traceback, .. } in pool.broken() {
            tracing::error!(module, traceback, "{message}; the others are served");
        }
        Ok((asked, Some(pool)))
    }

    /// The text of the document that routes are made from, and its name.
    fn document(&self) -> Result<Option<(String, String)>, Stop> {
        let Some(path) = self.settings.path("openapi") else { return Ok(None) };
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Stop::usage(format!("{name} cannot be read: {error}")))?;
        Ok(Some((name, text)))
    }

    /// Every route, of the handlers and of the document.
    fn routes(
        &self,
        pool: Option<&Arc<Pool>>,
        document: Option<(String, String)>,
    ) -> Result<Served, Stop> {
        let settings = &self.settings;
        let (mut settled, mut served) = (Vec::new(), Served::default());
        if let Some((name, text)) = document {
            let handlers = pool.map(|pool| {
                let handlers = pool.handlers();
                handlers
                    .iter()
                    .filter_map(|handler| pool.target(&handler.target()))
                    .collect::<Vec<_>>()
            });
            let found = spec::routes(&text, &name, &handlers.unwrap_or_default())
                .map_err(|error| Stop::usage(error.to_string()))?;
            for warning in &found.warnings {
                tracing::warn!("{name}: {warning}");
            }
            for stub in &found.stubs {
                terminal::say(&format!("stub: {stub} has no handler yet"));
            }
            settled = found.routes.iter().map(|route| route.target.info().target()).collect();
            served = Served { routes: found.routes, stubs: found.description };
        }
        if let Some(pool) = pool {
            let declared = Declared {
                pool,
                settings: settings.routes(),
                origin: settings.origin("routes").to_string(),
                timeout: settings.duration("timeout"),
                settled,
            };
            served.routes.extend(declared.routes()?);
        }
        Ok(served)
    }

    async fn print_list(
        &self,
        served: Served,
        listed: Vec<Listed>,
        pool: Option<Arc<Pool>>,
        metrics: Arc<Metrics>,
    ) -> Result<(), Stop> {
        let server = self.server(served, pool.clone(), metrics, true)?;
        let text = match self.list {
            Some(Format::Json) => format!("{:#}\n", routes::json(&listed)),
            Some(Format::OpenApi) => {
                let document = server.document().await;
                let document = document.map_err(|failure| Stop {
                    failure: Some(Box::new(failure.clone())),
                    ..Stop::usage(failure.to_string())
                })?;
                format!("{document}\n")
            }
            _ => routes::table(&listed).iter().map(|line| format!("{line}\n")).collect(),
        };
        if let Some(pool) = pool {
            pool.drain(Duration::ZERO).await;
        }
        terminal::data(text.as_bytes())
            .map_err(|error| Stop::usage(format!("stdout cannot be written: {error}")))
    }

    fn config(
        &self,
        environment: &Environment,
        runtime: PathBuf,
        metrics: Arc<Metrics>,
        shown: &Shown,
    ) -> PoolConfig {
        let settings = &self.settings;
        let of_routes = settings.routes();
        let bodies = of_routes.values().filter_map(|said| said.options.max_body);
        PoolConfig {
            python: environment.executable.clone(),
            runtime,
            targets: self.plan.specs.clone(),
            working_dir: self.plan.working_dir.clone(),
            search_path: Vec::new(),
            // To list the routes one is enough.
            workers: if self.list.is_some() { 1 } else { settings.count("workers") as usize },
            spares: if self.list.is_some() { 0 } else { settings.count("spares") as usize },
            image: self.image.clone(),
            recycle: image::recycle(settings),
            concurrency: settings.count("concurrency"),
            queue: settings.count("queue") as usize,
            timeout: settings.duration("timeout"),
            handler_timeouts: HashMap::new(),
            // Each route holds its requests to its own.
            max_payload: bodies.fold(settings.size("max-body"), u64::max),
            max_table: settings.size("max-table"),
            tolerant: self.list.is_none(),
            max_output: settings.size("max-output"),
            start_timeout: settings.duration("start-timeout"),
            output: backend::sink(shown),
            metrics,
        }
    }

    fn server(
        &self,
        served: Served,
        pool: Option<Arc<Pool>>,
        metrics: Arc<Metrics>,
        loopback: bool,
    ) -> Result<Arc<Server>, Stop> {
        let settings = &self.settings;
        let config = ServerConfig {
            expose_errors: match settings.text("expose-errors") {
                "auto" => loopback,
                word => word == "true",
            },
            hosts: vec![settings.text("host").to_owned()],
            ..edge::config(settings)?
        };
        let queue = settings.count("queue") as usize;
        let Served { routes, stubs } = served;
        let backend = Arc::new(PoolBackend { pool, queue, metrics: metrics.clone(), stubs });
        Server::new(routes, backend, metrics, config)
            .map_err(|error| Stop::usage(error.to_string()))
    }
}

/// What is up and takes requests.
struct Serving {
    pool: Option<Arc<Pool>>,
    server: Arc<Server>,
    listeners: Listeners,
    drain: Duration,
}

// === impl Serving ===

impl Serving {
    /// Serves until a signal, then lets what runs end: the pool takes no new calls and `/readyz`
    /// says no, while the listener stays, so that whoever asks hears a 503; then connections are
    /// closed. A second signal ends all of it at once.
    async fn until_stopped(
        self,
        signals: &mut Signals,
        mut scaling: Scaling,
    ) -> Result<Exit, Stop> {
        let Self { pool, server, listeners, drain } = self;
        if std::process::id() == 1 {
            signals::bury_orphans()?;
        }
        let (close, closed) = oneshot::channel::<()>();
        let (cut, cut_off) = oneshot::channel::<()>();
        // A sender that is dropped counts as a word given: that is the end, too.
        let closed = async { drop(closed.await) };
        let cut_off = async { drop(cut_off.await) };
        let mut serving = std::pin::pin!(server.serve(listeners, closed, cut_off));
        let failed =
            |error: io::Error| Stop::new(Exit::Internal, format!("the listener failed: {error}"));
        loop {
            tokio::select! {
                result = &mut serving => return result.map(|_| Exit::Ok).map_err(failed),
                _ = signals.next() => break,
                scale = scaling.next() => resize(pool.as_deref(), scale),
            }
        }
        let (running, queued) = pool.as_ref().map_or((0, 0), |pool| {
            let PoolStatus { queued, running, .. } = pool.status();
            (running, queued)
        });
        tracing::info!(running, queued, limit = ?drain, "stopping; once more to stop at once");
        let ending = async {
            if let Some(pool) = &pool
                && !pool.drain(drain).await
            {
                tracing::warn!(limit = ?drain, "calls that ran longer were stopped");
            }
            // Both receivers are in `serving`, which ends upon either; then nobody is left to hear.
            let _ = close.send(());
            tokio::time::sleep(FLUSH).await;
            let _ = cut.send(());
        };
        let mut ending = std::pin::pin!(ending);
        let mut told = false;
        loop {
            tokio::select! {
                biased;
                exit = signals.next() => return Ok(exit),
                result = &mut serving => return result.map(|_| Exit::Ok).map_err(failed),
                () = &mut ending, if !told => told = true,
            }
        }
    }
}

/// Does what a signal asks for.
fn resize(pool: Option<&Pool>, scale: Scale) {
    let Some(pool) = pool else { return };
    let before = pool.status().size;
    let workers = scale.of(before);
    tracing::info!(before, workers, "asked for {scale}");
    pool.resize(workers);
}

/// The first lines a person sees.
fn announce(listed: &[Listed], base: &str, address: SocketAddr) {
    terminal::say(&format!("listening on {base}"));
    for line in routes::table(listed) {
        terminal::say(&format!("  {line}"));
    }
    // `0.0.0.0` is where to listen, not whom to ask.
    let base = match address.ip() {
        ip if ip.is_unspecified() && ip.is_ipv4() => format!("http://127.0.0.1:{}", address.port()),
        ip if ip.is_unspecified() => format!("http://[::1]:{}", address.port()),
        _ => base.to_owned(),
    };
    for line in routes::to_paste(listed, &base) {
        terminal::say(&line);
    }
}
