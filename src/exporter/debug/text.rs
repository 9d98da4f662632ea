//! Values, identifiers and times as a person reads them. Everything that comes from a payload goes through
//! [`Style::safe`] or [`Style::short`]; nothing else may print it.

use crate::telemetry::{display_safe, timestamp::civil};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _};

/// How text is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    /// Highlight markers.
    pub(super) color: bool,
}

/// What masking leaves in the place of a value.
const MARKER: &str = "[MASKED:";

impl Style {
    /// Foreign text in one line, made safe for a terminal, markers highlighted.
    pub(super) fn safe(self, text: &str) -> String {
        self.highlighted(&display_safe(text))
    }

    /// [`Style::safe`], shortened to its beginning and the surroundings of its first markers.
    pub(super) fn short(self, text: &str) -> String {
        self.highlighted(&display_safe(&shortened(text)))
    }

    /// For text around values.
    pub(super) fn dim(self, text: &str) -> Cow<'_, str> {
        if self.color { Cow::Owned(format!("\x1b[2m{text}\x1b[0m")) } else { Cow::Borrowed(text) }
    }

    /// For names.
    pub(super) fn bold(self, text: &str) -> Cow<'_, str> {
        if self.color { Cow::Owned(format!("\x1b[1m{text}\x1b[0m")) } else { Cow::Borrowed(text) }
    }

    fn highlighted(self, text: &str) -> String {
        if !self.color || !text.contains(MARKER) {
            return text.to_owned();
        }
        let mut out = String::with_capacity(text.len() + 16);
        let mut rest = text;
        while let Some(start) = rest.find(MARKER) {
            let Some(length) = rest[start..].find(']') else { break };
            let end = start + length + 1;
            out.push_str(&rest[..start]);
            out.push_str("\x1b[1;33m");
            out.push_str(&rest[start..end]);
            out.push_str("\x1b[0m");
            rest = &rest[end..];
        }
        out + rest
    }
}

/// Values up to this many characters are shown whole.
const SHORT: usize = 160;
/// Of longer ones, the beginning,
const HEAD: usize = 80;
/// so much on both sides of a marker,
const AROUND: usize = 30;
/// and so many markers.
const MARKERS: usize = 3;
/// Markers are not longer.
const MAX_MARKER: usize = 100;

/// The beginning and the surroundings of the first markers, with a note of how long the whole is.
fn shortened(text: &str) -> Cow<'_, str> {
    // Cheap for the long texts of AI spans: characters are counted only up to the bound.
    if text.len() <= SHORT || text.char_indices().nth(SHORT).is_none() {
        return Cow::Borrowed(text);
    }
    let head = text.char_indices().nth(HEAD).map_or(text.len(), |(at, _)| at);
    let mut out = text[..head].to_owned();
    let mut shown = head;
    let mut markers = text.match_indices(MARKER).map(|(start, _)| {
        // Bounded: a text may hold very many beginnings of markers without an end.
        let length = text.as_bytes()[start..].iter().take(MAX_MARKER).position(|&byte| byte == b']');
        (start, start + length.map_or(MARKER.len(), |length| length + 1))
    });
    for (start, end) in markers.by_ref().filter(|&(_, end)| end > head).take(MARKERS) {
        let from = back(text, start, AROUND).max(shown);
        let to = forward(text, end, AROUND).max(shown);
        if from > shown {
            out.push_str(" … ");
        }
        out.push_str(&text[from..to]);
        shown = to;
    }
    let _infallible = write!(out, "{} ({} bytes)", if shown < text.len() { " …" } else { "" }, text.len());
    Cow::Owned(out)
}

/// The position `characters` before `at`.
fn back(text: &str, at: usize, characters: usize) -> usize {
    text[..at].char_indices().rev().nth(characters - 1).map_or(0, |(position, _)| position)
}

/// The position `characters` after `at`.
fn forward(text: &str, at: usize, characters: usize) -> usize {
    text[at..].char_indices().nth(characters).map_or(text.len(), |(position, _)| at + position)
}

/// A value in its plain form: strings as they are, everything else as the Collector writes it: bytes in base64, arrays
/// and maps as JSON with sorted keys.
pub(super) fn plain(value: Option<&AnyValue>) -> Cow<'_, str> {
    match value.and_then(|value| value.value.as_ref()) {
        None => Cow::Borrowed(""),
        Some(Value::StringValue(text)) => Cow::Borrowed(text),
        Some(Value::BoolValue(value)) => Cow::Owned(value.to_string()),
        Some(Value::IntValue(value)) => Cow::Owned(value.to_string()),
        Some(Value::DoubleValue(value)) => Cow::Owned(double(*value)),
        Some(Value::BytesValue(bytes)) => Cow::Owned(STANDARD.encode(bytes)),
        Some(value) => {
            let mut out = String::new();
            append(&mut out, Some(value), 0);
            Cow::Owned(out)
        }
    }
}

/// A value with its type, as the Collector shows it: `Str(…)`, `Int(…)`.
pub(super) fn typed(value: Option<&AnyValue>) -> String {
    let kind = match value.and_then(|value| value.value.as_ref()) {
        None => "Empty",
        Some(Value::StringValue(_)) => "Str",
        Some(Value::BoolValue(_)) => "Bool",
        Some(Value::IntValue(_)) => "Int",
        Some(Value::DoubleValue(_)) => "Double",
        Some(Value::BytesValue(_)) => "Bytes",
        Some(Value::ArrayValue(_)) => "Slice",
        Some(Value::KvlistValue(_)) => "Map",
        Some(_) => "Other",
    };
    format!("{kind}({})", plain(value))
}

/// Deeper values are not shown; the walk in front refuses them anyway.
const MAX_DEPTH: usize = 100;

fn append(out: &mut String, value: Option<&Value>, depth: usize) {
    if depth > MAX_DEPTH {
        out.push('…');
        return;
    }
    match value {
        None => out.push_str("null"),
        Some(Value::StringValue(text)) => quoted(out, text),
        Some(Value::BoolValue(value)) => out.push_str(if *value { "true" } else { "false" }),
        Some(Value::IntValue(value)) => drop(write!(out, "{value}")),
        Some(Value::DoubleValue(value)) => out.push_str(&double(*value)),
        Some(Value::BytesValue(bytes)) => quoted(out, &STANDARD.encode(bytes)),
        Some(Value::ArrayValue(array)) => {
            out.push('[');
            for (i, value) in array.values.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                append(out, value.value.as_ref(), depth + 1);
            }
            out.push(']');
        }
        Some(Value::KvlistValue(list)) => {
            // Of a repeated key the last value counts, as in the Collector's map.
            let sorted: BTreeMap<&str, Option<&Value>> = list
                .values
                .iter()
                .map(|KeyValue { key, value, .. }| {
                    (key.as_str(), value.as_ref().and_then(|value| value.value.as_ref()))
                })
                .collect();
            out.push('{');
            for (i, (key, value)) in sorted.into_iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                quoted(out, key);
                out.push(':');
                append(out, value, depth + 1);
            }
            out.push('}');
        }
        Some(_) => out.push('…'),
    }
}

fn quoted(out: &mut String, text: &str) {
    // Text always has a JSON form.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// A number as Go's JSON has it: with an exponent only where it is very small or very large.
pub(super) fn double(value: f64) -> String {
    let size = value.abs();
    match value {
        _ if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        _ if size != 0.0 && !(1e-6..1e21).contains(&size) => {
            let text = format!("{value:e}");
            if size >= 1e21 { text.replace('e', "e+") } else { text }
        }
        _ => value.to_string(),
    }
}

/// A number with six decimals, as C's and Go's `%f`.
pub(super) fn fixed(value: f64) -> String {
    match value {
        _ if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        _ => format!("{value:.6}"),
    }
}

/// An identifier in lower-case hex.
pub(super) fn hex(id: &[u8]) -> String {
    id.iter().fold(String::with_capacity(2 * id.len()), |mut out, byte| {
        let _infallible = write!(out, "{byte:02x}");
        out
    })
}

/// A length of time in its largest sensible unit.
pub(super) fn duration(start: u64, end: u64) -> String {
    let Some(nanos) = end.checked_sub(start) else { return "ends before it starts".to_owned() };
    match nanos {
        0..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{:.1}µs", nanos as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}ms", nanos as f64 / 1e6),
        _ => format!("{:.2}s", nanos as f64 / 1e9),
    }
}

/// Nanoseconds since 1970 as date and time in UTC, as Go writes it: a fraction without zeros at its end.
pub(super) fn timestamp(nanos: u64) -> String {
    const DAY: u64 = 86_400;
    let (seconds, fraction) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let (year, month, day) = civil(seconds / DAY);
    let (hour, minute, second) = (seconds % DAY / 3600, seconds % 3600 / 60, seconds % 60);
    let fraction = format!(".{fraction:09}");
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}{fraction} +0000 UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates_in_utc() {
        let at = |seconds: u64| timestamp(seconds * 1_000_000_000);
        assert_eq!(at(0), "1970-01-01 00:00:00 +0000 UTC");
        assert_eq!(at(951_782_400), "2000-02-29 00:00:00 +0000 UTC");
        assert_eq!(at(1_709_251_199), "2024-02-29 23:59:59 +0000 UTC");
        assert_eq!(at(4_107_542_400), "2100-03-01 00:00:00 +0000 UTC");
        assert_eq!(timestamp(1_581_452_772_000_000_321), "2020-02-11 20:26:12.000000321 +0000 UTC");
        assert_eq!(timestamp(1_500_000_000), "1970-01-01 00:00:01.5 +0000 UTC");
        assert_eq!(timestamp(u64::MAX), "2554-07-21 23:34:33.709551615 +0000 UTC");
    }

    #[test]
    fn numbers_are_written_as_go_does() {
        let texts = [0.0, 1.0, -1.5, 1e-6, 1e-7, 1.5e-9, 1e20, 1e21, -2.5e300, f64::NAN, f64::INFINITY].map(double);
        let want = ["0", "1", "-1.5", "0.000001", "1e-7", "1.5e-9", "100000000000000000000", "1e+21", "-2.5e+300"];
        assert_eq!(texts[..9], want);
        assert_eq!(texts[9..], ["NaN", "Infinity"]);
        assert_eq!([1.0, f64::NAN, f64::NEG_INFINITY].map(fixed), ["1.000000", "NaN", "-Inf"]);
    }

    #[test]
    fn maps_are_json_with_sorted_keys() {
        let text = |text: &str| AnyValue { value: Some(Value::StringValue(text.into())) };
        let pair = |key: &str, value| KeyValue { key: key.into(), value: Some(value), ..KeyValue::default() };
        let bytes = AnyValue { value: Some(Value::BytesValue(vec![0xff, 0])) };
        let array = AnyValue {
            value: Some(Value::ArrayValue(opentelemetry_proto::tonic::common::v1::ArrayValue {
                values: vec![text("a\"b\n"), AnyValue { value: None }, bytes.clone()],
            })),
        };
        let values = vec![pair("z", array), pair("a", text("<&>")), pair("a", text("last"))];
        let map = AnyValue {
            value: Some(Value::KvlistValue(opentelemetry_proto::tonic::common::v1::KeyValueList { values })),
        };
        assert_eq!(typed(Some(&map)), r#"Map({"a":"last","z":["a\"b\n",null,"/wA="]})"#);
        assert_eq!(typed(Some(&bytes)), "Bytes(/wA=)");
        assert_eq!(typed(None), "Empty()");
    }

    #[test]
    fn durations_choose_their_unit() {
        let text = |nanos: u64| duration(5, 5 + nanos);
        assert_eq!([text(999), text(1500), text(2_500_000), text(1_230_000_000)], ["999ns", "1.5µs", "2.5ms", "1.23s"]);
        assert_eq!(duration(2, 1), "ends before it starts");
    }

    #[test]
    fn long_values_keep_their_beginning_and_their_markers() {
        let style = Style { color: false };
        assert_eq!(style.short("short"), "short");
        let long = format!("{}[MASKED:github-pat]{}[MASKED:email]", "a".repeat(300), "ü".repeat(300));
        let short = style.short(&long);
        assert!(short.starts_with(&"a".repeat(HEAD)), "{short}");
        assert!(short.contains("aaa[MASKED:github-pat]üüü"), "{short}");
        assert!(short.ends_with("üüü[MASKED:email] (933 bytes)"), "{short}");
        assert!(short.chars().count() < 300, "{short}");
        let plain = style.short(&"x".repeat(1000));
        assert!(plain.ends_with(" … (1000 bytes)"), "{plain}");
        assert_eq!(style.short(&"é".repeat(SHORT)), "é".repeat(SHORT), "characters count, not bytes");
    }

    #[test]
    fn nothing_reaches_the_terminal_as_a_command() {
        let style = Style { color: false };
        let text = style.safe("a\x1b[2Jb\nc\u{202e}d\u{200b}\u{9b}1me");
        assert_eq!(text, "a\\u{1b}[2Jb\\nc\\u{202e}d\\u{200b}\\u{9b}1me");
        assert_eq!(style.short("日本語 ok"), "日本語 ok");
    }

    #[test]
    fn markers_stand_out_on_a_terminal() {
        let style = Style { color: true };
        assert_eq!(style.safe("a [MASKED:x] b"), "a \x1b[1;33m[MASKED:x]\x1b[0m b");
        assert_eq!(style.safe("[MASKED:open"), "[MASKED:open");
    }
}
