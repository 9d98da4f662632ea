//! Numbers, enum names, hex and base64 as OTLP/JSON clients write them.

use crate::otlp::schema::Names;
use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

pub(super) fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// A double that is an integer. 2^65 is beyond every integer field, and well within i128.
pub(super) fn whole(value: f64) -> Option<i128> {
    (value.fract() == 0.0 && value.abs() < 36_893_488_147_419_103_232.0).then_some(value as i128)
}

/// A number in a string. Rust's own parser takes a few words more than JSON does.
pub(super) fn parse_double(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ if text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')) => {
            text.parse().ok()
        }
        _ => None,
    }
}

pub(super) fn parse_integer(text: &str) -> Option<i128> {
    text.parse().ok().or_else(|| whole(parse_double(text)?))
}

pub(super) fn number_of(names: &Names, text: &str) -> Option<i128> {
    let rest = text.strip_prefix(names.prefix)?;
    names.names.iter().position(|name| *name == rest).map(|number| number as i128)
}

pub(super) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const ANY_STANDARD: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
    const ANY_URL_SAFE: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);
    let url_safe = memchr::memchr2(b'-', b'_', text.as_bytes()).is_some();
    if url_safe { ANY_URL_SAFE.decode(text).ok() } else { ANY_STANDARD.decode(text).ok() }
}

/// Half a surrogate pair takes three bytes, and so does U+FFFD.
pub(super) fn replace_surrogates(text: &mut [u8]) {
    for at in 0..text.len().saturating_sub(2) {
        if text[at] == 0xed && text[at + 1] >= 0xa0 && text[at + 1] < 0xc0 && text[at + 2] & 0xc0 == 0x80 {
            text[at..at + 3].copy_from_slice("\u{fffd}".as_bytes());
        }
    }
}
