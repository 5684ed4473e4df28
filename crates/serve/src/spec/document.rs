//! An OpenAPI document as data: read, with its references followed and its lines known.

use std::{borrow::Cow, cell::OnceCell, collections::HashMap, fmt::Display};

use exuvia_core::suggest::did_you_mean;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use serde_saphyr::{
    Options,
    granit_parser::{Event, Parser},
};

use super::SpecError;

/// The largest document that is read.
const MOST_BYTES: usize = 32 << 20;

/// Values in a document, at most, with what aliases of YAML make of them.
const MOST_NODES: usize = 4_000_000;

/// How deep a document may be nested.
const MOST_DEPTH: usize = 100;

/// References that lead to a reference, at most.
const MOST_HOPS: usize = 64;

/// A document and where it came from.
pub(super) struct Document {
    root: Value,
    file: String,
    text: String,
    /// Whether it is OpenAPI 3.0, whose schemas are not quite JSON Schema.
    pub(super) old: bool,
    /// Line by pointer; made when first asked for.
    lines: OnceCell<HashMap<String, usize>>,
}

/// A value of a document and its pointer there.
#[derive(Clone)]
pub(super) struct Node<'d> {
    pub(super) value: &'d Value,
    pub(super) pointer: String,
}

/// Something wrong at a place of a document.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) pointer: String,
    pub(super) message: String,
}

// === impl Document ===

impl Document {
    /// Reads `text`, which is JSON or YAML.
    pub(super) fn read(text: &str, file: &str) -> Result<Self, SpecError> {
        let error = |line: Option<usize>, message: String| SpecError {
            file: file.to_owned(),
            line,
            pointer: String::new(),
            message,
        };
        if text.len() > MOST_BYTES {
            let message = format!("the document has more than {} MiB", MOST_BYTES >> 20);
            return Err(error(None, message));
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let root = parse(text, file).map_err(|(line, message)| error(line, message))?;
        let old = version(&root).map_err(|message| error(None, message))?;
        let (file, text) = (file.to_owned(), text.to_owned());
        Ok(Self { root, file, text, old, lines: OnceCell::new() })
    }

    pub(super) fn root(&self) -> Node<'_> {
        Node { value: &self.root, pointer: String::new() }
    }

    /// `wrong` as it is told to people.
    pub(super) fn error(&self, wrong: Wrong) -> SpecError {
        let Wrong { pointer, message } = wrong;
        SpecError { file: self.file.clone(), line: self.line(&pointer), pointer, message }
    }

    /// The line of what `pointer` leads to, or of what it is in.
    fn line(&self, pointer: &str) -> Option<usize> {
        let mut pointer = pointer;
        loop {
            if let Some(line) = self.lines.get_or_init(|| lines(&self.text)).get(pointer) {
                return Some(*line);
            }
            pointer = pointer.rsplit_once('/')?.0;
        }
    }

    /// `node`, or what it refers to.
    pub(super) fn resolve<'d>(&'d self, node: Node<'d>) -> Result<Node<'d>, Wrong> {
        let mut node = node;
        for _ in 0..MOST_HOPS {
            let Some(reference) = node.value.get("$ref").and_then(Value::as_str) else {
                return Ok(node);
            };
            node = self.find(reference).map_err(|message| node.member("$ref").wrong(message))?;
        }
        Err(node.wrong("this reference leads to references without end"))
    }

    /// What `reference` (`#/components/schemas/Pet`) refers to.
    pub(super) fn find(&self, reference: &str) -> Result<Node<'_>, String> {
        let Some(fragment) = reference.strip_prefix('#') else {
            return Err(format!(
                "`{reference}` is in another file: put all of the document into one"
            ));
        };
        let fragment = percent_decode_str(fragment).decode_utf8();
        let Ok(pointer) = fragment else {
            return Err(format!("`{reference}` is not text"));
        };
        if !pointer.is_empty() && !pointer.starts_with('/') {
            return Err(format!(
                "`{reference}` is not a JSON Pointer: write `#/components/schemas/...`"
            ));
        }
        let mut node = self.root();
        for word in pointer.split('/').skip(1) {
            let name = word.replace("~1", "/").replace("~0", "~");
            let Some(value) = child(node.value, &name) else {
                return Err(no_such(reference, &node, &name));
            };
            node = Node { value, pointer: join(&node.pointer, &name) };
        }
        Ok(node)
    }
}

// === impl Node ===

impl<'d> Node<'d> {
    /// The member `name`; `null` where there is none.
    pub(super) fn member(&self, name: &str) -> Node<'d> {
        let value = self.value.get(name).unwrap_or(&Value::Null);
        Node { value, pointer: join(&self.pointer, name) }
    }

    /// The member `name`, if there is one.
    pub(super) fn has(&self, name: &str) -> Option<Node<'d>> {
        self.value.get(name).map(|value| Node { value, pointer: join(&self.pointer, name) })
    }

    /// Members of an object; none where nothing is.
    pub(super) fn members(
        &self,
        what: &str,
    ) -> Result<impl Iterator<Item = (&'d str, Node<'d>)> + use<'d>, Wrong> {
        let members = match self.value {
            Value::Object(members) => Some(members),
            Value::Null => None,
            other => return Err(self.wrong(format!("{what} is an object, not {}", kind(other)))),
        };
        let pointer = self.pointer.clone();
        Ok(members.into_iter().flatten().map(move |(name, value)| {
            (name.as_str(), Node { value, pointer: join(&pointer, name) })
        }))
    }

    /// Items of an array; none where nothing is.
    pub(super) fn items(
        &self,
        what: &str,
    ) -> Result<impl Iterator<Item = Node<'d>> + use<'d>, Wrong> {
        let items = match self.value {
            Value::Array(items) => items.as_slice(),
            Value::Null => &[],
            other => return Err(self.wrong(format!("{what} is an array, not {}", kind(other)))),
        };
        let pointer = self.pointer.clone();
        Ok(items.iter().enumerate().map(move |(number, value)| Node {
            value,
            pointer: join(&pointer, &number.to_string()),
        }))
    }

    /// The text of the member `name`, if there is one.
    pub(super) fn text(&self, name: &str) -> Result<Option<&'d str>, Wrong> {
        match self.value.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => {
                let message = format!("`{name}` is a string, not {}", kind(other));
                Err(self.member(name).wrong(message))
            }
        }
    }

    /// Whether the member `name` is `true`.
    pub(super) fn is(&self, name: &str) -> bool {
        self.value.get(name) == Some(&Value::Bool(true))
    }

    /// `message`, about this place.
    pub(super) fn wrong(&self, message: impl Display) -> Wrong {
        Wrong { pointer: self.pointer.clone(), message: message.to_string() }
    }
}

/// The kind of a JSON value, as sentences name it.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(true) => "true",
        Value::Bool(false) => "false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// `pointer` with one more name.
pub(super) fn join(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", escape(name))
}

/// `name` as a JSON Pointer has it.
pub(super) fn escape(name: &str) -> Cow<'_, str> {
    if name.contains(['~', '/']) {
        Cow::Owned(name.replace('~', "~0").replace('/', "~1"))
    } else {
        Cow::Borrowed(name)
    }
}

fn child<'d>(value: &'d Value, name: &str) -> Option<&'d Value> {
    match value {
        Value::Object(members) => members.get(name),
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        _ => None,
    }
}

fn no_such(reference: &str, node: &Node<'_>, name: &str) -> String {
    let names = node.value.as_object().into_iter().flat_map(Map::keys);
    let near = if name.len() > 256 { String::new() } else { did_you_mean(name, names) };
    let at = if node.pointer.is_empty() { "the document" } else { &node.pointer };
    format!("`{reference}` leads nowhere: {at} has no `{name}`.{near}")
}

/// The data of `text`, or what is wrong with it and in which line.
fn parse(text: &str, file: &str) -> Result<Value, (Option<usize>, String)> {
    let looks_like_json = text.trim_start().starts_with(['{', '[']);
    if file.ends_with(".json") || looks_like_json {
        match serde_json::from_str(text) {
            Ok(value) => return Ok(value),
            // Braces are YAML too.
            Err(error) if file.ends_with(".json") || error.is_data() => {
                return Err((Some(error.line()), format!("this is not JSON: {error}")));
            }
            Err(_) => {}
        }
    }
    serde_saphyr::from_str_with_options(text, options()).map_err(|error| {
        let line = error.location().map(|location| location.line() as usize);
        let text = error.to_string();
        // What follows shows the lines around it.
        let first = text.lines().next().unwrap_or_default();
        let first = first.strip_prefix("error: ").unwrap_or(first);
        let first = match (line, first.split_once(": ")) {
            (Some(_), Some((place, rest))) if place.starts_with("line ") => rest,
            _ => first,
        };
        (line, format!("this is not YAML: {first}"))
    })
}

/// YAML 1.2, within limits.
fn options() -> Options {
    let budget = serde_saphyr::budget! {
        max_nodes: MOST_NODES,
        max_events: 2 * MOST_NODES,
        max_depth: MOST_DEPTH,
        // A document of several is refused; this is found before they are read.
        max_documents: 2,
    };
    serde_saphyr::options! {
        budget: budget,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
    }
}

/// Whether it is 3.0; 3.1 is the other.
fn version(root: &Value) -> Result<bool, String> {
    if !root.is_object() {
        return Err(format!("an OpenAPI document is an object, not {}", kind(root)));
    }
    if let Some(swagger) = root.get("swagger") {
        return Err(format!("this is Swagger {swagger}: convert it to OpenAPI 3.0 or 3.1 first"));
    }
    let Some(version) = root.get("openapi") else {
        return Err("this is not an OpenAPI document: it has no `openapi: 3.1.0`".into());
    };
    let version = version.as_str().map_or_else(|| version.to_string(), str::to_owned);
    let is = |wanted: &str| {
        let rest = version.strip_prefix(wanted);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-']))
    };
    match (is("3.0"), is("3.1")) {
        (true, _) => Ok(true),
        (_, true) => Ok(false),
        _ => Err(format!("this is OpenAPI {version}; 3.0 and 3.1 are understood")),
    }
}

/// What is being read, while lines are looked for.
struct Open {
    pointer: String,
    is_object: bool,
    /// Of an object: the name whose value comes next.
    name: Option<String>,
    /// Of an array: the number of the next item.
    next: usize,
}

/// The line (from 1) of every value, or of its name in an object. What aliases stand for is
/// found where the alias is.
fn lines(text: &str) -> HashMap<String, usize> {
    let mut found = HashMap::new();
    let mut open: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(text) {
        let Ok((event, span)) = event else { break };
        let line = span.start.line();
        if matches!(event, Event::SequenceEnd | Event::MappingEnd) {
            open.pop();
            continue;
        }
        let scalar = match &event {
            Event::Scalar(text, ..) => Some(text.to_string()),
            Event::SequenceStart(..) | Event::MappingStart(..) | Event::Alias(..) => None,
            _ => continue,
        };
        let pointer = match open.last_mut() {
            None => String::new(),
            Some(object) if object.is_object && object.name.is_none() => {
                // JSON has no other names than text; the rest was refused when it was read.
                let name = scalar.unwrap_or_default();
                found.insert(join(&object.pointer, &name), line);
                object.name = Some(name);
                continue;
            }
            Some(parent) => parent.child(),
        };
        found.entry(pointer.clone()).or_insert(line);
        if found.len() > MOST_NODES {
            break;
        }
        let is_object = matches!(event, Event::MappingStart(..));
        if is_object || matches!(event, Event::SequenceStart(..)) {
            open.push(Open { pointer, is_object, name: None, next: 0 });
        }
    }
    found
}

// === impl Open ===

impl Open {
    /// The pointer of the value that comes now.
    fn child(&mut self) -> String {
        match self.name.take() {
            Some(name) => join(&self.pointer, &name),
            None => {
                self.next += 1;
                join(&self.pointer, &(self.next - 1).to_string())
            }
        }
    }
}
