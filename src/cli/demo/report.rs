//! What the demo shows: each masked value where it stood, before and after, and the counts.

use crate::telemetry::display_safe;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use std::{
    collections::BTreeMap,
    io::{self, Write},
};

const MARKER: &str = "[MASKED:";
/// Characters of context shown in front of a masked value.
const CONTEXT: usize = 24;
/// Characters of a name shown.
const NAME: usize = 100;
/// Characters of a value shown.
const SHOWN: usize = 30;

/// One text of a span, before and after.
struct Change {
    span: usize,
    place: String,
    before: String,
    after: String,
}

/// A value that was masked.
struct Masked {
    context: String,
    value: String,
    rule: String,
}

/// Writes the comparison of what was sent with what arrived. Answers how many values were masked.
///
/// # Errors
/// When the output cannot be written.
pub fn write(
    out: &mut impl Write,
    sent: &ExportTraceServiceRequest,
    arrived: &ExportTraceServiceRequest,
    style: Style,
) -> io::Result<usize> {
    let (sent, arrived) = (spans(sent), spans(arrived));
    let mut rules: BTreeMap<String, usize> = BTreeMap::new();
    let mut last = None;
    for change in changes(&sent, &arrived) {
        if last != Some(change.span) {
            writeln!(out, "\n  span {}", style.bold(&name(&sent[change.span].name)))?;
            last = Some(change.span);
        }
        writeln!(out, "    {}", name(&change.place))?;
        for Masked { context, value, rule } in masked(&change.before, &change.after) {
            let rule = name(&rule);
            let marker = format!("{MARKER}{rule}]");
            writeln!(out, "      {}{}", style.dim(&format!("{context:>CONTEXT$}")), style.red(&value))?;
            writeln!(out, "      {}{}", style.dim(&format!("{:>CONTEXT$}", "becomes ")), style.green(&marker))?;
            *rules.entry(rule).or_default() += 1;
        }
    }
    let total = rules.values().sum();
    writeln!(
        out,
        "\n  {} of {} spans arrived, {total} values masked by {} rules:",
        arrived.len(),
        sent.len(),
        rules.len()
    )?;
    for (rule, count) in &rules {
        writeln!(out, "    {count:>3}  {rule}")?;
    }
    Ok(total)
}

fn spans(request: &ExportTraceServiceRequest) -> Vec<&Span> {
    let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
    scopes.flat_map(|scope| &scope.spans).collect()
}

/// Texts that differ, in order.
fn changes(sent: &[&Span], arrived: &[&Span]) -> Vec<Change> {
    let mut changes = Vec::new();
    for (span, (before, after)) in sent.iter().zip(arrived).enumerate() {
        for ((place, before), (_, after)) in texts(before).into_iter().zip(texts(after)) {
            if before != after {
                changes.push(Change { span, place, before, after });
            }
        }
    }
    changes
}

/// The texts of a span with the places they stand at, in a fixed order.
fn texts(span: &Span) -> Vec<(String, String)> {
    let mut texts = vec![("name".to_owned(), span.name.clone())];
    texts.extend(attributes("attributes", &span.attributes));
    for event in &span.events {
        texts.extend(attributes(&format!("event {}", event.name), &event.attributes));
    }
    texts.extend(span.status.iter().map(|status| ("status message".to_owned(), status.message.clone())));
    texts
}

fn attributes<'a>(place: &'a str, attributes: &'a [KeyValue]) -> impl Iterator<Item = (String, String)> + 'a {
    attributes.iter().filter_map(move |attribute| {
        let Value::StringValue(value) = attribute.value.as_ref()?.value.as_ref()? else { return None };
        Some((format!("{place} · {}", attribute.key), value.clone()))
    })
}

/// The values that markers replaced: what lies between markers in `after` stands in `before` too, in that order.
fn masked(before: &str, after: &str) -> Vec<Masked> {
    let mut found = Vec::new();
    let mut pieces = after.split(MARKER);
    let mut rest = before.strip_prefix(pieces.next().unwrap_or_default()).unwrap_or_default();
    let mut context = before.strip_suffix(rest).unwrap_or_default().to_owned();
    let mut pieces = pieces.peekable();
    while let Some((rule, text)) = pieces.next().and_then(|piece| piece.split_once(']')) {
        let end = if pieces.peek().is_none() {
            rest.strip_suffix(text).map_or(rest.len(), str::len)
        } else {
            rest.find(text).filter(|_| !text.is_empty()).unwrap_or(rest.len())
        };
        let (value, following) = rest.split_at(end);
        found.push(Masked { context: tail(&context, CONTEXT), value: shortened(value), rule: rule.to_owned() });
        rest = following.strip_prefix(text).unwrap_or_default();
        context = text.to_owned();
    }
    found
}

/// The beginning of a name, on one line.
fn name(text: &str) -> String {
    let end = text.char_indices().nth(NAME).map_or(text.len(), |(at, _)| at);
    display_safe(&text[..end]).into_owned()
}

/// The last characters of a text, on one line.
fn tail(text: &str, len: usize) -> String {
    let start = text.char_indices().rev().nth(len - 1).map_or(0, |(at, _)| at);
    display_safe(&text[start..]).into_owned()
}

/// The beginning of a value and its length, if it is long.
fn shortened(value: &str) -> String {
    let total = value.chars().count();
    let shown: String = value.chars().take(SHOWN).collect();
    let shown = display_safe(&shown);
    if total > SHOWN { format!("{shown}… ({total} characters)") } else { shown.into_owned() }
}

/// Colours, where the terminal has them.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Whether to write escape sequences.
    pub colour: bool,
}

impl Style {
    /// Bold text.
    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }

    fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn masked_values_are_recovered_between_the_markers() {
        let found = masked("a KEY1 b KEY2", "a [MASKED:x] b [MASKED:y]");
        let found: Vec<_> = found.iter().map(|m| (m.context.as_str(), m.value.as_str(), m.rule.as_str())).collect();
        assert_eq!(found, [("a ", "KEY1", "x"), (" b ", "KEY2", "y")]);
    }

    #[test]
    fn a_long_value_is_shortened_and_says_so() {
        assert_eq!(shortened(&"x".repeat(31)), format!("{}… (31 characters)", "x".repeat(30)));
    }

    /// Every attack in every text that is shown, masked and not.
    #[test]
    fn nothing_foreign_reaches_the_terminal_as_it_is() {
        use crate::telemetry::attacks;
        use opentelemetry_proto::tonic::{
            common::v1::AnyValue,
            trace::v1::{ResourceSpans, ScopeSpans, Status, span::Event},
        };
        for attack in attacks::all() {
            let attribute = |value: String| KeyValue {
                key: attack.clone(),
                value: Some(AnyValue { value: Some(Value::StringValue(value)) }),
                ..Default::default()
            };
            let span = |secret: &str| Span {
                name: format!("{attack}{secret}"),
                attributes: vec![attribute(format!("{attack}{secret}{attack}"))],
                events: vec![Event {
                    name: attack.clone(),
                    attributes: vec![attribute(format!("{secret}{attack}"))],
                    ..Default::default()
                }],
                status: Some(Status { message: format!("{attack}{secret}"), ..Default::default() }),
                ..Default::default()
            };
            let request = |secret: &str| ExportTraceServiceRequest {
                resource_spans: vec![ResourceSpans {
                    scope_spans: vec![ScopeSpans { spans: vec![span(secret)], ..Default::default() }],
                    ..Default::default()
                }],
            };
            let mut out = Vec::new();
            let masked = format!("{MARKER}{attack}]");
            write(&mut out, &request(&attack), &request(&masked), Style { colour: false }).unwrap();
            let text = String::from_utf8(out).unwrap();
            attacks::assert_harmless(&text, &['\n']);
            assert!(text.lines().all(|line| line.chars().count() < 2000), "an overlong line");
        }
    }
}
