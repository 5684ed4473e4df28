//! What manifests mean, and what is said of those that are wrong (`docs/bundles.md` sections 1 to 3).

mod support;

use std::{fs, path::Path, time::Duration};

use exuvia_bundle::{
    Bundle, Effective, Limits, Manifest, OWN_NAME, Origin, THEIR_NAME, Wants, Wrong,
    default_ceiling, schema,
};
use exuvia_core::{FileMode, Files, Policy};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::{stored, zip};

fn own(text: &str) -> Result<Manifest, String> {
    Manifest::parse(text.as_bytes()).map_err(|error| error.to_string())
}

fn theirs(text: &str) -> Result<Manifest, String> {
    Manifest::parse_aardvark(text.as_bytes()).map_err(|error| error.to_string())
}

fn bundle(files: &[(&str, &str)]) -> Bundle {
    let entries: Vec<_> = files.iter().map(|(path, text)| stored(path, text.as_bytes())).collect();
    Bundle::from_bytes("b.zip", zip(&entries), &Limits::default()).expect("a bundle")
}

#[test]
fn every_member_of_ours_is_read() {
    let manifest = own(r#"{
        "$schema": "bundle.schema.json",
        "schema": "exuvia.bundle/1",
        "description": "means",
        "entrypoint": "pkg.mean:Mean.of",
        "language": "python",
        "packages": ["numpy", " pandas >=3 "],
        "preload": ["numpy.linalg"],
        "limits": {"wall": "1.5m", "cpu": 10, "memory": "256MiB", "output": 1000,
                   "result": "64MB", "threads": 4},
        "files": {"mode": "read-write", "quota": "16MiB", "inodes": 100},
        "network": {"allow": []}
    }"#)
    .expect("right");
    assert_eq!(manifest.file, Some(OWN_NAME));
    assert_eq!(manifest.description.as_deref(), Some("means"));
    assert_eq!(manifest.entrypoint.module, "pkg.mean");
    assert_eq!(manifest.entrypoint.attribute, "Mean.of");
    let packages: Vec<_> = manifest.packages.iter().map(|package| package.text()).collect();
    assert_eq!(packages, ["numpy", "pandas >=3"]);
    assert_eq!(manifest.preload, ["numpy.linalg"]);
    let expected = Wants {
        wall: Some(Duration::from_secs(90)),
        cpu: Some(Duration::from_secs(10)),
        memory: Some(256 << 20),
        output: Some(1000),
        result: Some(64_000_000),
        threads: Some(4),
        mode: Some(FileMode::ReadWrite),
        quota: Some(16 << 20),
        inodes: Some(100),
    };
    assert_eq!(manifest.wants, expected);
    assert!(manifest.notes.is_empty());
    let least = own(r#"{"schema": "exuvia.bundle/1"}"#).expect("right");
    assert_eq!(least, Manifest { file: Some(OWN_NAME), ..Manifest::default() });
    assert_eq!(least.entrypoint.to_string(), "main:handler");
}

#[test]
fn each_fault_of_ours_has_a_place_and_a_way_out() {
    let with = |member: &str| format!(r#"{{"schema": "exuvia.bundle/1", {member}}}"#);
    for (text, expected) in [
        ("{}".into(), "/schema: is missing: write \"schema\": \"exuvia.bundle/1\""),
        (r#"{"schema": "exuvia.bundle/2"}"#.into(), "/schema: `exuvia.bundle/2` is not read"),
        (r#"{"schema": 1}"#.into(), "/schema: must be \"exuvia.bundle/1\", not the number 1"),
        ("[]".into(), "must be an object, not a list"),
        ("".into(), "1:0: it is no JSON: EOF while parsing a value"),
        ("{\n  \"schema\": 1,\n}".into(), "3:1: it is no JSON: trailing comma"),
        ("{} x".into(), "1:4: it is no JSON: trailing characters"),
        (
            with(r#""entrypont": "a:b""#),
            "/entrypont: there is no such member. Did you mean `entrypoint`?",
        ),
        (
            with(r#""zzz": 1"#),
            "/zzz: there is no such member. There are: $schema, schema, description",
        ),
        (with(r#""a/b~": 1"#), "/a~1b~0: there is no such member."),
        (
            with(r#""limits": {"memroy": 1}"#),
            "/limits/memroy: there is no such member. Did you mean `memory`?",
        ),
        (with(r#""entrypoint": "main""#), "/entrypoint: `main` names no function"),
        (
            with(r#""entrypoint": "ma-in:f""#),
            "/entrypoint: `ma-in:f` does not begin with the name of a module",
        ),
        (
            with(r#""entrypoint": "main:f()""#),
            "/entrypoint: `main:f()` does not end with the name of a function",
        ),
        (
            with(r#""entrypoint": null"#),
            "/entrypoint: must be a string, like \"main:handler\", not null",
        ),
        (with(r#""language": "javascript""#), "/language: `javascript` is not built yet"),
        (
            with(r#""language": "pyhton""#),
            "/language: `pyhton` is no language of bundles: only python is. Did you mean `python`?",
        ),
        (
            with(r#""packages": "numpy""#),
            "/packages: must be a list of strings, not the string \"numpy\"",
        ),
        (with(r#""packages": ["numpy", 3]"#), "/packages/1: must be a string, not the number 3"),
        (with(r#""packages": ["numpy", ""]"#), "/packages/1: is empty"),
        (with(r#""packages": ["numpy>=x"]"#), "/packages/0: `numpy>=x` has no versions as PEP 440"),
        (with(r#""preload": ["my-pkg"]"#), "/preload/0: `my-pkg` is not the name of a module"),
        (with(r#""limits": []"#), "/limits: must be an object, not a list"),
        (
            with(r#""limits": {"wall": "5 potatoes"}"#),
            "/limits/wall: `5 potatoes` is not a duration",
        ),
        (
            with(r#""limits": {"wall": true}"#),
            "/limits/wall: must be a time: a string like \"30s\", or a number of seconds, not true",
        ),
        (with(r#""limits": {"wall": -1}"#), "/limits/wall: -1 is not a number of seconds"),
        (with(r#""limits": {"cpu": "0s"}"#), "/limits/cpu: is zero"),
        (with(r#""limits": {"memory": 0}"#), "/limits/memory: is zero"),
        (
            with(r#""limits": {"memory": 1.5}"#),
            "/limits/memory: 1.5 is not a whole number from 1 on",
        ),
        (
            with(r#""limits": {"threads": "4"}"#),
            "/limits/threads: must be a whole number from 1 on, not the string \"4\"",
        ),
        (with(r#""limits": {"threads": 4294967296}"#), "/limits/threads: is too large"),
        (
            with(r#""files": {"mode": "readwrite"}"#),
            "/files/mode: `readwrite` is not one of read, read-write. Did you mean `read-write`?",
        ),
        (with(r#""files": {"inodes": 0}"#), "/files/inodes: is zero"),
        (
            with(r#""network": {"allow": ["example.org"]}"#),
            "/network/allow/0: all network is denied, and no host can be allowed yet: leave out `example.org`",
        ),
        (with(r#""packages": [], "packages": []"#), "/packages: it is there twice"),
    ] {
        let error = own(&text).expect_err(&text);
        let expected = format!("{OWN_NAME}: {expected}");
        assert!(error.starts_with(&expected), "{text}\n{error}\nexpected {expected}");
    }
}

#[test]
fn all_faults_come_at_once() {
    let text =
        r#"{"schema": "exuvia.bundle/1", "entrypont": "a:b", "limits": {"memory": "12 potatoes"}}"#;
    assert_eq!(
        own(text).expect_err("wrong"),
        "exuvia.bundle.json has 2 faults:\n  \
         /entrypont: there is no such member. Did you mean `entrypoint`?\n  \
         /limits/memory: `12 potatoes` is not a size: write a whole number with a unit, like 256MiB"
    );
    // They are counted where they are too many to read.
    let many: Vec<String> = (0..5000).map(|number| format!("\"x{number}\": 1")).collect();
    let error = Manifest::parse(format!("{{{}}}", many.join(",")).as_bytes()).expect_err("wrong");
    let Wrong::Manifest { faults, .. } = error else { panic!("{error}") };
    assert_eq!(faults.len(), 101);
    assert_eq!(faults[100].message, "and 4901 more");
}

#[test]
fn theirs_is_read_by_its_own_names() {
    let manifest = theirs(r#"{
        "schemaVersion": "1.0",
        "entrypoint": " service:handler ",
        "packages": [" numpy ", "NumPy", "pandas"],
        "runtime": {"language": "python",
                    "pyodide": {"version": "0.29.4", "profile": "Full", "preloadImports": ["numpy"]}},
        "resources": {
            "cpu": {"defaultLimitMs": 5000},
            "network": {"allow": [], "httpsOnly": true, "timeoutMs": 30000},
            "filesystem": {"mode": "readWrite", "quotaBytes": 1048576},
            "hostCapabilities": ["RawCtx_buffers"]
        }
    }"#)
    .expect("right");
    assert_eq!(manifest.file, Some(THEIR_NAME));
    assert_eq!(manifest.entrypoint.to_string(), "service:handler");
    let packages: Vec<_> = manifest.packages.iter().map(|package| package.text()).collect();
    assert_eq!(packages, ["numpy", "pandas"]);
    assert_eq!(manifest.preload, ["numpy"]);
    let expected = Wants {
        cpu: Some(Duration::from_secs(5)),
        mode: Some(FileMode::ReadWrite),
        quota: Some(1 << 20),
        ..Wants::default()
    };
    assert_eq!(manifest.wants, expected);
    let noted = [
        "/runtime/pyodide/version",
        "/runtime/pyodide/profile",
        "/resources/network/httpsOnly",
        "/resources/network/timeoutMs",
        "/resources/hostCapabilities",
    ];
    assert_eq!(manifest.notes.len(), noted.len(), "{:?}", manifest.notes);
    for (note, field) in manifest.notes.iter().zip(noted) {
        assert!(note.starts_with(&format!("`{field}`")), "{note}");
    }
}

#[test]
fn each_fault_of_theirs_names_its_field() {
    let with = |member: &str| {
        format!(r#"{{"schemaVersion": "1.0", "entrypoint": "main:handler", {member}}}"#)
    };
    for (text, expected) in [
        // The four of their own acceptance.
        (with(r#""extra": 1"#), "/extra: there is no such member."),
        (
            r#"{"schemaVersion": "2.0", "entrypoint": "a:b"}"#.into(),
            "/schemaVersion: `2.0` is not read: the version is \"1.0\"",
        ),
        (
            r#"{"schemaVersion": "1.0", "entrypoint": "main"}"#.into(),
            "/entrypoint: `main` names no function",
        ),
        (
            with(r#""packages": ["numpy"], "runtime": {"language": "javascript"}"#),
            " has 2 faults:\n  /runtime/language: `javascript` is not built yet: bundles are in python\n  /packages: must be empty where `runtime.language` is javascript",
        ),
        ("{}".into(), " has 2 faults:\n  /schemaVersion: is missing"),
        (
            r#"{"schemaVersion": 1.0, "entrypoint": "a:b"}"#.into(),
            "/schemaVersion: must be \"1.0\", not the number 1.0",
        ),
        (with(r#""packages": ["numpy", "  "]"#), "/packages/1: is empty"),
        (
            with(r#""runtime": {"language": "javascript"}"#),
            "/runtime/language: `javascript` is not built yet",
        ),
        (
            with(r#""runtime": {"language": "ruby"}"#),
            "/runtime/language: `ruby` is not one of python, javascript",
        ),
        (
            with(r#""runtime": {"pyodide": {"version": "0.28.0"}}"#),
            "/runtime/pyodide/version: `0.28.0` is not \"0.29.4\"",
        ),
        (
            with(r#""runtime": {"pyodide": {"profile": "a b"}}"#),
            "/runtime/pyodide/profile: `a b` has more than",
        ),
        (
            with(r#""resources": {"cpu": {"defaultLimitMs": 0}}"#),
            "/resources/cpu/defaultLimitMs: is zero",
        ),
        (
            with(r#""resources": {"cpu": {"defaultLimit": 1}}"#),
            "/resources/cpu/defaultLimit: there is no such member. Did you mean `defaultLimitMs`?",
        ),
        (
            with(r#""resources": {"filesystem": {"mode": "read-write"}}"#),
            "/resources/filesystem/mode: `read-write` is not one of read, readWrite",
        ),
        (
            with(r#""resources": {"filesystem": {"quotaBytes": 0}}"#),
            "/resources/filesystem/quotaBytes: is zero",
        ),
        (
            with(r#""resources": {"network": {"allow": ["api.example"]}}"#),
            "/resources/network/allow/0: all network is denied",
        ),
        (
            with(r#""resources": {"network": {"httpsOnly": 1}}"#),
            "/resources/network/httpsOnly: must be true or false",
        ),
        (
            with(r#""resources": {"hostCapabilities": ["gpu"]}"#),
            "/resources/hostCapabilities/0: `gpu` is no capability",
        ),
    ] {
        let error = theirs(&text).expect_err(&text);
        let said = error.strip_prefix(THEIR_NAME).expect("its name");
        let said = said.strip_prefix(": ").unwrap_or(said);
        assert!(said.starts_with(expected), "{text}\n{error}\nexpected {expected}");
    }
}

#[test]
fn ours_comes_before_theirs_and_a_bundle_needs_neither() {
    let ours = r#"{"schema": "exuvia.bundle/1", "entrypoint": "a:ours"}"#;
    let their = r#"{"schemaVersion": "1.0", "entrypoint": "a:theirs"}"#;
    let both = bundle(&[(THEIR_NAME, their), (OWN_NAME, ours)]);
    assert_eq!(both.manifest().entrypoint.attribute, "ours");
    assert_eq!(
        both.manifest().notes,
        ["`aardvark.manifest.json` is ignored, because `exuvia.bundle.json` is there"]
    );
    assert_eq!(bundle(&[(THEIR_NAME, their)]).manifest().entrypoint.attribute, "theirs");
    let none = bundle(&[("main.py", "")]);
    assert_eq!(none.manifest(), &Manifest::default());
    let folder = bundle(&[("mean/main.py", ""), ("mean/exuvia.bundle.json", ours)]);
    let [note] = &folder.manifest().notes[..] else { panic!("{:?}", folder.manifest().notes) };
    assert!(note.contains("one in `mean`: pack what is in that folder"), "{note}");
}

#[test]
fn a_bundle_gets_the_smaller_of_what_it_asks_and_what_the_host_allows() {
    let manifest = own(r#"{"schema": "exuvia.bundle/1",
        "limits": {"cpu": "5s", "memory": "2GiB", "threads": 32},
        "files": {"mode": "read-write", "quota": "1MiB"}}"#)
    .expect("right");
    let host = Policy { wall: Duration::from_secs(5), ..default_ceiling() };
    let got = Effective::new(&host, &manifest).expect("merged");
    let expected = Policy {
        wall: Duration::from_secs(5),
        cpu: Duration::from_secs(5),
        files: Files { mode: FileMode::ReadWrite, bytes: 1 << 20, ..Files::default() },
        ..Policy::default()
    };
    assert_eq!(got.policy, expected);
    let from: Vec<_> = got.sources.iter().map(|source| (source.field, source.from)).collect();
    assert_eq!(
        from,
        [
            ("wall", Origin::Host),
            ("cpu", Origin::Bundle),
            ("memory", Origin::Host),
            ("result", Origin::Default),
            ("output", Origin::Default),
            ("threads", Origin::Bundle),
            ("files.mode", Origin::Bundle),
            ("files.quota", Origin::Bundle),
            ("files.inodes", Origin::Default),
        ]
    );
    assert_eq!(got.notes(), ["the bundle asks for `memory` 2GiB; the host allows 512MiB"]);
    assert_eq!(
        got.explain(),
        "limit         value       from     asked for\n\
         wall          5s          host\n\
         cpu           5s          bundle   5s\n\
         memory        512MiB      host     2GiB\n\
         result        64MiB       default\n\
         output        1MiB        default\n\
         threads       32          bundle   32\n\
         files.mode    read-write  bundle   read-write\n\
         files.quota   1MiB        bundle   1MiB\n\
         files.inodes  1024        default\n\
         network       denied\n"
    );
    let json = got.to_json();
    assert_eq!(json["schema"], "exuvia.policy/1");
    assert_eq!(
        json["limits"]["memory"],
        json!({"value": 536_870_912, "unit": "bytes", "from": "host", "wanted": 2_147_483_648_u64})
    );
    assert_eq!(json["limits"]["cpu"]["value"], 5000.0);
    assert_eq!(json["network"], "denied");
}

#[test]
fn only_both_together_let_a_bundle_write() {
    let silent = own(r#"{"schema": "exuvia.bundle/1"}"#).expect("right");
    let asks =
        own(r#"{"schema": "exuvia.bundle/1", "files": {"mode": "read-write"}}"#).expect("right");
    for (host, manifest, mode) in [
        (default_ceiling(), &silent, FileMode::Read),
        (default_ceiling(), &asks, FileMode::ReadWrite),
        (Policy::default(), &silent, FileMode::Read),
        (Policy::default(), &asks, FileMode::Read),
    ] {
        let got = Effective::new(&host, manifest).expect("merged");
        assert_eq!(got.policy.files.mode, mode);
        assert_eq!(got.notes().len(), usize::from(host == Policy::default() && manifest == &asks));
    }
}

#[test]
fn a_host_that_allows_nothing_is_told_so() {
    let host = Policy { memory: 0, ..default_ceiling() };
    let error = Effective::new(&host, &Manifest::default()).expect_err("zero");
    assert_eq!(error.to_string(), "policy: the host's limit `memory` is zero: nothing could run");
}

// === the JSON Schema ===

fn validator() -> jsonschema::Validator {
    jsonschema::draft202012::new(&schema()).expect("a schema")
}

#[test]
fn the_schema_beside_the_page_is_the_program_s() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let fresh = serde_json::to_string_pretty(&schema()).expect("JSON") + "\n";
    let path = docs.join("bundle.schema.json");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, fresh).expect("written");
        return;
    }
    assert!(
        fs::read_to_string(path).is_ok_and(|kept| kept == fresh),
        "docs/bundle.schema.json is behind the program: run UPDATE_DOCS=1 cargo test -p \
         exuvia-bundle --test manifests"
    );
    let page = fs::read_to_string(docs.join("bundles.md")).expect("the page");
    for (name, member) in schema()["properties"].as_object().expect("members") {
        let inner = member["properties"].as_object().into_iter().flatten();
        let mut names: Vec<_> = inner.map(|(inner, _)| format!("| `{name}.{inner}` |")).collect();
        if names.is_empty() && name != "$schema" {
            names.push(format!("| `{name}` |"));
        }
        for name in names {
            assert!(page.contains(&name), "{name} is not in docs/bundles.md");
        }
    }
}

#[test]
fn schema_and_reader_agree() {
    let validator = validator();
    let right = [
        json!({}),
        json!({"$schema": "x", "description": "y", "language": "python"}),
        json!({"entrypoint": "größe.sub:K.f_1"}),
        json!({"packages": ["numpy", "pandas>=3,<4", "zope.interface", " a "], "preload": ["a.b"]}),
        json!({"limits": {"wall": "30s", "cpu": 0.5, "memory": "512 MiB", "output": 1, "threads": 1}}),
        json!({"limits": {"wall": ".5h", "cpu": "1.us", "memory": "010kb", "output": "7B"}}),
        json!({"files": {"mode": "read-write", "quota": "1GiB", "inodes": 3}, "network": {"allow": []}}),
        json!({"limits": {}, "files": {}, "network": {}}),
    ];
    let wrong = [
        json!({"x": 1}),
        json!({"schema": "exuvia.bundle/2"}),
        json!({"schema": null}),
        json!({"$schema": 1}),
        json!({"description": 1}),
        json!({"entrypoint": "main"}),
        json!({"entrypoint": "a:b:c"}),
        json!({"entrypoint": "1a:b"}),
        json!({"entrypoint": "a.:b"}),
        json!({"entrypoint": " a:b"}),
        json!({"entrypoint": "a:b\n"}),
        json!({"language": "javascript"}),
        json!({"packages": "numpy"}),
        json!({"packages": [1]}),
        json!({"packages": ["", "-x"]}),
        json!({"packages": ["x[all]"]}),
        json!({"preload": ["a-b"]}),
        json!({"limits": {"x": 1}}),
        json!({"limits": {"wall": "0s"}}),
        json!({"limits": {"wall": "0.00 ms"}}),
        json!({"limits": {"wall": 0}}),
        json!({"limits": {"wall": "1.2.3s"}}),
        json!({"limits": {"wall": "5 days"}}),
        json!({"limits": {"cpu": "s"}}),
        json!({"limits": {"cpu": "5H"}}),
        json!({"limits": {"memory": "1.5MiB"}}),
        json!({"limits": {"memory": "00KiB"}}),
        json!({"limits": {"memory": "7 ib"}}),
        json!({"limits": {"memory": -1}}),
        json!({"limits": {"threads": 0}}),
        json!({"limits": {"threads": 4_294_967_296_u64}}),
        json!({"limits": {"threads": "1"}}),
        json!({"files": {"mode": "readWrite"}}),
        json!({"files": {"quota": "x"}}),
        json!({"files": {"inodes": 1.5}}),
        json!({"network": {"allow": ["x"]}}),
        json!({"network": {"deny": []}}),
        json!({"limits": []}),
    ];
    let check = |document: &Value| {
        let mut document = document.clone();
        let members = document.as_object_mut().expect("an object");
        members.entry("schema").or_insert("exuvia.bundle/1".into());
        (own(&document.to_string()), validator.is_valid(&document))
    };
    for document in &right {
        let (read, valid) = check(document);
        assert!(read.is_ok() && valid, "{document}: {read:?}, {valid}");
    }
    for document in &wrong {
        let (read, valid) = check(document);
        assert!(read.is_err() && !valid, "{document}: {read:?}, {valid}");
    }
    assert!(own("{}").is_err() && !validator.is_valid(&json!({})));
}

/// Values that manifests have somewhere, right or wrong.
fn value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[0-9.]{0,4} ?[a-zA-Z]{0,3}",
        "[a-zA-Z_.:0-9ß-]{0,8}",
        "[a-z]{1,4}(>=|==|~=|<)[0-9.]{0,4}",
        Just("python".to_owned()),
        Just("read-write".to_owned()),
        any::<String>(),
    ];
    let leaf = prop_oneof![
        4 => text.prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => (0u8..3).prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| prop::collection::vec(inner, 0..3).prop_map(Value::from))
}

fn document() -> impl Strategy<Value = Value> {
    let section = |names: &'static [&'static str]| {
        prop::collection::hash_map(prop::sample::select(names), value(), 0..2)
            .prop_map(|members| members.into_iter().collect::<Value>())
    };
    let top = &["entrypoint", "language", "packages", "preload", "description", "limits", "x"];
    let limits = &["wall", "cpu", "memory", "output", "result", "threads"];
    (section(top), section(limits), section(&["mode", "quota", "inodes"])).prop_map(
        |(mut top, limits, files)| {
            top["schema"] = "exuvia.bundle/1".into();
            top["limits"] = limits;
            top["files"] = files;
            top
        },
    )
}

proptest! {
    /// An editor that has the schema marks nothing that would be taken.
    #[test]
    fn what_the_reader_takes_the_schema_takes(document in document()) {
        if own(&document.to_string()).is_ok() {
            prop_assert!(validator().is_valid(&document), "{document}");
        }
    }

    /// Whatever both say, a bundle never gets more than the host allows or it asked for.
    #[test]
    fn nobody_gets_more_than_either_allows(
        host in (1u64..100, 1u64..100, 1u32..100),
        bundle in (1u64..100, 1u64..100, 1u32..100),
    ) {
        let policy = Policy { memory: host.0, wall: Duration::from_secs(host.1), threads: host.2, ..default_ceiling() };
        let wants = Wants { memory: Some(bundle.0), wall: Some(Duration::from_secs(bundle.1)), threads: Some(bundle.2), ..Wants::default() };
        let got = Effective::new(&policy, &Manifest { wants, ..Manifest::default() }).expect("merged");
        prop_assert_eq!(got.policy.memory, host.0.min(bundle.0));
        prop_assert_eq!(got.policy.wall.as_secs(), host.1.min(bundle.1));
        prop_assert_eq!(got.policy.threads, host.2.min(bundle.2));
    }
}
