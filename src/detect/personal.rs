//! Personal and financial data with a format: e-mail addresses, card and account numbers, social security and telephone
//! numbers.

use super::Confidence;
use super::assign::escape_letters;
use super::catalog::Detector;
use super::checks;
use super::scan::Scan;
use super::shape::Text;

/// An `@`: an e-mail address around it.
pub(super) fn email(scan: &mut Scan<'_>, field: usize, at: usize) {
    let data = scan.data;
    let text = scan.text(field);
    if !scan.spend(field, 60) {
        return;
    }
    let local = |c: u8| c.is_ascii_alphanumeric() || b"._%+-'".contains(&c);
    let floor = text.low.max(at.saturating_sub(64));
    let mut start = at;
    while start > floor && local(data[start - 1]) {
        start -= 1;
    }
    start = (start + escape_letters(data, text.low, start)).min(at);
    while start < at && !data[start].is_ascii_alphanumeric() {
        start += 1;
    }
    if start == at {
        return;
    }
    // The user of a git remote is none.
    if &data[start..at] == b"git" {
        return;
    }
    let limit = text.high.min(at + 1 + 255);
    let domain = &data[at + 1..limit];
    let n = domain.iter().position(|&c| !(c.is_ascii_alphanumeric() || c == b'-' || c == b'.')).unwrap_or(domain.len());
    let mut domain = &domain[..n];
    while let Some((b'.' | b'-', rest)) = domain.split_last() {
        domain = rest;
    }
    let Some(dot) = memchr::memrchr(b'.', domain) else { return };
    // What a dash joins to the last label is no part of it.
    let label = domain[dot + 1..].iter().position(|&c| c == b'-').map_or(domain.len(), |n| dot + 1 + n);
    let domain = &domain[..label];
    let top = &domain[dot + 1..];
    let sound = domain.split(|&c| c == b'.').all(|label| !label.is_empty() && label.len() < 64);
    let file =
        [&b"png"[..], b"jpg", b"jpeg", b"gif", b"svg", b"webp", b"js", b"css", b"json", b"html", b"md", b"local"];
    if top.len() < 2
        || !top.iter().all(u8::is_ascii_alphabetic)
        || !sound
        || file.iter().any(|f| f.eq_ignore_ascii_case(top))
    {
        return;
    }
    // The user and password of a URL are no mail address. Asked last: the look back is long.
    let before = &data[text.low.max(start.saturating_sub(160))..start];
    if before.iter().rposition(|&c| DELIMITER[c as usize]).is_some_and(|n| before[..=n].ends_with(b"://")) {
        return;
    }
    scan.add(Detector::Email, start..at + 1 + domain.len(), Confidence::Medium, 1);
}

/// What ends the user information of a URL, or stands before it.
const DELIMITER: [bool; 256] = {
    let mut table = [false; 256];
    let mut c = 0;
    while c <= b' ' as usize {
        table[c] = true;
        c += 1;
    }
    let bytes = b"/?#&,;()<>\"'`\\";
    let mut i = 0;
    while i < bytes.len() {
        table[bytes[i] as usize] = true;
        i += 1;
    }
    table
};

/// One group of digits.
#[derive(Clone, Copy)]
struct Group {
    start: usize,
    end: usize,
}

/// Digits with single spaces or dashes between them, beginning at `place`: cards, account and social security numbers.
pub(super) fn digits(scan: &mut Scan<'_>, field: usize, place: usize) {
    let text = scan.text(field);
    digits_in(scan, field, &text, place);
}

/// What touches the finding `start..end`: once that is a marker it stands alone, so it is looked at as if it did.
pub(super) fn beside(scan: &mut Scan<'_>, field: usize, start: usize, end: usize) {
    let data = scan.data;
    let text = scan.text(field);
    if end < text.high && end > text.low {
        let after = Text { data, low: end, high: text.high };
        match data[end] {
            b'0'..=b'9' => digits_in(scan, field, &after, end),
            b'+' => phone_in(scan, field, &after, end),
            b'A'..=b'Z' => _ = iban_in(scan, &after, end),
            _ => {}
        }
    }
    if start > text.low && start < text.high && data[start - 1].is_ascii_alphanumeric() {
        let before = Text { data, low: text.low, high: start };
        let mut from = start;
        while from > text.low
            && start - from < 48
            && (data[from - 1].is_ascii_alphanumeric()
                || matches!(data[from - 1], b' ' | b'-' | b'+' | b'.' | b'(' | b')'))
        {
            from -= 1;
            match data[from] {
                b'+' => phone_in(scan, field, &before, from),
                b'A'..=b'Z' => _ = iban_in(scan, &before, from),
                b'0'..=b'9' if from == text.low || !data[from - 1].is_ascii_digit() => {
                    digits_in(scan, field, &before, from)
                }
                _ => {}
            }
        }
    }
}

fn digits_in(scan: &mut Scan<'_>, field: usize, text: &Text<'_>, place: usize) {
    let data = text.data;
    let rest = &data[place..text.high];
    let n = rest.iter().position(|c| !c.is_ascii_digit()).unwrap_or(rest.len());
    let single = !(n + 1 < rest.len() && matches!(rest[n], b' ' | b'-') && rest[n + 1].is_ascii_digit());
    // Digits of a decimal number, as in embeddings: no card, too long for a group of an account number.
    let decimal = place >= text.low + 2 && data[place - 1] == b'.' && data[place - 2].is_ascii_alphanumeric();
    if single && n > 4 && (decimal || !(13..=19).contains(&n)) {
        scan.spend(field, 60);
        return;
    }
    let mut groups = [Group { start: 0, end: 0 }; 6];
    let mut count = 0;
    let mut at = place;
    // A sliding window of groups over the whole stretch.
    loop {
        let start = at;
        while at < text.high && data[at].is_ascii_digit() {
            at += 1;
        }
        if count == groups.len() {
            groups.rotate_left(1);
            count -= 1;
        }
        groups[count] = Group { start, end: at };
        count += 1;
        if count == groups.len() {
            window(scan, field, text, &groups[..count]);
        }
        let more = at + 1 < text.high && matches!(data[at], b' ' | b'-') && data[at + 1].is_ascii_digit();
        if !more {
            break;
        }
        at += 1;
    }
    let first = usize::from(count == groups.len());
    for i in first..count {
        window(scan, field, text, &groups[i..count]);
    }
}

/// What can begin with the first of these groups.
fn window(scan: &mut Scan<'_>, field: usize, text: &Text<'_>, groups: &[Group]) {
    if !scan.spend(field, 60) {
        return;
    }
    let data = text.data;
    let first = groups[0];
    let size = |g: &Group| g.end - g.start;
    let before = if first.start > text.low { data[first.start - 1] } else { b' ' };
    let before2 = if first.start > text.low + 1 { data[first.start - 2] } else { b' ' };
    let escaped = before2 == b'\\' && matches!(before, b'n' | b't' | b'r');
    let joined = (before.is_ascii_alphanumeric() && !escaped)
        || matches!(before, b'_' | b'+')
        || (matches!(before, b'.' | b',' | b'-') && before2.is_ascii_alphanumeric());
    let free = |end: usize| {
        let rest = &data[end..text.high];
        match rest.first() {
            None => true,
            Some(c) if c.is_ascii_alphanumeric() || *c == b'_' => false,
            Some(b'.' | b'-') => !rest.get(1).is_some_and(u8::is_ascii_alphanumeric),
            Some(_) => true,
        }
    };
    if !joined {
        if let [a, b, c, ..] = groups
            && (size(a), size(b), size(c)) == (3, 2, 4)
            && data[a.end] == b'-'
            && data[b.end] == b'-'
            && free(c.end)
        {
            let number = |g: &Group| data[g.start..g.end].iter().fold(0u32, |n, d| n * 10 + u32::from(d - b'0'));
            let (area, group, serial) = (number(a), number(b), number(c));
            if area != 0 && area != 666 && area < 900 && group != 0 && serial != 0 {
                scan.add(Detector::UsSsn, a.start..c.end, Confidence::Medium, 1);
                return;
            }
        }
        let mut number = [0u8; 19];
        let mut n = 0;
        for (i, g) in groups.iter().enumerate() {
            let whole = size(g);
            // Groups of a card are four to seven digits, the last may be shorter; one separator throughout.
            if n + whole > number.len()
                || (i > 0 && data[groups[i - 1].end] != data[groups[0].end])
                || (i == 0 && whole != 4 && whole < 13)
            {
                break;
            }
            for &d in &data[g.start..g.end] {
                number[n] = d - b'0';
                n += 1;
            }
            let last = i + 1 == groups.len() || data[g.end] != b'-';
            if n >= 13 && (last || i > 0) && checks::card(&number[..n]) && free(g.end) {
                scan.add(Detector::PaymentCard, first.start..g.end, Confidence::High, 4);
                return;
            }
        }
    }
    // Account numbers in groups: two letters and two digits stand somewhere before.
    if size(&first) <= 4 {
        let from = text.low.max(first.start.saturating_sub(12));
        for (i, c) in data[from..first.start].iter().enumerate() {
            if c.is_ascii_uppercase() && iban_in(scan, text, from + i) {
                return;
            }
        }
    }
}

/// An account number that begins at `start`, in one piece or in groups of four.
pub(super) fn iban(scan: &mut Scan<'_>, field: usize, start: usize) -> bool {
    let text = scan.text(field);
    iban_in(scan, &text, start)
}

fn iban_in(scan: &mut Scan<'_>, text: &Text<'_>, start: usize) -> bool {
    let data = text.data;
    let rest = &data[start..text.high];
    let [a, b, c, d, ..] = *rest else { return false };
    if !(a.is_ascii_uppercase() && b.is_ascii_uppercase() && c.is_ascii_digit() && d.is_ascii_digit()) {
        return false;
    }
    let glued = start > text.low && data[start - 1].is_ascii_alphanumeric();
    if glued && !(start > text.low + 1 && data[start - 2] == b'\\') {
        return false;
    }
    let Some(length) = checks::iban_length([a, b]) else { return false };
    let mut plain = [0u8; 34];
    let (mut n, mut at) = (0, 0);
    while n < length && at < rest.len() {
        match rest[at] {
            c if c.is_ascii_digit() || c.is_ascii_uppercase() => {
                plain[n] = c;
                n += 1;
            }
            b' ' | b'-' if n > 0 && n % 4 == 0 => {}
            _ => return false,
        }
        at += 1;
    }
    if n < length || rest.get(at).is_some_and(u8::is_ascii_alphanumeric) || !checks::iban(&plain[..n]) {
        return false;
    }
    scan.add(Detector::Iban, start..start + at, Confidence::High, 4);
    scan.done = scan.done.max(start + at);
    true
}

/// A `+` before a digit: a telephone number in international form.
pub(super) fn phone(scan: &mut Scan<'_>, field: usize, plus: usize) {
    let text = scan.text(field);
    phone_in(scan, field, &text, plus);
}

fn phone_in(scan: &mut Scan<'_>, field: usize, text: &Text<'_>, plus: usize) {
    let data = text.data;
    if plus > text.low {
        let before = data[plus - 1];
        let escaped = plus > text.low + 1 && data[plus - 2] == b'\\' && matches!(before, b'n' | b't' | b'r');
        if (before.is_ascii_alphanumeric() && !escaped)
            || matches!(before, b'+' | b'/' | b'=' | b'.' | b'-') && before != b'='
        {
            return;
        }
    }
    if !scan.spend(field, 60) {
        return;
    }
    let rest = &data[plus + 1..text.high.min(plus + 32)];
    if !matches!(rest.first(), Some(b'1'..=b'9')) {
        return;
    }
    let most = if rest[0] == b'1' { 11 } else { 15 };
    let (mut n, mut end, mut gap) = (0, 0, 0);
    for (i, &c) in rest.iter().enumerate() {
        match c {
            b'0'..=b'9' if n < most => {
                n += 1;
                gap = 0;
                end = i + 1;
            }
            b'0'..=b'9' => break,
            b' ' | b'-' | b'.' | b'(' | b')' if gap < 2 => gap += 1,
            _ => break,
        }
    }
    let free = !rest.get(end).is_some_and(|c| c.is_ascii_alphanumeric() || *c == b'/' || *c == b'+' || *c == b'=');
    if n < 8 || (rest[0] == b'1' && n != 11) || !free {
        return;
    }

    scan.add(Detector::Phone, plus..plus + 1 + end, Confidence::Medium, 1);
}
