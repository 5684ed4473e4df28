//! What a handler says about itself, as its worker reported it.

use serde::{Deserialize, Serialize};

/// How a handler runs in its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandlerKind {
    /// `def`: one call at a time per worker.
    Sync,
    /// `async def`: up to `concurrency` calls at a time per worker.
    Async,
}

/// One parameter of a handler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Param {
    /// Its name in Python.
    pub name: String,
    /// The annotation as Python prints it, or empty.
    pub annotation: String,
    /// Whether a call must give it.
    pub required: bool,
    /// The default as Python prints it, where there is one.
    pub default: Option<String>,
}

/// A handler that can be called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandlerInfo {
    /// The module as routes name it (`weather` for `examples/weather.py`).
    pub module: String,
    /// The attribute in the module.
    pub name: String,
    /// How it runs.
    pub kind: HandlerKind,
    /// Whether it is a generator: its result comes in pieces.
    #[serde(default)]
    pub streams: bool,
    /// Whether its first parameter reads: it may begin before all of its data is there.
    #[serde(default)]
    pub reads: bool,
    /// Its parameters in order.
    pub params: Vec<Param>,
    /// Whether it takes arguments of any name (`**kwargs`).
    #[serde(default)]
    pub open: bool,
    /// The first paragraph of its docstring, or empty.
    pub doc: String,
    /// What it returns, as Python prints the annotation, or empty.
    pub returns: String,
    /// The routes its module gives it in `__routes__`: each key, and its options as JSON.
    #[serde(default)]
    pub routes: Vec<(String, String)>,
}

/// A module that could not be loaded while others could.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// The module as routes name it.
    pub module: String,
    /// Its file, where it was named by one.
    pub file: Option<String>,
    /// What failed, in plain words.
    pub message: String,
    /// The traceback as Python prints it, or empty.
    pub traceback: String,
}

impl HandlerInfo {
    /// `module:name`, the handler's name everywhere outside Python.
    #[must_use]
    pub fn target(&self) -> String {
        format!("{}:{}", self.module, self.name)
    }

    /// The call as Python would print it: `spread(temps: DataFrame, unit: str = 'F') -> DataFrame`.
    #[must_use]
    pub fn signature(&self) -> String {
        let params = self.params.iter().map(|param| {
            let mut text = param.name.clone();
            if !param.annotation.is_empty() {
                text += ": ";
                text += &param.annotation;
            }
            if let Some(default) = &param.default {
                text += if param.annotation.is_empty() { "=" } else { " = " };
                text += default;
            }
            text
        });
        let returns = match self.returns.as_str() {
            "" => String::new(),
            returns => format!(" -> {returns}"),
        };
        format!("{}({}){returns}", self.name, params.collect::<Vec<_>>().join(", "))
    }
}
