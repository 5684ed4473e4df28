//! What answers where an operation has no handler yet: it checks what comes, and shows an example.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use exuvia_core::{
    Call, CallIds, Codec, Diagnostics, Failure, HandlerInfo, HandlerKind, InputFault, Outcome,
    OutcomeFuture, Param, Payload, Target,
};
use http::Method;
use serde_json::{Map, Value, json};
use tokio::sync::{Semaphore, oneshot};

use super::{
    described::Told,
    document::{Document, Node, Wrong, escape},
    example, faults, matching,
    operation::{Operation, Parameter, Place, is_json, plain},
    schemas::{Compiled, Schemas, Written},
    text,
};
use crate::route::{Route, RouteOptions};

/// The module that stubs are said to be of.
pub(super) const MODULE: &str = "openapi";

/// The largest body in JSON: it is made into values here, which takes many times as much.
const MOST_BODY: u64 = 1 << 20;

/// Above this many bytes a body is not looked at on the thread that serves.
const ELSEWHERE: usize = 16 << 10;

/// Nor with more lists and objects than this: nested, they would take much of its stack.
const MOST_OPEN: usize = 24;

/// Bodies that are looked at elsewhere at a time.
static THREADS: Semaphore = Semaphore::const_new(4);

/// What a body nested as deeply as JSON may be, in schemas that stand for as many others as they
/// may, takes of a stack, several times over.
const STACK: usize = 32 << 20;

/// A stub before the document's schemas are ready.
pub(super) struct Plan<'d> {
    method: Method,
    path: String,
    options: RouteOptions,
    name: String,
    /// The operation as people name it.
    shown: String,
    doc: String,
    params: Vec<Argument>,
    body: Option<Body>,
    answers: Vec<(&'d str, Node<'d>, Option<usize>)>,
}

/// A parameter.
struct Argument {
    /// Under which name it comes.
    name: String,
    required: bool,
    schema: Option<usize>,
    json: bool,
    separator: Option<char>,
}

/// What is taken as a body; numbers of schemas.
struct Body {
    required: bool,
    json: Option<usize>,
    form: Option<usize>,
}

/// Answers with an example.
struct Stub {
    info: Arc<HandlerInfo>,
    inside: Arc<Inside>,
}

/// What a stub knows.
struct Inside {
    params: Vec<Argument>,
    body: Option<Body>,
    schemas: Arc<Compiled>,
    /// The first is for whom nothing else fits; none: there is no data.
    answers: Vec<(Codec, Bytes)>,
    ids: Arc<CallIds>,
}

// === impl Plan ===

impl<'d> Plan<'d> {
    pub(super) fn new(operation: &Operation<'d>, schemas: &mut Schemas<'d>) -> Result<Self, Wrong> {
        let mut options = matching::options(operation);
        let mut path = operation.path.clone();
        let (mut query, mut params) = (Vec::new(), Vec::<Argument>::new());
        // Names in the query are the client's; what else has one of them goes by another here.
        let mut in_order: Vec<&Parameter<'_>> = operation.params.iter().collect();
        in_order.sort_by_key(|param| param.place != Place::Query);
        for param in in_order {
            let mut name = param.name.to_owned();
            if params.iter().any(|other| other.name == name) {
                name = format!("{name}-{}", param.place.word());
            }
            match param.place {
                Place::Query => query.push(name.clone()),
                Place::Path => {
                    path = path.replace(&format!("{{{}}}", param.name), &format!("{{{name}}}"));
                }
                Place::Header => {
                    options.headers.insert(name.clone(), param.name.to_ascii_lowercase());
                }
            }
            let schema = param.schema.clone();
            let schema = schema.map(|schema| schemas.add(schema, Written::ByClient)).transpose()?;
            let Parameter { required, json, separator, .. } = *param;
            params.push(Argument { name, required, schema, json, separator });
        }
        options.query = Some(query);
        let body = match &operation.body {
            None => None,
            Some(body) => {
                let mut number = |schema: &Option<Node<'d>>| {
                    let schema = schema.clone();
                    schema.map(|schema| schemas.add(schema, Written::ByClient)).transpose()
                };
                if !body.other {
                    options.max_body = Some(MOST_BODY);
                }
                let (json, form) = (number(&body.json)?, number(&body.form)?);
                Some(Body { required: body.required, json, form })
            }
        };
        let mut answers = Vec::new();
        for (media, node) in &operation.success.content {
            let schema = node.has("schema");
            let schema = schema.map(|schema| schemas.add(schema, Written::ByServer)).transpose()?;
            answers.push((*media, node.clone(), schema));
        }
        // The usual answer first.
        answers.sort_by_key(|(media, ..)| !is_json(media));
        let (method, shown) = (operation.method.clone(), operation.name());
        let doc = operation.summary.unwrap_or_default().to_owned();
        let name = name(operation);
        Ok(Self { method, path, options, name, shown, doc, params, body, answers })
    }

    /// What is said of the stub where handlers are described.
    pub(super) fn told(&self) -> Told<'_> {
        let params = self.params.iter();
        Told {
            target: format!("{MODULE}:{}", self.name),
            doc: &self.doc,
            params: params.map(|param| (&*param.name, param.required, param.schema)).collect(),
            body: self.body.as_ref().map(|body| (body.required, body.json.or(body.form))),
            returns: self.answers.first().and_then(|(.., schema)| *schema),
        }
    }

    /// The route with the stub.
    pub(super) fn route(
        self,
        document: &Document,
        schemas: &Arc<Compiled>,
        ids: &Arc<CallIds>,
        origin: &str,
        warnings: &mut Vec<String>,
    ) -> Result<Route, Wrong> {
        let mut answers: Vec<(Codec, Bytes)> = Vec::new();
        for (media, node, schema) in &self.answers {
            let codec = codec(media);
            if answers.iter().any(|(other, _)| *other == codec) {
                continue;
            }
            let (value, complaint) = answer(document, schemas, node, *schema)?;
            warnings.extend(complaint.map(|complaint| format!("{}: {complaint}", self.shown)));
            answers.extend(written(codec, &value).map(|bytes| (codec, bytes)));
        }
        let info = HandlerInfo {
            module: MODULE.into(),
            name: self.name,
            kind: HandlerKind::Async,
            streams: false,
            reads: false,
            params: described(&self.params, self.body.as_ref(), schemas),
            open: false,
            doc: self.doc,
            returns: String::new(),
            routes: Vec::new(),
        };
        let inside = Inside {
            params: self.params,
            body: self.body,
            schemas: schemas.clone(),
            answers,
            ids: ids.clone(),
        };
        Ok(Route {
            methods: vec![self.method],
            path: self.path,
            target: Arc::new(Stub { info: Arc::new(info), inside: Arc::new(inside) }),
            options: self.options,
            origin: origin.to_owned(),
            stub: true,
        })
    }
}

/// What a stub is called: the `operationId`, else method and path.
fn name(operation: &Operation<'_>) -> String {
    if let Some(id) = operation.id {
        return id.to_owned();
    }
    let whole = format!("{}{}", operation.method.as_str().to_ascii_lowercase(), operation.path);
    let words = whole.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("_")
}

/// The codec in which an answer of `media` goes out.
fn codec(media: &str) -> Codec {
    if is_json(media) {
        return Codec::Json;
    }
    let media = plain(media);
    let known = Codec::ALL
        .into_iter()
        .filter(|codec| !matches!(codec, Codec::Empty | Codec::Form | Codec::Multipart));
    let mut named = known.filter(|codec| plain(codec.media_type()) == media);
    named.next().unwrap_or(match media.as_str() {
        "application/jsonl" | "application/ndjson" => Codec::Ndjson,
        "application/csv" => Codec::Csv,
        media if media.starts_with("text/") => Codec::Text,
        _ => Codec::Bytes,
    })
}

/// The example for one media type, and what is wrong with it.
fn answer(
    document: &Document,
    schemas: &Compiled,
    media: &Node<'_>,
    schema: Option<usize>,
) -> Result<(Value, Option<String>), Wrong> {
    let given = example::given(document, media)?;
    Ok(match (given, schema) {
        (None, None) => (Value::Null, None),
        (Some(value), None) => (value, None),
        (None, Some(schema)) => {
            let (value, fits) = example::made(schemas, schema);
            let complaint = "no example could be made that fits the schema of its answer";
            (value, (!fits).then(|| complaint.to_owned()))
        }
        (Some(value), Some(schema)) => {
            // Some write JSON as a text.
            if let Value::String(text) = &value
                && let Ok(inner) = serde_json::from_str::<Value>(text)
                && !schemas.fits(schema, value.clone())
                && schemas.fits(schema, inner.clone())
            {
                return Ok((inner, None));
            }
            let faults = schemas.faults(schema, value.clone(), "");
            let complaint = faults.first().map(|fault| {
                let at = if fault.pointer.is_empty() { "it" } else { &fault.pointer };
                format!("the example does not fit its schema: {at} {}", fault.message)
            });
            (value, complaint)
        }
    })
}

/// An example in `codec`, where it can be written so.
fn written(codec: Codec, value: &Value) -> Option<Bytes> {
    let json = |value: &Value| value.to_string();
    let items = || match value {
        Value::Array(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    let text = match (codec, value) {
        (Codec::Json | Codec::JsonRows | Codec::JsonColumns, value) => json(value),
        (_, Value::String(text)) => text.clone(),
        (Codec::Ndjson, _) => items().iter().map(|item| json(item) + "\n").collect(),
        (Codec::Events, _) => {
            items().iter().map(|item| format!("data: {}\n\n", json(item))).collect()
        }
        (Codec::Text, value) => json(value),
        (Codec::Bytes, _) => String::new(),
        _ => return None,
    };
    Some(text.into())
}

/// The parameters as a handler would have them.
fn described(params: &[Argument], body: Option<&Body>, schemas: &Compiled) -> Vec<Param> {
    let param = |name: &str, schema: Option<usize>, required: bool| Param {
        name: name.to_owned(),
        annotation: schema.map_or_else(String::new, |number| annotation(schemas.schema(number))),
        required,
        default: None,
    };
    let mut all: Vec<Param> =
        params.iter().map(|own| param(&own.name, own.schema, own.required)).collect();
    let Some(body) = body else { return all };
    let Some(number) = body.json.or(body.form) else { return all };
    let mut schema = schemas.schema(number);
    while let Some(number) = schema.get("$ref").and_then(Compiled::refers)
        && schema.as_object().is_some_and(|words| words.len() == 1)
    {
        schema = schemas.schema(number);
    }
    let Some(Value::Object(members)) = schema.get("properties") else {
        all.push(param("body", Some(number), body.required));
        return all;
    };
    let required = schema.get("required").and_then(Value::as_array);
    for (name, schema) in members {
        if all.iter().any(|param| param.name == *name) {
            continue;
        }
        let needed = required.is_some_and(|names| names.iter().any(|own| own == name));
        let annotation = annotation(schema);
        let required = body.required && needed;
        all.push(Param { name: name.clone(), annotation, required, default: None });
    }
    all
}

/// What Python would call the values of a schema.
fn annotation(schema: &Value) -> String {
    let word = match schema.get("type").and_then(Value::as_str) {
        Some("string") => "str",
        Some("integer") => "int",
        Some("number") => "float",
        Some("boolean") => "bool",
        Some("array") => "list",
        Some("object") => "dict",
        _ => "",
    };
    word.to_owned()
}

// === impl Stub ===

impl Target for Stub {
    fn info(&self) -> &Arc<HandlerInfo> {
        &self.info
    }

    fn call(&self, call: Call) -> OutcomeFuture {
        let (inside, handler) = (self.inside.clone(), self.info.target());
        Box::pin(async move {
            let began = Instant::now();
            let call_id = inside.ids.next().to_string();
            let result = match is_much(&call.payload.body) {
                true => elsewhere(inside, call).await,
                false => inside.answer(&call),
            };
            let run_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            let diagnostics = Diagnostics { call_id, handler, run_us, ..Diagnostics::default() };
            Outcome { result: result.map_err(Box::new), diagnostics }
        })
    }
}

/// Whether a body is too large, or nested too deeply, for the thread that serves.
fn is_much(body: &[u8]) -> bool {
    let opening = || body.iter().filter(|byte| matches!(byte, b'[' | b'{')).count();
    body.len() > ELSEWHERE || opening() > MOST_OPEN
}

/// The same answer, made on a thread with a stack of its own.
async fn elsewhere(inside: Arc<Inside>, call: Call) -> Result<Payload, Failure> {
    let failed = |why: &str| Failure::Host { message: format!("a stub cannot answer: {why}") };
    // It is never closed.
    let _room = THREADS.acquire().await.map_err(|_| failed("the server ends"))?;
    let (tell, told) = oneshot::channel();
    let answer = move || {
        // Who asked may be gone.
        let _ = tell.send(inside.answer(&call));
    };
    let thread = std::thread::Builder::new().name("stub".into()).stack_size(STACK).spawn(answer);
    thread.map_err(|error| failed(&error.to_string()))?;
    told.await.unwrap_or_else(|_| Err(failed("its thread ended")))
}

// === impl Inside ===

impl Inside {
    fn answer(&self, call: &Call) -> Result<Payload, Failure> {
        let mut faults = Vec::new();
        for param in &self.params {
            self.check(param, &call.text_arguments, &mut faults);
        }
        self.check_body(&call.payload, &mut faults)?;
        if !faults.is_empty() {
            faults.truncate(faults::MOST);
            return Err(Failure::Input { faults });
        }
        let answers = &self.answers;
        let exact = answers.iter().find(|(codec, _)| *codec == call.accept);
        Ok(match exact.or(answers.first()) {
            Some((codec, body)) => Payload::new(*codec, body.clone()),
            None => Payload::default(),
        })
    }

    /// Holds one parameter against its schema.
    fn check(&self, param: &Argument, given: &[(String, String)], faults: &mut Vec<InputFault>) {
        let texts: Vec<&str> = given
            .iter()
            .filter(|(name, _)| *name == param.name)
            .map(|(_, text)| text.as_str())
            .collect();
        let pointer = format!("/{}", escape(&param.name));
        let mut add = |message: &str| {
            faults.push(InputFault { pointer: pointer.clone(), message: message.to_owned() });
        };
        if texts.is_empty() {
            if param.required {
                add("is missing");
            }
            return;
        }
        let Some(schema) = param.schema else { return };
        if param.json {
            match serde_json::from_str(texts[0]) {
                Ok(value) => faults.extend(self.schemas.faults(schema, value, &pointer)),
                Err(error) => add(&format!("must be JSON, and is not: {error}")),
            }
            return;
        }
        faults.extend(self.of_text(schema, param.separator, &texts, &pointer));
    }

    /// What is wrong with a text, read in the way that fits best.
    fn of_text(
        &self,
        schema: usize,
        separator: Option<char>,
        texts: &[&str],
        pointer: &str,
    ) -> Vec<InputFault> {
        let readings = text::readings(&self.schemas, schema, separator, texts);
        if readings.iter().any(|reading| self.schemas.fits(schema, reading.clone())) {
            return Vec::new();
        }
        let first = readings.into_iter().next().unwrap_or_default();
        let mut faults = self.schemas.faults(schema, first.clone(), pointer);
        // All that comes so is a string; what matters is which.
        for fault in &mut faults {
            let below = fault.pointer.strip_prefix(pointer);
            if let Some(Value::String(text)) = below.and_then(|below| first.pointer(below)) {
                let quoted = format!("not `{}`", faults::cut(text, 60));
                fault.message = fault.message.replace("not a string", &quoted);
            }
        }
        faults
    }

    fn check_body(&self, payload: &Payload, faults: &mut Vec<InputFault>) -> Result<(), Failure> {
        let Some(body) = &self.body else { return Ok(()) };
        match payload.codec {
            Codec::Empty if body.required => {
                faults.push(InputFault {
                    pointer: String::new(),
                    message: "the body is missing".into(),
                });
            }
            Codec::Json | Codec::JsonRows | Codec::JsonColumns => {
                let data: Value = serde_json::from_slice(&payload.body).map_err(|error| {
                    Failure::Malformed { message: format!("the body is not JSON: {error}") }
                })?;
                if let Some(schema) = body.json {
                    faults.extend(self.schemas.faults(schema, data, ""));
                }
            }
            Codec::Form => {
                if let Some(schema) = body.form {
                    self.check_form(schema, &payload.body, faults);
                }
            }
            // The document's schemas are of values, and these are none.
            _ => {}
        }
        Ok(())
    }

    /// Holds a form against its schema.
    fn check_form(&self, schema: usize, body: &[u8], faults: &mut Vec<InputFault>) {
        let mut fields: Vec<(String, Vec<String>)> = Vec::new();
        for (name, value) in form_urlencoded::parse(body).take(1000) {
            match fields.iter_mut().find(|(other, _)| *other == name) {
                Some((_, values)) => values.push(value.into_owned()),
                None => fields.push((name.into_owned(), vec![value.into_owned()])),
            }
        }
        let mut object = Map::new();
        for (name, values) in &fields {
            let texts: Vec<&str> = values.iter().map(String::as_str).collect();
            let readings = text::member_readings(&self.schemas, schema, name, &texts);
            // The reading with which the form has no fault here, if there is one.
            let pointer = format!("/{}", escape(name));
            let fitting = readings.iter().find(|reading| {
                let alone = json!({ name.as_str(): reading });
                let faults = self.schemas.faults(schema, alone, "");
                !faults.iter().any(|fault| fault.pointer.starts_with(&pointer))
            });
            object.insert(name.clone(), fitting.unwrap_or(&readings[0]).clone());
        }
        faults.extend(self.schemas.faults(schema, Value::Object(object), ""));
    }
}
