"""The invariants of ARCHITECTURE.md, read from `cargo metadata` and from the sources.

I5 (keys, flags and variables are declared once) is held beside the table itself, in crates/cli.
"""

import functools
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import ROOT

CRATES = ROOT / "crates"

MAY_USE_PYO3 = {"runtime", "python", "native", "embed"}
FRONT_ENDS = {"serve", "bundle", "pipeline", "actor", "inspect", "rustbuild"}
MAY_BE_UNSAFE = {"sys", "jail", "wasm", "runtime", "python", "embed", "subinterp", "native"}
PYO3_FAMILY = {"pyo3", "pyo3-ffi", "pyo3-macros", "pyo3-build-config", "numpy", "pyo3-arrow"}

# How far above an unsafe block its reason may begin.
REASON_WITHIN = 6


# === what cargo says ===


@functools.cache
def metadata() -> dict[str, Any]:
    """The whole tree, for every platform, as Cargo.lock has it."""
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(command)}:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def packages() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = metadata()["packages"]
    return found


def folder_of(package: dict[str, Any]) -> str:
    """The crate's folder under crates/: `core` for exuvia-core."""
    return Path(package["manifest_path"]).parent.name


@functools.cache
def ours() -> dict[str, dict[str, Any]]:
    """Our crates by folder."""
    members = set(metadata()["workspace_members"])
    return {folder_of(p): p for p in packages() if p["id"] in members}


def declared(folder: str, *, dev: bool = False) -> set[str]:
    """The crates that `folder` names in its Cargo.toml."""
    kinds = {None, "build", "dev"} if dev else {None, "build"}
    return {d["name"] for d in ours()[folder]["dependencies"] if d["kind"] in kinds}


@functools.cache
def graph() -> dict[str, list[str]]:
    """Package id to the ids it is built and run with; what only its tests use is left out."""
    return {
        node["id"]: [
            d["pkg"] for d in node["deps"] if any(kind["kind"] != "dev" for kind in d["dep_kinds"])
        ]
        for node in metadata()["resolve"]["nodes"]
    }


def reached(folder: str) -> set[str]:
    """Names of all crates that `folder` stands on, however far down."""
    names = {p["id"]: p["name"] for p in packages()}
    start = ours()[folder]["id"]
    seen = {start}
    todo = [start]
    while todo:
        for below in graph()[todo.pop()]:
            if below not in seen:
                seen.add(below)
                todo.append(below)
    return {names[i] for i in seen - {start}}


def crate_names(folders: set[str]) -> set[str]:
    return {f"exuvia-{folder}" for folder in folders}


# === what the sources say ===


def sources(folder: str) -> Iterator[Path]:
    """The Rust files of a crate that end up in it: not its tests."""
    yield from sorted((CRATES / folder / "src").rglob("*.rs"))


# Comments, strings and characters. A raw string ends at its own number of #.
NOT_CODE = re.compile(
    r"""//[^\n]*
      | /\*.*?\*/
      | b?r(?P<hashes>\#*)".*?"(?P=hashes)
      | b?"(?:\\.|[^"\\])*"
      | b?'(?:\\[^\n]{1,8}?|[^'\\\n])'
    """,
    re.VERBOSE | re.DOTALL,
)


def code_only(text: str) -> str:
    """The text with comments and literals blanked, its lines kept."""
    return NOT_CODE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


UNSAFE = re.compile(r"\bunsafe\b")
# `unsafe fn` inside a type names a kind of function; it runs nothing.
UNSAFE_TYPE = re.compile(r"\bunsafe\s+(?:extern\s*(?:\"[^\"]*\"|\s)\s*)?fn\s*\(")
SAFETY = re.compile(r"//.*\bSAFETY:|///.*# Safety\b")


def unexplained_unsafe(text: str) -> list[int]:
    """Line numbers of unsafe code with no `SAFETY:` comment above it."""
    lines = text.splitlines()
    found = []
    code = code_only(text)
    for number, line in enumerate(code.splitlines()):
        if not UNSAFE.search(line) or UNSAFE_TYPE.search(line):
            continue
        # An attribute is `#[unsafe(no_mangle)]`: the reason belongs to the function below it.
        if re.search(r"#!?\[[^\]]*\bunsafe", line):
            continue
        if not any(SAFETY.search(above) for above in _reason_lines(lines, number)):
            found.append(number + 1)
    return found


def _reason_lines(lines: list[str], number: int) -> list[str]:
    """The lines a reason may stand in: this one, the few above, and a comment that ends there."""
    first = max(0, number - REASON_WITHIN)
    # A long reason may begin further up, as long as the comment goes on down to the code.
    while first > 0 and lines[first].lstrip().startswith("//"):
        first -= 1
    return lines[first : number + 1]


# === the invariants ===


def test_i1_pyo3_only_where_python_lives() -> None:
    for folder in ours():
        if folder not in MAY_USE_PYO3:
            named = declared(folder, dev=True) & PYO3_FAMILY
            assert not named, f"I1: crates/{folder} depends on {sorted(named)}"


def test_i1_the_binary_never_links_python() -> None:
    assert not reached("cli") & PYO3_FAMILY, "I1: the host reaches pyo3 through another crate"


def test_i2_front_ends_do_not_know_each_other() -> None:
    for folder in FRONT_ENDS & ours().keys():
        others = crate_names(FRONT_ENDS - {folder}) & reached(folder)
        assert not others, f"I2: crates/{folder} reaches {sorted(others)}"


def test_i2_serve_does_not_know_the_host() -> None:
    assert "exuvia-host" not in reached("serve"), "I2: serve meets the host as a Target only"


def test_i3_core_stands_alone() -> None:
    stands_on = reached("core")
    ours_below = stands_on & crate_names(set(ours()))
    assert not ours_below, f"I3: exuvia-core depends on {sorted(ours_below)}"
    outside = stands_on & ({"tokio", "rustix", "libc", "mio"} | PYO3_FAMILY)
    assert not outside, f"I3: exuvia-core reaches {sorted(outside)}"


def test_i3_core_does_no_input_or_output() -> None:
    # By path, or in the braces of a `use`.
    doing_io = re.compile(r"\bstd\s*::\s*(?:\{(?:[^;]*[{,])?\s*)?(fs|net|process)\b")
    for path in sources("core"):
        found = doing_io.search(code_only(path.read_text(encoding="utf-8")))
        assert not found, f"I3: {path.relative_to(ROOT)} names std::{found and found[1]}"


def test_i4_unsafe_is_forbidden_elsewhere() -> None:
    for folder, package in ours().items():
        if folder in MAY_BE_UNSAFE:
            continue
        for target in package["targets"]:
            if {"lib", "rlib", "cdylib", "bin"} & set(target["kind"]):
                path = Path(target["src_path"])
                text = code_only(path.read_text(encoding="utf-8"))
                assert re.search(r"#!\[forbid\([^)]*\bunsafe_code\b", text), (
                    f"I4: {path.relative_to(ROOT)} lacks #![forbid(unsafe_code)]"
                )


def test_i4_unsafe_says_why() -> None:
    silent = [
        f"{path.relative_to(ROOT)}:{line}"
        for folder in sorted(MAY_BE_UNSAFE & ours().keys())
        for path in sources(folder)
        for line in unexplained_unsafe(path.read_text(encoding="utf-8"))
    ]
    assert not silent, "I4: no SAFETY: comment above the unsafe code in\n" + "\n".join(silent)


def test_protocol_knows_neither_python_nor_http() -> None:
    known = reached("protocol") & (PYO3_FAMILY | {"hyper", "hyper-util", "http", "tokio"})
    assert not known, f"exuvia-protocol reaches {sorted(known)}"


def test_one_pyo3() -> None:
    versions = {p["version"] for p in packages() if p["name"] == "pyo3"}
    assert len(versions) == 1, f"pyo3 in several versions: {sorted(versions)}"


def test_what_the_specification_says_holds_a_promise_is_there() -> None:
    page = (ROOT / "SPECIFICATION.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:tests|crates|bench)/[^`]+)`", page))
    assert len(named) > 20
    missing = [name for name in sorted(named) if not (ROOT / name).exists()]
    assert not missing, f"SPECIFICATION.md names {', '.join(missing)}"


def test_every_sentence_on_processes_is_named_by_a_test() -> None:
    page = (ROOT / "docs/processes.md").read_text(encoding="utf-8")
    numbers = set(re.findall(r"^\* \*\*(\d+\.\d+)\*\*", page, re.MULTILINE))
    named: set[str] = set()
    tests = [*(ROOT / "tests").glob("*.py"), *(ROOT / "crates").glob("*/tests/**/*.rs")]
    tests += (ROOT / "crates").glob("*/src/**/*.rs")
    for path in tests:
        text = path.read_text(encoding="utf-8")
        for line in text.splitlines():
            if "processes.md" in line:
                named.update(re.findall(r"\b\d\.\d+\b", line.partition("processes.md")[2]))
    assert len(numbers) > 20
    assert numbers <= named, f"no test names {', '.join(sorted(numbers - named))}"
    assert named <= numbers, f"not on the page: {', '.join(sorted(named - numbers))}"


def test_workers_and_zygotes_signal_nobody() -> None:
    """processes.md 5.1"""
    calls = re.compile(r"kill_process|pidfd_send_signal|libc::kill|os\.kill|signal\.pthread_kill")
    folder = ROOT / "crates/runtime/src"
    sources = [path for path in folder.rglob("*") if path.suffix in (".rs", ".py")]
    assert len(sources) > 10
    found = [path.name for path in sources if calls.search(path.read_text(encoding="utf-8"))]
    assert not found, f"signals are sent in {', '.join(found)}"


def test_every_crate_is_on_the_map() -> None:
    page = ROOT / "ARCHITECTURE.md"
    text = page.read_text(encoding="utf-8")
    missing = [
        folder
        for folder in ours()
        if not re.search(rf"\bexuvia-{folder}\b|\bcrates/{folder}\b", text)
    ]
    assert not missing, f"ARCHITECTURE.md does not name crates/{{{','.join(missing)}}}"


def test_crates_named_in_the_readme_exist() -> None:
    page = ROOT / "README.md"
    named = set(re.findall(r"\bcrates/([a-z0-9_-]+)", page.read_text(encoding="utf-8")))
    assert named <= ours().keys(), f"README.md names {sorted(named - ours().keys())}"


# === licences ===


def allowed_licences() -> set[str]:
    rules = tomllib.loads((ROOT / "deny.toml").read_text(encoding="utf-8"))
    return set(rules["licenses"]["allow"])


def permits(expression: str, allowed: set[str]) -> bool:
    """Whether an SPDX expression can be met by the allowed licences alone."""
    # `MIT/Apache-2.0` is how OR was written before SPDX.
    words = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))

    # OR binds weaker than AND, AND weaker than WITH.
    def any_of() -> bool:
        result = all_of()
        while words and words[0] == "OR":
            words.pop(0)
            # Read before it is judged: a result known early must not leave words behind.
            other = all_of()
            result = result or other
        return result

    def all_of() -> bool:
        result = one()
        while words and words[0] == "AND":
            words.pop(0)
            other = one()
            result = result and other
        return result

    def one() -> bool:
        if not words:
            raise ValueError(f"{expression!r} ends too early")
        word = words.pop(0)
        if word == "(":
            result = any_of()
            if not words or words.pop(0) != ")":
                raise ValueError(f"{expression!r} lacks a )")
            return result
        if words and words[0] == "WITH":
            words.pop(0)
            word = f"{word} WITH {words.pop(0)}"
        return word in allowed

    result = any_of()
    if words:
        raise ValueError(f"{expression!r}: {words[0]!r} was not expected")
    return result


def test_licences_of_the_whole_tree() -> None:
    allowed = allowed_licences()
    refused = [
        f"{p['name']} {p['version']}: {p['license'] or 'no licence named'}"
        for p in packages()
        if not p["license"] or not permits(p["license"], allowed)
    ]
    assert not refused, "not within the list of deny.toml:\n" + "\n".join(refused)


def test_denied_crates_are_not_in_the_tree() -> None:
    rules = tomllib.loads((ROOT / "deny.toml").read_text(encoding="utf-8"))
    denied = {rule["crate"] for rule in rules["bans"]["deny"]}
    found = denied & {p["name"] for p in packages()}
    assert not found, f"deny.toml denies {sorted(found)}"


def test_crates_come_from_the_registry_or_from_here() -> None:
    elsewhere = [
        f"{p['name']}: {p['source']}"
        for p in packages()
        if p["source"] is not None
        and p["source"] != "registry+https://github.com/rust-lang/crates.io-index"
    ]
    assert not elsewhere, "\n".join(elsewhere)


# === the checks themselves ===


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("MIT", True),
        ("GPL-3.0", False),
        ("MIT OR GPL-3.0", True),
        ("MIT AND GPL-3.0", False),
        ("MIT/Apache-2.0", True),
        ("(MIT OR GPL-3.0) AND ISC", True),
        ("GPL-3.0 OR MIT AND GPL-2.0", False),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("ISC WITH LLVM-exception", False),
    ],
)
def test_licence_expressions(expression: str, expected: bool) -> None:
    allowed = {"MIT", "Apache-2.0", "ISC", "Apache-2.0 WITH LLVM-exception"}
    assert permits(expression, allowed) is expected


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("fn f() { unsafe { g() } }", [1]),
        ("// SAFETY: g is sound.\nfn f() { unsafe { g() } }", []),
        ('// unsafe in a comment\nlet s = "unsafe {"; let r = r#"unsafe { " }"#;', []),
        ("/// # Safety\n/// Be careful.\npub unsafe fn f() {}", []),
        ("unsafe impl Send for X {}", [1]),
        ('type F = unsafe extern "C" fn(i32) -> i32;', []),
        ("// SAFETY: too far.\n" + "let a = 1;\n" * 7 + "unsafe { g() }", [9]),
        ("// SAFETY: long.\n" + "// and on.\n" * 9 + "unsafe { g() }", []),
        ("let c = '\"'; unsafe { g() } // '\"'", [1]),
    ],
)
def test_unsafe_is_found(text: str, lines: list[int]) -> None:
    assert unexplained_unsafe(text) == lines
