//! Text from a payload, made harmless for a person's eyes.

use std::{borrow::Cow, fmt::Write};

/// Makes a text safe to show on one line of a terminal, log or page: control characters (line ends and the escape
/// that starts terminal sequences among them), characters that change the direction of text, and characters that
/// show as nothing become visible as `\n`, `\u{1b}` and so on. Everything else stays as it is; markup is not escaped.
pub fn display_safe(text: &str) -> Cow<'_, str> {
    escape(text, hidden)
}

/// As [`display_safe`], but keeps line feeds and tabs, for text shown in a block of its own.
pub fn display_safe_lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| hidden(c) && c != '\n' && c != '\t')
}

/// As [`display_safe`], and harmless in HTML: in the text of an element, or in a quoted attribute that is no address.
pub fn display_safe_html(text: &str) -> Cow<'_, str> {
    let safe = display_safe(text);
    if !safe.contains(['&', '<', '>', '"', '\'']) {
        return safe;
    }
    let mut out = String::with_capacity(safe.len() + 16);
    for c in safe.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

fn escape(text: &str, bad: impl Fn(char) -> bool) -> Cow<'_, str> {
    let Some(first) = text.find(&bad) else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len() + 16);
    let (clean, rest) = text.split_at(first);
    out.push_str(clean);
    for c in rest.chars() {
        match c {
            c if !bad(c) => out.push(c),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Writing to a String cannot fail.
            c => drop(write!(out, "\\u{{{:x}}}", u32::from(c))),
        }
    }
    Cow::Owned(out)
}

fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // direction
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}'
            // nothing to see: soft hyphen, joiners, zero-width spaces, invisible operators, fillers
            | '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2065}' | '\u{2800}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{1d173}'..='\u{1d17a}'
            // line and paragraph separators, annotations, object replacement
            | '\u{2028}' | '\u{2029}' | '\u{fff0}'..='\u{fffc}'
            // variation selectors, but for the two that choose between text and emoji; tags; the rest of their plane
            | '\u{fe00}'..='\u{fe0d}' | '\u{e0000}'..='\u{e0fff}'
            // never characters
            | '\u{fdd0}'..='\u{fdef}')
        || (u32::from(c) & 0xfffe) == 0xfffe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_text_is_untouched_and_not_copied() {
        for text in ["", "plain", "Grüße, 你好, مرحبا, שלום", "👍🏽 ❤️ \\u{1b}", "a [MASKED:aws-key] b", "<b>&amp;</b>"]
        {
            assert!(matches!(display_safe(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn attacks_become_visible() {
        for (text, want) in [
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\u{1b}[31mred\u{1b}[0m", "\\u{1b}[31mred\\u{1b}[0m"),
            ("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}"),
            ("\u{1b}]8;;http://evil\u{1b}\\click", "\\u{1b}]8;;http://evil\\u{1b}\\click"),
            ("\u{9b}2J\u{90}x\u{9c}", "\\u{9b}2J\\u{90}x\\u{9c}"),
            ("\0\u{8}\u{7f}", "\\u{0}\\u{8}\\u{7f}"),
            ("user\u{202e}gpj.exe", "user\\u{202e}gpj.exe"),
            ("\u{2066}a\u{2069}\u{200f}\u{61c}", "\\u{2066}a\\u{2069}\\u{200f}\\u{61c}"),
            ("pass\u{200b}word\u{feff}\u{ad}\u{2060}", "pass\\u{200b}word\\u{feff}\\u{ad}\\u{2060}"),
            ("a\u{2028}b\u{2029}c", "a\\u{2028}b\\u{2029}c"),
            ("\u{e0041}\u{e007f}\u{fe00}\u{e0100}", "\\u{e0041}\\u{e007f}\\u{fe00}\\u{e0100}"),
            ("\u{3164}\u{115f}\u{ffa0}\u{2800}", "\\u{3164}\\u{115f}\\u{ffa0}\\u{2800}"),
            ("\u{fffe}\u{10ffff}\u{fdd0}", "\\u{fffe}\\u{10ffff}\\u{fdd0}"),
        ] {
            assert_eq!(display_safe(text), want);
        }
    }

    #[test]
    fn lines_keep_their_ends_and_nothing_else() {
        assert_eq!(display_safe_lines("a\n\tb\r\u{1b}[2J"), "a\n\tb\\r\\u{1b}[2J");
        assert!(matches!(display_safe_lines("a\n\tb"), Cow::Borrowed(_)));
    }

    #[test]
    fn no_output_holds_a_control_character() {
        let all: String = (0..=0x0010_ffff).filter_map(char::from_u32).collect();
        assert!(!display_safe(&all).chars().any(|c| c.is_control() || hidden(c)));
    }
}
