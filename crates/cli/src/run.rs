//! `exuvia run`: one call of code that nobody vouches for, in a fresh isolate.

mod code;
mod guest;
mod report;
mod store;
pub(crate) mod trust;

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::ArgMatches;
use exuvia_bundle::Effective;
use exuvia_core::Policy;
use exuvia_env::Environment;
use exuvia_host::{
    OutputLine, StartError,
    sandbox::{Job, Sandbox, SandboxConfig, SandboxOutcome},
};
use exuvia_jail::{Layers, Support, Tier};

use self::{
    code::Code,
    guest::{Prints, plain},
    trust::Ground,
};
pub(crate) use self::{
    code::{missing, packages_error},
    report::size,
    store::Store,
};
use crate::{
    call,
    exit::{Exit, Stop},
    input::Input,
    json, logging,
    output::Output,
    policy,
    project::Project,
    render::{self, Around},
    resolve::Resolved,
    settings::Cmd,
    signals::Signals,
    start::{self, Origins, aside},
    terminal,
};

/// Where isolates have their bundle, and source code its name.
const APP: &str = "/app";

/// What was asked for.
struct Asked {
    code: PathBuf,
    entrypoint: Option<String>,
    settings: Resolved,
    project: Option<Project>,
    ground: Ground,
    arguments: Vec<(String, String)>,
    input: Input,
    output: Output,
    trusted: bool,
    as_json: bool,
}

/// The same, found and ready.
struct Prepared {
    config: SandboxConfig,
    job: Job,
    /// What runs, in messages.
    name: String,
    environment: Environment,
    /// For bundles.
    effective: Option<Effective>,
    output: Output,
    notes: Vec<String>,
    as_json: bool,
    _store: Option<Store>,
}

/// Runs the command.
pub(crate) fn run(matches: &ArgMatches, origins: Origins) -> Result<Exit, Stop> {
    let asked = Asked::read(matches, &origins)?;
    logging::start(&asked.settings, &origins.variables);
    let runtime = start::event_loop()?;
    let result = runtime.block_on(async {
        let mut signals = Signals::new()?;
        tokio::select! {
            biased;
            // Leaving drops the sandbox, which ends its processes.
            exit = signals.next() => Ok(exit),
            result = asked.perform(origins) => result,
        }
    });
    // A thread may still wait for stdin, and would wait for ever.
    runtime.shutdown_background();
    result
}

// === impl Asked ===

impl Asked {
    fn read(matches: &ArgMatches, origins: &Origins) -> Result<Self, Stop> {
        let code = matches.get_one::<PathBuf>("code").cloned().unwrap_or_default();
        let arguments = matches.get_many::<String>("arg").into_iter().flatten();
        let arguments = call::arguments(arguments)?;
        let ground = Ground::of(&code, &origins.cwd);
        let (settings, project) = ground.settings_and_project(Cmd::Run, matches, origins)?;
        let file = |name: &str| matches.get_one::<PathBuf>(name);
        let format = |name: &str| matches.get_one::<String>(name);
        let input = Input::of("input", file("input"), format("input-format"))?;
        if code.as_os_str() == "-" && matches!(input, Input::Stdin(_)) {
            return Err(Stop::usage("stdin cannot be both the code and the input"));
        }
        let output = Output::open(file("out"), format("out-format"))?;
        let as_json = matches.get_flag("json");
        if as_json && matches!(output, Output::Stdout(codec) if !crate::formats::is_text(codec)) {
            return Err(Stop::usage(
                "with --json stdout has the outcome: name a file for the result with --out",
            ));
        }
        let entrypoint = matches.get_one::<String>("entrypoint").cloned();
        let trusted = matches.get_flag("trusted");
        Ok(Self {
            code,
            entrypoint,
            settings,
            project,
            ground,
            arguments,
            input,
            output,
            trusted,
            as_json,
        })
    }

    async fn perform(self, origins: Origins) -> Result<Exit, Stop> {
        let variables = origins.variables.clone();
        let mut prepared = aside(move || self.prepare(&origins)).await??;
        for note in &prepared.notes {
            terminal::warn(&plain(note), &variables);
        }
        let config = prepared.config.clone();
        let sandbox = Sandbox::start(config).await.map_err(|error| prepared.unstarted(error))?;
        let prints = if prepared.as_json { None } else { Some(Prints::start()?) };
        prepared.job.live = prints.as_ref().map(Prints::live);
        let outcome = sandbox.run(prepared.job.clone()).await;
        sandbox.close().await;
        if let Some(prints) = prints {
            prints.end().await?;
        }
        prepared.tell(outcome, &variables).await
    }

    /// Finds and reads everything. May block.
    fn prepare(mut self, origins: &Origins) -> Result<Prepared, Stop> {
        let (tier, mut notes) = tier(exuvia_jail::probe(), self.trusted)?;
        let code = Code::find(&self.code, &origins.cwd)?;
        let entrypoint = self.entrypoint.as_deref();
        let entrypoint = entrypoint.map(|text| code::entrypoint(text, &code)).transpose()?;
        let input = std::mem::replace(&mut self.input, Input::None);
        let payload = input.open()?.read()?;
        let environment = self.ground.python(origins, &self.settings)?;
        let runtime = start::runtime(origins, &self.settings)?;
        let user = isolate_user(&self.settings);
        let (policy, effective, store) = match &code {
            Code::Source { .. } => (policy::of_source(&self.settings), None, None),
            Code::Bundle(bundle) => {
                let missing = missing(bundle, &environment);
                if !missing.is_empty() {
                    return Err(packages_error(bundle, &missing, &environment));
                }
                let effective = policy::effective(&self.settings, bundle)?;
                notes.extend(policy::notes(bundle, &effective));
                // With namespaces root shows the store; without, isolates have to get there.
                let group = (is_root() && tier == Tier::Reduced).then_some(user.1);
                let store = Store::new(group).map_err(|error| {
                    Stop::new(Exit::Internal, format!("no place for the bundle: {error}"))
                })?;
                (effective.policy.clone(), Some(effective), Some(store))
            }
        };
        let name = code.name(entrypoint.as_ref());
        let place = store.as_ref().map(Store::path);
        let code = code.ready(entrypoint, place.as_deref())?;
        let job = Job {
            payload,
            text_arguments: std::mem::take(&mut self.arguments),
            accept: self.output.codec(),
            ..Job::new(code)
        };
        let python = environment.executable.clone();
        let view = self.view(&origins.cwd)?;
        let config =
            self.config(SandboxPlaces { python, runtime, view, store: place }, policy, tier, user);
        let (output, as_json) = (self.output, self.as_json);
        Ok(Prepared {
            config,
            job,
            name,
            environment,
            effective,
            output,
            notes,
            as_json,
            _store: store,
        })
    }

    fn config(
        &self,
        places: SandboxPlaces,
        policy: Policy,
        tier: Tier,
        user: (u32, u32),
    ) -> SandboxConfig {
        let settings = &self.settings;
        let blas_threads = settings.is_set("blas-threads").then(|| settings.count("blas-threads"));
        SandboxConfig {
            python: places.python,
            runtime: places.runtime,
            view: places.view,
            store: places.store,
            preload: settings.list("preload").to_vec(),
            policy,
            tier,
            user,
            // One call: its isolate is made for it.
            spares: 0,
            concurrency: 1,
            queue: 1,
            persistent: false,
            blas_threads: blas_threads.unwrap_or(1),
            start_timeout: settings.duration("start-timeout"),
            layers: Layers::ALL,
            output: Arc::new(|line: OutputLine| terminal::say(&line.text)),
        }
    }

    /// The files and folders of `--view`, which must be there.
    fn view(&self, cwd: &Path) -> Result<Vec<PathBuf>, Stop> {
        let base = match &self.project {
            Some(project) if self.settings.is_from_file("view") => &project.folder,
            _ => cwd,
        };
        let path = |text: &String| {
            let path = base.join(text);
            let wrong = |error: io::Error| {
                let origin = self.settings.origin("view");
                Stop::usage(format!("{origin}: {text} cannot be shown: {error}"))
            };
            match path.canonicalize() {
                Ok(place) if place.parent().is_none() => {
                    Err(wrong(io::Error::other("to show all files is no sandbox")))
                }
                // Links on the way are shown as links.
                Ok(_) => std::path::absolute(&path).map_err(wrong),
                Err(error) => Err(wrong(error)),
            }
        };
        self.settings.list("view").iter().map(path).collect()
    }
}

/// Where things lie.
struct SandboxPlaces {
    python: PathBuf,
    runtime: PathBuf,
    view: Vec<PathBuf>,
    store: Option<PathBuf>,
}

/// The tier to run in, and what is to be said of it.
fn tier(support: Support, trusted: bool) -> Result<(Tier, Vec<String>), Stop> {
    match support.tier {
        Tier::Full => Ok((Tier::Full, Vec::new())),
        Tier::Reduced => {
            let note = "some layers of the sandbox are missing on this machine: exuvia doctor says \
                        which";
            Ok((Tier::Reduced, vec![note.into()]))
        }
        Tier::None if trusted => {
            let note = "there is no sandbox on this machine: the code has all your rights";
            Ok((Tier::None, vec![note.into()]))
        }
        Tier::None => {
            let lacks = support.layers.iter().filter(|layer| !layer.up);
            let lacks: Vec<String> =
                lacks.map(|layer| format!("{} ({})", layer.name, layer.detail)).collect();
            Err(Stop::new(
                Exit::NoPython,
                format!(
                    "this machine has no sandbox: it lacks {}\nhint: --trusted runs code that you \
                     vouch for, with all your rights",
                    lacks.join(", ")
                ),
            ))
        }
    }
}

/// User and group of isolates, where root runs the command.
pub(crate) fn isolate_user(settings: &Resolved) -> (u32, u32) {
    (settings.count("isolate-uid"), settings.count("isolate-gid"))
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

// === impl Prepared ===

impl Prepared {
    /// The error of a sandbox that did not start.
    fn unstarted(&self, error: StartError) -> Stop {
        match error {
            StartError::Load(failure) => {
                let stop = render::stop(failure, None, &self.around(&[]));
                Stop { message: plain(&stop.message), ..stop }
            }
            error => {
                let message =
                    format!("{}\npython: {}", plain(&error.to_string()), self.environment);
                Stop::new(Exit::NoPython, message)
            }
        }
    }

    fn around<'a>(&'a self, targets: &'a [String]) -> Around<'a> {
        Around {
            targets,
            handler: None,
            environment: &self.environment,
            cwd: Path::new(APP),
            modules: Path::new(APP),
            traceback: true,
            time_flag: None,
        }
    }

    async fn tell(
        self,
        outcome: SandboxOutcome,
        variables: &crate::resolve::Variables,
    ) -> Result<Exit, Stop> {
        if self.as_json {
            return self.tell_json(outcome).await;
        }
        let failure = match &outcome.outcome.result {
            Ok(payload) => {
                if let Some(line) = report::refused(&outcome.usage) {
                    terminal::warn(&line, variables);
                }
                let (codec, body) = (payload.codec, payload.body.clone());
                return self.output.begin(codec).whole(body).await.map(|()| Exit::Ok);
            }
            Err(failure) => (**failure).clone(),
        };
        let targets = [self.name.clone()];
        let stop = render::stop(failure, None, &self.around(&targets));
        let mut lines = vec![plain(&stop.message)];
        lines.extend(report::lines(&outcome, self.effective.as_ref()));
        Err(Stop { message: lines.join("\n"), ..stop })
    }

    /// The outcome as one document. A result that has a file goes there as well.
    async fn tell_json(self, outcome: SandboxOutcome) -> Result<Exit, Stop> {
        let document = outcome.document();
        let exit = match &outcome.outcome.result {
            Ok(payload) => {
                if let Output::File { .. } = self.output {
                    let (codec, body) = (payload.codec, payload.body.clone());
                    self.output.begin(codec).whole(body).await?;
                }
                Exit::Ok
            }
            Err(failure) => render::exit(failure),
        };
        let mut text = document.to_string().into_bytes();
        if io::stdout().is_terminal() {
            text = json::indent(&text);
        }
        text.push(b'\n');
        aside(move || terminal::data(&text))
            .await?
            .map_err(|error| Stop::usage(format!("stdout cannot be written: {error}")))?;
        Ok(exit)
    }
}
