//! How much an LZ4 frame can become, told without decompressing it.
//!
//! A frame is a row of blocks, none of which may become larger than its header says. The decoder
//! goes on for as long as there are blocks, whatever length was announced beside the frame.

/// What an LZ4 frame begins with.
pub(crate) const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

/// Of the obsolete kind of frame, which the decoder also takes.
pub(crate) const LEGACY_MAGIC: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];

const STORED: u32 = 1 << 31;

/// The most bytes that the frame can become, and what one block of it can: its last block is the
/// only one that may be much smaller.
pub(crate) fn bound(frame: &[u8]) -> Option<(u64, u64)> {
    let header = frame.strip_prefix(&MAGIC)?;
    let (flags, sizes) = (*header.first()?, *header.get(1)?);
    let block = match (sizes >> 4) & 7 {
        4 => 64 << 10,
        5 => 256 << 10,
        6 => 1 << 20,
        7 => 4 << 20,
        _ => return None,
    };
    let content_size = if flags & 0b1000 != 0 { 8 } else { 0 };
    let dictionary = if flags & 1 != 0 { 4 } else { 0 };
    let checksum = if flags & 0b1_0000 != 0 { 4 } else { 0 };
    let mut rest = header.get(3 + content_size + dictionary..)?;
    let mut sum = 0;
    loop {
        let (head, after) = rest.split_first_chunk::<4>()?;
        let head = u32::from_le_bytes(*head);
        if head == 0 {
            return Some((sum, block));
        }
        let length = u64::from(head & !STORED);
        sum += if head & STORED != 0 { length } else { block };
        rest = after.get(usize::try_from(length).ok()? + checksum..)?;
    }
}

/// Whether a frame that is said to become `claimed` bytes keeps to that, but for its last block.
pub(crate) fn keeps_to(frame: &[u8], claimed: u64) -> bool {
    bound(frame).is_some_and(|(most, block)| most < claimed.saturating_add(block))
}
