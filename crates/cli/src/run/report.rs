//! What a call used and was refused, in lines.

use std::time::Duration;

use exuvia_bundle::{Effective, Origin};
use exuvia_core::{
    Failure, FileMode, Resource,
    units::{duration_text, size_text},
};
use exuvia_host::sandbox::{Denied, SandboxOutcome, Usage};

use super::guest::plain;

/// Refusals that are listed.
const LISTED: usize = 20;

/// What to say below a failure.
pub(crate) fn lines(outcome: &SandboxOutcome, effective: Option<&Effective>) -> Vec<String> {
    let usage = &outcome.usage;
    let mut lines: Vec<String> = refused(usage).into_iter().collect();
    lines.extend(used(usage));
    if let Err(failure) = &outcome.outcome.result {
        lines.extend(hint(failure, usage, effective));
    }
    lines
}

/// `denied: connect (3 times), openat /session/a`
pub(crate) fn refused(usage: &Usage) -> Option<String> {
    if usage.denied == 0 {
        return None;
    }
    let mut each: Vec<(String, u64)> = Vec::new();
    for denied in &usage.denials {
        let words = plain(&Denied::words(denied)).replace('\n', "\\n");
        match each.iter_mut().find(|(known, _)| *known == words) {
            Some((_, count)) => *count += denied.count,
            None => each.push((words, denied.count)),
        }
    }
    let told: u64 = each.iter().take(LISTED).map(|(_, count)| count).sum();
    let mut words: Vec<String> = each.into_iter().take(LISTED).map(times).collect();
    if usage.denied > told {
        words.push(format!("and {} more", usage.denied - told));
    }
    Some(format!("denied: {}", words.join(", ")))
}

fn times((words, count): (String, u64)) -> String {
    if count > 1 { format!("{words} ({count} times)") } else { words }
}

/// `used: wall 1.02 s of 5s, CPU 0.98 s of 30s, memory 12 MiB of 512MiB, output 0 B of 1MiB`
fn used(usage: &Usage) -> Option<String> {
    // A call that was never handed over has used nothing.
    usage.started?;
    let policy = &usage.policy;
    let mut parts = vec![
        format!("wall {} of {}", time(usage.wall), duration_text(policy.wall)),
        format!("CPU {} of {}", time(usage.cpu), duration_text(policy.cpu)),
        format!("memory {} of {}", size(usage.peak_memory), size_text(policy.memory)),
        format!("output {} of {}", size(usage.output_bytes), size_text(policy.output)),
    ];
    if policy.files.mode == FileMode::ReadWrite {
        parts.push(format!(
            "files {} of {}",
            size(usage.file_bytes),
            size_text(policy.files.bytes)
        ));
    }
    Some(format!("used: {}", parts.join(", ")))
}

/// What would have let the call go on.
fn hint(failure: &Failure, usage: &Usage, effective: Option<&Effective>) -> Option<String> {
    let (field, flag) = match failure {
        Failure::Timeout { started: true, .. } => ("wall", "wall"),
        Failure::Limit { resource, .. } => match resource {
            Resource::Cpu => ("cpu", "cpu"),
            Resource::Memory => ("memory", "memory"),
            Resource::Result => ("result", "result-limit"),
            Resource::Output => ("output", "output-limit"),
            Resource::Files => ("files.quota", "quota"),
            Resource::Threads => ("threads", "threads"),
        },
        Failure::Denied { .. } => return writing_hint(usage, effective.is_some()),
        _ => return None,
    };
    let sources = effective.map(|effective| &effective.sources[..]).unwrap_or_default();
    let own = sources.iter().any(|source| source.field == field && source.from == Origin::Bundle);
    Some(if own {
        format!("hint: the bundle itself asks for no more `{field}` than that")
    } else {
        format!("hint: allow more with --{flag}")
    })
}

/// Who was refused to write to `/session` may have meant to ask for it.
fn writing_hint(usage: &Usage, is_bundle: bool) -> Option<String> {
    let is_session = |denied: &Denied| {
        denied
            .path
            .as_deref()
            .is_some_and(|path| !path.starts_with('/') || path.starts_with("/session"))
    };
    let meant = usage.policy.files.mode == FileMode::Read && usage.denials.iter().any(is_session);
    meant.then(|| match is_bundle {
        true => "hint: a bundle asks to write to /session with \"files\": {\"mode\": \
                 \"read-write\"}, and --files must not be read"
            .into(),
        false => "hint: --files read-write lets it write to /session".into(),
    })
}

fn time(time: Duration) -> String {
    match time.as_millis() {
        millis if millis < 1000 => format!("{millis} ms"),
        _ => format!("{:.2} s", time.as_secs_f64()),
    }
}

/// About how much.
pub(crate) fn size(bytes: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes >> shift > 0 {
            return format!("{:.1} {unit}", bytes as f64 / (1u64 << shift) as f64);
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use exuvia_core::Policy;
    use exuvia_jail::Tier;

    use super::*;

    fn usage(denials: Vec<Denied>, denied: u64) -> Usage {
        Usage {
            came: SystemTime::UNIX_EPOCH,
            started: Some(SystemTime::UNIX_EPOCH),
            ended: SystemTime::UNIX_EPOCH,
            queued: Duration::ZERO,
            wall: Duration::from_millis(1020),
            cpu: Duration::from_millis(980),
            peak_memory: 12 << 20,
            output_bytes: 5,
            output_truncated: false,
            file_bytes: 0,
            files: vec![],
            denials,
            denied,
            tier: Tier::Full,
            on_demand: true,
            fresh: true,
            quarantined: false,
            policy: Policy::default(),
        }
    }

    fn denied(what: &str, path: Option<&str>, count: u64) -> Denied {
        Denied { what: what.into(), path: path.map(Into::into), count }
    }

    #[test]
    fn each_refusal_is_listed_once_and_none_is_left_out() {
        assert_eq!(refused(&usage(vec![], 0)), None);
        let connect = || denied("connect", None, 2);
        let open = denied("openat", Some("/a\u{1b}\n"), 1);
        let told = refused(&usage(vec![connect(), open, connect()], 7));
        let expected = "denied: connect (4 times), openat /a\\u{1b}\\n, and 2 more";
        assert_eq!(told.as_deref(), Some(expected));
    }

    #[test]
    fn what_was_used_stands_beside_what_there_was() {
        let used = used(&usage(vec![], 0)).expect("a line");
        assert_eq!(
            used,
            "used: wall 1.02 s of 30s, CPU 980 ms of 30s, memory 12.0 MiB of 512MiB, output 5 B of \
             1MiB"
        );
        assert_eq!(super::used(&Usage { started: None, ..usage(vec![], 0) }), None);
    }
}
