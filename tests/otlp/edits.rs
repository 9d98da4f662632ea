//! Rendering must equal decode, change, encode.

use super::{
    build::{Request, any_request, full},
    leaves::walked,
    mutate::mutate,
    walks::with_span,
};
use bytes::Bytes;
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    metrics::v1::metric::Data,
    resource::v1::Resource,
    trace::v1::Span,
};
use proptest::prelude::*;
use prost::Message;
use tracegate::otlp::{Bounds, Edit, Index, Role, Signal, edit::string_attribute, locate, render, walk};

/// Masks every second byte pair that it likes, by content alone, so that both sides do the same.
fn masked(text: &[u8]) -> Option<(usize, usize, Vec<u8>)> {
    let sum: usize = text.iter().map(|byte| usize::from(*byte)).sum();
    // Only ASCII is touched, so that text stays text.
    if text.is_empty() || !text.is_ascii() || sum.is_multiple_of(3) {
        return None;
    }
    let start = sum % text.len();
    let len = (sum / 7) % (text.len() - start + 1);
    let with = b"[MASKED:some-rule]".repeat(sum % 20);
    // An empty string is absent for the oracle.
    (text.len() - len + with.len() > 0).then_some((start, len, with))
}

fn mask_in_place(text: &mut Vec<u8>) {
    if let Some((start, len, with)) = masked(text) {
        text.splice(start..start + len, with);
    }
}

fn mask_string(text: &mut String) {
    let mut bytes = std::mem::take(text).into_bytes();
    mask_in_place(&mut bytes);
    *text = String::from_utf8(bytes).unwrap();
}

/// The same on the received bytes.
fn mask_edits(bytes: &[u8], index: &Index) -> Vec<Edit> {
    let text_like = |role| matches!(role, Role::Key | Role::Text | Role::Bytes | Role::Name);
    let edit = |leaf: &tracegate::otlp::Leaf| {
        let (start, len, with) = masked(&bytes[leaf.start as usize..(leaf.start + leaf.len) as usize])?;
        let start = leaf.start + start as u32;
        Some(Edit { start, end: start + len as u32, container: leaf.start, with })
    };
    index.leaves.iter().filter(|leaf| text_like(leaf.role)).filter_map(edit).collect()
}

/// Masks through the oracle's types.
fn mask_request(request: &mut Request) {
    match request {
        Request::Traces(request) => {
            for envelope in &mut request.resource_spans {
                mask_resource(&mut envelope.resource);
                mask_string(&mut envelope.schema_url);
                for scope in &mut envelope.scope_spans {
                    mask_scope(&mut scope.scope);
                    mask_string(&mut scope.schema_url);
                    for span in &mut scope.spans {
                        mask_string(&mut span.name);
                        mask_string(&mut span.trace_state);
                        mask_attributes(&mut span.attributes);
                        for event in &mut span.events {
                            mask_string(&mut event.name);
                            mask_attributes(&mut event.attributes);
                        }
                        for link in &mut span.links {
                            mask_string(&mut link.trace_state);
                            mask_attributes(&mut link.attributes);
                        }
                        if let Some(status) = &mut span.status {
                            mask_string(&mut status.message);
                        }
                    }
                }
            }
        }
        Request::Logs(request) => {
            for envelope in &mut request.resource_logs {
                mask_resource(&mut envelope.resource);
                mask_string(&mut envelope.schema_url);
                for scope in &mut envelope.scope_logs {
                    mask_scope(&mut scope.scope);
                    mask_string(&mut scope.schema_url);
                    for record in &mut scope.log_records {
                        mask_string(&mut record.severity_text);
                        mask_string(&mut record.event_name);
                        mask_attributes(&mut record.attributes);
                        record.body.iter_mut().for_each(mask_value);
                    }
                }
            }
        }
        Request::Metrics(request) => {
            for envelope in &mut request.resource_metrics {
                mask_resource(&mut envelope.resource);
                mask_string(&mut envelope.schema_url);
                for scope in &mut envelope.scope_metrics {
                    mask_scope(&mut scope.scope);
                    mask_string(&mut scope.schema_url);
                    for metric in &mut scope.metrics {
                        mask_string(&mut metric.name);
                        mask_string(&mut metric.description);
                        mask_string(&mut metric.unit);
                        mask_attributes(&mut metric.metadata);
                        metric.data.iter_mut().for_each(mask_data);
                    }
                }
            }
        }
    }
}

fn mask_data(data: &mut Data) {
    let mut exemplars = Vec::new();
    let mut attributes: Vec<&mut Vec<KeyValue>> = Vec::new();
    match data {
        Data::Gauge(gauge) => {
            for point in &mut gauge.data_points {
                attributes.push(&mut point.attributes);
                exemplars.extend(&mut point.exemplars);
            }
        }
        Data::Sum(sum) => {
            for point in &mut sum.data_points {
                attributes.push(&mut point.attributes);
                exemplars.extend(&mut point.exemplars);
            }
        }
        Data::Histogram(histogram) => {
            for point in &mut histogram.data_points {
                attributes.push(&mut point.attributes);
                exemplars.extend(&mut point.exemplars);
            }
        }
        Data::ExponentialHistogram(histogram) => {
            for point in &mut histogram.data_points {
                attributes.push(&mut point.attributes);
                exemplars.extend(&mut point.exemplars);
            }
        }
        Data::Summary(summary) => attributes.extend(summary.data_points.iter_mut().map(|point| &mut point.attributes)),
    }
    attributes.extend(exemplars.into_iter().map(|exemplar| &mut exemplar.filtered_attributes));
    attributes.into_iter().for_each(|attributes| mask_attributes(attributes));
}

fn mask_resource(resource: &mut Option<Resource>) {
    if let Some(resource) = resource {
        mask_attributes(&mut resource.attributes);
        for entity in &mut resource.entity_refs {
            mask_string(&mut entity.schema_url);
            mask_string(&mut entity.r#type);
            entity.id_keys.iter_mut().chain(&mut entity.description_keys).for_each(mask_string);
        }
    }
}

fn mask_scope(scope: &mut Option<InstrumentationScope>) {
    if let Some(scope) = scope {
        mask_string(&mut scope.name);
        mask_string(&mut scope.version);
        mask_attributes(&mut scope.attributes);
    }
}

fn mask_attributes(attributes: &mut [KeyValue]) {
    for attribute in attributes {
        mask_string(&mut attribute.key);
        attribute.value.iter_mut().for_each(mask_value);
    }
}

fn mask_value(value: &mut AnyValue) {
    match &mut value.value {
        Some(Value::StringValue(text)) => mask_string(text),
        Some(Value::BytesValue(bytes)) => mask_in_place(bytes),
        Some(Value::ArrayValue(array)) => array.values.iter_mut().for_each(mask_value),
        Some(Value::KvlistValue(list)) => mask_attributes(&mut list.values),
        _ => {}
    }
}

fn index_of(signal: Signal, bytes: &[u8]) -> Index {
    walk(signal, bytes, &Bounds::default()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn masking_on_the_wire_equals_decode_change_encode(request in any_request()) {
        let signal = request.signal();
        let bytes = request.encode();
        let edits = mask_edits(&bytes, &index_of(signal, &bytes));
        let rendered = render(signal, &bytes, &edits);
        let mut changed = request;
        mask_request(&mut changed);
        prop_assert_eq!(rendered, changed.encode());
    }

    #[test]
    fn masking_keeps_unknown_fields_and_odd_encodings(
        request in any_request(),
        dice in prop::collection::vec(any::<u8>(), 1..200),
    ) {
        let signal = request.signal();
        let bytes = Bytes::from(mutate(signal, &request.encode(), &dice).bytes);
        let index = index_of(signal, &bytes);
        let rendered = render(signal, &bytes, &mask_edits(&bytes, &index));
        let mut changed = request;
        mask_request(&mut changed);
        prop_assert_eq!(&Request::decode(signal, &rendered).unwrap(), &changed);
        let unknown = |bytes: &[u8]| {
            let found = walked(bytes, &index_of(signal, bytes));
            let mut found: Vec<_> = found.into_iter().filter(|leaf| leaf.0 == "Unknown").map(|leaf| leaf.2).collect();
            found.sort();
            found
        };
        prop_assert_eq!(unknown(&rendered), unknown(&bytes));
    }

    #[test]
    fn masks_of_the_same_length_change_nothing_else(
        request in any_request(),
        dice in prop::collection::vec(any::<u8>(), 1..100),
    ) {
        let signal = request.signal();
        let bytes = Bytes::from(mutate(signal, &request.encode(), &dice).bytes);
        let mut expected = bytes.to_vec();
        let mut edits = Vec::new();
        for leaf in index_of(signal, &bytes).leaves {
            let (start, end) = (leaf.start as usize, (leaf.start + leaf.len) as usize);
            if matches!(leaf.role, Role::Unknown | Role::Text) && leaf.len % 2 == 1 {
                expected[start..end].fill(b'*');
                let with = vec![b'*'; leaf.len as usize];
                edits.push(Edit { start: leaf.start, end: leaf.start + leaf.len, container: leaf.start, with });
            }
        }
        prop_assert_eq!(render(signal, &bytes, &edits), expected);
    }

    #[test]
    fn attributes_are_added_to_every_resource_and_span(request in any_request()) {
        let signal = request.signal();
        let bytes = request.encode();
        let index = index_of(signal, &bytes);
        let mut edits = Vec::new();
        let long = "v".repeat(200);
        let mut slots = index.resources.iter();
        let mut items = index.items.iter().peekable();
        // In order of their offsets: a resource stands in front of the spans it is for.
        while let Some(slot) = slots.next() {
            let attribute = string_attribute(1, "tracegate.tenant", &long);
            edits.push(match slot.resource {
                Some((payload, end)) => Edit { start: end, end, container: payload, with: attribute },
                None => {
                    let mut resource = vec![0x0a];
                    prost::encoding::encode_varint(attribute.len() as u64, &mut resource);
                    resource.extend(attribute);
                    Edit { start: slot.container, end: slot.container, container: slot.container, with: resource }
                }
            });
            let next = slots.clone().next().map_or(u32::MAX, |next| next.container);
            while let Some(item) = items.next_if(|item| signal == Signal::Traces && item.start < next) {
                let with = string_attribute(9, "tracegate.principal.id", "someone");
                edits.push(Edit { start: item.end, end: item.end, container: item.payload, with });
            }
        }
        let rendered = render(signal, &bytes, &edits);

        let tenant = KeyValue {
            key: "tracegate.tenant".into(),
            value: Some(AnyValue { value: Some(Value::StringValue(long)) }),
            key_strindex: 0,
        };
        let principal = KeyValue {
            key: "tracegate.principal.id".into(),
            value: Some(AnyValue { value: Some(Value::StringValue("someone".into())) }),
            key_strindex: 0,
        };
        let stamp = |resource: &mut Option<Resource>| {
            resource.get_or_insert_default().attributes.push(tenant.clone());
        };
        let mut changed = request;
        match &mut changed {
            Request::Traces(request) => for envelope in &mut request.resource_spans {
                stamp(&mut envelope.resource);
                for span in envelope.scope_spans.iter_mut().flat_map(|scope| &mut scope.spans) {
                    span.attributes.push(principal.clone());
                }
            },
            Request::Logs(request) => request.resource_logs.iter_mut().for_each(|e| stamp(&mut e.resource)),
            Request::Metrics(request) => request.resource_metrics.iter_mut().for_each(|e| stamp(&mut e.resource)),
        }
        prop_assert_eq!(Request::decode(signal, &rendered).unwrap(), changed);
    }

    #[test]
    fn removing_an_attribute_removes_it_and_nothing_else(
        request in any_request(),
        pick in any::<prop::sample::Index>(),
    ) {
        let signal = request.signal();
        let bytes = request.encode();
        let index = index_of(signal, &bytes);
        prop_assume!(!index.leaves.is_empty());
        let leaf = index.leaves[pick.index(index.leaves.len())];
        let location = &locate(signal, &bytes, &[leaf.start])[0];
        let Some(edit) = location.remove_attribute() else {
            prop_assert!(leaf.key == tracegate::otlp::NO_KEY && leaf.role != Role::Key);
            return Ok(());
        };
        prop_assert_eq!(location.enclosing_attribute().map(|(start, _, end)| (start, end)), Some((edit.start, edit.end)));
        let rendered = render(signal, &bytes, std::slice::from_ref(&edit));
        let left = index_of(signal, &rendered).leaves.len();
        let inside = index.leaves.iter().filter(|leaf| leaf.start > edit.start && leaf.start <= edit.end).count();
        prop_assert!(inside > 0);
        prop_assert_eq!(left, index.leaves.len() - inside);
        prop_assert!(Request::decode(signal, &rendered).is_ok());
    }

    #[test]
    fn a_replaced_value_decodes_as_the_text(
        request in any_request(),
        dice in prop::collection::vec(any::<u8>(), 1..100),
        pick in any::<prop::sample::Index>(),
    ) {
        let signal = request.signal();
        let bytes = Bytes::from(mutate(signal, &request.encode(), &dice).bytes);
        let index = index_of(signal, &bytes);
        let values: Vec<_> = index
            .leaves
            .iter()
            .filter(|leaf| matches!(leaf.role, Role::Text | Role::Bytes | Role::Int | Role::Double))
            .collect();
        prop_assume!(!values.is_empty());
        let leaf = values[pick.index(values.len())];
        let edits = locate(signal, &bytes, &[leaf.start])[0].replace_value(&bytes, "[MASKED:x]").unwrap();
        let rendered = render(signal, &bytes, &edits);
        let found = |bytes: &[u8]| walked(bytes, &index_of(signal, bytes));
        let mut expected = found(&bytes);
        let text = bytes[leaf.start as usize..(leaf.start + leaf.len) as usize].to_vec();
        let gone = expected.iter().position(|(role, _, found)| *role == format!("{:?}", leaf.role) && *found == text).unwrap();
        let role = expected.remove(gone).0;
        let mut after = found(&rendered);
        let new = after.iter().position(|(role, _, text)| role == "Text" && text == b"[MASKED:x]").unwrap();
        after.remove(new);
        // Several equal leaves may stand under different keys; which of them was taken out does not matter here.
        let strip = |found: Vec<super::leaves::Found>| found.into_iter().map(|(role, _, text)| (role, text)).collect::<Vec<_>>();
        let (mut after, mut expected) = (strip(after), strip(expected));
        after.sort();
        expected.sort();
        prop_assert_eq!(after, expected, "a {} was replaced", role);
        prop_assert!(Request::decode(signal, &rendered).is_ok());
    }
}

#[test]
fn without_edits_the_same_bytes_come_back() {
    let bytes = full(Signal::Logs).encode();
    let rendered = render(Signal::Logs, &bytes, &[]);
    assert_eq!(rendered.as_ptr(), bytes.as_ptr());
}

fn span_of(bytes: &[u8]) -> Span {
    let Request::Traces(request) = Request::decode(Signal::Traces, bytes).unwrap() else { unreachable!() };
    request.resource_spans[0].scope_spans[0].spans[0].clone()
}

fn edit(start: usize, end: usize, container: usize, with: &[u8]) -> Edit {
    Edit { start: start as u32, end: end as u32, container: container as u32, with: with.to_vec() }
}

#[test]
fn insertions_at_one_point_go_where_their_containers_say() {
    // A span with an empty status, then an attribute: their border is the end of the one and the tag of the other.
    let bytes = Bytes::from(with_span(b"\x7a\x00\x2a\x01n"));
    let (status, border) = (8, 8);
    let edits = [edit(border, border, status, b"\x12\x02ok"), edit(border, border, 6, b"\x1a\x01t\x1a\x01s")];
    let span = span_of(&render(Signal::Traces, &bytes, &edits));
    assert_eq!(
        (span.status.unwrap().message.as_str(), span.trace_state.as_str(), span.name.as_str()),
        ("ok", "s", "n")
    );
}

#[test]
fn lengths_grow_and_shrink_across_varint_widths() {
    for (from, to) in [(1usize, 127usize), (1, 128), (127, 16_384), (130, 3), (16_400, 10), (200, 0)] {
        let mut name = vec![0x2a];
        prost::encoding::encode_varint(from as u64, &mut name);
        name.extend(vec![b'a'; from]);
        let bytes = Bytes::from(with_span(&name));
        let leaf = index_of(Signal::Traces, &bytes).leaves[0];
        let change =
            Edit { start: leaf.start, end: leaf.start + leaf.len, container: leaf.start, with: vec![b'b'; to] };
        let rendered = render(Signal::Traces, &bytes, &[change]);
        let span = Span { name: "b".repeat(to), ..Span::default() };
        let expected = if to == 0 { with_span(b"\x2a\x00") } else { with_span(&span.encode_to_vec()) };
        assert_eq!(rendered, expected, "{from} to {to}");
    }
}

#[test]
#[should_panic(expected = "an edit is out of order, out of range, or in no field")]
fn an_edit_in_no_field_is_never_dropped_silently() {
    let bytes = Bytes::from(with_span(b"\x2a\x03abc"));
    // Offset 9 is inside the name, and no payload begins there.
    let _ = render(Signal::Traces, &bytes, &[edit(9, 10, 9, b"x")]);
}

#[test]
#[should_panic(expected = "an edit is out of order, out of range, or in no field")]
fn an_edit_behind_its_container_is_refused() {
    let bytes = Bytes::from(with_span(b"\x2a\x03abc\x2a\x01d"));
    let _ = render(Signal::Traces, &bytes, &[edit(8, 12, 8, b"x")]);
}

fn paths(signal: Signal, bytes: &[u8]) -> Vec<String> {
    let offsets: Vec<u32> = index_of(signal, bytes).leaves.iter().map(|leaf| leaf.start).collect();
    locate(signal, bytes, &offsets).iter().map(|location| location.path(bytes, |_, _| true)).collect()
}

#[test]
fn paths_name_attributes_by_their_keys() {
    let text = |text: &str| AnyValue { value: Some(Value::StringValue(text.into())) };
    let pair = |key: &str, value| KeyValue { key: key.into(), value: Some(value), key_strindex: 0 };
    let nested = AnyValue {
        value: Some(Value::KvlistValue(opentelemetry_proto::tonic::common::v1::KeyValueList {
            values: vec![pair(
                "list",
                AnyValue {
                    value: Some(Value::ArrayValue(opentelemetry_proto::tonic::common::v1::ArrayValue {
                        values: vec![text("a"), text("b")],
                    })),
                },
            )],
        })),
    };
    let span = Span {
        name: "n".into(),
        attributes: vec![pair("input.value", text("x")), pair("deep", nested)],
        status: Some(opentelemetry_proto::tonic::trace::v1::Status { message: "m".into(), code: 0 }),
        ..Span::default()
    };
    let bytes = with_span(&span.encode_to_vec());
    let prefix = "resource_spans[0].scope_spans[0].spans[0].";
    let expected = [
        "name",
        r#"attributes["input.value"].key"#,
        r#"attributes["input.value"]"#,
        r#"attributes["deep"].key"#,
        r#"attributes["deep"]["list"].key"#,
        r#"attributes["deep"]["list"][0]"#,
        r#"attributes["deep"]["list"][1]"#,
        "status.message",
    ];
    assert_eq!(paths(Signal::Traces, &bytes), expected.map(|path| format!("{prefix}{path}")));

    // Keys that may not be shown give way to positions.
    let index = index_of(Signal::Traces, &bytes);
    let deep = index.leaves[3];
    let location = &locate(Signal::Traces, &bytes, &[index.leaves[5].start])[0];
    assert_eq!(location.path(&bytes, |start, _| start == deep.start), format!("{prefix}attributes[\"deep\"][0][0]"));
    assert_eq!(location.path(&bytes, |_, _| false), format!("{prefix}attributes[1][0][0]"));
}

#[test]
fn keys_in_paths_are_escaped_and_cut() {
    let key = format!("\u{1b}[31m\"{}", "k".repeat(300));
    let mut span = Vec::new();
    Span {
        attributes: vec![KeyValue { key, value: Some(AnyValue { value: Some(Value::IntValue(5)) }), key_strindex: 0 }],
        ..Span::default()
    }
    .encode(&mut span)
    .unwrap();
    let path = &paths(Signal::Traces, &with_span(&span))[1];
    assert!(path.contains(r#"attributes["\u{1b}[31m\"kkk"#), "{path}");
    assert!(path.ends_with("k\"…]") && path.len() < 250, "{path}");
}

#[test]
fn items_and_unknown_fields_have_paths_too() {
    let bytes = with_span(b"\xa2\x06\x02hi\x2a\x01n");
    let item = index_of(Signal::Traces, &bytes).items[0];
    let offsets = [item.payload, index_of(Signal::Traces, &bytes).leaves[0].start + 1, item.end - 1];
    let shown: Vec<_> = locate(Signal::Traces, &bytes, &offsets)
        .iter()
        .map(|location| location.path(&bytes, |_, _| true).split_off("resource_spans[0].scope_spans[0].".len()))
        .collect();
    assert_eq!(shown, ["spans[0]", "spans[0].field_100", "spans[0].name"]);
}

#[test]
fn an_empty_leaf_at_the_end_of_everything_is_located() {
    let bytes = Bytes::from(with_span(b"\x4a\x07\x0a\x01k\x12\x02\x0a\x00"));
    let leaf = index_of(Signal::Traces, &bytes).leaves[1];
    assert_eq!((leaf.start as usize, leaf.len), (bytes.len(), 0));
    let location = &locate(Signal::Traces, &bytes, &[leaf.start])[0];
    assert_eq!(location.path(&bytes, |_, _| true), r#"resource_spans[0].scope_spans[0].spans[0].attributes["k"]"#);
    let rendered = render(Signal::Traces, &bytes, &location.replace_value(&bytes, "[M]").unwrap());
    assert_eq!(rendered, with_span(b"\x4a\x0a\x0a\x01k\x12\x05\x0a\x03[M]"));
}

#[test]
fn a_changed_oneof_replaces_every_occurrence() {
    // key k; value { string "a", int 5 }, then value { string "b", unknown field 100 }.
    let bytes = Bytes::from(with_span(b"\x4a\x14\x0a\x01k\x12\x05\x0a\x01a\x18\x05\x12\x08\x0a\x01b\xa2\x06\x02hi"));
    let index = index_of(Signal::Traces, &bytes);
    let starts: Vec<u32> = index.leaves.iter().filter(|leaf| leaf.role != Role::Key).map(|leaf| leaf.start).collect();
    let locations = locate(Signal::Traces, &bytes, &starts);
    let edits = locations[0].replace_value(&bytes, "[M]").unwrap();
    for location in &locations {
        assert_eq!(location.replace_value(&bytes, "[M]").as_ref(), Some(&edits), "whichever copy is meant");
    }
    let rendered = render(Signal::Traces, &bytes, &edits);
    assert_eq!(rendered, with_span(b"\x4a\x11\x0a\x01k\x12\x05\x0a\x03[M]\x12\x05\xa2\x06\x02hi"));

    let name = locate(Signal::Traces, &with_span(b"\x2a\x01n"), &[8]);
    assert_eq!(name[0].replace_value(&with_span(b"\x2a\x01n"), "x"), None);
    assert_eq!(name[0].remove_attribute(), None);
}

#[test]
fn an_element_of_an_array_is_replaced_alone() {
    // value { array { "a", "b" } }
    let bytes = Bytes::from(with_span(b"\x4a\x11\x0a\x01k\x12\x0c\x2a\x0a\x0a\x03\x0a\x01a\x0a\x03\x0a\x01b"));
    let leaves = index_of(Signal::Traces, &bytes).leaves;
    let location = &locate(Signal::Traces, &bytes, &[leaves[2].start])[0];
    let rendered = render(Signal::Traces, &bytes, &location.replace_value(&bytes, "[M]").unwrap());
    let texts: Vec<_> =
        walked(&rendered, &index_of(Signal::Traces, &rendered)).into_iter().map(|leaf| leaf.2).collect();
    assert_eq!(texts, [b"k".to_vec(), b"[M]".to_vec(), b"a".to_vec()]);
}

#[test]
fn a_string_attribute_is_what_the_oracle_writes() {
    for len in [0, 1, 100, 127, 128, 20_000] {
        let value = "v".repeat(len);
        let attribute = KeyValue {
            key: "tracegate.tenant".into(),
            value: Some(AnyValue { value: Some(Value::StringValue(value.clone())) }),
            key_strindex: 0,
        };
        let resource = Resource { attributes: vec![attribute.clone()], ..Resource::default() };
        assert_eq!(string_attribute(1, "tracegate.tenant", &value), resource.encode_to_vec());
        let span = Span { attributes: vec![attribute], ..Span::default() };
        assert_eq!(string_attribute(9, "tracegate.tenant", &value), span.encode_to_vec());
    }
}
