//! A sandbox for tests of what each of its layers is there for (`tests/test_escape.py`).
//!
//! `sandboxed CONFIG` takes calls as lines of JSON on stdin and gives their ends as lines of JSON on
//! stdout, each with the call's `id`. It ends when stdin does. Unlike every door of the product it can
//! leave layers out.

#![allow(clippy::print_stdout, reason = "it is how it answers")]

use std::{
    error::Error,
    io::{BufRead, stdin},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use exuvia_core::{FileMode, Files, Policy};
use exuvia_host::sandbox::{CallLimits, Code, Job, Sandbox, SandboxConfig};
use exuvia_jail::{Layers, Tier, probe};
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

const LAYERS: [(&str, Layers); 9] = [
    ("limits", Layers::LIMITS),
    ("capabilities", Layers::CAPABILITIES),
    ("landlock", Layers::LANDLOCK),
    ("seccomp", Layers::SECCOMP),
    ("user", Layers::USER),
    ("pid", Layers::PID),
    ("mounts", Layers::MOUNTS),
    ("ipc", Layers::IPC),
    ("uts", Layers::UTS),
];

fn main() -> Result<(), Box<dyn Error>> {
    let argument = std::env::args().nth(1).ok_or("sandboxed CONFIG")?;
    let config = configured(&serde_json::from_str(&argument)?)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(config))
}

async fn serve(config: SandboxConfig) -> Result<(), Box<dyn Error>> {
    let support = probe();
    let layers = support.layers.iter().map(|layer| json!({ "name": layer.name, "up": layer.up }));
    let hello = json!({
        "pid": std::process::id(),
        "tier": support.tier.word(),
        "layers": layers.collect::<Vec<_>>(),
        "landlock_abi": support.landlock_abi,
    });
    let sandbox = Arc::new(Sandbox::start(config).await?);
    println!("{hello}");
    let mut asked = lines();
    let mut running = JoinSet::new();
    while let Some(line) = asked.recv().await {
        let call: Value = serde_json::from_str(&line)?;
        running.spawn(answer(sandbox.clone(), call));
    }
    running.join_all().await;
    sandbox.close().await;
    Ok(())
}

/// The lines of stdin, read on a thread that may wait for them.
fn lines() -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

async fn answer(sandbox: Arc<Sandbox>, call: Value) {
    let told = match call["ask"].as_str() {
        Some("status") => {
            let status = sandbox.status().await;
            json!({ "image": status.image, "ready": status.ready, "running": status.running })
        }
        _ => outcome(&sandbox, &call).await,
    };
    println!("{}", json!({ "id": call["id"], "told": told }));
}

/// Null of a call that was cancelled.
async fn outcome(sandbox: &Sandbox, call: &Value) -> Value {
    let text = call["code"].as_str().unwrap_or_default().to_owned();
    let limits = CallLimits {
        wall: millis(call, "wall_ms"),
        cpu: millis(call, "cpu_ms"),
        memory: call["memory"].as_u64(),
        output: call["output"].as_u64(),
        ..CallLimits::default()
    };
    let job = Job { limits, ..Job::new(Code::Source { text, entrypoint: None }) };
    let patience = millis(call, "cancel_ms").unwrap_or(Duration::MAX);
    let ended = timeout(patience, sandbox.run(job)).await;
    ended.map_or(Value::Null, |outcome| outcome.document())
}

fn configured(asked: &Value) -> Result<SandboxConfig, Box<dyn Error>> {
    let path = |name: &str| asked[name].as_str().map(PathBuf::from).ok_or(name.to_owned());
    let number = |name: &str, usual: u64| asked[name].as_u64().unwrap_or(usual);
    let names = |name: &str| {
        let list = asked[name].as_array().into_iter().flatten();
        list.filter_map(|item| item.as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let tier = match asked["tier"].as_str() {
        Some("full") => Tier::Full,
        Some("reduced") => Tier::Reduced,
        Some("none") => Tier::None,
        _ => probe().tier,
    };
    let usual = Policy::default();
    Ok(SandboxConfig {
        python: path("python")?,
        runtime: path("runtime")?,
        view: Vec::new(),
        store: None,
        preload: names("preload"),
        policy: Policy {
            files: Files { mode: FileMode::ReadWrite, ..Files::default() },
            wall: millis(asked, "wall_ms").unwrap_or(usual.wall),
            cpu: millis(asked, "cpu_ms").unwrap_or(usual.cpu),
            memory: number("memory", usual.memory),
            ..usual
        },
        tier,
        user: (65534, 65534),
        spares: 2,
        concurrency: 4,
        queue: 1000,
        persistent: false,
        blas_threads: 1,
        start_timeout: Duration::from_secs(120),
        layers: layers(&names("without"))?,
        output: Arc::new(|_| ()),
    })
}

/// All but these.
fn layers(without: &[String]) -> Result<Layers, String> {
    without.iter().try_fold(Layers::ALL, |layers, name| {
        let found = LAYERS.iter().find(|(own, _)| own == name);
        found.map(|(_, layer)| layers.without(*layer)).ok_or(format!("no layer {name}"))
    })
}

fn millis(of: &Value, name: &str) -> Option<Duration> {
    of[name].as_u64().map(Duration::from_millis)
}
