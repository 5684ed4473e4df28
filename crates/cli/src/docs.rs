//! The parts of `docs/cli.md` that are made from the tables of this crate.

use crate::{
    exit::Exit,
    formats::{FORMATS, Format},
    settings::{FOREIGN_VARIABLES, SETTINGS},
    value::Kind,
};

/// The generated parts, each with the name of its place in the page.
#[must_use]
pub fn generated() -> Vec<(&'static str, String)> {
    vec![
        ("settings", settings_table()),
        ("variables", variables_table()),
        ("formats", formats_table()),
        ("exit-codes", exit_table()),
    ]
}

fn settings_table() -> String {
    let mut text = String::from(
        "| project file | flag | variable | default | commands | meaning |\n\
         |---|---|---|---|---|---|\n",
    );
    for setting in SETTINGS {
        let code = |text: String| format!("`{text}`");
        let key = if setting.in_file { code(setting.key.into()) } else { String::new() };
        let flag =
            setting.flag.map(|flag| code(format!("--{flag} {}", setting.kind.placeholder())));
        let env = setting.env.map(|env| code(env.into()));
        let commands = setting.commands.iter().map(|command| command.word());
        let mut help = setting.help.to_owned();
        if let Kind::Choice(words) = setting.kind {
            help += &format!(" (one of {})", words.join(", "));
        }
        text += &format!(
            "| {key} | {} | {} | {} | {} | {help} |\n",
            flag.unwrap_or_default(),
            env.unwrap_or_default(),
            setting.default_text(),
            commands.collect::<Vec<_>>().join(", "),
        );
    }
    text
}

fn variables_table() -> String {
    let mut text = String::from("| variable | meaning |\n|---|---|\n");
    for (name, meaning) in FOREIGN_VARIABLES {
        text += &format!("| `{name}` | {meaning} |\n");
    }
    text
}

fn formats_table() -> String {
    let mut text = String::from("| word | ending | holds |\n|---|---|---|\n");
    for Format { word, endings, meaning, .. } in &FORMATS {
        let endings = endings.iter().map(|ending| format!("`.{ending}`"));
        let endings = endings.collect::<Vec<_>>().join(", ");
        text += &format!("| `{word}` | {endings} | {meaning} |\n");
    }
    text
}

fn exit_table() -> String {
    let mut text = String::from("| code | meaning |\n|---|---|\n");
    for exit in Exit::ALL {
        text += &format!("| {} | {} |\n", exit.code(), exit.meaning());
    }
    text
}
