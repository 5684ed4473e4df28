//! `exuvia doctor`: what the sandbox has on this machine.

use clap::ArgMatches;
use exuvia_env::{EnvError, Environment};
use exuvia_jail::{Support, Tier};
use serde_json::{Value, json};

use crate::{
    args,
    exit::{Exit, Stop},
    project, resolve,
    run::{is_root, isolate_user},
    settings::Cmd,
    start::{self, Origins},
    terminal,
};

/// What was found.
struct Found {
    support: Support,
    /// User and group of isolates.
    user: (u32, u32),
    python: Result<Environment, EnvError>,
    runtime: Result<std::path::PathBuf, EnvError>,
}

/// Runs the command.
pub(crate) fn run(matches: &ArgMatches, origins: &Origins) -> Result<Exit, Stop> {
    let project = project::discover(&origins.cwd)?;
    let flags = args::flags(matches, Cmd::Doctor);
    let settings = resolve::resolve(Cmd::Doctor, &flags, &origins.variables, project.as_ref())?;
    let user = if is_root() {
        isolate_user(&settings)
    } else {
        (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
    };
    let found = Found {
        support: exuvia_jail::probe(),
        user,
        python: start::python(origins, &settings, &[]),
        runtime: start::runtime(origins, &settings),
    };
    let text =
        if matches.get_flag("json") { format!("{:#}\n", found.json()) } else { found.text() };
    terminal::data(text.as_bytes())
        .map_err(|error| Stop::usage(format!("stdout cannot be written: {error}")))?;
    Ok(if found.can_run() { Exit::Ok } else { Exit::NoPython })
}

/// What a tier does not keep of the promises in section 2 of the page on security.
fn lost(tier: Tier) -> &'static [&'static str] {
    match tier {
        Tier::Full => &[],
        Tier::Reduced => &[
            "2.1: names of files outside the view can be guessed, contents cannot be read",
            "2.4: numbers of processes can be probed",
            "2.6: files are limited one by one, not in sum",
            "The machine's network is shut by seccomp alone",
        ],
        Tier::None => &["everything: untrusted code is refused"],
    }
}

// === impl Found ===

impl Found {
    fn can_run(&self) -> bool {
        self.support.tier != Tier::None && self.python.is_ok() && self.runtime.is_ok()
    }

    fn text(&self) -> String {
        let mut lines = vec![format!("tier: {}", self.support.tier.word())];
        let width = self.support.layers.iter().map(|layer| layer.name.len()).max().unwrap_or(0);
        for layer in &self.support.layers {
            let state = if layer.up { "up" } else { "missing" };
            let line = format!("  {:width$}  {state:7}  {}", layer.name, layer.detail);
            lines.push(line.trim_end().to_owned());
        }
        let lost = lost(self.support.tier);
        lines.push(if lost.is_empty() { "lost: nothing".into() } else { "lost:".into() });
        lines.extend(lost.iter().map(|what| format!("  {what}")));
        let (user, group) = self.user;
        let whose = if is_root() { "" } else { ", who runs this command" };
        lines.push(format!("isolates run as: user {user}, group {group}{whose}"));
        lines.push(match &self.python {
            Ok(environment) => format!("python: {environment}"),
            Err(error) => format!("python: none: {error}"),
        });
        lines.push(match &self.runtime {
            Ok(path) => format!("runtime: {}", path.display()),
            Err(error) => format!("runtime: none: {error}"),
        });
        lines.join("\n") + "\n"
    }

    fn json(&self) -> Value {
        let layer = |layer: &exuvia_jail::Layer| json!({ "name": layer.name, "up": layer.up, "detail": layer.detail });
        let python = self.python.as_ref();
        let runtime = self.runtime.as_ref();
        json!({
            "tier": self.support.tier.word(),
            "layers": self.support.layers.iter().map(layer).collect::<Vec<_>>(),
            "lost": lost(self.support.tier),
            "landlock_abi": self.support.landlock_abi,
            "isolate_uid": self.user.0,
            "isolate_gid": self.user.1,
            "python": python.ok().map(|python| python.executable.display().to_string()),
            "runtime": runtime.ok().map(|path| path.display().to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_what_the_page_says() {
        let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/security.md");
        let page = std::fs::read_to_string(page).expect("the page");
        for tier in [Tier::Full, Tier::Reduced, Tier::None] {
            let start = format!("| `{}` |", tier.word());
            let row = page.lines().find(|line| line.starts_with(&start)).expect("a row");
            for sentence in lost(tier) {
                assert!(row.contains(sentence), "{sentence}");
            }
            assert_eq!(lost(tier).is_empty(), row.contains("nothing of section 2"), "{row}");
        }
    }
}
