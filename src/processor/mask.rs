//! `mask`: hands every text-bearing leaf of a request to [`detect`](crate::detect) and plans a marker over each hit.

use crate::{
    detect::{Engine, Field, Hit, Seen, replace},
    otlp::{Edit, Index, Leaf, Locator, NO_KEY, Role, unknown::inner_payloads},
    pipeline::{Finding, Plan, Refusal, Request, Stage},
    telemetry::MaskMetrics,
};
use serde::Deserialize;
use std::collections::{HashMap, HashSet};

/// Configuration of `mask`. `mask: {}` masks with the whole built-in catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `false` lets everything pass as it is: the one explicit way to opt out. The log and the ready line say so.
    pub enabled: bool,
    /// What happens to length-delimited protobuf fields this version of OTLP does not know.
    pub unknown_fields: UnknownFields,
}

impl Default for Config {
    fn default() -> Self {
        Config { enabled: true, unknown_fields: UnknownFields::default() }
    }
}

/// What happens to unknown length-delimited fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownFields {
    /// Scanned as bytes and masked in the same length, so that lengths inside them stay valid.
    #[default]
    Scan,
    /// Removed.
    Drop,
    /// The whole request is refused as malformed.
    Refuse,
}

/// The `mask` stage.
pub struct Mask {
    id: String,
    config: Config,
    engine: &'static Engine,
    metrics: MaskMetrics,
}

impl Mask {
    /// A stage over the built-in catalog.
    pub fn new(id: impl Into<String>, config: Config) -> Self {
        let engine = Engine::builtin();
        let metrics = MaskMetrics::new(engine.rules().iter().map(|rule| (rule.id.as_str(), rule.class.name())));
        Mask { id: id.into(), config, engine, metrics }
    }
}

impl Stage for Mask {
    fn id(&self) -> &str {
        &self.id
    }

    fn apply(&self, request: &Request, plan: &mut Plan) -> Result<(), Refusal> {
        if !self.config.enabled {
            return Ok(());
        }
        self.apply_unknown_fields(request, plan)?;
        let mut seen = self.mask_text(request, plan);
        add(&mut seen, self.mask_numbers(request, plan));
        if self.config.unknown_fields == UnknownFields::Scan {
            add(&mut seen, self.mask_inside_unknown(request, plan));
        }
        self.metrics.incoming_markers(seen.markers.into());
        self.metrics.unscanned(seen.unscanned.into());
        Ok(())
    }
}

impl Mask {
    /// Text, bytes, keys, names and unknown fields: scanned where they stand, all in one pass over the request.
    fn mask_text(&self, request: &Request, plan: &mut Plan) -> Seen {
        let leaves = &request.index.leaves;
        let is_text = |leaf: &&Leaf| match leaf.role {
            Role::Int | Role::Double => false,
            Role::Unknown => self.config.unknown_fields == UnknownFields::Scan,
            Role::Key | Role::Text | Role::Bytes | Role::Name => true,
        };
        let fields: Vec<Field> = leaves.iter().filter(is_text).map(|leaf| field(&request.index, leaf)).collect();
        self.mask_fields(request, &fields, plan)
    }

    /// Integers and whole doubles, scanned as the decimal text a reader would see. A number that is masked becomes
    /// the marker as a string: there is no marker among the numbers.
    fn mask_numbers(&self, request: &Request, plan: &mut Plan) -> Seen {
        let mut numbers = NumberText::default();
        for (position, leaf) in request.index.leaves.iter().enumerate() {
            if let Some(number) = leaf.decimal(&request.bytes) {
                numbers.push(request, position, leaf, &number);
            }
        }
        if numbers.fields.is_empty() {
            return Seen::default();
        }
        let mut hits = Vec::new();
        let seen = self.engine.scan(&numbers.text, &numbers.fields, &mut hits);
        let mut locator = Locator::new(request.signal, &request.bytes);
        // A value that stands in several pieces is changed whole, so once: each piece would give the same edits again.
        let mut changed = HashSet::new();
        for hit in hits {
            let Some(position) = numbers.leaf_of(hit.start) else { continue };
            let leaf = request.index.leaves[position];
            let location = locator.locate(leaf.start);
            if changed.insert(location.value_place()) {
                let marker = replace::marker(&self.engine.rules()[hit.rule as usize]);
                let edits = location.replace_value(&request.bytes, &marker).unwrap_or_default();
                edits.into_iter().for_each(|edit| plan.edit(edit));
            }
            self.found(plan, position, 0, &hit);
        }
        seen
    }

    /// An unknown field may be a message. Where it reads as one, its inner fields are scanned by themselves as well:
    /// a length byte in front of a token may look like a part of it.
    fn mask_inside_unknown(&self, request: &Request, plan: &mut Plan) -> Seen {
        let mut fields = Vec::new();
        for leaf in request.index.leaves.iter().filter(|leaf| leaf.role == Role::Unknown) {
            let inner = inner_payloads(request.text(leaf.start, leaf.len), leaf.start);
            fields.extend(inner.into_iter().map(|(start, len)| Field { start, len, key_start: 0, key_len: 0 }));
        }
        // Markers were counted when the fields were scanned whole.
        Seen { markers: 0, ..self.mask_fields(request, &fields, plan) }
    }

    /// Scans fields where they stand in the request and plans a replacement for each hit.
    fn mask_fields(&self, request: &Request, fields: &[Field], plan: &mut Plan) -> Seen {
        let mut hits = Vec::new();
        let seen = self.engine.scan(&request.bytes, fields, &mut hits);
        for hit in hits {
            let Some((position, leaf)) = leaf_at(&request.index.leaves, hit.start) else { continue };
            let with = self.replacement(&hit, leaf.role);
            plan.edit(Edit { start: hit.start, end: hit.start + hit.len, container: leaf.start, with });
            self.found(plan, position, hit.start - leaf.start, &hit);
        }
        seen
    }

    /// `drop` and `refuse`; `scan` is part of the text pass.
    fn apply_unknown_fields(&self, request: &Request, plan: &mut Plan) -> Result<(), Refusal> {
        if self.config.unknown_fields == UnknownFields::Scan {
            return Ok(());
        }
        let mut locator = Locator::new(request.signal, &request.bytes);
        for leaf in request.index.leaves.iter().filter(|leaf| leaf.role == Role::Unknown) {
            let location = locator.locate(leaf.start);
            if self.config.unknown_fields == UnknownFields::Refuse {
                return Err(Refusal::Malformed(format!(
                    "unknown field at {}; this gateway refuses what it cannot read (mask: unknown_fields: refuse)",
                    location.path(&request.bytes, |_, _| false)
                )));
            }
            location.remove_field().into_iter().for_each(|edit| plan.edit(edit));
        }
        Ok(())
    }

    fn replacement(&self, hit: &Hit, role: Role) -> Vec<u8> {
        let rule = &self.engine.rules()[hit.rule as usize];
        match role {
            Role::Unknown => replace::same_length(rule, hit.len as usize),
            _ => replace::replacement(rule, hit),
        }
    }

    fn found(&self, plan: &mut Plan, leaf: usize, offset: u32, hit: &Hit) {
        self.metrics.findings(hit.rule.into(), 1);
        self.metrics.masked_bytes(hit.len.into());
        let leaf = leaf as u32;
        plan.find(Finding { leaf, offset, len: hit.len, rule: hit.rule, confidence: hit.confidence });
    }
}

/// The decimal texts of a request's numbers, one after the other with their keys, so that they too are scanned in
/// one pass. A key stands once, however many numbers it has: a million of them may share one of a megabyte.
#[derive(Default)]
struct NumberText {
    text: Vec<u8>,
    fields: Vec<Field>,
    leaves: Vec<u32>,
    /// Where the key with this position among the leaves stands in `text`.
    keys: HashMap<u32, u32>,
}

impl NumberText {
    fn push(&mut self, request: &Request, position: usize, leaf: &Leaf, number: &str) {
        let key = request.index.leaves.get(leaf.key as usize).map_or(&[][..], |key| request.text(key.start, key.len));
        let text = &mut self.text;
        let key_start = *self.keys.entry(leaf.key).or_insert_with(|| {
            let start = text.len() as u32;
            text.extend_from_slice(key);
            start
        });
        let start = self.text.len() as u32;
        self.text.extend_from_slice(number.as_bytes());
        self.fields.push(Field { start, len: number.len() as u32, key_start, key_len: key.len() as u32 });
        self.leaves.push(position as u32);
    }

    /// The position of the leaf whose number stands at `offset`.
    fn leaf_of(&self, offset: u32) -> Option<usize> {
        let behind = self.fields.partition_point(|field| field.start <= offset);
        self.leaves.get(behind.checked_sub(1)?).map(|&position| position as usize)
    }
}

fn field(index: &Index, leaf: &Leaf) -> Field {
    let key = if leaf.key == NO_KEY { None } else { index.leaves.get(leaf.key as usize) };
    let (key_start, key_len) = key.map_or((0, 0), |key| (key.start, key.len));
    Field { start: leaf.start, len: leaf.len, key_start, key_len }
}

/// The leaf that holds `offset`, and its position.
fn leaf_at(leaves: &[Leaf], offset: u32) -> Option<(usize, Leaf)> {
    let behind = leaves.partition_point(|leaf| leaf.start <= offset);
    let position = behind.checked_sub(1)?;
    let leaf = *leaves.get(position)?;
    (offset - leaf.start < leaf.len).then_some((position, leaf))
}

fn add(total: &mut Seen, more: Seen) {
    total.markers += more.markers;
    total.unscanned += more.unscanned;
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{
        otlp::{Bounds, Signal},
        pipeline::{Metadata, Origin, Transport},
    };
    use bytes::Bytes;
    use opentelemetry_proto::tonic::{
        collector::logs::v1::ExportLogsServiceRequest,
        common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value},
        logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    };
    use prost::Message;

    const CARD: i64 = 4_111_111_111_111_111;

    fn attribute(key: String, value: Value) -> KeyValue {
        KeyValue { key, value: Some(AnyValue { value: Some(value) }), ..Default::default() }
    }

    /// A log request with one record, `extra` encoded behind its attributes.
    fn request(attributes: Vec<KeyValue>, extra: &[u8]) -> Request {
        let field = |number: u8, payload: Vec<u8>| {
            let mut out = vec![number << 3 | 2];
            prost::encoding::encode_varint(payload.len() as u64, &mut out);
            [out, payload].concat()
        };
        let mut record = LogRecord { attributes, ..Default::default() }.encode_to_vec();
        record.extend_from_slice(extra);
        let bytes = Bytes::from(field(1, field(2, field(2, record))));
        let origin = Origin {
            receiver: "otlp".into(),
            transport: Transport::Http,
            peer: None,
            metadata: Metadata::default(),
            principal: None,
        };
        Request::read(Signal::Logs, bytes, origin, &Bounds::default()).unwrap()
    }

    #[test]
    fn a_key_is_copied_once_for_all_its_numbers() {
        let numbers = vec![AnyValue { value: Some(Value::IntValue(CARD)) }; 1000];
        let list = Value::ArrayValue(ArrayValue { values: numbers });
        let request = request(vec![attribute("k".repeat(5000), list)], &[]);
        let mut text = NumberText::default();
        for (position, leaf) in request.index.leaves.iter().enumerate() {
            if let Some(number) = leaf.decimal(&request.bytes) {
                text.push(&request, position, leaf, &number);
            }
        }
        assert_eq!(text.fields.len(), 1000);
        assert_eq!(text.text.len(), 5000 + 1000 * 16);
        assert!(text.fields.iter().all(|field| (field.key_start, field.key_len) == (0, 5000)));
    }

    #[test]
    fn a_value_in_pieces_among_others_is_replaced_once() {
        let body = LogRecord { body: Some(AnyValue { value: Some(Value::IntValue(CARD)) }), ..Default::default() };
        let other = LogRecord { attributes: vec![attribute("k".into(), Value::IntValue(CARD))], ..Default::default() };
        let pieces = [body.encode_to_vec(), other.encode_to_vec()].concat().repeat(100);
        let request = request(Vec::new(), &pieces);
        let mut plan = Plan::default();
        Mask::new("mask", Config::default()).apply(&request, &mut plan).unwrap();
        assert_eq!(plan.findings().len(), 200);
        assert_eq!(plan.edits().len(), 200, "one for each piece, not all pieces for each");
        let out = ExportLogsServiceRequest::decode(plan.render(&request).passed.unwrap()).unwrap();
        let [ResourceLogs { scope_logs, .. }] = &out.resource_logs[..] else { panic!("one resource") };
        let [ScopeLogs { log_records, .. }] = &scope_logs[..] else { panic!("one scope") };
        let marker = Some(AnyValue { value: Some(Value::StringValue("[MASKED:payment-card]".into())) });
        assert_eq!(log_records[0].body, marker);
        assert_eq!(log_records[0].attributes.len(), 100);
        assert!(log_records[0].attributes.iter().all(|attribute| attribute.value == marker));
    }
}
