//! Makes a classic BPF program of rules by system call number.
//!
//! The program is a binary tree over runs of numbers with the same rule. A list that is gone through
//! costs several times as much to install: the kernel runs the program once for each number, to
//! remember which are always allowed.

use std::collections::BTreeMap;

use libc::sock_filter;

/// The architecture whose numbers are meant, as the kernel names it to filters.
#[cfg(target_arch = "x86_64")]
pub(crate) const ARCHITECTURE: u32 = 0xC000_003E;
/// As above.
#[cfg(target_arch = "aarch64")]
pub(crate) const ARCHITECTURE: u32 = 0xC000_00B7;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the sandbox has tables of system calls for x86_64 and aarch64 only");

/// Numbers from here on are of the x32 ABI, which has the same architecture as x86_64.
const X32: u32 = 0x4000_0000;

/// `seccomp_data`: where the number, the architecture and the first argument are.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// What becomes of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Allow,
    /// The host is asked.
    Notify,
    /// Fails with this error, and nobody hears of it.
    Errno(i32),
    /// The process is killed.
    Kill,
}

/// Holds if the bits of `mask` in an argument are `value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Test {
    argument: u8,
    mask: u64,
    value: u64,
}

/// An action for calls of which all tests hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) tests: Vec<Test>,
    pub(crate) action: Action,
}

/// What becomes of the calls of one number: what the first case says that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) cases: Vec<Case>,
    pub(crate) otherwise: Action,
}

/// Rules by number, and what becomes of all other numbers.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    pub(crate) rules: BTreeMap<u32, Rule>,
    pub(crate) otherwise: Action,
}

// === impl Action ===

impl Action {
    pub(crate) fn code(self) -> u32 {
        match self {
            Self::Allow => libc::SECCOMP_RET_ALLOW,
            Self::Notify => libc::SECCOMP_RET_USER_NOTIF,
            Self::Errno(errno) => libc::SECCOMP_RET_ERRNO | (errno as u32 & 0xFFFF),
            Self::Kill => libc::SECCOMP_RET_KILL_PROCESS,
        }
    }
}

// === impl Test ===

impl Test {
    /// The bits of `mask` are `value`.
    pub(crate) fn bits(argument: u8, mask: u64, value: u64) -> Self {
        Self { argument, mask, value: value & mask }
    }

    /// A 32-bit argument is `value`: the kernel does not look at the upper half, which may be
    /// anything.
    pub(crate) fn int(argument: u8, value: u32) -> Self {
        Self::bits(argument, 0xFFFF_FFFF, value.into())
    }

    /// A pointer is null.
    pub(crate) fn null(argument: u8) -> Self {
        Self::bits(argument, u64::MAX, 0)
    }

    #[cfg(test)]
    fn holds(&self, arguments: &[u64; 6]) -> bool {
        arguments[usize::from(self.argument)] & self.mask == self.value
    }

    /// The two halves, lower first: where each is, its mask and its value.
    fn halves(&self) -> impl Iterator<Item = (u32, u32, u32)> {
        let at = ARGUMENTS + 8 * u32::from(self.argument);
        let halves = [
            (at, self.mask as u32, self.value as u32),
            (at + 4, (self.mask >> 32) as u32, (self.value >> 32) as u32),
        ];
        halves.into_iter().filter(|(_, mask, _)| *mask != 0)
    }
}

// === impl Rule ===

impl Rule {
    pub(crate) fn always(action: Action) -> Self {
        Self { cases: Vec::new(), otherwise: action }
    }

    #[cfg(test)]
    pub(crate) fn decide(&self, arguments: &[u64; 6]) -> Action {
        let mut cases = self.cases.iter();
        let first = cases.find(|case| case.tests.iter().all(|test| test.holds(arguments)));
        first.map_or(self.otherwise, |case| case.action)
    }

    fn emit(&self, program: &mut Vec<sock_filter>) {
        for case in &self.cases {
            let mut steps = Vec::new();
            for (at, mask, value) in case.tests.iter().flat_map(Test::halves) {
                steps.push(load(at));
                if mask != u32::MAX {
                    steps.push(and(mask));
                }
                steps.push(jump(libc::BPF_JEQ, value, 0, 0));
            }
            steps.push(answer(case.action));
            // What does not hold goes on behind the case. There are at most six arguments of two
            // halves, so that the distance fits.
            let length = steps.len();
            for (index, step) in steps.iter_mut().enumerate() {
                if step.code == (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16 {
                    step.jf = (length - index - 1) as u8;
                }
            }
            program.extend(steps);
        }
        program.push(answer(self.otherwise));
    }
}

// === impl Policy ===

impl Policy {
    /// What becomes of a call: what the program does, said without it.
    #[cfg(test)]
    pub(crate) fn decide(&self, number: u32, arguments: &[u64; 6]) -> Action {
        if cfg!(target_arch = "x86_64") && number >= X32 {
            return Action::Kill;
        }
        self.rules.get(&number).map_or(self.otherwise, |rule| rule.decide(arguments))
    }

    pub(crate) fn compile(&self) -> Vec<sock_filter> {
        let mut program = vec![
            load(ARCH),
            jump(libc::BPF_JEQ, ARCHITECTURE, 1, 0),
            answer(Action::Kill),
            load(NUMBER),
        ];
        if cfg!(target_arch = "x86_64") {
            program.push(jump(libc::BPF_JGE, X32, 0, 1));
            program.push(answer(Action::Kill));
        }
        emit_tree(&self.runs(), &mut program);
        program
    }

    /// The first numbers of runs with the same rule, in order, from 0 on.
    fn runs(&self) -> Vec<(u32, Rule)> {
        let past = self.rules.keys().next_back().map_or(0, |last| last + 1);
        let mut runs: Vec<(u32, Rule)> = Vec::new();
        for number in 0..=past {
            let rule = self.rules.get(&number).cloned();
            let rule = rule.unwrap_or_else(|| Rule::always(self.otherwise));
            if runs.last().is_none_or(|(_, last)| *last != rule) {
                runs.push((number, rule));
            }
        }
        runs
    }
}

/// The number is in the accumulator.
fn emit_tree(runs: &[(u32, Rule)], program: &mut Vec<sock_filter>) {
    if let [(_, rule)] = runs {
        return rule.emit(program);
    }
    let (below, from) = runs.split_at(runs.len() / 2);
    let mut lower = Vec::new();
    emit_tree(below, &mut lower);
    // A conditional jump reaches 255 steps.
    match u8::try_from(lower.len()) {
        Ok(distance) => program.push(jump(libc::BPF_JGE, from[0].0, distance, 0)),
        Err(_) => {
            program.push(jump(libc::BPF_JGE, from[0].0, 0, 1));
            program.push(step(libc::BPF_JMP | libc::BPF_JA, 0, 0, lower.len() as u32));
        }
    }
    program.append(&mut lower);
    emit_tree(from, program);
}

fn step(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

fn load(at: u32) -> sock_filter {
    step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, at)
}

fn and(mask: u32) -> sock_filter {
    step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, mask)
}

fn jump(condition: u32, value: u32, holds: u8, fails: u8) -> sock_filter {
    step(libc::BPF_JMP | condition | libc::BPF_K, holds, fails, value)
}

fn answer(action: Action) -> sock_filter {
    step(libc::BPF_RET | libc::BPF_K, 0, 0, action.code())
}

#[cfg(test)]
mod tests;
