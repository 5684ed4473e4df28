//! `exuvia call`: one call of one function, for people and scripts.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use bytes::Bytes;
use clap::ArgMatches;
use exuvia_core::{Call, Diagnostics, Failure, HandlerInfo, OutcomeFuture, Payload, Rest};
use exuvia_env::Environment;
use exuvia_host::{ImageConfig, OutputLine, Pool, PoolConfig, Recycle, StartMethod};
use exuvia_observe::Metrics;

use crate::{
    args,
    exit::{Exit, Stop},
    input::{Feeding, Input, Source},
    logging,
    output::{Output, Writing},
    project,
    render::{self, Around},
    resolve::{self, Resolved},
    settings::Cmd,
    signals::Signals,
    start::{self, Origins, aside},
    targets::{self, Plan},
    terminal,
};

/// The most bytes of arguments or result. There is no stranger to guard against, only a slip.
const MAX_PAYLOAD: u64 = 4 << 30;

/// How long the worker may take to end after the call.
const FAREWELL: std::time::Duration = std::time::Duration::from_millis(500);

/// What was asked for.
struct Asked {
    target: String,
    plan: Plan,
    settings: Resolved,
    arguments: Vec<(String, String)>,
    input: Input,
    output: Output,
    traceback: bool,
    diagnostics: bool,
}

/// The same, with what was found for it.
struct Prepared {
    asked: Asked,
    source: Source,
    environment: Environment,
    runtime: PathBuf,
    origins: Origins,
}

/// A result.
enum Made {
    /// It is there, and nothing of it is written.
    Whole(Writing, Bytes),
    /// All of it came, and is written.
    Streamed(Writing),
    /// Who read it has read enough.
    Enough,
}

/// Why there is no result, or not all of one.
enum Unmade {
    Failed(Box<Failure>),
    Stopped(Stop),
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
            // Leaving drops the pool, which kills its worker.
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
        let target = matches.get_one::<String>("target").cloned().unwrap_or_default();
        let arguments = matches.get_many::<String>("arg").into_iter().flatten();
        let arguments = self::arguments(arguments)?;
        let project = project::discover(&origins.cwd)?;
        let flags = args::flags(matches, Cmd::Call);
        let settings = resolve::resolve(Cmd::Call, &flags, &origins.variables, project.as_ref())?;
        let plan = targets::single(&target, &origins.cwd)?;
        let file = |name: &str| matches.get_one::<PathBuf>(name);
        let format = |name: &str| matches.get_one::<String>(name);
        let input = Input::of("in", file("in"), format("in-format"))?;
        let output = Output::open(file("out"), format("out-format"))?;
        let traceback = matches.get_flag("traceback");
        let diagnostics = matches.get_flag("diagnostics");
        Ok(Self { target, plan, settings, arguments, input, output, traceback, diagnostics })
    }

    async fn perform(self, origins: Origins) -> Result<Exit, Stop> {
        let Prepared { asked, source, environment, runtime, origins } =
            self.prepare(origins).await?;
        let typed = [asked.target.clone()];
        let config = asked.config(&environment, runtime);
        let pool = start::pool(config, &environment, &typed, &origins.cwd, asked.traceback).await?;
        let handler = asked.handler(&pool)?;
        let lost = || Stop::new(Exit::Internal, "the handler was lost while it was loaded");
        let target = pool.target(&handler.target()).ok_or_else(lost)?;
        let (payload, feeding) = match handler.reads {
            true => source.feed()?,
            false => (aside(|| source.read()).await??, Feeding::none()),
        };
        let call = Call {
            payload,
            text_arguments: asked.arguments,
            accept: asked.output.codec(),
            streams: true,
            ..Call::default()
        };
        let (made, diagnostics) = made(target.call(call), asked.output, feeding).await;
        // The last lines that the function printed come with the worker's end.
        pool.drain(FAREWELL).await;
        if asked.diagnostics
            && let Some(diagnostics) = &diagnostics
        {
            // Text and numbers always have a JSON form.
            terminal::say(&serde_json::to_string(diagnostics).unwrap_or_default());
        }
        match made {
            Ok(made) => made.finish().await.map(|()| Exit::Ok),
            Err(Unmade::Stopped(stop)) => Err(stop),
            Err(Unmade::Failed(failure)) => {
                let around = Around {
                    targets: &typed,
                    handler: Some(&handler),
                    environment: &environment,
                    cwd: &origins.cwd,
                    modules: &asked.plan.working_dir,
                    traceback: asked.traceback,
                    time_flag: Some("timeout"),
                };
                Err(render::stop(*failure, diagnostics, &around))
            }
        }
    }

    /// Finds the input and Python, aside: both may block.
    async fn prepare(mut self, origins: Origins) -> Result<Prepared, Stop> {
        aside(move || {
            let source = std::mem::replace(&mut self.input, Input::None).open()?;
            let (environment, runtime) = start::find(&origins, &self.settings, &self.plan.folders)?;
            Ok(Prepared { asked: self, source, environment, runtime, origins })
        })
        .await?
    }

    fn config(&self, environment: &Environment, runtime: PathBuf) -> PoolConfig {
        let settings = &self.settings;
        PoolConfig {
            python: environment.executable.clone(),
            runtime,
            targets: self.plan.specs.clone(),
            working_dir: self.plan.working_dir.clone(),
            search_path: Vec::new(),
            workers: 1,
            spares: 0,
            // One worker for one call: a zygote would only come in between.
            image: ImageConfig { start: StartMethod::Spawn, ..ImageConfig::default() },
            recycle: Recycle::default(),
            concurrency: 1,
            queue: 1,
            timeout: settings.duration("timeout"),
            handler_timeouts: HashMap::new(),
            max_payload: MAX_PAYLOAD,
            max_table: settings.size("max-table"),
            tolerant: false,
            max_output: settings.size("max-output"),
            start_timeout: settings.duration("start-timeout"),
            output: Arc::new(|line: OutputLine| terminal::say(&line.text)),
            metrics: Metrics::new(),
        }
    }

    /// The one function that is meant. Where the target names it, it is the only one loaded.
    fn handler(&self, pool: &Pool) -> Result<Arc<HandlerInfo>, Stop> {
        let handlers = pool.handlers();
        if let [handler] = &handlers[..] {
            return Ok(handler.clone());
        }
        let names: Vec<String> = handlers.iter().map(|handler| handler.name.clone()).collect();
        if names.is_empty() {
            return Err(Stop::new(Exit::NotFound, format!("{} has no functions", self.target)));
        }
        Err(Stop::usage(format!(
            "{0} has several functions: say which, like {0}:{1}\n{0} has: {2}",
            self.target,
            names[0],
            names.join(", ")
        )))
    }
}

/// Waits for the result and writes what of it comes in pieces. What was seen of the call comes with
/// it, unless the input broke off first.
async fn made(
    call: OutcomeFuture,
    output: Output,
    mut feeding: Feeding,
) -> (Result<Made, Unmade>, Option<Diagnostics>) {
    let outcome = tokio::select! {
        biased;
        stop = feeding.broken() => return (Err(Unmade::Stopped(stop)), None),
        outcome = call => outcome,
    };
    let made = match outcome.result {
        Err(failure) => Err(Unmade::Failed(failure)),
        Ok(Payload { codec, body, rest: None, .. }) => Ok(Made::Whole(output.begin(codec), body)),
        Ok(Payload { codec, body, rest: Some(rest), .. }) => {
            streamed(output.begin(codec), body, rest, feeding).await
        }
    };
    (made, Some(outcome.diagnostics))
}

/// Writes each piece as it comes.
async fn streamed(
    mut writing: Writing,
    start: Bytes,
    rest: Rest,
    mut feeding: Feeding,
) -> Result<Made, Unmade> {
    let mut piece = start;
    loop {
        if !piece.is_empty() {
            let (written, flow) = writing.piece(piece).await.map_err(Unmade::Stopped)?;
            if flow.is_break() {
                return Ok(Made::Enough);
            }
            writing = written;
        }
        let next = tokio::select! {
            biased;
            stop = feeding.broken() => return Err(Unmade::Stopped(stop)),
            next = rest.next() => next,
        };
        piece = match next {
            Some(Ok(piece)) => piece,
            Some(Err(failure)) => return Err(Unmade::Failed(failure)),
            None => return Ok(Made::Streamed(writing)),
        };
    }
}

// === impl Made ===

impl Made {
    /// Writes what is not written, and puts a file in its place.
    async fn finish(self) -> Result<(), Stop> {
        match self {
            Self::Whole(writing, body) => writing.whole(body).await,
            Self::Streamed(writing) => writing.end().await,
            Self::Enough => Ok(()),
        }
    }
}

/// Reads each `name=value`.
pub(crate) fn arguments<'a>(
    typed: impl Iterator<Item = &'a String>,
) -> Result<Vec<(String, String)>, Stop> {
    let mut arguments: Vec<(String, String)> = Vec::new();
    for text in typed {
        let pair = text.split_once('=').filter(|(name, _)| !name.trim().is_empty());
        let (name, value) = pair.ok_or_else(|| {
            Stop::usage(format!("--arg {text}: write NAME=VALUE, like --arg unit=C"))
        })?;
        let name = name.trim();
        if arguments.iter().any(|(known, _)| known == name) {
            return Err(Stop::usage(format!("--arg {name} is given twice")));
        }
        arguments.push((name.to_owned(), value.to_owned()));
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_name_and_value() {
        let read = |typed: &[&str]| {
            let typed: Vec<String> = typed.iter().map(ToString::to_string).collect();
            arguments(typed.iter()).map_err(|stop| stop.message)
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            read(&["a=1", "b=x=y", "c="]),
            Ok(vec![pair("a", "1"), pair("b", "x=y"), pair("c", "")])
        );
        assert_eq!(read(&["a"]), Err("--arg a: write NAME=VALUE, like --arg unit=C".into()));
        assert_eq!(read(&["=1"]), Err("--arg =1: write NAME=VALUE, like --arg unit=C".into()));
        assert_eq!(read(&["a=1", "a=2"]), Err("--arg a is given twice".into()));
    }
}
