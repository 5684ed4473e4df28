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

/// Bytes of the first row; `None` if it has more than `limit` fields.
pub(super) fn first(bytes: &[u8], limit: usize) -> Option<usize> {
    let mut quoted = false;
    let (mut fields, mut length) = (1, 0);
    for byte in bytes {
        match byte {
            b'"' => quoted = !quoted,
            // Empty lines before the first row are passed over.
            b'\n' | b'\r' if !quoted && length > 0 => break,
            b'\n' | b'\r' if !quoted => continue,
            b',' if !quoted => fields += 1,
            _ => {}
        }
        length += 1;
        if fields > limit {
            return None;
        }
    }
    Some(length)
}
