//! How many values a page in a delta encoding is said to have.
//!
//! The decoder makes room for that many before it reads one, whatever the page's header says.

/// Reads along the lengths at the front of the values: for `DELTA_LENGTH_BYTE_ARRAY` one row of
/// them, for `DELTA_BYTE_ARRAY` two. Whether none has more than `limit` numbers.
pub(super) fn keeps_to(values: &[u8], rows: usize, limit: u64) -> bool {
    let mut reader = Reader { rest: values };
    for row in 1..=rows {
        match reader.header() {
            Some(header) if header.count <= limit => {
                // Of the last row the end does not matter.
                if row < rows && reader.skip(&header).is_none() {
                    return false;
                }
            }
            _ => return false,
        }
    }
    true
}

struct Reader<'a> {
    rest: &'a [u8],
}

struct Header {
    block: u64,
    minis: u64,
    count: u64,
}

// === impl Reader ===

impl Reader<'_> {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..70).step_by(7) {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn header(&mut self) -> Option<Header> {
        let (block, minis, count) = (self.number()?, self.number()?, self.number()?);
        // The first value; the others are differences.
        self.number()?;
        Some(Header { block, minis, count })
    }

    /// Goes to the end of the blocks.
    fn skip(&mut self, header: &Header) -> Option<()> {
        let each = header.block.checked_div(header.minis)?;
        let mut left = header.count.saturating_sub(1);
        while left > 0 {
            self.number()?;
            let (widths, rest) = self.rest.split_at_checked(usize::try_from(header.minis).ok()?)?;
            let mut length = 0_u64;
            for width in widths {
                if left > 0 {
                    length = length.checked_add(u64::from(*width).checked_mul(each)? / 8)?;
                }
                left = left.saturating_sub(each);
            }
            self.rest = rest.get(usize::try_from(length).ok()?..)?;
            if each == 0 {
                return None;
            }
        }
        Some(())
    }
}
