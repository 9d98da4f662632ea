//! The outline of LZ4 frames (LZ4 Frame Format 1.6): where each ends, and that nothing is missing.
//!
//! The decoder takes the end of the input between two blocks for the end of the frame, so a body cut there would pass
//! for a shorter one. The outline is a few bytes per block and is read first.

const MAGIC: u32 = 0x184D_2204;

/// Frames that carry no data: sixteen magic numbers from here.
const SKIPPABLE: u32 = 0x184D_2A50;

/// Whether `packed` is a sequence of whole frames. Sizes only; sums and contents are the decoder's.
pub(super) fn is_whole(packed: &[u8]) -> bool {
    let mut rest = Rest(packed);
    while !rest.0.is_empty() {
        if frame(&mut rest).is_none() {
            return false;
        }
    }
    true
}

/// The unread rest of the input.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn skip(&mut self, n: usize) -> Option<()> {
        self.0 = self.0.get(n..)?;
        Some(())
    }

    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*bytes))
    }
}

fn frame(rest: &mut Rest<'_>) -> Option<()> {
    match rest.u32()? {
        MAGIC => {}
        // Data in them would be dropped unseen; no OTLP client writes any.
        magic if magic & !0xf == SKIPPABLE => return None,
        _ => return None,
    }
    let flags = rest.byte()?;
    let has = |bit: u8| usize::from(flags >> bit & 1);
    let (block_sums, content_size, content_sum, dictionary) = (has(4), has(3), has(2), has(0));
    // The block size, what the flags announce, and the header's own sum.
    rest.skip(1 + 8 * content_size + 4 * dictionary + 1)?;
    loop {
        match rest.u32()? {
            0 => return rest.skip(4 * content_sum),
            // The highest bit says that the block is not compressed.
            size => rest.skip((size & 0x7fff_ffff) as usize + 4 * block_sums)?,
        }
    }
}
