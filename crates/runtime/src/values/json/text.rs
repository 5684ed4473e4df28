//! Text as a JSON string.

use crate::values::Unfit;

/// A comma or colon, two quotes, and an escape such as `\u001f`.
const EXTRA: usize = 9;

/// Writes `text` in quotes. Only what must be escaped is; the rest stays UTF-8.
pub(super) fn write(out: &mut Vec<u8>, text: &str) -> Result<(), Unfit> {
    let bytes = text.as_bytes();
    Unfit::room(out, bytes.len() + EXTRA)?;
    out.push(b'"');
    let mut done = 0;
    while let Some(found) = find_special(&bytes[done..]) {
        let at = done + found;
        out.extend_from_slice(&bytes[done..at]);
        escape(out, bytes[at]);
        done = at + 1;
        Unfit::room(out, bytes.len() - done + EXTRA)?;
    }
    out.extend_from_slice(&bytes[done..]);
    out.push(b'"');
    Ok(())
}

/// The first byte that cannot stand for itself.
fn find_special(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGHS: u64 = ONES << 7;
    // Eight bytes at a time: `zero(x)` marks each byte of x that is 0 (and, by the borrow, perhaps
    // one above it: the lowest mark is right, and only that one is used).
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let mut chunks = bytes.chunks_exact(8);
    let mut at = 0;
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        let word = u64::from_le_bytes(word);
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let quote = zero(word ^ (ONES * u64::from(b'"')));
        let backslash = zero(word ^ (ONES * u64::from(b'\\')));
        let marks = (control | quote | backslash) & HIGHS;
        if marks != 0 {
            return Some(at + marks.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    chunks.remainder().iter().position(special).map(|found| at + found)
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let letter = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', letter]);
}
