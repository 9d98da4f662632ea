//! What the walk lists, and what it refuses.

use super::{
    build::{Request, any_request, build, full},
    leaves::{expected, walked},
    mutate::mutate,
};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value},
    trace::v1::Span,
};
use proptest::prelude::*;
use prost::Message;
use tracegate::otlp::{Bounds, NO_KEY, Role, Signal, WireError, split, walk};

fn refused(signal: Signal, bytes: &[u8]) -> WireError {
    walk(signal, bytes, &Bounds::default()).unwrap_err()
}

/// Wraps a span's fields in a request: 0a <ResourceSpans> 12 <ScopeSpans> 12 <Span>.
pub fn with_span(span: &[u8]) -> Vec<u8> {
    let wrap = |tag: u8, inner: &[u8]| {
        let mut out = vec![tag];
        prost::encoding::encode_varint(inner.len() as u64, &mut out);
        out.extend(inner);
        out
    };
    wrap(0x0a, &wrap(0x12, &wrap(0x12, span)))
}

#[test]
fn every_field_of_every_message_is_known() {
    for signal in Signal::ALL {
        let request = full(signal);
        let bytes = request.encode();
        let index = walk(signal, &bytes, &Bounds::default()).unwrap();
        assert!(index.leaves.iter().all(|leaf| leaf.role != Role::Unknown));
        assert_eq!(walked(&bytes, &index), expected(&request));
        assert_eq!(index.count, request.count());
        assert!(index.leaves.len() > 100, "the request is really full: {}", index.leaves.len());
    }
}

#[test]
fn a_truncated_request_is_refused_exactly_where_the_oracle_refuses_it() {
    for signal in Signal::ALL {
        let bytes = full(signal).encode();
        // Every cut in the first part, then some: each costs two readings of what is left.
        for len in (0..bytes.len()).filter(|len| *len < 2_500 || len % 41 == 0) {
            let ours = walk(signal, &bytes[..len], &Bounds::default());
            assert_eq!(ours.is_ok(), Request::decode(signal, &bytes[..len]).is_ok(), "{} cut at {len}", signal.name());
        }
    }
}

/// Whether a request the walk refuses may be fine with the oracle: what the walk's documentation says it is strict on.
fn documented_strictness(error: &WireError) -> bool {
    ["an id of", "a group"].iter().any(|what| error.what.starts_with(what))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn leaves_items_and_counts_are_those_of_the_oracle(request in any_request()) {
        let bytes = request.encode();
        let index = walk(request.signal(), &bytes, &Bounds::default()).unwrap();
        prop_assert_eq!(walked(&bytes, &index), expected(&request));
        prop_assert_eq!(index.count, request.count());
        prop_assert_eq!(split::count(request.signal(), &bytes), request.count());
        prop_assert!(index.leaves.is_sorted_by(|a, b| a.start + a.len <= b.start));
        prop_assert!(index.items.is_sorted_by(|a, b| a.end <= b.start));
        if let Request::Traces(request) = &request {
            let spans = request.resource_spans.iter().flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans);
            for (item, span) in index.items.iter().zip(spans) {
                prop_assert_eq!(&Span::decode(&bytes[item.payload as usize..item.end as usize]).unwrap(), span);
                prop_assert_eq!(item.trace_id.as_slice(), if span.trace_id.is_empty() { &[0; 16][..] } else { &span.trace_id[..] });
                prop_assert_eq!(item.span_id.as_slice(), if span.span_id.is_empty() { &[0; 8][..] } else { &span.span_id[..] });
            }
        }
    }

    #[test]
    fn unknown_fields_and_odd_encodings_hide_nothing(
        request in any_request(),
        dice in prop::collection::vec(any::<u8>(), 1..200),
    ) {
        let signal = request.signal();
        let mutated = mutate(signal, &request.encode(), &dice);
        prop_assert_eq!(&Request::decode(signal, &mutated.bytes).unwrap(), &request, "the meaning is the same");

        let index = walk(signal, &mutated.bytes, &Bounds::default()).unwrap();
        let mut unknown = Vec::new();
        let mut known = Vec::new();
        let mut shadows = 0;
        for found in walked(&mutated.bytes, &index) {
            match found.0.as_str() {
                "Unknown" => unknown.push(found.2),
                "Key" if found.2 == b"shadow" => shadows += 1,
                _ => known.push(found),
            }
        }
        let mut injected = mutated.unknown;
        injected.sort();
        unknown.sort();
        prop_assert_eq!(unknown, injected);
        prop_assert_eq!(shadows, mutated.shadows);
        prop_assert_eq!(known, expected(&request));
        prop_assert_eq!(index.count, request.count());
        prop_assert_eq!(split::count(signal, &mutated.bytes), request.count());
    }

    #[test]
    fn flipped_bytes_are_judged_as_the_oracle_judges_them(
        request in any_request(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let signal = request.signal();
        let mut bytes = request.encode().to_vec();
        if !bytes.is_empty() {
            for (at, with) in flips {
                let at = at.index(bytes.len());
                bytes[at] = with;
            }
        }
        // The oracle also minds UTF-8; what it reads as text must not decide here.
        match (walk(signal, &bytes, &Bounds::default()), Request::decode(signal, &bytes)) {
            (Err(error), Ok(_)) => prop_assert!(documented_strictness(&error), "{}", error),
            (Ok(_), Err(error)) => prop_assert!(error.to_string().contains("UTF-8"), "{}", error),
            _ => {}
        }
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for signal in Signal::ALL {
            let ours = walk(signal, &bytes, &Bounds::default());
            if let Err(error) = ours && Request::decode(signal, &bytes).is_ok() {
                prop_assert!(documented_strictness(&error), "{}", error);
            }
        }
    }
}

pub fn nested(levels: usize, list: bool) -> Request {
    let mut value = AnyValue { value: Some(Value::StringValue("deep".into())) };
    for _ in 0..levels {
        value = AnyValue {
            value: Some(if list {
                let values = vec![KeyValue { key: "k".into(), value: Some(value), key_strindex: 0 }];
                Value::KvlistValue(KeyValueList { values })
            } else {
                Value::ArrayValue(ArrayValue { values: vec![value] })
            }),
        };
    }
    let Request::Traces(mut request) = build(Signal::Traces, vec![1, 0, 1, 0, 1]) else { unreachable!() };
    request.resource_spans[0].scope_spans[0].spans = vec![Span {
        attributes: vec![KeyValue { key: "k".into(), value: Some(value), key_strindex: 0 }],
        ..Span::default()
    }];
    Request::Traces(request)
}

#[test]
fn nesting_is_refused_exactly_where_the_oracle_refuses_it() {
    let mut refusals = 0;
    for (levels, list) in (25..60).flat_map(|levels| [(levels, false), (levels, true)]) {
        let bytes = nested(levels, list).encode();
        let ours = walk(Signal::Traces, &bytes, &Bounds::default());
        assert_eq!(ours.is_ok(), Request::decode(Signal::Traces, &bytes).is_ok(), "{levels} levels, list: {list}");
        if let Err(error) = ours {
            refusals += 1;
            assert!(error.over_bounds);
            assert_eq!(error.what, "messages nest deeper than 100");
        }
    }
    assert!(refusals > 20);
}

#[test]
fn nesting_far_beyond_the_bound_is_harmless() {
    let mut bytes = Vec::new();
    for _ in 0..5_000 {
        let mut outer = vec![0x0a];
        let mut value = vec![0x2a];
        prost::encoding::encode_varint(bytes.len() as u64, &mut value);
        value.extend(&bytes);
        prost::encoding::encode_varint(value.len() as u64, &mut outer);
        outer.extend(value);
        bytes = outer;
    }
    // attributes { value { array_value { values { array_value …
    let mut attribute = vec![0x12];
    prost::encoding::encode_varint(bytes.len() as u64 - 4, &mut attribute);
    let inner = {
        let mut rest = &bytes[1..];
        prost::encoding::decode_varint(&mut rest).unwrap();
        rest
    };
    let mut value = vec![0x12];
    prost::encoding::encode_varint(inner.len() as u64, &mut value);
    value.extend(inner);
    let mut span = vec![0x4a];
    prost::encoding::encode_varint(value.len() as u64, &mut span);
    span.extend(value);
    let unbounded = Bounds { depth: usize::MAX, ..Bounds::default() };
    let error = walk(Signal::Traces, &with_span(&span), &unbounded).unwrap_err();
    assert_eq!((error.what.as_str(), error.over_bounds), ("messages nest deeper than 200", true));
}

#[test]
fn items_and_leaves_are_bounded() {
    let Request::Traces(mut request) = full(Signal::Traces) else { unreachable!() };
    let spans = &mut request.resource_spans[0].scope_spans[0].spans;
    *spans = vec![Span { name: "n".into(), ..Span::default() }; 10];
    request.resource_spans.truncate(1);
    request.resource_spans[0].scope_spans.truncate(1);
    let bytes = request.encode_to_vec();
    let leaves = walk(Signal::Traces, &bytes, &Bounds::default()).unwrap().leaves.len();

    let exact = Bounds { items: 10, leaves, ..Bounds::default() };
    assert!(walk(Signal::Traces, &bytes, &exact).is_ok(), "bounds are inclusive");
    let error = walk(Signal::Traces, &bytes, &Bounds { items: 9, ..exact }).unwrap_err();
    assert_eq!((error.what.as_str(), error.over_bounds), ("more than 9 spans", true));
    assert_eq!(error.path, "resource_spans[0].scope_spans[0].spans[9]");
    let error = walk(Signal::Traces, &bytes, &Bounds { leaves: leaves - 1, ..exact }).unwrap_err();
    assert_eq!((error.what, error.over_bounds), (format!("more than {} text fields", leaves - 1), true));

    // Envelopes take memory too, and may be empty.
    let envelopes = b"\x0a\x00\x0a\x04\x12\x00\x12\x00";
    assert!(walk(Signal::Logs, envelopes, &Bounds { items: 4, ..Bounds::default() }).is_ok());
    let error = walk(Signal::Logs, envelopes, &Bounds { items: 3, ..Bounds::default() }).unwrap_err();
    assert_eq!((error.what.as_str(), error.over_bounds), ("more than 3 resources and scopes", true));
    assert_eq!(error.path, "resource_logs[1].scope_logs[1]");

    let metrics = full(Signal::Metrics);
    let bounds = Bounds { items: metrics.count() as usize, ..Bounds::default() };
    assert!(walk(Signal::Metrics, &metrics.encode(), &bounds).is_ok());
    let error = walk(Signal::Metrics, &metrics.encode(), &Bounds { items: bounds.items - 1, ..bounds }).unwrap_err();
    assert!(error.over_bounds && error.what.ends_with("metric points"), "{error}");
}

#[test]
fn an_error_says_what_is_wrong_and_where() {
    // attributes[0] { key: "k" value { string_value: length 4096 } }
    let attribute = b"\x4a\x08\x0a\x01k\x12\x03\x0a\x80\x20";
    let mut span = b"\x4a\x05\x0a\x03one".to_vec();
    span.extend(attribute);
    let bytes = with_span(&span);
    assert_eq!(
        refused(Signal::Traces, &bytes).to_string(),
        format!(
            "length 4096 runs past the end of its message at byte {}, in \
             resource_spans[0].scope_spans[0].spans[0].attributes[1].value.string_value",
            bytes.len() - 2
        )
    );

    let say = |span: &[u8]| {
        let error = refused(Signal::Traces, &with_span(span));
        assert!(!error.over_bounds);
        (error.what, error.offset, error.path.trim_start_matches("resource_spans[0].scope_spans[0].").to_owned())
    };
    let path = |path: &str| path.to_owned();
    assert_eq!(say(b"\x0a\x01x"), ("an id of 1 bytes where 16 or none are due".into(), 8, path("spans[0].trace_id")));
    assert_eq!(
        say(b"\x22\x01x"),
        ("an id of 1 bytes where 8 or none are due".into(), 8, path("spans[0].parent_span_id"))
    );
    assert_eq!(say(b"\x28\x01"), ("wire type 0 is not this field's".into(), 6, path("spans[0].name")));
    assert_eq!(
        say(b"\x2b\x2c"),
        ("a group (wire type 3 or 4), which OTLP does not use".into(), 6, path("spans[0].name"))
    );
    assert_eq!(say(b"\xa3\x06\xa4\x06").2, "spans[0].field_100", "groups are refused in unknown fields too");
    assert_eq!(say(b"\x2e"), ("wire type 6, which does not exist".into(), 6, path("spans[0].name")));
    assert_eq!(say(b"\x02\x00"), ("field number 0".into(), 6, path("spans[0]")));
    assert_eq!(say(b"\x80"), ("the message ends inside a varint".into(), 6, path("spans[0]")));
    assert_eq!(say(b"\x30\x80"), ("the message ends inside a varint".into(), 7, path("spans[0].kind")));
    assert_eq!(
        say(b"\x39\x00"),
        ("the message ends inside a value of 8 bytes".into(), 7, path("spans[0].start_time_unix_nano"))
    );
    assert_eq!(say(b"\x85\x01\x00"), ("the message ends inside a value of 4 bytes".into(), 8, path("spans[0].flags")));
    assert_eq!(say(b"\x30\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02").0, "a varint is longer than 64 bits");
    assert_eq!(say(b"\x80\x80\x80\x80\x10\x00"), ("a tag is longer than 32 bits".into(), 6, path("spans[0]")));
    assert_eq!(refused(Signal::Traces, b"\x0a").path, "resource_spans[0]");
    assert_eq!(refused(Signal::Logs, b"\x80").path, "ExportLogsServiceRequest");
}

#[test]
fn a_length_beyond_all_memory_does_not_wrap_around() {
    // The varint of the string's length ends behind the attribute; added to its end, it would be the attribute's end.
    let span = b"\x4a\x0f\x0a\x01k\x12\x0a\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
    assert_eq!(refused(Signal::Traces, &with_span(span)).what, "the message ends inside a varint");
}

#[test]
fn packed_lists_are_checked() {
    // metrics[0] { exponential_histogram { data_points { positive { bucket_counts: packed } } } }
    let wrap = |tag: u8, inner: Vec<u8>| [vec![tag, inner.len() as u8], inner].concat();
    let request = |point: Vec<u8>, data: u8| wrap(0x0a, wrap(0x12, wrap(0x12, wrap(data, wrap(0x0a, point)))));
    let buckets = |packed: &[u8]| request(wrap(0x42, wrap(0x12, packed.to_vec())), 0x52);
    assert_eq!(walk(Signal::Metrics, &buckets(&[1, 0x80, 1]), &Bounds::default()).unwrap().count, 1);
    assert_eq!(refused(Signal::Metrics, &buckets(&[1, 0x80])).what, "the message ends inside a varint");
    let bounds = |packed: &[u8]| request(wrap(0x3a, packed.to_vec()), 0x4a);
    assert!(walk(Signal::Metrics, &bounds(&[0; 16]), &Bounds::default()).is_ok());
    assert_eq!(refused(Signal::Metrics, &bounds(&[0; 9])).what, "a packed list of 9 bytes is no multiple of 8");
    // The same lists unpacked.
    let unpacked = request([vec![0x39], vec![0; 8], vec![0x31], vec![0; 8]].concat(), 0x4a);
    assert!(walk(Signal::Metrics, &unpacked, &Bounds::default()).is_ok());
}

fn keys_of_texts(span: &[u8]) -> Vec<(String, Option<String>)> {
    let bytes = with_span(span);
    let index = walk(Signal::Traces, &bytes, &Bounds::default()).unwrap();
    let text = |at: u32| {
        let leaf = index.leaves[at as usize];
        String::from_utf8(bytes[leaf.start as usize..(leaf.start + leaf.len) as usize].to_vec()).unwrap()
    };
    (0..index.leaves.len() as u32)
        .map(|at| (text(at), Some(index.leaves[at as usize].key).filter(|key| *key != NO_KEY).map(text)))
        .collect()
}

fn pairs(expected: &[(&str, Option<&str>)]) -> Vec<(String, Option<String>)> {
    expected.iter().map(|(text, key)| ((*text).to_owned(), key.map(str::to_owned))).collect()
}

#[test]
fn a_value_knows_its_key_wherever_the_key_stands() {
    // The key behind the value.
    assert_eq!(keys_of_texts(b"\x4a\x08\x12\x03\x0a\x01v\x0a\x01k"), pairs(&[("v", Some("k")), ("k", None)]));
    // Two keys, two values: the last key counts.
    assert_eq!(
        keys_of_texts(b"\x4a\x10\x0a\x01a\x12\x03\x0a\x01v\x0a\x01b\x12\x03\x0a\x01w"),
        pairs(&[("a", None), ("v", Some("b")), ("b", None), ("w", Some("b"))])
    );
    // In a list: one without a key of its own, and one whose key comes late.
    let inner_without_key = b"\x0a\x05\x12\x03\x0a\x01v";
    let inner_late_key = b"\x0a\x08\x12\x03\x0a\x01w\x0a\x01y";
    let list = [inner_without_key.as_slice(), inner_late_key].concat();
    let value = [vec![0x12, list.len() as u8 + 2, 0x32, list.len() as u8], list].concat();
    let attribute = [value, b"\x0a\x01k".to_vec()].concat();
    let span = [vec![0x4a, attribute.len() as u8], attribute].concat();
    assert_eq!(keys_of_texts(&span), pairs(&[("v", Some("k")), ("w", Some("y")), ("y", Some("k")), ("k", None)]));
    // A key without a value, an empty attribute, an empty value.
    assert_eq!(
        keys_of_texts(b"\x4a\x03\x0a\x01k\x4a\x00\x4a\x05\x0a\x01e\x12\x00"),
        pairs(&[("k", None), ("e", None)])
    );
}

#[test]
fn every_copy_of_a_singular_field_is_listed() {
    // name twice, and an attribute with two values and a oneof set twice.
    let span = b"\x2a\x01a\x2a\x01b\x4a\x12\x0a\x01k\x12\x06\x0a\x01v\x0a\x01w\x12\x05\x0a\x03xyz";
    assert_eq!(
        keys_of_texts(span),
        pairs(&[("a", None), ("b", None), ("k", None), ("v", Some("k")), ("w", Some("k")), ("xyz", Some("k"))])
    );
}

#[test]
fn the_last_id_is_the_items() {
    let mut span = b"\x0a\x10aaaaaaaaaaaaaaaa\x0a\x10bbbbbbbbbbbbbbbb\x12\x08cccccccc".to_vec();
    // A link's and a parent's id are not the span's.
    span.extend(b"\x22\x08dddddddd\x6a\x12\x0a\x10eeeeeeeeeeeeeeee");
    let index = walk(Signal::Traces, &with_span(&span), &Bounds::default()).unwrap();
    assert_eq!((&index.items[0].trace_id, &index.items[0].span_id), (b"bbbbbbbbbbbbbbbb", b"cccccccc"));
    span.extend(b"\x0a\x00");
    let index = walk(Signal::Traces, &with_span(&span), &Bounds::default()).unwrap();
    assert_eq!(index.items[0].trace_id, [0; 16], "an empty id is no id");
}

#[test]
fn resource_slots_name_the_last_resource() {
    let bytes = b"\x0a\x09\x0a\x02\x10\x01\x0a\x00\x1a\x01u\x0a\x03\x1a\x01u";
    let index = walk(Signal::Logs, bytes, &Bounds::default()).unwrap();
    let slots: Vec<_> = index.resources.iter().map(|slot| (slot.container, slot.resource)).collect();
    assert_eq!(slots, [(2, Some((8, 8))), (13, None)]);
}

#[test]
fn invalid_utf8_is_accepted() {
    let index = walk(Signal::Traces, &with_span(b"\x2a\x02\xff\xfe"), &Bounds::default()).unwrap();
    assert_eq!((index.leaves[0].role, index.leaves[0].len), (Role::Name, 2));
}

#[test]
fn an_empty_request_is_accepted() {
    for signal in Signal::ALL {
        let index = walk(signal, b"", &Bounds::default()).unwrap();
        assert_eq!((index.count, index.leaves.len(), index.items.len()), (0, 0, 0));
    }
}
