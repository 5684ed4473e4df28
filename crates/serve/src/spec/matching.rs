//! Which handler an operation leads to, and how it is given its arguments.

use std::{collections::BTreeMap, sync::Arc};

use exuvia_core::{
    HandlerInfo, Target,
    suggest::{self, did_you_mean},
};

use super::{
    document::{Wrong, join},
    operation::{Operation, Parameter, Place, is_json, plain},
    renamed::Renamed,
};
use crate::route::{Route, RouteOptions};

/// What an operation leads to.
pub(super) enum Match<'h> {
    Handler(&'h Arc<dyn Target>),
    /// No handler, and what should be said of that.
    None(Option<String>),
}

/// The handler of `operation`.
pub(super) fn find<'h>(
    operation: &Operation<'_>,
    handlers: &'h [Arc<dyn Target>],
) -> Result<Match<'h>, Wrong> {
    if let Some(named) = operation.handler {
        return by_name(operation, named, handlers);
    }
    let Some(id) = operation.id else { return Ok(Match::None(None)) };
    let squashed = squash(id);
    // The most exact reading that any handler fits.
    let readings: [&dyn Fn(&HandlerInfo) -> bool; 4] = [
        &|info| info.name == id,
        &|info| format!("{}.{}", info.module, info.name) == id,
        &|info| squash(&info.name) == squashed,
        &|info| squash(&format!("{}{}", info.module, info.name)) == squashed,
    ];
    for reading in readings {
        let mut fitting = handlers.iter().filter(|handler| reading(handler.info()));
        match (fitting.next(), fitting.next()) {
            (None, _) => {}
            (Some(handler), None) => return Ok(Match::Handler(handler)),
            (Some(first), Some(second)) => {
                let (first, second) = (first.info().target(), second.info().target());
                return Err(Wrong {
                    pointer: join(&operation.pointer, "operationId"),
                    message: format!(
                        "`{id}` could be {first} or {second}: \
                         say which with `x-exuvia-handler: {first}`"
                    ),
                });
            }
        }
    }
    Ok(Match::None(None))
}

/// The handler that `x-exuvia-handler` names.
fn by_name<'h>(
    operation: &Operation<'_>,
    named: &str,
    handlers: &'h [Arc<dyn Target>],
) -> Result<Match<'h>, Wrong> {
    let pointer = || join(&operation.pointer, "x-exuvia-handler");
    let Some((module, _)) = named.split_once(':') else {
        let message = format!("`{named}` does not name a handler: write `module:function`");
        return Err(Wrong { pointer: pointer(), message });
    };
    if let Some(handler) = handlers.iter().find(|handler| handler.info().target() == named) {
        return Ok(Match::Handler(handler));
    }
    let known: Vec<String> = handlers.iter().map(|handler| handler.info().target()).collect();
    let near = did_you_mean(named, &known);
    if handlers.iter().any(|handler| handler.info().module == module) {
        return Err(Wrong { pointer: pointer(), message: format!("there is no `{named}`.{near}") });
    }
    // Its module is not served (yet): what stubs are for.
    let name = operation.name();
    Ok(Match::None(Some(format!(
        "{name} is a stub: its handler `{named}` is not among those that are served.{near}"
    ))))
}

/// Letters and digits of a name in lower case: `getForecast` and `get_forecast` are one.
fn squash(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The route by which `operation` leads to `target`.
pub(super) fn route(
    operation: &Operation<'_>,
    target: &Arc<dyn Target>,
    origin: &str,
    warnings: &mut Vec<String>,
) -> Result<Route, Wrong> {
    let info = target.info();
    let mut path = operation.path.clone();
    let (mut query, mut headers) = (Vec::new(), BTreeMap::new());
    let mut names = BTreeMap::new();
    let given = given(operation, info)?;
    for (own, param) in &given {
        match param.place {
            Place::Path => {
                path = path.replace(&format!("{{{}}}", param.name), &format!("{{{own}}}"));
            }
            Place::Header => {
                headers.insert((*own).to_owned(), param.name.to_ascii_lowercase());
            }
            Place::Query => {
                if param.name != *own {
                    names.insert(param.name.to_owned(), (*own).to_owned());
                }
                query.push(param.name.to_owned());
            }
        }
    }
    warnings.extend(not_given(operation, info, &given));
    let mut options = options(operation);
    (options.query, options.headers) = (Some(query), headers);
    Ok(Route {
        methods: vec![operation.method.clone()],
        path,
        target: Renamed::around(target, names),
        options,
        origin: origin.to_owned(),
        stub: false,
    })
}

/// The operation's parameters, each with the name by which the handler knows it.
fn given<'a>(
    operation: &'a Operation<'_>,
    info: &'a HandlerInfo,
) -> Result<Vec<(&'a str, &'a Parameter<'a>)>, Wrong> {
    let mut given: Vec<(&str, &Parameter<'_>)> = Vec::new();
    for param in &operation.params {
        let own = own_name(param, operation, info)?;
        if let Some((_, other)) = given.iter().find(|(name, _)| *name == own) {
            let message = format!(
                "`{}` in the {} and `{}` in the {} are both the parameter `{own}` of {}",
                other.name,
                other.place.word(),
                param.name,
                param.place.word(),
                info.target()
            );
            return Err(Wrong { pointer: param.pointer.clone(), message });
        }
        given.push((own, param));
    }
    Ok(given)
}

/// What routes to handlers and stubs alike take from an operation.
pub(super) fn options(operation: &Operation<'_>) -> RouteOptions {
    let success = &operation.success;
    let medias: Vec<String> = success.content.iter().map(|(media, _)| plain(media)).collect();
    let media = match medias.as_slice() {
        [media] if !is_json(media) && !media.contains('*') => Some(media.clone()),
        _ => None,
    };
    RouteOptions {
        // Of several the result decides: with data or without.
        status: success.status.filter(|_| !success.several),
        media,
        summary: operation.summary.map(str::to_owned),
        tags: operation.tags.clone(),
        deprecated: operation.deprecated,
        ..RouteOptions::default()
    }
}

/// The name by which the handler knows `param`.
fn own_name<'i>(
    param: &Parameter<'i>,
    operation: &Operation<'_>,
    info: &'i HandlerInfo,
) -> Result<&'i str, Wrong> {
    let own = || info.params.iter().map(|param| param.name.as_str());
    if let Some(name) = own().find(|name| *name == param.name) {
        return Ok(name);
    }
    let squashed = squash(param.name);
    // One that another parameter of the operation has to itself is not meant.
    let taken = |name: &str| operation.params.iter().any(|other| other.name == name);
    let mut fitting = own().filter(|name| squash(name) == squashed && !taken(name));
    let wrong = |message: String| Wrong { pointer: param.pointer.clone(), message };
    match (fitting.next(), fitting.next()) {
        (Some(name), None) => Ok(name),
        (Some(first), Some(second)) => Err(wrong(format!(
            "`{}` could be the parameter `{first}` or `{second}` of {}",
            param.name,
            info.target()
        ))),
        (None, _) if info.open && plain_name(param.name) => Ok(param.name),
        (None, _) => Err(wrong(format!(
            "{} has the parameter `{}` in its {}, and its handler {} has none of that name: \
             {}.{}",
            operation.name(),
            param.name,
            param.place.word(),
            info.target(),
            info.signature(),
            near(&squashed, own())
        ))),
    }
}

/// ` Did you mean ...?`, whatever way words are joined in.
fn near<'i>(squashed: &str, own: impl Iterator<Item = &'i str> + Clone) -> String {
    let by_letters: Vec<String> = own.clone().map(squash).collect();
    let nearest = suggest::nearest(squashed, &by_letters);
    let name = nearest.and_then(|near| own.into_iter().find(|name| squash(name) == near));
    name.map_or(String::new(), |name| format!(" Did you mean `{name}`?"))
}

/// Whether `**kwargs` may be given `name`.
fn plain_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with(':')
}

/// What is said where every call would fail.
fn not_given(
    operation: &Operation<'_>,
    info: &HandlerInfo,
    given: &[(&str, &Parameter<'_>)],
) -> Option<String> {
    if operation.body.is_some() {
        return None;
    }
    let mut params = info.params.iter();
    let missing = params
        .find(|param| param.required && !given.iter().any(|(name, _)| *name == param.name))?;
    Some(format!(
        "{} gives {} no `{}`, which it needs",
        operation.name(),
        info.target(),
        missing.name
    ))
}
