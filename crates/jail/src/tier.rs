//! Which layers a machine has.

use crate::kernel;

mod rehearsal;

/// How much of the sandbox a machine can keep up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// All layers.
    Full,
    /// All but namespaces.
    Reduced,
    /// Landlock or seccomp is missing: no sandbox.
    None,
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// As in `docs/security.md`.
    pub name: &'static str,
    /// Whether it is there.
    pub up: bool,
    /// Which version, or what is missing.
    pub detail: String,
}

/// What a machine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Support {
    /// What follows from the layers.
    pub tier: Tier,
    /// Each of them.
    pub layers: Vec<Layer>,
    /// The version of Landlock, 0 if there is none.
    pub landlock_abi: u32,
}

/// From which version on Landlock knows of what.
const LANDLOCK: [(u32, &str); 5] = [
    (2, "renaming between folders"),
    (3, "truncation"),
    (4, "TCP"),
    (5, "ioctl of devices"),
    (6, "abstract sockets and signals"),
];

// === impl Tier ===

impl Tier {
    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Reduced => "reduced",
            Self::None => "none",
        }
    }
}

/// Looks what this user has on this machine, by trying it in a process of its own. It takes some
/// milliseconds; nothing of it changes later.
pub fn probe() -> Support {
    let landlock_abi = kernel::landlock_version();
    let seccomp = kernel::has_notifications();
    let mut layers = vec![
        always("descriptors"),
        always("no_new_privs"),
        Layer {
            name: "seccomp",
            up: seccomp.is_ok(),
            detail: seccomp.map_or_else(|error| error.to_string(), |()| "asks the host".into()),
        },
        landlock(landlock_abi),
        always("limits"),
    ];
    let has_filters = layers.iter().all(|layer| layer.up);
    layers.extend(namespaces());
    let tier = match (has_filters, layers.iter().all(|layer| layer.up)) {
        (true, true) => Tier::Full,
        (true, false) => Tier::Reduced,
        (false, _) => Tier::None,
    };
    Support { tier, layers, landlock_abi }
}

fn always(name: &'static str) -> Layer {
    Layer { name, up: true, detail: String::new() }
}

fn landlock(version: u32) -> Layer {
    let lacks: Vec<_> =
        LANDLOCK.iter().filter(|(since, _)| version < *since).map(|(_, what)| *what).collect();
    let detail = match (version, lacks.as_slice()) {
        (0, _) => "the kernel does not have it, or it is off".into(),
        (_, []) => format!("ABI {version}"),
        _ => format!("ABI {version}; knows nothing of {}", lacks.join(", ")),
    };
    Layer { name: "Landlock", up: version > 0, detail }
}

/// Each layer is there if the rehearsal came past its step.
fn namespaces() -> Vec<Layer> {
    use rehearsal::Step;
    let failed = rehearsal::rehearse().err();
    let layer = |name, last: Step| match &failed {
        Some((step, error)) if *step <= last => {
            Layer { name, up: false, detail: format!("{}: {error}", step.word()) }
        }
        _ => always(name),
    };
    // Root's image needs none of its own, but its isolates do.
    let is_root = rustix::process::geteuid().is_root();
    vec![
        layer("user namespace", if is_root { Step::IsolateMap } else { Step::Map }),
        layer("mount namespace", Step::Pivot),
        layer("network namespace", Step::Map),
        layer("pid namespace", Step::IsolateMap),
        layer("ipc and uts namespaces", Step::IsolateMap),
        layer("tmpfs", Step::IsolateMount),
    ]
}
