//! Is a value a secret or a word? Placeholders, and how random a string looks.

use super::words::Words;

/// What `value` looks like, judged without its surroundings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Look {
    /// Words, a number, an identifier.
    Plain,
    /// Mixed enough to be a secret when a name says so.
    Mixed,
    /// Nothing but chance makes such a string.
    Random,
}

/// Longest value that is judged; of a longer one only its beginning.
const JUDGED: usize = 128;

/// How random `value` looks.
pub(super) fn look(value: &[u8], words: &Words) -> Look {
    let value = &value[..value.len().min(JUDGED)];
    let (mut lower, mut upper, mut digit, mut other) = (0u32, 0u32, 0u32, 0u32);
    let mut seen = [0u64; 4];
    let (mut pairs, mut common, mut turns) = (0u32, 0u32, 0u32);
    let mut last = 0u8;
    for &c in value {
        seen[(c >> 6) as usize] |= 1 << (c & 63);
        match c {
            b'a'..=b'z' => lower += 1,
            b'A'..=b'Z' => upper += 1,
            b'0'..=b'9' => digit += 1,
            _ => other += 1,
        }
        if c.is_ascii_alphabetic() && last.is_ascii_alphabetic() {
            pairs += 1;
            // A capital inside a word starts a new one, so the pair before it tells nothing.
            if words.common_pair(last, c) || (last.is_ascii_lowercase() && c.is_ascii_uppercase() && value.len() < 24) {
                common += 1;
            }
            turns += u32::from(last.is_ascii_lowercase() && c.is_ascii_uppercase());
        } else if c.is_ascii_digit() != last.is_ascii_digit() && last != 0 {
            turns += 1;
        }
        last = c;
    }
    let distinct: u32 = seen.iter().map(|w| w.count_ones()).sum();
    let n = value.len() as u32;
    let letters = lower + upper;
    if n < 6 || distinct < 4 || distinct * 5 < n.min(40) || letters + digit == 0 {
        return Look::Plain;
    }
    let hex_like = value.iter().all(|c| c.is_ascii_hexdigit() || *c == b'-');
    if digit == 0 {
        // Letters only: words, unless their pairs are not those of any language.
        let odd = pairs >= 12 && common * 100 < pairs * 55;
        return match (odd, letters >= 16 && other * 4 <= n) {
            (true, true) if lower > 0 && upper > 2 => Look::Random,
            (true, true) => Look::Mixed,
            _ => Look::Plain,
        };
    }
    if letters == 0 {
        return Look::Plain;
    }
    if hex_like {
        return if n >= 16 && digit >= 2 && letters >= 2 { Look::Random } else { Look::Mixed };
    }
    let wordy = pairs >= 5 && common * 100 >= pairs * 72;
    if wordy && turns * 5 < n {
        return Look::Plain;
    }
    if n >= 16 && turns >= 3 && distinct >= 8 && other * 4 <= n && !wordy {
        return Look::Random;
    }
    if turns >= 2 || digit >= 2 { Look::Mixed } else { Look::Plain }
}

/// True when nearly all of a value is one character, a sequence, or otherwise filler: `xxxx…`, `0000…`, `****`.
pub(super) fn filler(value: &[u8]) -> bool {
    let mut seen = [0u64; 4];
    for &c in value.iter().take(JUDGED) {
        seen[(c >> 6) as usize] |= 1 << (c & 63);
    }
    seen.iter().map(|w| w.count_ones()).sum::<u32>() <= 3
}
