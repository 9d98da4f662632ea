//! Values whose name says what they are: `password=…`, `"api_key": "…"`, an attribute key, a word before a token.
//!
//! Names are looked up backwards from the operator, so words like "token" in running text cost nothing.

use std::ops::Range;

use super::catalog::Detector;
use super::gate::{Look, look};
use super::scan::Scan;
use super::simd::{self, SKIPPED, class};
use super::words::{Memo, Tier};
use super::{Confidence, Field, marker, structure};

/// Longest name that is looked at.
const NAME: usize = 80;
/// Quotes, backslashes and spaces that may stand between name, operator and value; enough for five levels of JSON.
const AROUND: usize = 40;
/// Longest value of a password.
const PASSWORD: usize = 512;
/// Longest value that is judged as a token.
const TOKEN: usize = 8192;

/// The cost of looking at one name and its value (see [`Scan::spend`]).
const OPERATOR_WORK: usize = 400;

/// Whether the operator at `place` can follow a name of interest: the last letters before it decide.
#[cold]
pub(super) fn interesting(catalog: &super::catalog::Catalog, data: &[u8], place: usize) -> bool {
    let mut q = place;
    let floor = place.saturating_sub(AROUND);
    while q > floor && SKIPPED[data[q - 1] as usize] {
        q -= 1;
    }
    if q < 2 {
        return false;
    }
    let last = match data[..q].last_chunk::<4>() {
        Some(last) => *last,
        None => [b'_', if q > 2 { data[q - 3] } else { b'_' }, data[q - 2], data[q - 1]],
    };
    catalog.words.may_end(last) || data[place] == b':' && (data[q - 1] == b'D' || data.get(place + 1) == Some(&b'/'))
}

/// The same for an operator before which `skipped` bytes may be skipped, at least four bytes from the start.
#[inline(always)]
pub(super) fn interesting_behind(catalog: &super::catalog::Catalog, data: &[u8], place: usize, skipped: usize) -> bool {
    let q = place - skipped.min(AROUND);
    let Some(last) = data[..q].last_chunk::<4>() else { return false };
    let marker_or_url =
        (data[place] == b':') & ((last[3] == b'D') | (data.get(place + 1).copied().unwrap_or(0) == b'/'));
    catalog.words.may_end(*last) | marker_or_url
}

/// An operator (`=` or `:`) behind something that may be a name.
pub(super) fn operator(scan: &mut Scan<'_>, field: usize, place: usize) {
    let data = scan.data;
    let text = scan.text(field);
    if place < text.low || place >= text.high {
        return;
    }
    if data[place] == b':' {
        if scan.marker(field, place) {
            return;
        }
        if data[place + 1..text.high].starts_with(b"//") {
            structure::authority(scan, field, place);
            return;
        }
    }
    if place < scan.closed || !scan.spend(field, OPERATOR_WORK) {
        return;
    }
    // In `:=`, `==`, `::=` the first one counts; what a value holds is no name.
    if place < scan.valued || (place > text.low && matches!(data[place - 1], b':' | b'=')) {
        return;
    }
    if scan.at_operator(field, place) {
        return;
    }
    let Some(mut name) = name_before(data, text.low, place) else { return };
    if data[name.clone()].eq_ignore_ascii_case(b"value") {
        match sibling(data, text.low, name.start) {
            Some(other) => name = other,
            None => return,
        }
    }
    let key = Memo::key(data, name.start, name.end);
    if key.is_some_and(|key| scan.memo.dull(&key)) {
        return;
    }
    let mut tags = Tags::default();
    let tier = scan.catalog.words.name(&data[name], |patterns| tags.add(patterns));
    if tier == Tier::Not || (tier == Tier::None && tags.count == 0) {
        if let Some(key) = key {
            scan.memo.note(key);
        }
        return;
    }
    // A quote behind a bare name and operator may be the end of the string that both stand in.
    let quoted_name = matches!(data[place - 1], b'"' | b'\'' | b'`' | b']') || data[place - 1] == b' ';
    let Some(value) = value_after(scan, place + 1, text.high) else { return };
    if !quoted_name && value.quoted && closing(&data[value.range.start..text.high]) {
        return;
    }
    // Behind a name in quotes a bare word is a variable of program text.
    let word = data[value.range.clone()].iter().all(|c| c.is_ascii_alphabetic() || matches!(c, b'_' | b'.'));
    if !value.quoted && word && matches!(data[place - 1], b'"' | b'\'') && !matches!(tier, Tier::Authorization) {
        return;
    }
    judge(scan, field, tier, tags.get(), &value, data[place] == b'=');
}

/// What a name is made of.
const NAMED: [bool; 256] = {
    let mut table = [false; 256];
    let mut c = 0;
    while c < 256 {
        let byte = c as u8;
        table[c] = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'$') || byte >= 0x80;
        c += 1;
    }
    table
};

/// The name that ends before the operator: an identifier, or up to three words.
fn name_before(data: &[u8], low: usize, place: usize) -> Option<Range<usize>> {
    let mut end = place;
    while end > low
        && place - end < AROUND
        && matches!(data[end - 1], b'"' | b' ' | b'\\' | b'\'' | b'\t' | b']' | b'`' | b'?' | b'|' | b'.' | b'+')
    {
        end -= 1;
    }
    let floor = low.max(end.saturating_sub(NAME));
    let mut start = end;
    let mut words = 0;
    while start > floor {
        let c = data[start - 1];
        if NAMED[c as usize] {
            start -= 1;
        } else if c == b' ' && words < 2 && start < end && start > floor + 1 && data[start - 2].is_ascii_alphanumeric()
        {
            words += 1;
            start -= 1;
        } else {
            break;
        }
    }
    start = (start + escape_letters(data, low, start)).min(end);
    // The rule id of an own marker is no name.
    let marked = data[low..start].ends_with(marker::OPEN);
    (start + 1 < end && !marked).then_some(start..end)
}

/// The name in `"name": "API_KEY", "value": …`, where `value` is the name that begins at `start`.
fn sibling(data: &[u8], low: usize, start: usize) -> Option<Range<usize>> {
    let base = low.max(start.saturating_sub(200));
    let mut end = start;
    // From the end: what may stand there, then whether at least one of `must` was among it.
    let mut skip = |may: &[u8], must: &[u8]| {
        let from = end;
        while end > base && may.contains(&data[end - 1]) {
            end -= 1;
        }
        data[end..from].iter().any(|c| must.contains(c)).then_some(end)
    };
    skip(b"\"'\\", b"\"'")?;
    skip(b" \t\r\n,\"'\\", b",")?;
    let name_end = end;
    while end > base && (data[end - 1].is_ascii_alphanumeric() || b"_-.".contains(&data[end - 1])) {
        end -= 1;
    }
    let name = end..name_end;
    let before = &data[base..end];
    let trimmed = |text: &[u8], of: &[u8]| text.len() - text.iter().rev().take_while(|c| of.contains(c)).count();
    let before = &before[..trimmed(before, b"\"'\\")];
    let before = before[..trimmed(before, b" ")].strip_suffix(b":")?;
    let before = &before[..trimmed(before, b" \"'\\")];
    let named = [&b"name"[..], b"Name", b"NAME", b"key", b"Key"].iter().any(|n| before.ends_with(n));
    (named && !name.is_empty()).then_some(name)
}

/// How many letters at `start` belong to an escape that ends there.
pub(super) fn escape_letters(data: &[u8], low: usize, start: usize) -> usize {
    if start == low || start >= data.len() || data[start - 1] != b'\\' {
        return 0;
    }
    match data[start] {
        b'n' | b't' | b'r' | b'b' | b'f' => 1,
        b'u' => 5,
        _ => 0,
    }
}

/// A value and how it is delimited.
#[derive(Clone, Debug)]
pub(super) struct Value {
    /// Its bytes, without quotes.
    pub range: Range<usize>,
    /// It stood in quotes.
    pub quoted: bool,
    /// It is a whole field, named by its key.
    pub keyed: bool,
}

/// The value behind an operator.
pub(super) fn value_after(scan: &mut Scan<'_>, from: usize, high: usize) -> Option<Value> {
    let data = scan.data;
    let mut v = from;
    let most = high.min(from + AROUND);
    while v < most
        && matches!(data[v], b' ' | b'\t' | b'=' | b':' | b'>' | b'~' | b'[' | b'(' | b'\n' | b'\r')
        && marker::run_at(&scan.catalog.rules, data, v, high).is_none()
    {
        v += 1;
    }
    // A marker is what an earlier pass, or a client, made of the value; what is glued to it is judged as one.
    if let Some(end) = marker::run_at(&scan.catalog.rules, data, v, high)
        && data[end..high].first().is_some_and(u8::is_ascii_alphanumeric)
    {
        v = end;
    }
    // An escaped line break or tab between name and value.
    while v + 2 < most
        && data[v] == b'\\'
        && matches!(data[v + 1], b't' | b'n' | b'r')
        && data[v + 2].is_ascii_whitespace()
    {
        v += 3;
    }
    // A prefix of a string literal: b"", f"", r"", @"".
    if v + 1 < most && matches!(data[v], b'b' | b'f' | b'r' | b'@' | b'L') && matches!(data[v + 1], b'"' | b'\'') {
        v += 1;
    }
    let slashes = data[v.min(high)..high].iter().take(AROUND).take_while(|&&c| c == b'\\').count();
    let quote = data.get(v + slashes).copied().filter(|_| v + slashes < high)?;
    if matches!(quote, b'"' | b'\'' | b'`') {
        let start = v + slashes + 1;
        return Some(quoted(data, start, high, quote, slashes));
    }
    bare(scan, v, high)
}

/// Whether what follows a quote says that it closed a string.
fn closing(rest: &[u8]) -> bool {
    match rest {
        [] => true,
        [b'\\', b'n' | b'r' | b't', ..] => true,
        [c, ..] => matches!(c, b',' | b'}' | b']' | b':' | b')' | b'"' | b'\\') || c.is_ascii_whitespace(),
    }
}

/// A value in quotes that were escaped with `slashes` backslashes: up to the same quote, escaped no deeper.
fn quoted(data: &[u8], start: usize, high: usize, quote: u8, slashes: usize) -> Value {
    let mut limit = high.min(start + TOKEN);
    // A string in other quotes ends at the latest where the JSON string around it does.
    if quote != b'"' {
        let mut from = start;
        while let Some(n) = memchr::memchr(b'"', &data[from..limit]) {
            from += n + 1;
            if closing(&data[from..high]) {
                let escapes = data[start..from - 1].iter().rev().take_while(|&&c| c == b'\\').count();
                limit = from - 1 - escapes;
                break;
            }
        }
    }
    let mut at = start;
    while let Some(n) = memchr::memchr(quote, &data[at..limit]) {
        let end = at + n;
        let escapes = data[start..end].iter().rev().take_while(|&&c| c == b'\\').count();
        // At depth d a string opens and closes with 2^d - 1 backslashes, and each backslash of its content takes
        // 2^(d+1): so the ones at the end of the binary number tell whose end a quote is.
        let depth = escapes.trailing_ones();
        let own = (1usize << depth) - 1;
        if own <= slashes {
            return Value { range: start..end - own, quoted: true, keyed: false };
        }
        at = end + 1;
    }
    Value { range: start..limit, quoted: true, keyed: false }
}

/// A bare value: up to white space or what ends a value in the formats people paste.
fn bare(scan: &mut Scan<'_>, start: usize, high: usize) -> Option<Value> {
    let data = scan.data;
    let limit = high.min(start + TOKEN);
    let mut at = if scan.bare.contains(&start) && data[start] != b'\\' { scan.bare.end } else { start };
    while at < limit {
        match data[at] {
            c if c.is_ascii_whitespace() => break,
            b'"' | b'\'' | b'`' | b',' | b';' | b'&' | b'<' | b'>' => break,
            b'\\' => match data.get(at + 1) {
                Some(b'n' | b't' | b'r' | b'"' | b'\'' | b'u') | None => break,
                // An escape of any other character stays whole; at the end of the text it is cut off.
                Some(_) if at + 2 > limit => break,
                Some(b'\\') => match data[at..limit].iter().position(|&c| c != b'\\').map(|n| data[at + n]) {
                    Some(b'n' | b't' | b'r' | b'"' | b'\'' | b'u') | None => break,
                    Some(_) => at += 2,
                },
                Some(_) => at += 2,
            },
            _ => at += 1,
        }
    }
    let at = at.min(limit);
    // Values inside values (`a=b=c=…`) end where the outer one ends.
    scan.bare = start..at;
    let mut end = at;
    // Closing brackets and punctuation that the value did not open.
    while end > start && matches!(data[end - 1], b')' | b']' | b'}' | b'.' | b'!' | b'?' | b':' | b'*') {
        let opened = match data[end - 1] {
            b')' => data[start..end].contains(&b'('),
            b']' => data[start..end].contains(&b'['),
            b'}' => data[start..end].contains(&b'{'),
            b'!' | b'?' | b'*' => at == high || !data[at].is_ascii_whitespace(),
            _ => false,
        };
        if opened {
            break;
        }
        end -= 1;
    }
    (end > start).then_some(Value { range: start..end, quoted: false, keyed: false })
}

/// Decides about a named value.
pub(super) fn judge(scan: &mut Scan<'_>, field: usize, tier: Tier, tags: &[u16], value: &Value, equals: bool) {
    let data = scan.data;
    let catalog = scan.catalog;
    let range = value.range.clone();
    let bytes = &data[range.clone()];
    if bytes.is_empty() || !scan.spend(field, 4 * bytes.len()) {
        return;
    }
    if value.quoted {
        scan.valued = scan.valued.max(range.start);
    }
    match tier {
        Tier::Authorization => return structure::authorization(scan, field, value),
        Tier::Cookie => return structure::cookie(scan, field, value),
        _ => {}
    }
    if catalog.words.placeholder(bytes) {
        return;
    }
    if !tags.is_empty() && tier != Tier::Not {
        let named = tier != Tier::None;
        for &p in tags {
            let exact = catalog.patterns[p as usize].literal > 0;
            if (named || exact) && scan.contextual(field, range.clone(), p) {
                return;
            }
        }
    }
    match tier {
        Tier::Password => {
            // A sentence under such a name describes a password; a whole field of that name holds one.
            let prose = memchr::memchr_iter(b' ', bytes).nth(4).is_some();
            if bytes.len() < 4 || (value.quoted && !value.keyed && (prose || bytes.len() > PASSWORD)) {
                return;
            }
            if !value.quoted && !bare_password(data, &range, scan.text(field).high, equals) {
                return;
            }
            scan.add(Detector::Password, range, Confidence::Medium, 1);
        }
        Tier::Token | Tier::Weak => {
            if memchr::memchr(b' ', bytes).is_some() {
                structure::scheme(scan, field, range);
                return;
            }
            if let Some(place) = token_like(scan, tier, range, value.quoted) {
                scan.add(Detector::Secret, place, Confidence::Low, 0);
            }
        }
        _ => {}
    }
}

/// Whether a bare value of a password name is one, and not code or prose.
fn bare_password(data: &[u8], range: &Range<usize>, high: usize, equals: bool) -> bool {
    // The beginning tells; the end of a long value only its closing bracket.
    let bytes = &data[range.start..range.end.min(range.start + 256)];
    let symbol =
        bytes.iter().any(|c| c.is_ascii_digit() || b"!@#$%^&*+~".contains(c)) || bytes.iter().any(|&c| c >= 0x80);
    let code = bytes.contains(&b'(') || bytes.contains(&b'[') || bytes.starts_with(b"{") || bytes.starts_with(b"//");
    if code && !symbol || bytes.ends_with(b"(") || bytes.starts_with(b"[") || bytes.starts_with(b"{") {
        return false;
    }
    if bytes.contains(&b'(') && bytes.ends_with(b")") && bytes[0].is_ascii_alphabetic() {
        return false;
    }
    if symbol {
        return true;
    }
    // Letters only. An identifier with dots is code; a word that others follow is prose, unless `=` stands before it.
    if bytes.contains(&b'.') {
        return false;
    }
    let rest = &data[range.end..high];
    let ends =
        rest.first().is_none_or(|&c| matches!(c, b'\n' | b'\r' | b'&' | b';' | b',' | b'\\' | b'"' | b'\'' | b'<'));
    (equals || ends) && bytes.len() >= 5 && !(bytes[0].is_ascii_uppercase() && rest.starts_with(b" ="))
}

/// The part of a value that is a token by its look.
fn token_like(scan: &Scan<'_>, tier: Tier, range: Range<usize>, quoted: bool) -> Option<Range<usize>> {
    let bytes = &scan.data[range.clone()];
    let words = &scan.catalog.words;
    if bytes.len() < 8 || bytes.len() > TOKEN || bytes[0] == b'$' || bytes[0] == b'/' || bytes[0] == b'.' {
        return None;
    }
    let head = &bytes[..bytes.len().min(256)];
    if !quoted && (head.contains(&b'(') || head.contains(&b'{') || head.contains(&b'[')) {
        return None;
    }
    if memchr::memmem::find(head, b"://").is_some() {
        return None;
    }
    if tier == Tier::Token && bytes.len() >= 15 && bytes.iter().all(u8::is_ascii_digit) {
        return Some(range);
    }
    let needed = if tier == Tier::Token { Look::Mixed } else { Look::Random };
    let least = if tier == Tier::Token { 8 } else { 16 };
    (bytes.len() >= least && look(bytes, words) >= needed && !(tier == Tier::Weak && uuid(bytes))).then_some(range)
}

/// The form of a UUID.
pub(super) fn uuid(bytes: &[u8]) -> bool {
    bytes.len() == 36
        && bytes
            .iter()
            .enumerate()
            .all(|(i, c)| if matches!(i, 8 | 13 | 18 | 23) { *c == b'-' } else { c.is_ascii_hexdigit() })
}

/// The word "password" in running text: `the password is Tr0ub4dor&3`, `--password x`, `<password>x</password>`.
/// `sw` is the place of its middle letters.
pub(super) fn spoken_password(scan: &mut Scan<'_>, field: usize, sw: usize) {
    let data = scan.data;
    let text = scan.text(field);
    if sw < text.low + 3 || sw >= text.high || data[sw - 3] | 0x20 != b'p' || !scan.spend(field, OPERATOR_WORK) {
        return;
    }
    let mut at = sw + 1;
    while at < text.high && at < sw + 24 && (data[at].is_ascii_alphanumeric() || data[at] == b'_') {
        at += 1;
    }
    let word = &data[sw - 3..at];
    if ![&b"password"[..], b"passwd", b"passwort", b"passwords"].iter().any(|w| w.eq_ignore_ascii_case(word)) {
        return;
    }
    // Not when an operator follows: then it is a name.
    let rest = &data[at..text.high.min(at + 96)];
    let (skip, says) = match rest {
        [b' ', ..] => {
            let next = &rest[1..];
            let verb = ["is now ", "is: ", "is ", "was ", "to ", "of "].iter().find(|v| next.starts_with(v.as_bytes()));
            match verb {
                Some(v) => (1 + v.len(), true),
                None => (
                    1,
                    data[..sw - 3].ends_with(b"--") || rest.get(1).is_some_and(|c| matches!(c, b'\'' | b'"' | b'`')),
                ),
            }
        }
        [b'>', ..] => (1, true),
        [b'"' | b'\'', b',', b' ', b'"' | b'\'', ..] => (3, true),
        [b'"' | b'\'', b',', b'"' | b'\'', ..] => (2, true),
        _ => return,
    };
    let Some(value) = value_after(scan, at + skip, text.high) else { return };
    if value.range.start > at + skip + 40 {
        return;
    }
    let bytes = &data[value.range.clone()];
    if bytes.len() < 4 || bytes.len() > 128 {
        return;
    }
    let strong = bytes.iter().any(u8::is_ascii_digit) || bytes.iter().any(|c| b"!@#$%^&*".contains(c));
    let xml = rest[0] == b'>';
    if xml && !data[value.range.end..text.high].starts_with(b"</") {
        return;
    }
    let likely = (strong && !bytes.starts_with(b"http")) || xml || (says && value.quoted && !bytes.contains(&b' '));
    if likely && !scan.catalog.words.placeholder(bytes) {
        scan.add(Detector::Password, value.range, Confidence::Medium, 1);
    }
}

/// The start of a long run that does not follow an operator directly: a scheme before it (`Bearer …`), or words
/// (`the api key … `).
pub(super) fn before_run(scan: &mut Scan<'_>, field: usize, place: usize) {
    let data = scan.data;
    let text = scan.text(field);
    let before = &data[text.low.max(place.saturating_sub(64))..place];
    // The last letters of the schemes.
    let scheme = matches!(before, [.., c, b' '] if matches!(c | 0x20, b'r' | b'c' | b'n'));
    if scheme && structure::scheme_word(before).is_some() {
        structure::credential(scan, field, place, before);
        return;
    }
    if !scan.spend(field, 60) || named_before(scan, field, place, before) {
        return;
    }
    // Digits and letters must mix for anything below; running text seldom gets further.
    let run = &data[place..text.high.min(place + 256)];
    let (mut n, mut classes) = (0, 0);
    while n < run.len() && simd::CLASS[run[n] as usize] & class::TOKEN != 0 {
        classes |= simd::CLASS[run[n] as usize];
        n += 1;
    }
    let run = &run[..n];
    if n < 16 || classes & class::DIGIT == 0 || classes & (class::ALPHA_46 | class::ALPHA_57) == 0 {
        return;
    }
    // Only what stands on the same line, not in another item, and not behind an operator (that was looked at).
    let line = before
        .iter()
        .rposition(|&c| matches!(c, b'\n' | b'{' | b',' | b';' | b'\\' | b']'))
        .map_or(before, |n| &before[n + 1..]);
    let line = line.strip_suffix(b"\"").or(line.strip_suffix(b"'")).unwrap_or(line);
    if matches!(line.trim_ascii_end().last(), None | Some(b':' | b'=')) {
        return;
    }
    if !scan.spend(field, 2 * OPERATOR_WORK) {
        return;
    }
    let mut tags = Tags::default();
    let mut tier = Tier::None;
    // The words before it, nearest first: each may be a name.
    let mut end = line.len();
    for _ in 0..4 {
        while end > 0 && !line[end - 1].is_ascii_alphanumeric() {
            end -= 1;
        }
        if end == 0 {
            break;
        }
        let name = &line[..end];
        let found = scan.catalog.words.name(&name[name.len().saturating_sub(32)..], |patterns| tags.add(patterns));
        if found == Tier::Not {
            return;
        }
        if tier == Tier::None {
            tier = found;
        }
        while end > 0 && (line[end - 1].is_ascii_alphanumeric() || matches!(line[end - 1], b'_' | b'-' | b'.')) {
            end -= 1;
        }
    }
    if tier == Tier::None && tags.count == 0 {
        return;
    }
    let mut range = place..place + run.len();
    while range.end > range.start && data[range.end - 1] == b'.' {
        range.end -= 1;
    }
    let bytes = &data[range.clone()];
    if scan.catalog.words.placeholder(bytes) {
        return;
    }
    if tier != Tier::None {
        for &p in tags.get() {
            if scan.contextual(field, range.clone(), p) {
                return;
            }
        }
    }
    if matches!(tier, Tier::Token | Tier::Password)
        && look(bytes, &scan.catalog.words) == Look::Random
        && !bytes.contains(&b'/')
    {
        scan.add(Detector::Secret, range, Confidence::Low, 0);
    }
}

/// Forms in which a name stands before a value without an operator: `setProperty("NAME", "value")`,
/// `<name>value</name>`. True when it was one.
fn named_before(scan: &mut Scan<'_>, field: usize, place: usize, before: &[u8]) -> bool {
    let data = scan.data;
    let high = scan.text(field).high;
    let base = place - before.len();
    let quote = before.iter().rev().take_while(|c| matches!(c, b'"' | b'\'' | b'\\' | b'`')).count();
    let head = before[..before.len() - quote].trim_ascii_end();
    let (name, from) = match head.last() {
        Some(b',') if quote > 0 => {
            let head = head[..head.len() - 1].trim_ascii_end();
            let head = &head
                [..head.len() - head.iter().rev().take_while(|c| matches!(c, b'"' | b'\'' | b'\\' | b'`')).count()];
            let n = head.iter().rev().take_while(|&&c| c.is_ascii_alphanumeric() || b"_-.".contains(&c)).count();
            if n == head.len() || !matches!(head[head.len() - n - 1], b'"' | b'\'' | b'`') {
                return false;
            }
            (base + head.len() - n..base + head.len(), place - quote)
        }
        Some(b'>') if quote == 0 => {
            let head = &head[..head.len() - 1];
            let n = head.iter().rev().take_while(|&&c| c.is_ascii_alphanumeric() || b"_-.:".contains(&c)).count();
            if n == head.len() || head[head.len() - n - 1] != b'<' {
                return false;
            }
            (base + head.len() - n..base + head.len(), place)
        }
        _ => return false,
    };
    let mut tags = Tags::default();
    let tier = scan.catalog.words.name(&data[name], |patterns| tags.add(patterns));
    if tier == Tier::Not || (tier == Tier::None && tags.count == 0) {
        return false;
    }
    let Some(value) = value_after(scan, from, high) else { return false };
    judge(scan, field, tier, tags.get(), &value, true);
    true
}

/// Contextual patterns that the words of a name called.
#[derive(Default)]
struct Tags {
    patterns: [u16; 32],
    count: usize,
}

impl Tags {
    fn add(&mut self, patterns: &[u16]) {
        for &p in patterns.iter().take(self.patterns.len() - self.count) {
            self.patterns[self.count] = p;
            self.count += 1;
        }
    }

    fn get(&self) -> &[u16] {
        &self.patterns[..self.count]
    }
}

/// A dash behind a space: `-u user:password`, `--user user:password`.
pub(super) fn flag(scan: &mut Scan<'_>, field: usize, dash: usize) {
    let data = scan.data;
    let text = scan.text(field);
    let rest = &data[dash..text.high.min(dash + 200)];
    let skip = if rest.starts_with(b"-u ") || rest.starts_with(b"-u=") {
        3
    } else if rest.starts_with(b"-u") && rest.get(2).is_some_and(|c| matches!(c, b'"' | b'\'')) {
        2
    } else if rest.starts_with(b"--user ") || rest.starts_with(b"--user=") {
        7
    } else {
        return;
    };
    if !scan.spend(field, OPERATOR_WORK) {
        return;
    }
    let Some(value) = value_after(scan, dash + skip, text.high) else { return };
    if marker::is_all_of(&scan.catalog.rules, data, value.range.clone()) {
        return;
    }
    let bytes = &data[value.range.clone()];
    // value_after skips a leading colon, which is an empty user.
    let colon = match memchr::memchr(b':', bytes) {
        Some(n) => n + 1,
        None if data[value.range.start - 1] == b':' => 0,
        None => return,
    };
    let password = &bytes[colon..];
    if password.len() < 4
        || scan.catalog.words.placeholder(password)
        || password.starts_with(b"$")
        || password.starts_with(b"//")
    {
        return;
    }
    scan.add(Detector::Password, value.range.start + colon..value.range.end, Confidence::Medium, 1);
}

/// A field whose key names it: the whole value is the value of that name.
pub(super) fn keyed_field(scan: &mut Scan<'_>, index: usize, field: &Field) {
    let key_end = (field.key_start + field.key_len) as usize;
    let Some(key) = scan.data.get(field.key_start as usize..key_end) else { return };
    let key = key.trim_ascii_end();
    let last = key.last_chunk::<4>().copied();
    if last.is_some_and(|l| !scan.catalog.words.may_end(l) && !l[3].is_ascii_digit() && l[3] < 0x80) {
        return;
    }
    let mut tags = Tags::default();
    let tier = scan.catalog.words.name(key, |patterns| tags.add(patterns));
    let text = scan.text(index);
    let value = Value { range: text.low..text.high, quoted: true, keyed: true };
    if matches!(tier, Tier::None | Tier::Not) && tags.count == 0 || text.low == text.high {
        return;
    }
    // JSON of its own names its values itself.
    if matches!(scan.data[text.low], b'{' | b'[') {
        return;
    }
    scan.valued = 0;
    judge(scan, index, tier, tags.get(), &value, true);
}
