//! Texts that would harm a person who is shown them as they are: a corpus for the tests of every place that shows text.

#![allow(dead_code, clippy::unwrap_used)]

/// What each is for, the text, and how often it is repeated.
const CORPUS: &str = include_str!("attacks.json");

/// Every attack.
pub fn all() -> Vec<String> {
    let corpus: Vec<(String, String, usize)> = serde_json::from_str(CORPUS).unwrap();
    assert!(corpus.len() > 80);
    corpus.into_iter().map(|(_, text, times)| text.repeat(times)).collect()
}

/// Whether a character may do something to whoever sees it, by the blocks of Unicode. Not the list that `display_safe`
/// has, so that one can be wrong without the other.
fn acts(c: char) -> bool {
    let in_any = |ranges: &[(u32, u32)]| ranges.iter().any(|(first, last)| (*first..=*last).contains(&u32::from(c)));
    in_any(&[
        (0x00, 0x1f),       // C0 controls
        (0x7f, 0x9f),       // DEL and C1 controls
        (0xad, 0xad),       // soft hyphen
        (0x34f, 0x34f),     // combining grapheme joiner
        (0x61c, 0x61c),     // Arabic letter mark
        (0x115f, 0x1160),   // Hangul fillers
        (0x180b, 0x180f),   // Mongolian selectors and vowel separator
        (0x200b, 0x200f),   // zero width, direction marks
        (0x2028, 0x202e),   // separators, embeddings and overrides
        (0x2060, 0x206f),   // invisible operators, isolates, deprecated formats
        (0x2800, 0x2800),   // the empty braille pattern
        (0x3164, 0x3164),   // Hangul filler
        (0xfe00, 0xfe0d),   // variation selectors, but for text and emoji
        (0xfeff, 0xfeff),   // byte order mark
        (0xffa0, 0xffa0),   // halfwidth Hangul filler
        (0xfff9, 0xfffc),   // interlinear annotation, object replacement
        (0x1d173, 0x1d17a), // musical format characters
        (0xe0000, 0xe0fff), // tags, variation selectors
    ])
}

/// Fails if a text holds a character that acts, other than these.
#[track_caller]
pub fn assert_harmless(text: &str, but: &[char]) {
    if let Some((at, c)) = text.char_indices().find(|(_, c)| acts(*c) && !but.contains(c)) {
        let from = text[..at].char_indices().rev().nth(200).map_or(0, |(at, _)| at);
        let around: String = text[from..].chars().take(400).collect();
        panic!("U+{:04X} in {around:?}", u32::from(c));
    }
}
