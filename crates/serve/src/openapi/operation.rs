//! One method of one route.

use http::Method;
use serde_json::{Map, Value, json};

use super::{
    answers::{self, Asked},
    body::{Body, defaulted, repeated},
    described::{Described, Param},
    schema::{Schemas, Text},
};
use crate::route::Route;

/// Headers that OpenAPI has other words for, and does not take as parameters.
const NOT_PARAMETERS: [&str; 3] = ["accept", "authorization", "content-type"];

/// A route under one of its methods.
#[derive(Clone, Copy)]
pub(super) struct Operation<'a> {
    pub(super) route: &'a Route,
    pub(super) method: &'a Method,
}

/// Where an argument comes from, other than the body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Path,
    Query,
    Header,
}

// === impl Operation ===

impl Operation<'_> {
    /// `shop.order`.
    pub(super) fn name(&self) -> String {
        let info = self.route.target.info();
        format!("{}.{}", info.module, info.name)
    }

    /// `shop.order.put.orders.id`.
    pub(super) fn long_name(&self) -> String {
        let parts = self.route.path.split(['/', '{', '}', '*']).filter(|part| !part.is_empty());
        let parts: Vec<_> = parts.collect();
        format!("{}.{}.{}", self.name(), self.method.as_str().to_lowercase(), parts.join("."))
            .trim_end_matches('.')
            .to_owned()
    }

    /// The groups it stands in.
    pub(super) fn tags(&self) -> Vec<String> {
        match self.route.options.tags.is_empty() {
            true => vec![self.route.target.info().module.clone()],
            false => self.route.options.tags.clone(),
        }
    }

    /// What is to be said of it.
    pub(super) fn document(&self, id: String, said: &Value, schemas: Schemas<'_>) -> Value {
        let Self { route, method } = self;
        let handler = &Described::of(route.target.info(), said);
        let parameters = self.parameters(handler, schemas);
        let elsewhere: Vec<_> = self.elsewhere();
        let in_body = |param: &&Param| elsewhere.iter().all(|(_, name, _)| *name != param.name);
        let params: Vec<_> = handler.params.iter().filter(in_body).collect();
        let has_body = !(params.is_empty() && answers::is_bodiless(method));
        let body = Body { handler, params, schemas };
        let body = body.document().filter(|_| has_body);
        let asked = Asked {
            path: elsewhere.iter().any(|(place, ..)| *place == Place::Path),
            body: body.is_some(),
            arguments: body.is_some() || !parameters.is_empty(),
        };
        let mut document = Map::new();
        let mut put = |word: &str, said: Value| document.insert(word.to_owned(), said);
        put("operationId", id.into());
        if let Some(line) = route.options.summary.as_deref().or(handler.first_line()) {
            put("summary", line.into());
        }
        if let Some(more) = handler.more() {
            put("description", more.into());
        }
        put("tags", self.tags().into());
        if route.options.deprecated {
            put("deprecated", true.into());
        }
        if !parameters.is_empty() {
            put("parameters", parameters.into());
        }
        if let Some(body) = body {
            put("requestBody", body);
        }
        put("responses", answers::responses(route, handler, schemas, &asked));
        match route.stub {
            true => put("x-exuvia-stub", true.into()),
            false => put("x-exuvia-handler", route.target.info().target().into()),
        };
        document.into()
    }

    /// What comes from elsewhere than the body: where from, the parameter, and its name there.
    fn elsewhere(&self) -> Vec<(Place, String, String)> {
        let route = self.route;
        let path = route.path_params().into_iter().map(|name| (Place::Path, name, name));
        let headers = route.options.headers.iter();
        let headers = headers.map(|(name, header)| (Place::Header, name.as_str(), header.as_str()));
        let query = route.query_params();
        let query = query.iter().map(|name| (Place::Query, name.as_str(), name.as_str()));
        let all = path.chain(query).chain(headers);
        all.map(|(place, name, there)| (place, name.to_owned(), there.to_owned())).collect()
    }

    fn parameters(&self, handler: &Described, schemas: Schemas<'_>) -> Vec<Value> {
        let shown = self.elsewhere().into_iter().filter(|(place, _, there)| {
            *place != Place::Header || !NOT_PARAMETERS.contains(&there.as_str())
        });
        shown
            .map(|(place, name, there)| parameter(place, &there, &name, handler, schemas))
            .collect()
    }
}

fn parameter(
    place: Place,
    there: &str,
    name: &str,
    handler: &Described,
    schemas: Schemas<'_>,
) -> Value {
    // One that only `**kwargs` take is said by nobody.
    let unknown = Param { name: name.to_owned(), schema: json!({}), ..Param::default() };
    let param = handler.params.iter().find(|param| param.name == name).unwrap_or(&unknown);
    let word = match place {
        Place::Path => "path",
        Place::Query => "query",
        Place::Header => "header",
    };
    let required = param.required || place == Place::Path;
    let mut said = json!({ "name": there, "in": word, "required": required });
    if let Some(description) = param.schema.get("description") {
        said["description"] = description.clone();
    }
    match schemas.as_text(&param.schema, place == Place::Query) {
        Text::Plain(schema) => said["schema"] = defaulted(schema, param),
        Text::Repeated(schema) => {
            said["style"] = "form".into();
            said["explode"] = true.into();
            said["schema"] = repeated(schema, param);
        }
        Text::Json(schema) => {
            said["content"] = json!({ "application/json": { "schema": defaulted(schema, param) } });
        }
    }
    said
}

/// A path as OpenAPI writes it, which has no word for `{*name}`.
pub(super) fn template(path: &str) -> String {
    path.replace("{*", "{")
}

/// Gives the parameters of the path, which come first, the names that a path with the same places
/// has: they are nobody's but the document's.
pub(super) fn rename<'a>(document: &mut Value, names: impl Iterator<Item = &'a str>) {
    let parameters = document.get_mut("parameters").and_then(Value::as_array_mut);
    for (parameter, name) in parameters.into_iter().flatten().zip(names) {
        parameter["name"] = name.into();
    }
}
