//! `docs/cli.md` says what the program's tables say. `UPDATE_DOCS=1` writes the page anew.

use std::{ffi::OsStr, fs, path::Path};

#[test]
fn the_page_has_the_tables_of_the_program() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let page = fs::read_to_string(&path).expect("the page");
    let mut fresh = page.clone();
    for (name, text) in exuvia_cli::docs::generated() {
        let start = format!("<!-- generated: {name} -->\n");
        let from =
            fresh.find(&start).unwrap_or_else(|| panic!("no place for {name}")) + start.len();
        let to = from + fresh[from..].find("<!-- end -->").expect("an end");
        fresh.replace_range(from..to, &format!("\n{text}\n"));
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, fresh).expect("written");
        return;
    }
    assert!(
        page == fresh,
        "docs/cli.md is behind the program: run UPDATE_DOCS=1 cargo test -p exuvia-cli --test docs"
    );
}

#[test]
fn the_schema_of_outcomes_knows_each_kind_of_failure() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/outcome.schema.json");
    let schema = fs::read_to_string(path).expect("the schema");
    let schema: serde_json::Value = serde_json::from_str(&schema).expect("JSON");
    assert_eq!(schema["title"], exuvia_host::sandbox::SCHEMA);
    let kinds = schema["properties"]["failure"]["oneOf"].as_array().expect("a list");
    let kinds: Vec<_> = kinds.iter().map(|kind| &kind["properties"]["kind"]["const"]).collect();
    assert_eq!(kinds, exuvia_core::FailureKind::ALL.map(exuvia_core::FailureKind::word));
}

/// Invariant I5: a variable that any crate heeds is declared in the table of settings.
#[test]
fn every_variable_in_the_sources_is_in_the_table() {
    let declared: String =
        exuvia_cli::docs::generated().into_iter().map(|(_, text)| text).collect();
    let mut files = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("..")];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            // Tests set wrong variables on purpose; `embed` is built into other programs, and its
            // own page names what its build is told.
            if path
                .file_name()
                .is_some_and(|name| ["tests", "target", "embed"].map(OsStr::new).contains(&name))
            {
                continue;
            }
            files
                .extend(fs::read_dir(&path).expect("a folder").flatten().map(|entry| entry.path()));
            continue;
        }
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a source");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for part in code.split("EXUVIA_").skip(1) {
            let end =
                part.find(|c: char| !c.is_ascii_uppercase() && c != '_').unwrap_or(part.len());
            let name = format!("EXUVIA_{}", &part[..end]);
            let known = end == 0 || declared.contains(&format!("`{name}`"));
            assert!(known, "{name} in {} is not in the table of settings", path.display());
        }
    }
}
