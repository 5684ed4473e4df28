//! `exuvia call`: one call of one function, for people and scripts.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use clap::ArgMatches;
use exuvia_core::{Call, HandlerInfo, Payload};
use exuvia_env::Environment;
use exuvia_host::{ImageConfig, OutputLine, Pool, PoolConfig, Recycle, StartMethod};
use exuvia_observe::Metrics;

use crate::{
    args,
    exit::{Exit, Stop},
    files::{Input, Output},
    logging, project,
    render::{self, Around},
    resolve::{self, Resolved},
    settings::Cmd,
    signals::Signals,
    start::{self, Origins},
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
        let input = Input::of(file("in"), format("in-format"))?;
        let output = Output::open(file("out"), format("out-format"))?;
        let traceback = matches.get_flag("traceback");
        let diagnostics = matches.get_flag("diagnostics");
        Ok(Self { target, plan, settings, arguments, input, output, traceback, diagnostics })
    }

    async fn perform(self, origins: Origins) -> Result<Exit, Stop> {
        let (asked, payload, found) = self.prepare(origins).await?;
        let (environment, runtime, origins) = found;
        let typed = [asked.target.clone()];
        let config = asked.config(&environment, runtime);
        let pool = start::pool(config, &environment, &typed, &origins.cwd, asked.traceback).await?;
        let handler = asked.handler(&pool)?;
        let lost = || Stop::new(Exit::Internal, "the handler was lost while it was loaded");
        let target = pool.target(&handler.target()).ok_or_else(lost)?;
        let call = Call {
            payload,
            text_arguments: asked.arguments.clone(),
            accept: asked.output.codec(),
            ..Call::default()
        };
        let outcome = target.call(call).await;
        // The last lines that the function printed come with the worker's end.
        pool.drain(FAREWELL).await;
        if asked.diagnostics {
            // Text and numbers always have a JSON form.
            terminal::say(&serde_json::to_string(&outcome.diagnostics).unwrap_or_default());
        }
        match outcome.result {
            Ok(result) => asked.output.write(&result).map(|()| Exit::Ok),
            Err(failure) => {
                let around = Around {
                    targets: &typed,
                    handler: Some(&handler),
                    environment: &environment,
                    cwd: &origins.cwd,
                    modules: &asked.plan.working_dir,
                    traceback: asked.traceback,
                };
                Err(render::stop(*failure, Some(outcome.diagnostics), &around))
            }
        }
    }

    /// Reads the input and finds Python, aside: both may block.
    async fn prepare(
        mut self,
        origins: Origins,
    ) -> Result<(Self, Payload, (Environment, PathBuf, Origins)), Stop> {
        let task = tokio::task::spawn_blocking(move || {
            let payload = std::mem::replace(&mut self.input, Input::None).read()?;
            let (environment, runtime) = start::find(&origins, &self.settings, &self.plan)?;
            Ok((self, payload, (environment, runtime, origins)))
        });
        task.await.unwrap_or_else(|error| Err(Stop::new(Exit::Internal, error.to_string())))
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

/// Reads each `name=value`.
fn arguments<'a>(typed: impl Iterator<Item = &'a String>) -> Result<Vec<(String, String)>, Stop> {
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
