//! The server with nothing behind it: what HTTP alone costs. A target in the same process answers
//! `POST /bench/echo` with its own body and `POST /bench/hello` with 26 bytes.
//!
//! `cargo run --release -p exuvia-serve --example floor [PORT]`, then for example
//! `wrk -t1 -c64 -s post.lua http://127.0.0.1:PORT/bench/echo`.
#![expect(clippy::print_stdout, reason = "an example talks to its terminal")]

use std::{net::TcpListener, sync::Arc};

use exuvia_core::{
    Call, CallIds, Diagnostics, HandlerInfo, HandlerKind, Outcome, OutcomeFuture, Payload, Target,
};
use exuvia_observe::Metrics;
use exuvia_serve::{Backend, Readiness, Route, Server, ServerConfig};

struct Echo {
    info: Arc<HandlerInfo>,
    ids: CallIds,
    hello: bool,
}

struct Always;

impl Target for Echo {
    fn info(&self) -> &Arc<HandlerInfo> {
        &self.info
    }

    fn call(&self, call: Call) -> OutcomeFuture {
        let call_id = self.ids.next().to_string();
        let payload = if self.hello {
            Payload::json(&b"{\"message\":\"Hello, world\"}"[..])
        } else {
            call.payload
        };
        Box::pin(async move {
            Outcome {
                result: Ok(payload),
                diagnostics: Diagnostics { call_id, ..Diagnostics::default() },
            }
        })
    }
}

impl Backend for Always {
    fn readiness(&self) -> Readiness {
        Readiness { ready: true, reason: "nothing can be missing".to_owned() }
    }
}

fn route(name: &str) -> Route {
    let info = HandlerInfo {
        module: "bench".to_owned(),
        name: name.to_owned(),
        kind: HandlerKind::Async,
        streams: false,
        reads: false,
        params: Vec::new(),
        doc: String::new(),
        open: false,
        returns: String::new(),
        routes: Vec::new(),
    };
    let target = Echo { info: Arc::new(info), ids: CallIds::new(), hello: name == "hello" };
    Route::post(format!("/bench/{name}"), Arc::new(target))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).map_or(Ok(8000), |port| port.parse())?;
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    println!("http://{} process {}", listener.local_addr()?, std::process::id());
    let routes = vec![route("echo"), route("hello")];
    let server = Server::new(routes, Arc::new(Always), Metrics::new(), ServerConfig::default())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let never = std::future::pending();
    let _ =
        runtime.block_on(async { server.serve(listener, never, std::future::ready(())).await })?;
    Ok(())
}
