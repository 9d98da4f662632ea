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
    /// `s` followed by `w` in either case (the middle of "password").
    pub sw: u64,
}

impl Block {
    /// Only the bits of `inside`.
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
            &mut self.sw,
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
        let after = data.get(k * 64 + 64).copied().unwrap_or(0);
        masks.blocks[k] = block_scalar(bytes, after);
    }
}

fn block_scalar(bytes: &[u8], after: u8) -> Block {
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
        let next = bytes.get(i + 1).copied().unwrap_or(if i == 63 { after } else { 0 });
        b.sw |= on(c | 0x20 == b's' && next | 0x20 == b'w');
    }
    b
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{Block, HIGH, LOW, Masks, class};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn classify(data: &[u8], masks: &mut Masks) {
        for (k, (bytes, out)) in data.chunks(64).zip(&mut masks.blocks).enumerate() {
            // The byte behind a block decides about its last bit of `sw`, so a block reads one byte further where
            // there is one; zero, which is of no class, where there is none.
            match data[k * 64..].first_chunk::<65>() {
                // SAFETY: this function has the same target feature.
                Some(bytes) => unsafe { block(bytes, out) },
                None => {
                    let mut padded = [0u8; 65];
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
    unsafe fn block(bytes: &[u8; 65], out: &mut Block) {
        // SAFETY: offsets 0, 1, 32 and 33 plus 32 bytes stay within the 65 bytes; the tables are 16 bytes each.
        let (a, a1, b, b1, low, high) = unsafe {
            let p = bytes.as_ptr();
            (
                _mm256_loadu_si256(p.cast()),
                _mm256_loadu_si256(p.add(1).cast()),
                _mm256_loadu_si256(p.add(32).cast()),
                _mm256_loadu_si256(p.add(33).cast()),
                _mm256_broadcastsi128_si256(_mm_loadu_si128(LOW.as_ptr().cast())),
                _mm256_broadcastsi128_si256(_mm_loadu_si128(HIGH.as_ptr().cast())),
            )
        };
        let zero = _mm256_setzero_si256();
        let nibble = _mm256_set1_epi8(15);
        macro_rules! classes {
            ($v:expr) => {
                _mm256_and_si256(
                    _mm256_shuffle_epi8(low, _mm256_and_si256($v, nibble)),
                    _mm256_shuffle_epi8(high, _mm256_and_si256(_mm256_srli_epi16($v, 4), nibble)),
                )
            };
        }
        let (x, y) = (classes!(a), classes!(b));
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
        let (s, w) = (_mm256_set1_epi8(b's' as i8), _mm256_set1_epi8(b'w' as i8));
        macro_rules! pair {
            ($v:expr, $next:expr) => {
                _mm256_and_si256(
                    _mm256_cmpeq_epi8(_mm256_or_si256($v, case), s),
                    _mm256_cmpeq_epi8(_mm256_or_si256($next, case), w),
                )
            };
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
            sw: bits!(pair!(a, a1), pair!(b, b1)),
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
