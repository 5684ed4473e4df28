//! Where rows of CSV end.

/// Follows quotes through the bytes of a CSV file, however they are cut.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Rows {
    quoted: bool,
    /// Rows that have ended.
    pub(super) ended: usize,
}

// === impl Rows ===

impl Rows {
    /// Goes through `bytes`; where the last row that ends in them ends.
    pub(super) fn last_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut end = None;
        for (index, byte) in bytes.iter().enumerate() {
            match byte {
                // A quote within quotes is written twice: out and in again.
                b'"' => self.quoted = !self.quoted,
                b'\n' if !self.quoted => {
                    self.ended += 1;
                    end = Some(index + 1);
                }
                _ => {}
            }
        }
        end
    }
}

/// Fields of the first row, at most; `None` if there are more than `limit`.
pub(super) fn width(bytes: &[u8], limit: usize) -> Option<usize> {
    let mut quoted = false;
    let mut fields = 1;
    let mut begun = false;
    for byte in bytes {
        match byte {
            b'"' => quoted = !quoted,
            // Empty lines before the first row are passed over.
            b'\n' | b'\r' if !quoted && begun => break,
            b'\n' | b'\r' if !quoted => continue,
            b',' if !quoted => fields += 1,
            _ => {}
        }
        begun = true;
        if fields > limit {
            return None;
        }
    }
    Some(fields)
}
