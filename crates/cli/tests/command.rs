//! The binary itself, as far as it goes without a worker.
#![cfg(unix)]

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Output, Stdio},
    time::Instant,
};

use tempfile::TempDir;

/// A working folder for the command, with nothing of this machine's environment.
struct Bench(TempDir);

impl Bench {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            fs::write(path, text).expect("a file");
        }
        Self(folder)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_exuvia"));
        command.args(args).current_dir(self.0.path()).env_clear().stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> (i32, String, String) {
        self.finish(self.command(args).output().expect("the command"))
    }

    fn finish(&self, output: Output) -> (i32, String, String) {
        let folder = self.0.path().canonicalize().expect("a folder");
        let text = |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).expect("text");
            text.replace(&format!("{}/", folder.display()), "")
        };
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    /// The command fails with `code`, prints exactly `stderr` and no data.
    #[track_caller]
    fn fails(&self, args: &[&str], code: i32, stderr: &str) {
        assert_eq!(self.run(args), (code, String::new(), format!("{stderr}\n")));
    }
}

fn script(path: &Path, body: &str) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
    // Another process writes it: what this one held open for writing, a child that another test
    // starts meanwhile would hold too, and nothing could run it ("text file busy").
    let status = Command::new("sh")
        .args(["-c", "printf %s \"$2\" > \"$1\" && chmod 755 \"$1\"", "-"])
        .arg(path)
        .arg(format!("#!/bin/sh\n{body}\n"))
        .status();
    assert!(status.expect("a shell").success());
}

#[test]
fn version_and_help_are_data() {
    let bench = Bench::new(&[]);
    let version = format!("exuvia {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(bench.run(&["--version"]), (0, version, String::new()));
    for args in [
        &["--help"][..],
        &["help", "call"],
        &["serve", "--help"],
        &["run", "--help"],
        &["bundle", "--help"],
        &["help"],
    ] {
        let (code, stdout, stderr) = bench.run(args);
        assert_eq!((code, stderr.as_str()), (0, ""), "{args:?}");
        assert!(stdout.contains("Examples:"), "{stdout}");
        assert!(!stdout.contains('\u{1b}'), "no colours into a pipe: {stdout}");
    }
    let (_, stdout, _) = bench.run(&["--help"]);
    assert!(stdout.contains("  7  no usable Python environment"), "{stdout}");
}

#[test]
fn a_slip_in_a_command_or_flag_is_recognised() {
    let bench = Bench::new(&[]);
    for (args, hint) in [
        (&["srve"][..], "a similar subcommand exists: 'serve'"),
        (&["serve", "--prot", "1"], "a similar argument exists: '--port'"),
        (
            &["call", "a.py:f", "--in", "-", "--in-format", "parqet"],
            "a similar value exists: 'parquet'",
        ),
        (&["call"], "<TARGET>"),
        (&["run"], "<CODE>"),
        (&["run", "a.py", "--memroy", "1"], "a similar argument exists: '--memory'"),
        (&["bundle", "chek", "a"], "a similar subcommand exists: 'check'"),
        (&["policy"], "Usage: exuvia policy <COMMAND>"),
        (&[], "Usage: exuvia <COMMAND>"),
    ] {
        let (code, stdout, stderr) = bench.run(args);
        assert_eq!((code, stdout.as_str()), (2, ""), "{args:?}");
        assert!(stderr.contains(hint), "{stderr}");
    }
}

#[test]
fn wrong_settings_name_where_they_stand() {
    let bench = Bench::new(&[("weather.py", ""), ("p/exuvia.toml", "port = 1\nprot = 2\n")]);
    bench.fails(
        &["serve", "weather.py", "--port", "x"],
        2,
        "error: --port: `x` is not a port: write a whole number from 0 to 65535",
    );
    bench.fails(
        &["serve", "p"],
        2,
        "error: p/exuvia.toml:2:1: there is no setting `prot`. Did you mean `port`?",
    );
    bench.fails(
        &["config", "--project", "p"],
        2,
        "error: p/exuvia.toml:2:1: there is no setting `prot`. Did you mean `port`?",
    );
    bench.fails(
        &["serve", "weather.py", "--preload", "json", "--preload", "scikit-learn"],
        2,
        "error: --preload: `scikit-learn` is not the name of a module: write it as `import` does, \
         like numpy.linalg. Did you mean `sklearn`?",
    );
    bench.fails(
        &["serve", "weather.py", "--start-method", "spwan"],
        2,
        "error: --start-method: `spwan` is not one of fork, spawn. Did you mean `spawn`?",
    );
    let output = bench.command(&["call", "weather.py:f"]).env("EXUVIA_TIMEOUT", "soon").output();
    assert_eq!(
        bench.finish(output.expect("the command")),
        (
            2,
            String::new(),
            "error: EXUVIA_TIMEOUT: `soon` is not a duration: write a number with a unit, like 30s \
             or 500ms\n"
                .into()
        )
    );
}

#[test]
fn wrong_targets_are_said_before_anything_starts() {
    let bench = Bench::new(&[("weather.py", ""), ("notes.txt", ""), ("algos/a.py", "")]);
    bench.fails(
        &["serve"],
        2,
        "error: nothing to serve: name a TARGET, or list `targets` in an exuvia.toml\n\
         example: exuvia serve weather.py",
    );
    bench.fails(
        &["call", "wether.py:f"],
        3,
        "error: there is no wether.py. Did you mean `weather.py`?",
    );
    bench.fails(&["serve", "./notes.txt"], 2, "error: notes.txt is not a .py file");
    bench.fails(
        &["call", "algos"],
        2,
        "error: algos is a folder: name one function, like algos/file.py:function",
    );
    bench.fails(
        &["call", "weather.py:f", "--arg", "x"],
        2,
        "error: --arg x: write NAME=VALUE, like --arg unit=C",
    );
    bench.fails(
        &["call", "weather.py:f", "--in", "x.parqet"],
        2,
        "error: --in x.parqet: the ending .parqet does not name a format; known are .json, .ndjson, \
         .jsonl, .csv, .parquet, .pq, .arrow, .feather, .ipc, .arrows and .npy, or say it with \
         --in-format. Did you mean `.parquet`?",
    );
    bench.fails(
        &["call", "weather.py:f", "--in", "gone.json"],
        4,
        "error: the input gone.json is not there",
    );
    bench.fails(
        &["call", "weather.py:f", "--out", "gone/x.json"],
        2,
        "error: gone/x.json cannot be written: its folder is not there",
    );
}

#[test]
fn functions_to_warm_are_looked_for_where_targets_are() {
    let bench = Bench::new(&[
        ("weather.py", ""),
        ("q/weather.py", ""),
        ("p/exuvia.toml", "targets = [\"a.py\"]\nwarm = [\"model.py:load\"]\n"),
        ("p/a.py", ""),
        ("p/models.py", ""),
    ]);
    bench.fails(
        &["serve", "p"],
        3,
        "error: p/exuvia.toml:2: there is no p/model.py. Did you mean `models.py`?",
    );
    bench.fails(
        &["serve", "weather.py", "--warm", "wether.py:warm"],
        3,
        "error: --warm: there is no wether.py. Did you mean `weather.py`?",
    );
    bench.fails(
        &["serve", "weather.py", "--warm", "weather.py"],
        2,
        "error: --warm: `weather.py` names no function: write it like weather.py:warm",
    );
    bench.fails(
        &["serve", "weather.py", "--warm", "q/weather.py:warm"],
        2,
        "error: --warm: weather.py and q/weather.py have the same name, so they would be the same \
         module: rename one",
    );
    // The same slip with `--list`, which warms nothing.
    bench.fails(
        &["serve", "weather.py", "--list", "--warm", "wether.py:warm"],
        3,
        "error: --warm: there is no wether.py. Did you mean `weather.py`?",
    );
}

#[test]
fn a_taken_port_is_said_before_python_starts() {
    let bench = Bench::new(&[("weather.py", "")]);
    // Any use of this environment would be seen.
    script(&bench.0.path().join(".venv/bin/python"), "touch started; exit 1");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    bench.fails(
        &["serve", "weather.py", "--port", &port],
        2,
        &format!(
            "error: cannot listen on port {port} of host 127.0.0.1: another program listens there\n\
             hint: stop that program, or choose another port with --port (0 takes any free one)"
        ),
    );
    assert!(!bench.0.path().join("started").exists());
}

#[test]
fn without_python_every_place_is_listed() {
    let bench = Bench::new(&[("weather.py", "")]);
    let (code, stdout, stderr) = bench.run(&["call", "weather.py:f"]);
    assert_eq!((code, stdout.as_str()), (7, ""));
    let expected = "error: no usable Python was found\n\
                    \u{20} VIRTUAL_ENV: not set\n\
                    \u{20} .venv: no environment there\n\
                    \u{20} PATH: has neither python3 nor python\n\
                    hint: install CPython 3.11 or newer, or name one with --python\n";
    assert_eq!(stderr, expected);
}

#[test]
fn a_failure_as_json_is_on_stdout() {
    let bench = Bench::new(&[("weather.py", "")]);
    let (code, stdout, stderr) = bench.run(&["call", "weather.py:f", "--json", "--python", "gone"]);
    assert_eq!((code, stderr.as_str()), (7, ""));
    let failure: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((&failure["ok"], &failure["exit_code"]), (&false.into(), &7.into()));
    assert_eq!(
        failure["message"],
        "there is no Python at gone (from --python)\n\
         hint: give the path of a python executable or of a virtual environment"
    );
    assert!(failure["failure"].is_null() && failure["diagnostics"].is_null());
}

#[test]
fn config_says_where_each_value_comes_from() {
    let bench = Bench::new(&[(
        "pyproject.toml",
        "[tool.exuvia]\nport = 9000\ntimeout = \"5s\"\npreload = [\"numpy\"]\nmax-rss = \"300MiB\"\n[tool.exuvia.routes.\"a/b\"]\ntimeout = 1\n",
    )]);
    let output = bench
        .command(&["config", "--json", "--workers", "3", "--warm", "a.py:f,b:g", "--warm", "c:h"])
        .env("EXUVIA_RECYCLE_JITTER", "25%")
        .env("EXUVIA_TIMEOUT", "7s")
        .env("EXUVIA_QEUE", "7")
        .output();
    let (code, stdout, stderr) = bench.finish(output.expect("the command"));
    assert_eq!(
        (code, stderr.as_str()),
        (0, "warning: the variable EXUVIA_QEUE is not a setting. Did you mean `EXUVIA_QUEUE`?\n")
    );
    let shown: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(shown["project_file"], "pyproject.toml");
    for (key, value, origin) in [
        ("workers", serde_json::json!(3), "--workers"),
        ("timeout", "7s".into(), "EXUVIA_TIMEOUT"),
        ("port", 9000.into(), "pyproject.toml:2"),
        ("host", "127.0.0.1".into(), "default"),
        ("routes", serde_json::json!({"a/b": {"timeout": "1s"}}), "pyproject.toml:6"),
        ("preload", serde_json::json!(["numpy"]), "pyproject.toml:4"),
        ("warm", serde_json::json!(["a.py:f", "b:g", "c:h"]), "--warm"),
        ("max-rss", "300MiB".into(), "pyproject.toml:5"),
        ("recycle-jitter", "25%".into(), "EXUVIA_RECYCLE_JITTER"),
        ("spares", 0.into(), "default"),
        ("start-method", "fork".into(), "default"),
        ("lifetime", serde_json::Value::Null, "default"),
        ("python", serde_json::Value::Null, "default"),
    ] {
        let expected = serde_json::json!({ "value": value, "origin": origin });
        assert_eq!(shown["settings"][key], expected, "{key}");
    }
    let (code, stdout, _) = bench.run(&["config", "show"]);
    assert_eq!(code, 0);
    assert!(
        stdout.lines().any(|line| line.starts_with("port ") && line.ends_with("pyproject.toml:2"))
    );
    assert!(stdout.ends_with("\nproject file: pyproject.toml\n"), "{stdout}");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let bench = Bench::new(&[]);
    for args in [&["config"][..], &["--help"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = bench.command(args).stdout(writer).stderr(Stdio::piped()).output();
        let (code, _, stderr) = bench.finish(output.expect("the command"));
        assert_eq!((code, stderr.as_str()), (0, ""), "{args:?}");
    }
}

#[test]
fn a_signal_while_python_is_looked_for_ends_it_at_once() {
    let bench = Bench::new(&[("weather.py", "")]);
    script(&bench.0.path().join(".venv/bin/python"), "touch started; exec /bin/sleep 15");
    let mut command = bench.command(&["call", "weather.py:f"]);
    command.env("PATH", "/bin:/usr/bin").stderr(Stdio::null());
    let mut child = command.spawn().expect("the command");
    let began = Instant::now();
    while !bench.0.path().join("started").exists() && began.elapsed().as_secs() < 10 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let kill = Command::new("kill").arg(child.id().to_string()).status().expect("kill");
    assert!(kill.success());
    assert_eq!(child.wait().expect("an end").code(), Some(143));
    assert!(began.elapsed().as_secs() < 10);
}
