//! What a document says of each operation.

use std::collections::HashMap;

use exuvia_core::suggest::did_you_mean;
use http::Method;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::document::{Document, Node, Wrong, join, kind};

/// Members of a path that are operations.
const METHODS: [(&str, Method); 5] = [
    ("get", Method::GET),
    ("post", Method::POST),
    ("put", Method::PUT),
    ("patch", Method::PATCH),
    ("delete", Method::DELETE),
];

/// Other members of a path.
const BESIDE: [&str; 8] =
    ["head", "options", "trace", "parameters", "servers", "summary", "description", "$ref"];

/// Headers that OpenAPI does not let be parameters: they are described elsewhere.
const NOT_PARAMETERS: [&str; 3] = ["accept", "content-type", "authorization"];

/// How lists may be written in a parameter.
const STYLES: [&str; 4] = ["simple", "form", "spaceDelimited", "pipeDelimited"];

/// One operation.
pub(super) struct Operation<'d> {
    pub(super) method: Method,
    /// With the base path of the servers.
    pub(super) path: String,
    pub(super) pointer: String,
    pub(super) id: Option<&'d str>,
    /// `x-exuvia-handler`.
    pub(super) handler: Option<&'d str>,
    pub(super) params: Vec<Parameter<'d>>,
    pub(super) body: Option<Body<'d>>,
    pub(super) success: Success<'d>,
    pub(super) summary: Option<&'d str>,
    pub(super) tags: Vec<String>,
    pub(super) deprecated: bool,
}

/// Where a parameter stands in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Path,
    Query,
    Header,
}

/// One parameter of an operation.
#[derive(Clone)]
pub(super) struct Parameter<'d> {
    pub(super) name: &'d str,
    pub(super) place: Place,
    pub(super) required: bool,
    pub(super) pointer: String,
    pub(super) schema: Option<Node<'d>>,
    /// Whether its text is JSON (`content` in place of `schema`).
    pub(super) json: bool,
    /// What is between the items of a list; `None`: the name is repeated.
    pub(super) separator: Option<char>,
}

/// What an operation takes as its body.
pub(super) struct Body<'d> {
    pub(super) required: bool,
    /// The schema of a body in JSON.
    pub(super) json: Option<Node<'d>>,
    /// The schema of a form.
    pub(super) form: Option<Node<'d>>,
    /// Whether something else is taken too.
    pub(super) other: bool,
}

/// The first answer that is none of a failure.
#[derive(Default)]
pub(super) struct Success<'d> {
    /// Its status, where the document names one.
    pub(super) status: Option<u16>,
    /// Whether another answer has a status that tells of success.
    pub(super) several: bool,
    /// Media type to what is said of it.
    pub(super) content: Vec<(&'d str, Node<'d>)>,
}

// === impl Place ===

impl Place {
    /// As `in` names it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
        }
    }
}

/// All operations of `document`.
pub(super) fn all<'d>(
    document: &'d Document,
    warnings: &mut Vec<String>,
) -> Result<Vec<Operation<'d>>, Wrong> {
    let root = document.root();
    let mut operations = Vec::new();
    for (path, item) in root.member("paths").members("`paths`")? {
        if !path.starts_with("x-") {
            of_path(document, path, item, &mut operations, warnings)?;
        }
    }
    if operations.is_empty() {
        warnings.push("the document has no operation that can be served".into());
    }
    let mut by_id: HashMap<&str, &str> = HashMap::new();
    for operation in &operations {
        let Some(id) = operation.id else { continue };
        if let Some(first) = by_id.insert(id, &operation.pointer) {
            let pointer = join(&operation.pointer, "operationId");
            let message = format!("the operationId `{id}` is that of {first} too");
            return Err(Wrong { pointer, message });
        }
    }
    Ok(operations)
}

/// The operations of one path.
fn of_path<'d>(
    document: &'d Document,
    path: &'d str,
    item: Node<'d>,
    operations: &mut Vec<Operation<'d>>,
    warnings: &mut Vec<String>,
) -> Result<(), Wrong> {
    if !path.starts_with('/') {
        return Err(item.wrong(format!("a path begins with `/`, and `{path}` does not")));
    }
    let item = document.resolve(item)?;
    for (name, _) in item.members("a path")? {
        let known = METHODS.iter().any(|(method, _)| *method == name);
        if !known && !BESIDE.contains(&name) && !name.starts_with("x-") {
            let names = METHODS.iter().map(|(method, _)| *method).chain(BESIDE);
            let near = did_you_mean(name, names);
            return Err(item.member(name).wrong(format!("a path has no `{name}`.{near}")));
        }
    }
    let own = |name: &str| item.has(name).is_some();
    if own("trace") {
        warnings.push(format!("TRACE {path} is left out: it is never answered"));
    }
    if own("head") && !own("get") {
        warnings.push(format!("HEAD {path} is left out: HEAD is answered where GET is"));
    }
    for (name, method) in METHODS {
        let Some(node) = item.has(name) else { continue };
        if let Some(why) = unservable(path) {
            warnings.push(format!("{method} {path} is left out: {why}"));
            continue;
        }
        let operation = Operation::read(document, (path, method), &item, node, warnings)?;
        operations.push(operation);
    }
    Ok(())
}

/// Why no route can be made of `path`.
fn unservable(path: &str) -> Option<String> {
    if path.contains(['?', '#']) || path.contains(char::is_whitespace) {
        return Some("a path has no `?`, `#` or space".into());
    }
    let partly = |segment: &&str| {
        let inside = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        match inside {
            Some(name) => name.is_empty() || name.contains(['{', '}', '*', ':']),
            None => segment.contains(['{', '}']),
        }
    };
    let segment = path.split('/').find(partly)?;
    Some(format!("`{segment}` is neither text nor one `{{name}}`"))
}

// === impl Operation ===

impl<'d> Operation<'d> {
    fn read(
        document: &'d Document,
        (path, method): (&str, Method),
        item: &Node<'d>,
        node: Node<'d>,
        warnings: &mut Vec<String>,
    ) -> Result<Self, Wrong> {
        if !node.value.is_object() {
            return Err(node.wrong(format!("an operation is an object, not {}", kind(node.value))));
        }
        let base = base(document, item, &node)?;
        let whole = format!("{base}{}", decoded(path, &node)?);
        let name = format!("{method} {whole}");
        let mut params = Vec::new();
        // What the operation says of a parameter goes before what the path says.
        for list in [node.member("parameters"), item.member("parameters")] {
            for param in list.items("`parameters`")? {
                let param = document.resolve(param)?;
                let Some(param) = Parameter::read(document, &param, &name, warnings)? else {
                    continue;
                };
                let is_it =
                    |other: &Parameter<'_>| (other.name, other.place) == (param.name, param.place);
                if !params.iter().any(is_it) {
                    params.push(param);
                }
            }
        }
        let params = fit_path(params, &whole, &name, &node, warnings);
        let tags = node.member("tags").items("`tags`")?;
        Ok(Self {
            id: node.text("operationId")?.filter(|id| !id.is_empty()),
            handler: node.text("x-exuvia-handler")?,
            params: params?,
            body: Body::read(document, &node)?,
            success: Success::read(document, &node)?,
            summary: node.text("summary")?,
            tags: tags.filter_map(|tag| Some(tag.value.as_str()?.to_owned())).collect(),
            deprecated: node.is("deprecated"),
            method,
            path: whole,
            pointer: node.pointer,
        })
    }
}

/// `path` with its percent signs read.
fn decoded(path: &str, node: &Node<'_>) -> Result<String, Wrong> {
    let text = percent_decode_str(path).decode_utf8();
    let text = text.map_err(|_| node.wrong(format!("`{path}` is not text")))?;
    Ok(text.into_owned())
}

/// The path of the first server that holds for an operation.
fn base(document: &Document, item: &Node<'_>, node: &Node<'_>) -> Result<String, Wrong> {
    let root = document.root();
    let mut server = None;
    for node in [node, item, &root] {
        server = server.or(node.member("servers").items("`servers`")?.next());
    }
    let Some(server) = server else { return Ok(String::new()) };
    let mut url = server.text("url")?.unwrap_or_default().to_owned();
    for (name, variable) in server.member("variables").members("`variables`")? {
        let default = variable.text("default")?.unwrap_or_default();
        url = url.replace(&format!("{{{name}}}"), default);
    }
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("", |at| &rest[at..]),
        None => url.as_str(),
    };
    let path = path.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
    let path = decoded(path, &server)?;
    match path.contains(['{', '}']) || path.contains(char::is_whitespace) {
        true => Err(server.member("url").wrong(format!("`{url}` has a part that nothing fills"))),
        false if path.is_empty() || path.starts_with('/') => Ok(path),
        false => Ok(format!("/{path}")),
    }
}

/// Makes the parameters of the path those that stand in it.
fn fit_path<'d>(
    mut params: Vec<Parameter<'d>>,
    path: &str,
    operation: &str,
    node: &Node<'d>,
    warnings: &mut Vec<String>,
) -> Result<Vec<Parameter<'d>>, Wrong> {
    let names: Vec<&str> = names(path).collect();
    for (number, name) in names.iter().enumerate() {
        if names[..number].contains(name) {
            return Err(node.wrong(format!("`{{{name}}}` stands twice in {path}")));
        }
        if !params.iter().any(|param| param.place == Place::Path && param.name == *name) {
            return Err(node.wrong(format!("the parameter `{name}` of the path is not described")));
        }
    }
    params.retain(|param| {
        let stands = param.place != Place::Path || names.contains(&param.name);
        if !stands {
            let name = param.name;
            warnings.push(format!("{operation}: the parameter `{name}` is not in the path"));
        }
        stands
    });
    Ok(params)
}

/// Names in a path.
pub(super) fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

// === impl Parameter ===

impl<'d> Parameter<'d> {
    /// `None` where it is none that a handler could be given.
    fn read(
        document: &'d Document,
        node: &Node<'d>,
        operation: &str,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Self>, Wrong> {
        let need = |name: &str| {
            node.text(name)?.ok_or_else(|| node.wrong(format!("this parameter has no `{name}`")))
        };
        let name = need("name")?;
        let place = match need("in")? {
            "path" => Place::Path,
            "query" => Place::Query,
            "header" if NOT_PARAMETERS.iter().any(|own| name.eq_ignore_ascii_case(own)) => {
                return Ok(None);
            }
            "header" => Place::Header,
            "cookie" => {
                warnings.push(format!("{operation}: the cookie `{name}` is not read"));
                return Ok(None);
            }
            other => {
                let near = did_you_mean(other, ["path", "query", "header", "cookie"]);
                let message = format!("a parameter is in no `{other}`.{near}");
                return Err(node.member("in").wrong(message));
            }
        };
        let content = node.member("content").members("`content`")?.next();
        let schema = match &content {
            Some((_, media)) => media.has("schema"),
            None => node.has("schema"),
        };
        if let Some(schema) = &schema {
            // Found now, told with its place.
            document.resolve(schema.clone())?;
        }
        Ok(Some(Self {
            name,
            place,
            required: place == Place::Path || node.is("required"),
            pointer: node.pointer.clone(),
            schema,
            json: content.is_some_and(|(media, _)| is_json(media)),
            separator: separator(node, place, &format!("{operation}: `{name}`"), warnings)?,
        }))
    }
}

/// What is between the items of a list; says where texts come in a form that is not read.
fn separator(
    node: &Node<'_>,
    place: Place,
    shown: &str,
    warnings: &mut Vec<String>,
) -> Result<Option<char>, Wrong> {
    let style = node.text("style")?;
    let explode = node.value.get("explode").and_then(Value::as_bool);
    Ok(match (place, style) {
        (_, Some(style @ ("deepObject" | "label" | "matrix"))) => {
            warnings.push(format!("{shown} comes as `{style}`, which is not read"));
            None
        }
        (_, Some(style)) if !STYLES.contains(&style) => {
            let message = format!("there is no style `{style}`.{}", did_you_mean(style, STYLES));
            return Err(node.member("style").wrong(message));
        }
        (Place::Query, Some("spaceDelimited")) => Some(' '),
        (Place::Query, Some("pipeDelimited")) => Some('|'),
        (Place::Query, _) if explode.unwrap_or(true) => None,
        _ => Some(','),
    })
}

// === impl Body ===

impl<'d> Body<'d> {
    fn read(document: &'d Document, operation: &Node<'d>) -> Result<Option<Self>, Wrong> {
        let Some(body) = operation.has("requestBody") else { return Ok(None) };
        let body = document.resolve(body)?;
        let mut read = Self { required: body.is("required"), json: None, form: None, other: false };
        for (media, node) in body.member("content").members("`content`")? {
            let schema = node.has("schema");
            if is_json(media) {
                read.json = read.json.or(schema);
            } else if plain(media) == "application/x-www-form-urlencoded" {
                read.form = schema;
            } else {
                read.other = true;
            }
        }
        Ok(Some(read))
    }
}

/// Whether a media type is JSON.
pub(super) fn is_json(media: &str) -> bool {
    let media = plain(media);
    media == "application/json"
        || media.ends_with("+json")
        || matches!(&*media, "*/*" | "application/*")
}

/// A media type without parameters, in lower case.
pub(super) fn plain(media: &str) -> String {
    media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

// === impl Success ===

impl<'d> Success<'d> {
    fn read(document: &'d Document, operation: &Node<'d>) -> Result<Self, Wrong> {
        let mut found: Vec<(Option<u16>, Node<'d>)> = Vec::new();
        for (status, node) in operation.member("responses").members("`responses`")? {
            match status.to_ascii_uppercase().as_str() {
                "2XX" | "DEFAULT" => found.push((None, node)),
                text if text.starts_with('2') => {
                    let number = text.parse().ok().filter(|status| (200..300).contains(status));
                    let message = || format!("`{status}` is not the status of an answer");
                    found.push((Some(number.ok_or_else(|| node.wrong(message()))?), node));
                }
                _ => {}
            }
        }
        // Numbers before ranges, in order; `default` is of failures where there is anything else.
        found.sort_by_key(|(status, node)| {
            (status.unwrap_or(u16::MAX), node.pointer.ends_with("/default"))
        });
        let several = found.iter().filter(|(status, _)| status.is_some()).count() > 1;
        let Some((status, node)) = found.into_iter().next() else { return Ok(Self::default()) };
        let node = document.resolve(node)?;
        let content = node.member("content").members("`content`")?.collect();
        Ok(Self { status, several, content })
    }
}
