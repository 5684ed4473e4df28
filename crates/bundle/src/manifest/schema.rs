//! The JSON Schema of our manifest.

use serde_json::{Value, json};

use super::{OWN_NAME, own::SCHEMA};

const NAME: &str = r"[\p{Alphabetic}_][\p{Alphabetic}\p{N}_]*";

/// The JSON Schema of `exuvia.bundle.json`, for editors. The reader is a little stricter: it also
/// looks into version specifiers, and refuses numbers that are too large and members that are there
/// twice.
#[must_use]
pub fn schema() -> Value {
    let dotted = format!(r"{NAME}(\.{NAME})*");
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": OWN_NAME,
        "type": "object",
        "additionalProperties": false,
        "required": ["schema"],
        "properties": {
            "$schema": {"type": "string"},
            "schema": {"const": SCHEMA},
            "description": {"type": "string", "description": "For people."},
            "entrypoint": {
                "type": "string",
                "pattern": format!("^{dotted}:{dotted}$"),
                "default": "main:handler",
                "description": "module:function that answers."
            },
            "language": {"const": "python", "default": "python"},
            "packages": {
                "type": "array",
                "items": {
                    "type": "string",
                    "maxLength": 200,
                    "pattern": r"^\s*[A-Za-z0-9]([A-Za-z0-9._\-]*[A-Za-z0-9])?\s*([<>=!~].*)?$"
                },
                "description": "What must be installed, as `pip install` takes it: pandas>=3."
            },
            "preload": {
                "type": "array",
                "items": {"type": "string", "pattern": format!("^{dotted}$")},
                "description": "Modules to import before the call is there."
            },
            "limits": limits(),
            "files": files(),
            "network": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "allow": {
                        "type": "array",
                        "maxItems": 0,
                        "description": "All network is denied, and no host can be allowed yet."
                    }
                }
            }
        },
        "$defs": {
            "time": {
                "description": "A time above zero: \"30s\", \"500ms\", or a number of seconds.",
                "oneOf": [
                    {"type": "number", "exclusiveMinimum": 0},
                    {
                        "type": "string",
                        "pattern":
                            r"^\s*([0-9]+\.?[0-9]*|\.[0-9]+)\s*(us|ms|s|m|h)?\s*$",
                        "not": {"pattern": r"^[\s0.]*[A-Za-z]*\s*$"}
                    }
                ]
            },
            "size": {
                "description": "A size above zero: \"512MiB\", or a number of bytes.",
                "oneOf": [
                    {"type": "integer", "minimum": 1},
                    {
                        "type": "string",
                        "pattern": r"^\s*0*[1-9][0-9]*\s*([KkMmGg][Ii]?[Bb]|[Bb])?\s*$"
                    }
                ]
            },
            "count": {"type": "integer", "minimum": 1}
        }
    })
}

fn limits() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "description": "The host may give less.",
        "properties": {
            "wall": {"$ref": "#/$defs/time", "description": "Wall time of a call."},
            "cpu": {"$ref": "#/$defs/time", "description": "CPU time of a call, all threads."},
            "memory": {
                "$ref": "#/$defs/size",
                "description": "Memory beyond what the environment takes."
            },
            "output": {
                "$ref": "#/$defs/size",
                "description": "Standard output and error together."
            },
            "result": {"$ref": "#/$defs/size", "description": "Size of the result."},
            "threads": {
                "$ref": "#/$defs/count",
                "maximum": u32::MAX,
                "description": "Threads, the first one included."
            }
        }
    })
}

fn files() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "mode": {
                "enum": ["read", "read-write"],
                "default": "read",
                "description": "Whether /session is written."
            },
            "quota": {
                "$ref": "#/$defs/size",
                "description": "Bytes under /session at any one time."
            },
            "inodes": {
                "$ref": "#/$defs/count",
                "description": "Files and folders under /session at any one time."
            }
        }
    })
}
