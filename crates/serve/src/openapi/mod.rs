//! The OpenAPI 3.1 document of a server's routes (`docs/routes.md`), made from what the worker says
//! of the handlers (`docs/types.md`).
//!
//! What it says is what happens: a request that fits it is taken, one that does not is refused.

use std::collections::{BTreeMap, HashMap, HashSet};

use http::Method;
use serde_json::{Map, Value, json};

use crate::route::Route;

mod answers;
mod body;
mod described;
mod operation;
mod schema;
#[cfg(test)]
mod tests;

use operation::Operation;

/// What a document says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The name of what is served.
    pub title: String,
    /// Its version.
    pub version: String,
    /// Where it is: `http://127.0.0.1:8000`.
    pub server: String,
}

/// The document of `routes`, without those that are hidden. `description` is what the worker said
/// of their handlers; of one that it does not name only what the route itself knows is told.
///
/// The same routes give the same document.
#[must_use]
pub fn document(routes: &[Route], description: &Value, about: &About) -> Value {
    let none = Map::new();
    let classes = description.get("definitions").and_then(Value::as_object).unwrap_or(&none);
    let operations = operations(routes);
    let ids = ids(&operations);
    let mut paths = Paths::default();
    for (operation, id) in operations.iter().zip(ids) {
        paths.add(operation, operation.document(id, description, schema::Schemas(classes)));
    }
    let problem = free("Problem", classes);
    let mut schemas = classes.clone();
    schemas.insert(problem.clone(), answers::problem());
    json!({
        "openapi": "3.1.0",
        "info": { "title": about.title, "version": about.version },
        "servers": [{ "url": about.server }],
        "tags": tags(&operations),
        "paths": paths.all,
        "components": { "schemas": schemas, "responses": answers::shared(&problem) },
    })
}

/// Paths as they are gathered.
#[derive(Default)]
struct Paths {
    all: Map<String, Value>,
    /// By path without the names in it: OpenAPI takes those that are then equal for one.
    by_shape: HashMap<String, String>,
}

// === impl Paths ===

impl Paths {
    /// Adds an operation. One that another stands in the place of (`/{name}` of `/{*name}`) cannot
    /// be said in this form, and is left out.
    fn add(&mut self, operation: &Operation<'_>, mut document: Value) {
        let template = operation::template(&operation.route.path);
        let path = self.by_shape.entry(shape(&template)).or_insert(template).clone();
        operation::rename(&mut document, names(&path));
        let item = self.all.entry(path).or_insert(json!({}));
        let method = operation.method.as_str().to_ascii_lowercase();
        if item.get(&method).is_none() {
            item[method] = document;
        }
    }
}

/// Every method of every route that is shown: the plainest paths first.
fn operations(routes: &[Route]) -> Vec<Operation<'_>> {
    let shown = routes.iter().filter(|route| !route.options.hidden);
    let mut operations: Vec<_> = shown
        .flat_map(|route| route.methods.iter().map(move |method| Operation { route, method }))
        .collect();
    operations.sort_by_key(|operation| {
        let path = operation.route.path.as_str();
        (path.contains("{*"), path, rank(operation.method), operation.method.as_str())
    });
    operations
}

/// Methods in the order in which people list them.
fn rank(method: &Method) -> usize {
    let usual = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    usual.iter().position(|usual| usual == method).unwrap_or(usual.len())
}

/// A path without the names in it.
fn shape(template: &str) -> String {
    let segments = template.split('/');
    let segments = segments.map(|one| if one.starts_with('{') { "{}" } else { one });
    segments.collect::<Vec<_>>().join("/")
}

fn names(template: &str) -> impl Iterator<Item = &str> {
    template.split('{').skip(1).filter_map(|rest| rest.split('}').next())
}

/// A name for each operation, which no other has: `shop.order`, with method and path where a
/// handler has several.
fn ids(operations: &[Operation<'_>]) -> Vec<String> {
    let mut several: BTreeMap<String, u32> = BTreeMap::new();
    for operation in operations {
        *several.entry(operation.name()).or_default() += 1;
    }
    let mut taken = HashSet::new();
    let ids = operations.iter().map(|operation| {
        let name = operation.name();
        let id = match several.get(&name) {
            Some(2..) => operation.long_name(),
            _ => name,
        };
        let mut unique = id.clone();
        let mut number = 1;
        while !taken.insert(unique.clone()) {
            number += 1;
            unique = format!("{id}.{number}");
        }
        unique
    });
    ids.collect()
}

/// Every group once, in the order in which they come.
fn tags(operations: &[Operation<'_>]) -> Value {
    let mut tags: Vec<String> = Vec::new();
    for tag in operations.iter().flat_map(|operation| operation.tags()) {
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    tags.into_iter().map(|name| json!({ "name": name })).collect()
}

/// `name`, or one like it that no class has.
fn free(name: &str, classes: &Map<String, Value>) -> String {
    let others = (1..).map(|number| match number {
        1 => name.to_owned(),
        _ => format!("{name}{number}"),
    });
    let mut free = others.filter(|name| !classes.contains_key(name));
    // Numbers do not end.
    free.next().unwrap_or_default()
}
