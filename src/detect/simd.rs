//! The class pass: for each byte of a chunk, which of a few classes it belongs to, as bit masks of 64 bytes.
//!
//! With AVX2 a class test of 32 bytes is two shuffles (one table per nibble); the scalar twin uses one table of 256
//! entries and gives equal results. This is the only file of the crate with `unsafe` code: loads from slices whose
//! bounds are checked here, and a call of a function compiled for AVX2 after asking the CPU for it.
#![allow(unsafe_code)]

/// Bytes that one pass classifies; the masks of a chunk stay in the first-level cache.
pub(super) const CHUNK: usize = 8 * 1024;
/// Mask words of a chunk, plus one block of look-ahead.
pub(super) const WORDS: usize = CHUNK / 64 + 1;

/// Class bits of one byte.
pub(super) mod class {
    /// `+ - . /`, separators inside a token.
    pub const SEP_2: u8 = 1;
    /// `0-9`.
    pub const DIGIT: u8 = 2;
    /// Letters, first half of both cases.
    pub const ALPHA_46: u8 = 4;
    /// Letters, second half of both cases.
    pub const ALPHA_57: u8 = 8;
    /// `_`.
    pub const UNDERSCORE: u8 = 16;
    /// `~`.
    pub const TILDE: u8 = 32;
    /// `=` and `:`.
    pub const OPERATOR: u8 = 64;
    /// `@`.
    pub const AT: u8 = 128;
    /// Every byte that may be part of a token.
    pub const TOKEN: u8 = SEP_2 | DIGIT | ALPHA_46 | ALPHA_57 | UNDERSCORE | TILDE;
    /// The separators among them.
    pub const SEPARATOR: u8 = SEP_2 | UNDERSCORE | TILDE;
}

/// By low nibble: the classes whose members have that low nibble.
const LOW: [u8; 16] = nibble_tables().0;
/// By high nibble.
const HIGH: [u8; 16] = nibble_tables().1;
/// The class of every byte.
pub(super) const CLASS: [u8; 256] = classes();

const fn nibble_tables() -> ([u8; 16], [u8; 16]) {
    let mut low = [0u8; 16];
    let mut high = [0u8; 16];
    let mut i = 0;
    while i < 16 {
        if i == 0xB || i == 0xD || i == 0xE || i == 0xF {
            low[i] |= class::SEP_2;
        }
        if i <= 9 {
            low[i] |= class::DIGIT;
        }
        if i >= 1 {
            low[i] |= class::ALPHA_46;
        }
        if i <= 0xA {
            low[i] |= class::ALPHA_57;
        }
        if i == 0xF {
            low[i] |= class::UNDERSCORE;
        }
        if i == 0xE {
            low[i] |= class::TILDE;
        }
        if i == 0xA || i == 0xD {
            low[i] |= class::OPERATOR;
        }
        if i == 0 {
            low[i] |= class::AT;
        }
        i += 1;
    }
    high[2] = class::SEP_2;
    high[3] = class::DIGIT | class::OPERATOR;
    high[4] = class::ALPHA_46 | class::AT;
    high[5] = class::ALPHA_57 | class::UNDERSCORE;
    high[6] = class::ALPHA_46;
    high[7] = class::ALPHA_57 | class::TILDE;
    (low, high)
}

const fn classes() -> [u8; 256] {
    let mut table = [0u8; 256];
    let mut c = 0;
    while c < 256 {
        table[c] = LOW[c & 15] & HIGH[c >> 4];
        c += 1;
    }
    table
}

/// What may stand between a name and its operator, and digits at the end of a name.
pub(super) const SKIPPED: [bool; 256] = {
    let mut table = [false; 256];
    let bytes = b"\" \\'\t]`?|.+0123456789_";
    let mut i = 0;
    while i < bytes.len() {
        table[bytes[i] as usize] = true;
        i += 1;
    }
    table
};

/// [`SKIPPED`] by low nibble: bit n says that the byte with this low nibble and the high nibble n is a member.
const SKIP_LOW: [u8; 16] = {
    let mut low = [0u8; 16];
    let mut c = 0;
    while c < 128 {
        if SKIPPED[c] {
            low[c & 15] |= 1 << (c >> 4);
        }
        c += 1;
    }
    low
};
/// The bit of each high nibble; none for bytes beyond ASCII.
const SKIP_HIGH: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 0, 0, 0, 0, 0, 0, 0, 0];

/// The bit masks of 64 bytes: bit `i` speaks of byte `i`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Block {
    /// Token characters `[A-Za-z0-9_\-+/.~]`.
    pub token: u64,
    /// The separators among them.
    pub separator: u64,
    /// `0-9`.
    pub digit: u64,
    /// `=` and `:`.
    pub operator: u64,
    /// `@`.
    pub at: u64,
    /// `-`.
    pub dash: u64,
    /// Space.
    pub space: u64,
    /// `+`.
    pub plus: u64,
    /// `s` in either case.
    pub s: u64,
    /// `w` in either case.
    pub w: u64,
    /// What may stand between a name and its operator, see [`SKIPPED`].
    pub skip: u64,
}

impl Block {
    /// Only the bits of `inside`; `skip` stays, it tells how far to look back.
    pub fn keep(&mut self, inside: u64) {
        for word in [
            &mut self.token,
            &mut self.separator,
            &mut self.digit,
            &mut self.operator,
            &mut self.at,
            &mut self.dash,
            &mut self.space,
            &mut self.plus,
            &mut self.s,
            &mut self.w,
        ] {
            *word &= inside;
        }
    }
}

/// The masks of one chunk and a block of look-ahead.
pub(super) struct Masks {
    /// Block by block.
    pub blocks: [Block; WORDS],
}

impl Masks {
    /// All zero, boxed: too large for the stack of a deep call.
    pub fn new() -> Box<Self> {
        Box::new(Masks { blocks: [Block::default(); WORDS] })
    }
}

/// Fills the masks of `data` (at most [`CHUNK`] + 64 bytes); what lies behind its end counts as no class.
/// Returns the number of words written, the last of them partly filled.
pub(super) fn classify(data: &[u8], masks: &mut Masks) -> usize {
    let data = &data[..data.len().min(WORDS * 64)];
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the CPU has AVX2.
        unsafe { avx2::classify(data, masks) };
        return data.len().div_ceil(64);
    }
    classify_scalar(data, masks);
    data.len().div_ceil(64)
}

/// The scalar twin of [`classify`].
pub(super) fn classify_scalar(data: &[u8], masks: &mut Masks) {
    for (k, bytes) in data.chunks(64).enumerate() {
        masks.blocks[k] = block_scalar(bytes);
    }
}

fn block_scalar(bytes: &[u8]) -> Block {
    let mut b = Block::default();
    for (i, &c) in bytes.iter().enumerate() {
        let class = CLASS[c as usize];
        let bit = 1u64 << i;
        let on = |yes: bool| if yes { bit } else { 0 };
        b.token |= on(class & class::TOKEN != 0);
        b.separator |= on(class & class::SEPARATOR != 0);
        b.digit |= on(class & class::DIGIT != 0);
        b.operator |= on(class & class::OPERATOR != 0);
        b.at |= on(class & class::AT != 0);
        b.dash |= on(c == b'-');
        b.space |= on(c == b' ');
        b.plus |= on(c == b'+');
        b.s |= on(c | 0x20 == b's');
        b.w |= on(c | 0x20 == b'w');
        b.skip |= on(SKIPPED[c as usize]);
    }
    b
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{Block, HIGH, LOW, Masks, SKIP_HIGH, SKIP_LOW, class};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn classify(data: &[u8], masks: &mut Masks) {
        for (bytes, out) in data.chunks(64).zip(&mut masks.blocks) {
            match bytes.first_chunk::<64>() {
                // SAFETY: this function has the same target feature.
                Some(bytes) => unsafe { block(bytes, out) },
                None => {
                    // Zero is of no class.
                    let mut padded = [0u8; 64];
                    padded[..bytes.len()].copy_from_slice(bytes);
                    // SAFETY: this function has the same target feature.
                    unsafe { block(&padded, out) }
                }
            }
        }
    }

    /// The top bits of the bytes of both halves.
    macro_rules! bits {
        ($a:expr, $b:expr) => {
            _mm256_movemask_epi8($a) as u32 as u64 | (_mm256_movemask_epi8($b) as u32 as u64) << 32
        };
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn block(bytes: &[u8; 64], out: &mut Block) {
        // SAFETY: offsets 0 and 32 plus 32 bytes stay within the 64 bytes; the tables are 16 bytes each.
        let (a, b, low, high, skip_low, skip_high) = unsafe {
            let p = bytes.as_ptr();
            let table = |t: &[u8; 16]| _mm256_broadcastsi128_si256(_mm_loadu_si128(t.as_ptr().cast()));
            (
                _mm256_loadu_si256(p.cast()),
                _mm256_loadu_si256(p.add(32).cast()),
                table(&LOW),
                table(&HIGH),
                table(&SKIP_LOW),
                table(&SKIP_HIGH),
            )
        };
        let zero = _mm256_setzero_si256();
        let nibble = _mm256_set1_epi8(15);
        let (al, bl) = (_mm256_and_si256(a, nibble), _mm256_and_si256(b, nibble));
        let ah = _mm256_and_si256(_mm256_srli_epi16(a, 4), nibble);
        let bh = _mm256_and_si256(_mm256_srli_epi16(b, 4), nibble);
        macro_rules! classes {
            ($low:expr, $high:expr, $l:expr, $h:expr) => {
                _mm256_and_si256(_mm256_shuffle_epi8($low, $l), _mm256_shuffle_epi8($high, $h))
            };
        }
        let (x, y) = (classes!(low, high, al, ah), classes!(low, high, bl, bh));
        let (skip_x, skip_y) = (classes!(skip_low, skip_high, al, ah), classes!(skip_low, skip_high, bl, bh));
        macro_rules! any {
            ($bits:expr) => {{
                let mask = _mm256_set1_epi8($bits as i8);
                !bits!(
                    _mm256_cmpeq_epi8(_mm256_and_si256(x, mask), zero),
                    _mm256_cmpeq_epi8(_mm256_and_si256(y, mask), zero)
                )
            }};
        }
        macro_rules! is {
            ($c:expr) => {{
                let c = _mm256_set1_epi8($c as i8);
                bits!(_mm256_cmpeq_epi8(a, c), _mm256_cmpeq_epi8(b, c))
            }};
        }
        let case = _mm256_set1_epi8(0x20);
        let (a_lower, b_lower) = (_mm256_or_si256(a, case), _mm256_or_si256(b, case));
        macro_rules! letter {
            ($c:expr) => {{
                let c = _mm256_set1_epi8($c as i8);
                bits!(_mm256_cmpeq_epi8(a_lower, c), _mm256_cmpeq_epi8(b_lower, c))
            }};
        }
        *out = Block {
            token: any!(class::TOKEN),
            separator: any!(class::SEPARATOR),
            digit: bits!(_mm256_slli_epi16(x, 6), _mm256_slli_epi16(y, 6)),
            operator: bits!(_mm256_slli_epi16(x, 1), _mm256_slli_epi16(y, 1)),
            at: bits!(x, y),
            dash: is!(b'-'),
            space: is!(b' '),
            plus: is!(b'+'),
            s: letter!(b's'),
            w: letter!(b'w'),
            skip: !bits!(_mm256_cmpeq_epi8(skip_x, zero), _mm256_cmpeq_epi8(skip_y, zero)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn same(data: &[u8]) {
        let (mut a, mut b) = (Masks::new(), Masks::new());
        let words = classify(data, &mut a);
        classify_scalar(data, &mut b);
        for k in 0..words {
            assert_eq!(a.blocks[k], b.blocks[k], "word {k}");
        }
    }

    #[test]
    fn every_byte_has_the_same_class_in_both() {
        let all: Vec<u8> = (0..=255u8).flat_map(|c| [c, b'w']).collect();
        same(&all);
        let token = |c: u8| c.is_ascii_alphanumeric() || b"_-+/.~".contains(&c);
        for c in 0..=255u8 {
            assert_eq!(CLASS[c as usize] & class::TOKEN != 0, token(c), "{c}");
            assert_eq!(CLASS[c as usize] & class::OPERATOR != 0, c == b'=' || c == b':');
            assert_eq!(CLASS[c as usize] & class::AT != 0, c == b'@');
        }
    }

    proptest! {
        #[test]
        fn vector_and_scalar_agree(data in proptest::collection::vec(any::<u8>(), 0..700)) {
            same(&data);
        }

        #[test]
        fn vector_and_scalar_agree_on_text(data in "[ -~pPsSwW@=:é]{0,400}") {
            same(data.as_bytes());
        }
    }
}
