//! The outcome of a call in a sandbox as a document (`docs/sandbox.md`, section 3).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use exuvia_core::{Codec, Payload, Policy};
use serde_json::{Map, Value, json};

use super::{Denied, SandboxOutcome, Usage};

/// The name and version of the document.
pub const SCHEMA: &str = "exuvia.outcome/1";

// === impl SandboxOutcome ===

impl SandboxOutcome {
    /// The document. A result that is no JSON is told by its codec and size, `encoded` says how its
    /// bytes stand there.
    #[must_use]
    pub fn document(&self) -> Value {
        let diagnostics = &self.outcome.diagnostics;
        let mut document = json!({
            "schema": SCHEMA,
            "status": if self.outcome.result.is_ok() { "ok" } else { "failed" },
            "call_id": diagnostics.call_id,
            "handler": diagnostics.handler,
        });
        let Value::Object(members) = &mut document else { return document };
        match &self.outcome.result {
            Ok(payload) => drop(members.insert("result".into(), result(payload))),
            Err(failure) => {
                let mut told = json!(failure);
                if let Value::Object(told) = &mut told {
                    told.insert("message".into(), json!(failure.to_string()));
                    told.insert("responsible".into(), json!(failure.responsible()));
                }
                members.insert("failure".into(), told);
            }
        }
        members.insert("stdout".into(), text(&self.stdout));
        members.insert("stderr".into(), text(&self.stderr));
        members.insert("usage".into(), self.usage.document(diagnostics));
        document
    }
}

fn text(bytes: &[u8]) -> Value {
    String::from_utf8_lossy(bytes).into()
}

fn result(payload: &Payload) -> Value {
    match payload.codec {
        Codec::Empty => Value::Null,
        Codec::Json | Codec::JsonRows | Codec::JsonColumns => {
            serde_json::from_slice(&payload.body).unwrap_or(Value::Null)
        }
        Codec::Text | Codec::Csv | Codec::Ndjson => text(&payload.body),
        codec => json!({ "media_type": codec.media_type(), "bytes": payload.size() }),
    }
}

// === impl Usage ===

impl Usage {
    fn document(&self, diagnostics: &exuvia_core::Diagnostics) -> Value {
        let files = self.files.iter().map(|(path, bytes)| json!({ "path": path, "bytes": bytes }));
        json!({
            "came_at": seconds(self.came),
            "started_at": self.started.map(seconds),
            "ended_at": seconds(self.ended),
            "queued_ms": millis(self.queued),
            "wall_ms": millis(self.wall),
            "run_ms": diagnostics.run_us as f64 / 1e3,
            "cpu_ms": millis(self.cpu),
            "peak_memory": self.peak_memory,
            "output_bytes": self.output_bytes,
            "output_truncated": self.output_truncated,
            "file_bytes": self.file_bytes,
            "files": files.collect::<Vec<_>>(),
            "denied": self.denied,
            "denials": self.denials.iter().map(denial).collect::<Vec<_>>(),
            "copies": diagnostics.copies,
            "isolate": {
                "pid": diagnostics.pid,
                "tier": self.tier.word(),
                "fresh": self.fresh,
                "on_demand": self.on_demand,
                "quarantined": self.quarantined,
            },
            "policy": policy(&self.policy),
        })
    }
}

fn denial(denied: &Denied) -> Value {
    json!({ "what": denied.what, "path": denied.path, "count": denied.count })
}

/// A policy as data.
#[must_use]
pub fn policy(policy: &Policy) -> Map<String, Value> {
    let document = json!({
        "wall_ms": millis(policy.wall),
        "cpu_ms": millis(policy.cpu),
        "memory": policy.memory,
        "result": policy.result,
        "output": policy.output,
        "threads": policy.threads,
        "files": {
            "mode": policy.files.mode,
            "bytes": policy.files.bytes,
            "inodes": policy.files.inodes,
        },
    });
    match document {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Seconds since 1970.
fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
