//! Archives that unpack to far more than they are. Alone in its process, whose memory it looks at.

mod support;

use std::fs;

use exuvia_bundle::{Bundle, LimitKind, Limits, Wrong};
use flate2::{Compress, Compression, FlushCompress};
use support::{Raw, stored, zip};

/// Deflated zeros: a block of a mebibyte, over and over.
fn zeros(mebibytes: usize) -> Vec<u8> {
    let mut compress = Compress::new(Compression::best(), false);
    let mut block = Vec::with_capacity(1 << 16);
    compress.compress_vec(&vec![0; 1 << 20], &mut block, FlushCompress::Full).expect("deflated");
    let mut all = block.repeat(mebibytes);
    // An empty last block.
    all.extend_from_slice(&[3, 0]);
    all
}

/// The most memory this process ever had.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") << 10
}

#[test]
fn ten_gigabytes_of_zeros_are_refused_and_never_there() {
    let data = zeros(10 << 10);
    let whole = data.len() as u64;
    let usual = Limits::default();
    let wide = Limits { ratio: u64::MAX, entry: 16 << 20, ..usual.clone() };
    let honest =
        Raw { data, method: 8, size: u32::MAX - 1, mode: 0o100_644, ..stored("zeros", b"") };
    let modest = Raw { size: 10 << 20, ..honest.clone() };
    let archives = [zip(&[honest]), zip(&[modest])];
    let before = peak();
    for (archive, limits, expected) in [
        // It says how much there is, or nearly.
        (&archives[0], &usual, LimitKind::Entry),
        // It says less, and less than the limit.
        (&archives[1], &wide, LimitKind::Entry),
    ] {
        let error = Bundle::from_bytes("b.zip", archive.clone(), limits).expect_err("a bomb");
        match error.why {
            Wrong::BundleLimitExceeded { kind, .. } => assert_eq!(kind, expected),
            // The library counts too, and stops at what was claimed.
            Wrong::Io { ref path, .. } => assert_eq!(path, "zeros", "{error}"),
            other => panic!("{other}"),
        }
    }
    let grown = peak() - before;
    assert!(grown < 3 * whole + (16 << 20), "{grown} bytes more for an archive of {whole}");
}

#[test]
fn many_small_bombs_are_one_large_one() {
    let crc = crc32fast::hash(&vec![0; 1 << 20]);
    let one = Raw { data: zeros(1), method: 8, size: 1 << 20, crc, ..stored("", b"") };
    let entries: Vec<Raw> = (0..100)
        .map(|number| Raw { name: format!("zeros{number}").into_bytes(), ..one.clone() })
        .collect();
    let limits = Limits { total: 10 << 20, ratio: u64::MAX, ..Limits::default() };
    let error = Bundle::from_bytes("b.zip", zip(&entries), &limits).expect_err("a bomb");
    assert!(
        matches!(error.why, Wrong::BundleLimitExceeded { kind: LimitKind::Total, .. }),
        "{error}"
    );
}
