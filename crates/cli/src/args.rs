//! The argument parser, made from the table of settings.

use std::{ffi::OsString, path::PathBuf};

use clap::{
    Arg, ArgAction, ArgMatches, Command,
    builder::{OsStringValueParser, PossibleValuesParser},
    value_parser,
};

use crate::{
    exit, formats,
    resolve::Flags,
    settings::{Cmd, SETTINGS, Setting},
    value::Kind,
};

const EXAMPLES: &str = "\
Examples:
  exuvia serve weather.py                       serve the functions of a file
  exuvia serve algos/ --port 9000               serve each Python file of a folder
  exuvia serve                                  serve what exuvia.toml lists
  exuvia serve algos/ --list                    show the routes
  exuvia openapi algos/                         print them as an OpenAPI document
  exuvia call weather.py:seattle                call one function, print its result
  exuvia call weather.py:spread --arg unit=C --in days.json --out spread.ndjson
  exuvia run guest.py --input numbers.json      run code that nobody vouches for, in a sandbox
  exuvia run mean.zip --memory 256MiB           run a bundle
  exuvia doctor                                 show what the sandbox has on this machine
  exuvia config                                 show every setting and where it comes from";

const SERVE_EXAMPLES: &str = "\
A TARGET is a Python file, a folder of them, `module`, `module:function`, `file.py:function`, or an
exuvia.toml (or the folder it lies in). Without one, `targets` of the project file is taken. Each
public function becomes a route: POST /<module>/<function>, with its arguments as a JSON object.

Examples:
  exuvia serve weather.py
  exuvia serve algos/ reports.py:monthly --workers 4 --timeout 5s
  exuvia serve algos/ --route-timeout weather/spread=60s
  exuvia serve algos/ --list";

const CALL_EXAMPLES: &str = "\
The result goes to stdout as JSON, or to the file of --out. What the function prints goes to stderr.
With --json a failure is printed on stdout, as {\"ok\": false, ...}; a result looks the same with
and without it.

Examples:
  exuvia call weather.py:seattle
  exuvia call weather.py:spread --arg unit=C --in days.json
  exuvia call weather.py:spread --in days.parquet --out spread.csv
  cat days.ndjson | exuvia call weather.py:spread --in - --in-format ndjson";

const RUN_EXAMPLES: &str = "\
CODE is a bundle (a ZIP file or its folder), a Python file, or - for code from stdin. It runs in a
fresh isolate: it sees no file but Python's, reaches no network, and is stopped when it takes more
than it may. Of a Python file the function `handler` is called; without one its last line is the
result. The result goes to stdout as JSON, or to the file of --out; what the code prints goes to
stderr. With --json the outcome goes to stdout as one document, and nothing else.

Examples:
  exuvia run mean.zip --input numbers.json
  exuvia run guest.py --arg n=3 --wall 2s --memory 128MiB
  echo '6 * 7' | exuvia run -
  exuvia run guest.py --files read-write --json | jq .usage";

const BUNDLE_EXAMPLES: &str = "\
Examples:
  exuvia bundle check mean/                     say all that is wrong with it, and what it gets
  exuvia bundle pack mean/ mean.zip             make a ZIP file of it";

/// The whole parser.
pub(crate) fn command() -> Command {
    Command::new("exuvia")
        .bin_name("exuvia")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Serves and calls Python functions from worker processes it looks after")
        .after_help(EXAMPLES)
        .after_long_help(format!("{EXAMPLES}\n\n{}", exit::help()))
        .max_term_width(100)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve())
        .subcommand(openapi())
        .subcommand(call())
        .subcommand(run())
        .subcommand(bundle())
        .subcommand(policy())
        .subcommand(doctor())
        .subcommand(config())
}

/// The flags of `command` that were given; `config` has those of `serve`.
pub(crate) fn flags(matches: &ArgMatches, command: Cmd) -> Flags {
    let given = |setting: &Setting| {
        setting.flag?;
        let values = matches.get_many::<OsString>(setting.key)?;
        Some((setting.key, values.cloned().collect()))
    };
    SETTINGS.iter().filter(|setting| setting.is_for(command)).filter_map(given).collect()
}

fn serve() -> Command {
    Command::new("serve")
        .about("Serve Python functions over HTTP")
        .after_help(SERVE_EXAMPLES)
        .arg(
            Arg::new("target")
                .value_name("TARGET")
                .action(ArgAction::Append)
                .help("What to serve: file, folder, module, module:function, exuvia.toml"),
        )
        .arg(switch("list", "Load the targets, print their routes and end"))
        .arg(switch("json", "With --list: print the routes as JSON"))
        .args(setting_args(Cmd::Serve))
}

fn openapi() -> Command {
    Command::new("openapi")
        .about("Print the OpenAPI document of what `serve` would serve")
        .arg(
            Arg::new("target")
                .value_name("TARGET")
                .action(ArgAction::Append)
                .help("What to describe: as for `serve`"),
        )
        .args(setting_args(Cmd::Serve))
}

fn call() -> Command {
    Command::new("call")
        .about("Call one Python function")
        .after_help(format!("{CALL_EXAMPLES}\n\n{}\n\n{}", formats::help(), exit::help()))
        .arg(
            Arg::new("target")
                .value_name("TARGET")
                .required(true)
                .help("The function: file.py:function or module:function"),
        )
        .arg(
            Arg::new("arg")
                .long("arg")
                .value_name("NAME=VALUE")
                .action(ArgAction::Append)
                .help("An argument; the text is read by the parameter's annotation. Repeatable"),
        )
        .arg(file("in", "Arguments, rows or a table, in the format of the ending; - for stdin"))
        .arg(format("in-format", "What --in holds, whatever its name [default: json for stdin]"))
        .arg(file("out", "Write the result to a file, in the format of its ending; - for stdout"))
        .arg(format("out-format", "How the result is written, whatever --out is called"))
        .arg(switch("json", "Print a failure as JSON on stdout"))
        .arg(switch("traceback", "Show the Python traceback of a failure"))
        .arg(switch(
            "diagnostics",
            "Print what was measured of the call on stderr, as a line of JSON",
        ))
        .args(setting_args(Cmd::Call))
}

fn run() -> Command {
    Command::new("run")
        .about("Run code that nobody vouches for, once, in a fresh isolate")
        .after_help(format!("{RUN_EXAMPLES}\n\n{}\n\n{}", formats::help(), exit::help()))
        .arg(path("code", "CODE", "A bundle, a Python file, or - for code from stdin"))
        .arg(
            Arg::new("arg")
                .long("arg")
                .value_name("NAME=VALUE")
                .action(ArgAction::Append)
                .help("An argument; the text is read by the parameter's annotation. Repeatable"),
        )
        .arg(
            file("input", "Arguments, rows or a table, in the format of the ending; - for stdin")
                .visible_alias("in"),
        )
        .arg(
            format(
                "input-format",
                "What --input holds, whatever its name [default: json for stdin]",
            )
            .visible_alias("in-format"),
        )
        .arg(
            Arg::new("entrypoint")
                .long("entrypoint")
                .value_name("MODULE:FUNCTION")
                .help("The function to call [default: what the manifest says, else main:handler]"),
        )
        .arg(file("out", "Write the result to a file, in the format of its ending; - for stdout"))
        .arg(format("out-format", "How the result is written, whatever --out is called"))
        .arg(switch("json", "Print the outcome as one JSON document on stdout, and nothing else"))
        .arg(switch("trusted", "Where the machine has no sandbox: run the code without one"))
        .args(setting_args(Cmd::Run))
}

fn bundle() -> Command {
    let check = Command::new("check")
        .about("Say all that is wrong with a bundle, and what it would get")
        .arg(path("bundle", "BUNDLE", "A ZIP file or a folder"))
        .arg(switch("json", "Print JSON"))
        .args(setting_args(Cmd::Check));
    let pack = Command::new("pack")
        .about("Make a ZIP file of a bundle's folder")
        .arg(path("bundle", "FOLDER", "The bundle's folder"))
        .arg(path("out", "OUT", "The ZIP file; an old one is replaced"));
    Command::new("bundle")
        .about("Check and pack bundles")
        .after_help(BUNDLE_EXAMPLES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(check)
        .subcommand(pack)
}

fn policy() -> Command {
    let explain = Command::new("explain")
        .about("Show each limit that a bundle gets, and who says so")
        .arg(path("bundle", "BUNDLE", "A ZIP file or a folder"))
        .arg(switch("json", "Print JSON"))
        .args(setting_args(Cmd::Explain));
    Command::new("policy")
        .about("Show what code in the sandbox may use")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(explain)
}

fn doctor() -> Command {
    Command::new("doctor")
        .about("Show which layers of the sandbox this machine has, and what is lost without")
        .arg(switch("json", "Print JSON"))
        .args(setting_args(Cmd::Doctor))
}

fn config() -> Command {
    let arguments = || {
        let project = Arg::new("project")
            .long("project")
            .value_name("PATH")
            .value_parser(value_parser!(PathBuf))
            .help("The project file or its folder [default: that of the working folder]");
        let mut arguments = vec![project, switch("json", "Print JSON")];
        arguments.extend(setting_args(Cmd::Serve));
        arguments
    };
    Command::new("config")
        .about("Show every setting of `serve`, its value and where that comes from")
        .args_conflicts_with_subcommands(true)
        .args(arguments())
        .subcommand(Command::new("show").about("The same as `exuvia config`").args(arguments()))
}

fn path(name: &'static str, placeholder: &'static str, help: &'static str) -> Arg {
    let parser = value_parser!(PathBuf);
    Arg::new(name).value_name(placeholder).required(true).value_parser(parser).help(help)
}

fn file(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("FILE").value_parser(value_parser!(PathBuf)).help(help)
}

fn format(name: &'static str, help: &'static str) -> Arg {
    let words = PossibleValuesParser::new(formats::words());
    Arg::new(name).long(name).value_name("FORMAT").value_parser(words).help(help)
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

/// The flags of the settings that `command` has.
fn setting_args(command: Cmd) -> Vec<Arg> {
    let arg = |setting: &'static Setting| {
        let repeatable = setting.kind.is_repeatable();
        let action = if repeatable { ArgAction::Append } else { ArgAction::Set };
        Some(
            Arg::new(setting.key)
                .long(setting.flag?)
                .value_name(setting.kind.placeholder())
                .value_parser(OsStringValueParser::new())
                .action(action)
                .help_heading("Settings")
                .help(help(setting)),
        )
    };
    SETTINGS.iter().filter(|setting| setting.is_for(command)).filter_map(arg).collect()
}

fn help(setting: &Setting) -> String {
    let mut text = setting.help.to_owned();
    if let Kind::Choice(words) = setting.kind {
        text += &format!(" [one of: {}]", words.join(", "));
    }
    text += &format!(" [default: {}]", setting.default_text());
    if let Some(env) = setting.env {
        text += &format!(" [variable: {env}]");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parser_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn flags_are_told_from_defaults() {
        let matches = command()
            .try_get_matches_from(["exuvia", "serve", "a.py", "--port", "1", "b.py"])
            .expect("parsed");
        let (_, serve) = matches.subcommand().expect("a subcommand");
        assert_eq!(flags(serve, Cmd::Serve), Flags::from([("port", vec!["1".into()])]));
        let targets: Vec<_> = serve.get_many::<String>("target").into_iter().flatten().collect();
        assert_eq!(targets, ["a.py", "b.py"]);
    }
}
