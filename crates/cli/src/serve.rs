//! `exuvia serve`: a listener, a pool, and a good end.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use clap::ArgMatches;
use exuvia_core::{HandlerInfo, suggest};
use exuvia_env::Environment;
use exuvia_host::{ImageConfig, OutputLine, Pool, PoolConfig, PoolStatus, StartMethod};
use exuvia_observe::Metrics;
use exuvia_serve::{Backend, Readiness, Route, Server, ServerConfig};
use tokio::{net::TcpSocket, sync::oneshot};

use crate::{
    args,
    exit::{Exit, Stop},
    image, logging, project,
    resolve::{self, Resolved},
    routes,
    settings::Cmd,
    signals::{self, Scale, Scaling, Signals},
    start::{self, Origins, aside},
    targets::{self, Plan},
    terminal,
};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

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

/// How the routes are listed.
#[derive(Clone, Copy)]
enum Format {
    Human,
    Json,
}

/// The pool, as the server asks after it.
struct PoolBackend(Arc<Pool>);

/// Runs the command.
pub(crate) fn run(matches: &ArgMatches, origins: Origins) -> Result<Exit, Stop> {
    let asked = Asked::read(matches, &origins)?;
    logging::start(&asked.settings, &origins.variables);
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
    fn read(matches: &ArgMatches, origins: &Origins) -> Result<Self, Stop> {
        let cwd = &origins.cwd;
        let typed: Vec<String> =
            matches.get_many::<String>("target").into_iter().flatten().cloned().collect();
        let list = match (matches.get_flag("list"), matches.get_flag("json")) {
            (true, true) => Some(Format::Json),
            (true, false) => Some(Format::Human),
            (false, true) => return Err(Stop::usage("--json goes with --list")),
            (false, false) => None,
        };
        let sorted = targets::sort(&typed, cwd)?;
        let found = if sorted.project.is_none() { project::discover(cwd)? } else { None };
        let project = sorted.project.as_ref().or(found.as_ref());
        let flags = args::flags(matches, Cmd::Serve);
        let settings = resolve::resolve(Cmd::Serve, &flags, &origins.variables, project)?;
        let plan = targets::plan(&sorted, settings.list("targets"), project, cwd)?;
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
        // First, because it fails fastest: nobody waits for imports to hear of a taken port.
        let listener = match self.list {
            Some(_) => None,
            None => Some(bind(self.settings.text("host"), self.settings.port("port")).await?),
        };
        let cwd = origins.cwd.clone();
        let found = aside(move || {
            let (environment, runtime) = start::find(&origins, &self.settings, &self.plan)?;
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
        let metrics = Metrics::new();
        let config = asked.config(&environment, runtime, metrics.clone());
        let pool = start::pool(config, &environment, &asked.typed, &cwd, true).await?;
        let handlers = pool.handlers();
        asked.check_routes(&handlers)?;
        let Some((listener, address)) = listener else {
            return asked.print_list(&handlers, &pool).await.map(|()| None);
        };
        let server = asked.server(&pool, metrics, address)?;
        image::tell(&pool.image(), as_json);
        let base = format!("http://{address}");
        if as_json {
            tracing::info!(url = base, routes = handlers.len(), "listening");
        } else {
            announce(&handlers, &base, address);
        }
        let drain = asked.settings.duration("drain-timeout");
        Ok(Some(Serving { pool, server, listener, drain }))
    }

    async fn print_list(&self, handlers: &[Arc<HandlerInfo>], pool: &Pool) -> Result<(), Stop> {
        let text = match self.list {
            Some(Format::Json) => format!("{:#}\n", routes::json(handlers)),
            _ => routes::table(handlers).iter().map(|line| format!("{line}\n")).collect(),
        };
        pool.drain(Duration::ZERO).await;
        terminal::data(text.as_bytes())
            .map_err(|error| Stop::usage(format!("stdout cannot be written: {error}")))
    }

    fn config(
        &self,
        environment: &Environment,
        runtime: PathBuf,
        metrics: Arc<Metrics>,
    ) -> PoolConfig {
        let settings = &self.settings;
        let of_routes = settings.routes();
        let by_handler = of_routes.iter().filter_map(|(route, limit)| {
            let (module, function) = route.rsplit_once('/')?;
            Some((format!("{module}:{function}"), *limit))
        });
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
            handler_timeouts: by_handler.collect::<HashMap<_, _>>(),
            max_payload: settings.size("max-body"),
            max_table: settings.size("max-table"),
            max_output: settings.size("max-output"),
            start_timeout: settings.duration("start-timeout"),
            output: Arc::new(log_output),
            metrics,
        }
    }

    /// One route given twice, and settings of routes that are not there, are mistakes.
    fn check_routes(&self, handlers: &[Arc<HandlerInfo>]) -> Result<(), Stop> {
        let paths: Vec<String> = handlers.iter().map(|handler| routes::path(handler)).collect();
        if let Some((_, path)) =
            paths.iter().enumerate().find(|(index, path)| paths[..*index].contains(path))
        {
            return Err(Stop::usage(format!(
                "the route {path} is there twice: does one TARGET hold another?"
            )));
        }
        for route in self.settings.routes().keys() {
            let path = format!("/{route}");
            if !paths.contains(&path) {
                let hint = suggest::did_you_mean(&path, paths.iter()).replace("`/", "`");
                let by = self.settings.origin("routes");
                return Err(Stop::usage(format!("{by}: there is no route {route}.{hint}")));
            }
        }
        Ok(())
    }

    fn server(
        &self,
        pool: &Arc<Pool>,
        metrics: Arc<Metrics>,
        address: SocketAddr,
    ) -> Result<Arc<Server>, Stop> {
        let settings = &self.settings;
        let route = |handler: &Arc<HandlerInfo>| {
            // The pool knows the limit of each handler.
            let target = pool.target(&handler.target())?;
            Some(Route { path: routes::path(handler), target, timeout: None })
        };
        let routes = pool.handlers().iter().filter_map(route).collect();
        let config = ServerConfig {
            max_body: settings.size("max-body"),
            expose_errors: match settings.text("expose-errors") {
                "auto" => address.ip().is_loopback(),
                word => word == "true",
            },
            hosts: vec![settings.text("host").to_owned()],
            ..ServerConfig::default()
        };
        let backend = Arc::new(PoolBackend(pool.clone()));
        Server::new(routes, backend, metrics, config)
            .map_err(|error| Stop::usage(error.to_string()))
    }
}

/// What is up and takes requests.
struct Serving {
    pool: Arc<Pool>,
    server: Arc<Server>,
    listener: TcpListener,
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
        let Self { pool, server, listener, drain } = self;
        if std::process::id() == 1 {
            signals::bury_orphans()?;
        }
        let (close, closed) = oneshot::channel::<()>();
        let (cut, cut_off) = oneshot::channel::<()>();
        // A sender that is dropped counts as a word given: that is the end, too.
        let closed = async { drop(closed.await) };
        let cut_off = async { drop(cut_off.await) };
        let mut serving = std::pin::pin!(server.serve(listener, closed, cut_off));
        let failed =
            |error: io::Error| Stop::new(Exit::Internal, format!("the listener failed: {error}"));
        loop {
            tokio::select! {
                result = &mut serving => return result.map(|_| Exit::Ok).map_err(failed),
                _ = signals.next() => break,
                scale = scaling.next() => resize(&pool, scale),
            }
        }
        let PoolStatus { queued, running, .. } = pool.status();
        tracing::info!(running, queued, limit = ?drain, "stopping; once more to stop at once");
        let ending = async {
            if !pool.drain(drain).await {
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
fn resize(pool: &Pool, scale: Scale) {
    let before = pool.status().size;
    let workers = scale.of(before);
    tracing::info!(before, workers, "asked for {scale}");
    pool.resize(workers);
}

// === impl PoolBackend ===

impl Backend for PoolBackend {
    fn readiness(&self) -> Readiness {
        let PoolStatus { ready, size, draining, .. } = self.0.status();
        if draining {
            return Readiness { ready: false, reason: "the server is stopping".into() };
        }
        Readiness { ready: ready > 0, reason: format!("{ready} of {size} workers ready") }
    }
}

/// Opens the listener.
async fn bind(host: &str, port: u16) -> Result<(TcpListener, SocketAddr), Stop> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let unknown = |why: String| {
        Stop::usage(format!("the host {host} is not an address of this machine: {why}"))
    };
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((bare, port))
        .await
        .map_err(|error| unknown(error.to_string()))?
        .collect();
    let mut last = None;
    for address in addresses {
        match listen(address) {
            Ok(bound) => return Ok(bound),
            Err(error) => last = Some(error),
        }
    }
    let Some(error) = last else { return Err(unknown("it has no address".into())) };
    let (why, hint) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            "another program listens there".into(),
            "stop that program, or choose another port with --port (0 takes any free one)",
        ),
        io::ErrorKind::PermissionDenied => (
            "not permitted".into(),
            "ports below 1024 need privileges: choose a higher one with --port",
        ),
        io::ErrorKind::AddrNotAvailable => (
            "that is not an address of this machine".into(),
            "--host 127.0.0.1 serves this machine, --host 0.0.0.0 all that can reach it",
        ),
        _ => (error.to_string(), "choose another address with --host and --port"),
    };
    Err(Stop::usage(format!("cannot listen on port {port} of host {host}: {why}\nhint: {hint}")))
}

fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A server that was just stopped leaves connections behind that would keep the port for a
    // minute; two that listen at a time are refused all the same.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?.into_std()?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// The first lines a person sees.
fn announce(handlers: &[Arc<HandlerInfo>], base: &str, address: SocketAddr) {
    terminal::say(&format!("listening on {base}"));
    for line in routes::table(handlers) {
        terminal::say(&format!("  {line}"));
    }
    // `0.0.0.0` is where to listen, not whom to ask.
    let base = match address.ip() {
        ip if ip.is_unspecified() && ip.is_ipv4() => format!("http://127.0.0.1:{}", address.port()),
        ip if ip.is_unspecified() => format!("http://[::1]:{}", address.port()),
        _ => base.to_owned(),
    };
    for line in routes::to_paste(handlers, &base) {
        terminal::say(&line);
    }
}

/// A line that a worker printed, as a line of the log.
fn log_output(line: OutputLine) {
    let OutputLine { worker, call_id, stream, text } = line;
    match call_id {
        Some(call) => tracing::info!(worker, call, %stream, "{text}"),
        None => tracing::info!(worker, %stream, "{text}"),
    }
}
