//! What a server tells of itself: its routes as a document, and what happens now.

use exuvia_core::{Call, Codec, Failure};
use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    openapi::{self, About},
    problem::Problem,
    server::Server,
    spec,
    watch::Surroundings,
};

impl Server {
    /// A call printed a line; the page shows it with the call.
    pub fn output(&self, call_id: &str, stream: &'static str, text: &str) {
        self.watch.output(call_id, stream, text);
    }

    /// The OpenAPI document of the routes, as JSON.
    ///
    /// # Errors
    /// No worker could say what the handlers take, or not all annotations can be had.
    pub async fn document(&self) -> Result<&str, Failure> {
        let make = || async {
            let description = self.describe().await?;
            let about = About {
                title: "Exuvia".into(),
                version: env!("CARGO_PKG_VERSION").into(),
                server: "/".into(),
            };
            Ok(openapi::document(&self.routes.declared, &description, &about).to_string())
        };
        self.document.get_or_try_init(make).await.map(String::as_str)
    }

    /// What the handlers take and give, as their workers say.
    async fn describe(&self) -> Result<Value, Failure> {
        let mut description = json!({});
        if let Some(target) = self.backend.description() {
            let call = Call { accept: Codec::Json, ..Call::default() };
            let payload = target.call(call).await.result.map_err(|failure| *failure)?;
            description = serde_json::from_slice(&payload.body).map_err(|error| Failure::Host {
                message: format!("a description of handlers: {error}"),
            })?;
        }
        spec::merge(&mut description, &self.backend.stubs());
        Ok(description)
    }

    pub(crate) async fn openapi(&self) -> Result<String, Problem> {
        self.document().await.map(str::to_owned).map_err(|failure| {
            tracing::error!("the routes cannot be described: {failure}");
            let detail = match self.config.expose_errors {
                true => failure.to_string(),
                false => "the server's log says why".to_owned(),
            };
            let title = "The routes cannot be described now";
            let status = StatusCode::SERVICE_UNAVAILABLE;
            Problem {
                responsible: failure.responsible(),
                ..Problem::new(status, failure.kind().word(), title, detail)
            }
        })
    }

    /// What happens now: `/_exuvia/state.json`.
    pub(crate) fn state(&self) -> Value {
        let readiness = self.readiness();
        let stubs = self.routes.declared.iter().filter(|route| route.stub);
        let stubs: Vec<String> = stubs.map(crate::route::Route::name).collect();
        self.watch.state(&Surroundings {
            ready: readiness.ready,
            reason: &readiness.reason,
            backend: &self.backend.state(),
            broken: &self.routes.broken,
            connections: self.metrics.http.open(),
            in_flight: self.metrics.http.in_flight.get(),
            stubs: &stubs,
        })
    }
}
