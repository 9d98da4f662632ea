//! Secrets known by the structure around them: PEM blocks, URL passwords, Authorization and Cookie headers.

use std::ops::Range;

use super::Confidence;
use super::assign::Value;
use super::catalog::Detector;
use super::checks;
use super::scan::Scan;

/// Longest user information of a URL.
const AUTHORITY: usize = 512;

/// A block whose leading dashes end at `dash`: `-----BEGIN … PRIVATE KEY-----` to its END line, or to the end of the
/// text when that was cut off.
pub(super) fn pem(scan: &mut Scan<'_>, field: usize, dash: usize) {
    let data = scan.data;
    let text = scan.text(field);
    if dash < scan.pem_end || dash >= text.high || !scan.spend(field, 200) {
        return;
    }
    let mut start = dash + 1;
    while start > text.low && data[start - 1] == b'-' && dash + 1 - start < 5 {
        start -= 1;
    }
    let head = &data[dash + 1..text.high.min(dash + 80)];
    let label_end = memchr::memmem::find(head, b"----").unwrap_or(head.len());
    let label = &head[..label_end];
    if memchr::memmem::find(label, b"PRIVATE").is_none() {
        return;
    }
    let label_end = dash + 1 + label_end;
    // Inside JSON the block ends at the latest with its string.
    let limit = string_end(data, label_end, text.high);
    if let Some(end) = end_line(data, label_end, limit, label.len()) {
        return block(scan, start..end);
    }
    block(scan, start..limit);
    // A block that was written as one string per line.
    let mut at = limit;
    while at < text.high {
        let glue = data[at..text.high].iter().zip(&data[at - 1..]).position(|(&c, &before)| {
            !(b"\"'\\ ,+\n\r\t".contains(&c) || before == b'\\' && matches!(c, b'n' | b'r' | b't'))
        });
        let Some(glue) = glue else { return };
        let from = at + glue;
        let rest = &data[from..text.high];
        let line = rest.iter().take_while(|&&c| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/' | b'=')).count();
        let last = rest.starts_with(b"-----END");
        if line < 16 && !last {
            return;
        }
        let end = string_end(data, from, text.high);
        block(scan, from..end);
        if last || end <= at {
            return;
        }
        at = end;
    }
}

fn block(scan: &mut Scan<'_>, range: Range<usize>) {
    scan.pem_end = range.end;
    scan.done = scan.done.max(range.end);
    scan.add(Detector::PrivateKey, range, Confidence::High, 4);
}

/// The end of the END line, if there is one.
fn end_line(data: &[u8], from: usize, limit: usize, label: usize) -> Option<usize> {
    let text = &data[from..limit];
    let n = memchr::memmem::find(text, b"--END").or_else(|| memchr::memmem::find(text, b"-- END"))?;
    let line = from + n + 2;
    Some(match memchr::memmem::find(&data[line..limit.min(line + 96)], b"-----") {
        Some(close) => line + close + 5,
        None => limit.min(line + label),
    })
}

/// The end of the text, but inside JSON the quote that closes the string.
fn string_end(data: &[u8], from: usize, high: usize) -> usize {
    let mut at = from;
    while let Some(n) = memchr::memchr2(b'"', b'\'', &data[at..high]) {
        let quote = at + n;
        let slashes = data[from..quote].iter().rev().take_while(|&&c| c == b'\\').count();
        let next = data[quote + 1..high].first().copied();
        if matches!(next, Some(b',' | b'}' | b']' | b'\\' | b' ' | b'\n' | b'\r' | b':')) || next.is_none() {
            return quote - slashes;
        }
        at = quote + 1;
    }
    high
}

/// `://` at `colon`: a password in the authority behind it.
pub(super) fn authority(scan: &mut Scan<'_>, field: usize, colon: usize) {
    let data = scan.data;
    let text = scan.text(field);
    let from = colon + 3;
    let limit = text.high.min(from + AUTHORITY);
    if from >= limit || colon == text.low || !data[colon - 1].is_ascii_alphanumeric() {
        return;
    }
    let stop = data[from..limit]
        .iter()
        .position(|&c| {
            c <= b' ' || matches!(c, b'/' | b'"' | b'\'' | b'`' | b'\\' | b',' | b')') || (matches!(c, b'<' | b'>'))
        })
        .map_or(limit, |n| from + n);
    let user = &data[from..stop];
    if !scan.spend(field, 160 + 2 * user.len()) {
        return;
    }
    let Some(at) = memchr::memrchr(b'@', user) else { return };
    let info = &user[..at];
    match memchr::memchr(b':', info) {
        Some(n) if n + 1 < at => {
            let password = &info[n + 1..];
            if scan.catalog.words.placeholder(password) && !plain_word(password) {
                return;
            }
            if password.starts_with(b"$") || password.starts_with(b"{") {
                return;
            }
            scan.add(Detector::UrlPassword, from + n + 1..from + at, Confidence::Medium, 1);
        }
        None if at >= 16 && super::gate::look(info, &scan.catalog.words) == super::gate::Look::Random => {
            // A token in place of the user.
            scan.add(Detector::UrlPassword, from..from + at, Confidence::Low, 1);
        }
        _ => {}
    }
}

/// Words like "password" or "secret" are placeholders elsewhere; between `:` and `@` they are passwords.
fn plain_word(password: &[u8]) -> bool {
    password.len() >= 4 && password.iter().all(u8::is_ascii_alphanumeric) && !super::gate::filler(password)
}

/// The schemes of an Authorization header.
const SCHEMES: [&[u8]; 12] = [
    b"bearer",
    b"basic",
    b"token",
    b"apikey",
    b"api-key",
    b"digest",
    b"negotiate",
    b"key",
    b"ntlm",
    b"oauth",
    b"sso-key",
    b"bot",
];

/// The scheme that `before` ends with, before one space.
pub(super) fn scheme_word(before: &[u8]) -> Option<&'static [u8]> {
    let before = before.strip_suffix(b" ")?;
    let start = before.iter().rposition(|&c| !(c.is_ascii_alphanumeric() || c == b'-')).map_or(0, |n| n + 1);
    let mut word = &before[start..];
    if start > 0 && before[start - 1] == b'\\' && word.len() > 1 {
        word = &word[1..];
    }
    let i = SCHEMES.iter().take(3).position(|s| s.eq_ignore_ascii_case(word))?;
    Some(SCHEMES[i])
}

/// A long run behind a scheme: `Bearer …`, `Basic …`, `token …`.
pub(super) fn credential(scan: &mut Scan<'_>, field: usize, place: usize, before: &[u8]) {
    let data = scan.data;
    let text = scan.text(field);
    let Some(scheme) = scheme_word(before) else { return };
    let value = &data[place..text.high.min(place + 16 * 1024)];
    let end =
        value.iter().position(|&c| !(c.is_ascii_alphanumeric() || b"-._~+/=:|".contains(&c))).unwrap_or(value.len());
    let mut end = place + end;
    while end > place && matches!(data[end - 1], b'.' | b':') {
        end -= 1;
    }
    let token = &data[place..end];
    if scan.catalog.words.placeholder(token) {
        return;
    }
    let yes = match scheme {
        b"basic" => scan.spend(field, token.len()) && checks::basic(token),
        b"bearer" => super::gate::look(token, &scan.catalog.words) >= super::gate::Look::Mixed || token.len() > 64,
        _ => super::gate::look(token, &scan.catalog.words) == super::gate::Look::Random,
    };
    if yes {
        scan.add(Detector::Authorization, place..end, Confidence::Medium, 1);
    }
}

/// The value of an Authorization header: the scheme stays, what follows it goes.
pub(super) fn authorization(scan: &mut Scan<'_>, field: usize, value: &Value) {
    let Some(Range { start, end }) = header_value(scan, field, value) else { return };
    let data = scan.data;
    let bytes = &data[start..end];
    let word = bytes.iter().position(|&c| !(c.is_ascii_alphanumeric() || c == b'-')).unwrap_or(bytes.len());
    let spaces = bytes[word..].iter().take_while(|c| **c == b' ').count();
    let known = spaces > 0
        && (SCHEMES.iter().any(|s| s.eq_ignore_ascii_case(&bytes[..word])) || bytes[..word].starts_with(b"AWS4"));
    let mut from = start + if known { word + spaces } else { 0 };
    if from < end && !known && spaces > 0 && !value.quoted {
        return;
    }
    let mut credential = &data[from..end];
    if let Some(close) = credential.iter().position(|&c| matches!(c, b'"' | b'\'' | b'`'))
        && !value.quoted
        && !bytes[..word].eq_ignore_ascii_case(b"digest")
    {
        credential = &credential[..close];
    }
    if bytes[..word].starts_with(b"AWS4") {
        // Only the signature is secret.
        let Some(n) = memchr::memmem::find(credential, b"Signature=") else { return };
        from += n + 10;
        let signature = &data[from..end];
        let n = signature.iter().take_while(|c| c.is_ascii_alphanumeric()).count();
        return scan.add(Detector::Authorization, from..from + n, Confidence::Medium, 1);
    }
    if !bytes[..word].eq_ignore_ascii_case(b"digest") {
        let n = credential.iter().position(|&c| c == b' ' || c == b',' || c == b'\\').unwrap_or(credential.len());
        credential = &credential[..n];
    }
    let mut n = credential.len();
    while n > 0 && matches!(credential[n - 1], b'\\' | b')' | b']' | b'}' | b'.' | b',') {
        n -= 1;
    }
    let credential = &credential[..n];
    if credential.len() < 4 || scan.catalog.words.placeholder(credential) || credential.starts_with(b"{") {
        return;
    }
    if !known && super::gate::look(credential, &scan.catalog.words) == super::gate::Look::Plain {
        return;
    }
    if known
        && bytes[..word].eq_ignore_ascii_case(b"basic")
        && !(scan.spend(field, credential.len()) && checks::basic(credential))
    {
        return;
    }
    let plain = credential.iter().all(u8::is_ascii_lowercase) && credential.len() < 12;
    if known && plain {
        return;
    }
    scan.add(Detector::Authorization, from..from + n, Confidence::Medium, 1);
}

/// A quoted value of a token name that begins with a scheme.
pub(super) fn scheme(scan: &mut Scan<'_>, field: usize, range: Range<usize>) {
    let bytes = &scan.data[range.clone()];
    let word = bytes.iter().position(|&c| c == b' ').unwrap_or(bytes.len());
    if SCHEMES.iter().any(|s| s.eq_ignore_ascii_case(&bytes[..word])) {
        authorization(scan, field, &Value { range, quoted: true, keyed: false });
    }
}

/// A cookie header: everything up to the end of the line or string.
pub(super) fn cookie(scan: &mut Scan<'_>, field: usize, value: &Value) {
    let Some(Range { start, end }) = header_value(scan, field, value) else { return };
    let bytes = &scan.data[start..end];
    let Some(equals) = memchr::memchr(b'=', bytes) else { return };
    let name_ok = equals > 0 && bytes[..equals].iter().all(|c| c.is_ascii_alphanumeric() || b"_-.$".contains(c));
    if !name_ok || bytes.len() < equals + 5 || scan.catalog.words.placeholder(&bytes[equals + 1..]) {
        return;
    }
    let mut n = bytes.len();
    while n > 0 && matches!(bytes[n - 1], b'\\' | b' ' | b'\r' | b',') {
        n -= 1;
    }
    scan.add(Detector::Cookie, start..start + n, Confidence::Medium, 1);
}

/// The whole value of a header: a bare one ended at its first space, so the rest of the line is taken. `None` when the
/// field's budget is spent.
fn header_value(scan: &mut Scan<'_>, field: usize, value: &Value) -> Option<Range<usize>> {
    let start = value.range.start;
    let end = if value.quoted { value.range.end } else { line_end(scan.data, start, scan.text(field).high) };
    scan.spend(field, 200 + 4 * (end - start)).then_some(start..end)
}

/// The end of the line that `start` is in: a line break, raw or escaped, or the quote that closes the string.
fn line_end(data: &[u8], start: usize, high: usize) -> usize {
    let limit = high.min(start + 4096);
    let mut at = start;
    while at < limit {
        match data[at] {
            b'\n' | b'\r' => return at,
            b'"' | b'\'' | b'`' => return at,
            b'\\' => return at,
            _ => at += 1,
        }
    }
    limit
}
