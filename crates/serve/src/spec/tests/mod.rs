mod documents;
mod handlers;
mod stubs;

use std::sync::{Arc, Mutex};

use exuvia_core::{
    Call, Codec, Diagnostics, Failure, HandlerInfo, HandlerKind, Outcome, OutcomeFuture, Param,
    Payload, Target,
};
use serde_json::Value;

use super::{FromDocument, SpecError, routes};
use crate::route::Route;

const PETSTORE: &str = include_str!("petstore.yaml");
const MARKET: &str = include_str!("market.yaml");

/// A handler that remembers its calls.
struct Fake {
    info: Arc<HandlerInfo>,
    calls: Mutex<Vec<Call>>,
    fails: Option<Failure>,
}

impl Target for Fake {
    fn info(&self) -> &Arc<HandlerInfo> {
        &self.info
    }

    fn call(&self, call: Call) -> OutcomeFuture {
        self.calls.lock().unwrap().push(call);
        let result = match &self.fails {
            None => Ok(Payload::json("1")),
            Some(failure) => Err(Box::new(failure.clone())),
        };
        Box::pin(async move { Outcome { result, diagnostics: Diagnostics::default() } })
    }
}

/// `shop:price(item, *, n)`, as `shop:price` and the names of its parameters.
fn fake(target: &str, params: &[&str]) -> Arc<Fake> {
    let (module, name) = target.split_once(':').unwrap();
    let param = |name: &&str| Param {
        name: (*name).to_owned(),
        annotation: String::new(),
        required: true,
        default: None,
    };
    let info = HandlerInfo {
        module: module.into(),
        name: name.into(),
        kind: HandlerKind::Sync,
        streams: false,
        reads: false,
        params: params.iter().map(param).collect(),
        open: false,
        doc: String::new(),
        returns: String::new(),
        routes: Vec::new(),
    };
    Arc::new(Fake { info: Arc::new(info), calls: Mutex::default(), fails: None })
}

fn handler(target: &str, params: &[&str]) -> Arc<dyn Target> {
    fake(target, params)
}

fn read(document: &str, handlers: &[Arc<dyn Target>]) -> Result<FromDocument, SpecError> {
    routes(document, "spec.yaml", handlers)
}

/// What is made of a document without handlers.
fn stubs(document: &str) -> FromDocument {
    read(document, &[]).unwrap_or_else(|error| panic!("{error}"))
}

/// Why a document is refused.
fn refused(document: &str, handlers: &[Arc<dyn Target>]) -> String {
    match read(document, handlers) {
        Ok(_) => panic!("it was taken"),
        Err(error) => error.to_string(),
    }
}

fn route<'r>(made: &'r FromDocument, name: &str) -> &'r Route {
    let names = || made.routes.iter().map(Route::name).collect::<Vec<_>>();
    made.routes
        .iter()
        .find(|route| route.name() == name)
        .unwrap_or_else(|| panic!("{name} is not among {:?}", names()))
}

/// A call with arguments as text and a body in JSON.
fn asking(text: &[(&str, &str)], body: &str) -> Call {
    Call {
        payload: if body.is_empty() { Payload::default() } else { Payload::json(body.to_owned()) },
        text_arguments: text.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect(),
        accept: Codec::Json,
        ..Call::default()
    }
}

fn call(target: &Arc<dyn Target>, call: Call) -> Result<Payload, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(target.call(call));
    outcome.result.map_err(|failure| *failure)
}

/// The answer of a route, in JSON.
fn answer(made: &FromDocument, name: &str, text: &[(&str, &str)], body: &str) -> Value {
    let payload = call(&route(made, name).target, asking(text, body));
    let payload = payload.unwrap_or_else(|failure| panic!("{name}: {failure}"));
    assert_eq!(payload.codec, Codec::Json, "{name}");
    serde_json::from_slice(&payload.body).unwrap()
}

/// The faults of a call, as `/pointer: sentence`.
fn faults(made: &FromDocument, name: &str, text: &[(&str, &str)], body: &str) -> Vec<String> {
    match call(&route(made, name).target, asking(text, body)) {
        Err(Failure::Input { faults }) => {
            faults.iter().map(|fault| format!("{}: {}", fault.pointer, fault.message)).collect()
        }
        Ok(_) => Vec::new(),
        Err(other) => panic!("{name}: {other}"),
    }
}
