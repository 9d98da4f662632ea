//! OTLP/JSON: the checklist's lines J1 to J6, and round trips against the oracle's own serde types.

use super::{
    build::{Request, any_request, full},
    mutate::mutate,
    walks::{nested, with_span},
};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, any_value::Value},
    logs::v1::LogRecord,
    metrics::v1::{metric::Data, number_data_point},
    trace::v1::Span,
};
use proptest::prelude::*;
use serde_json::Value as Json;
use tracegate::otlp::{
    Bounds, Signal,
    json::{JsonError, from_protobuf, to_protobuf},
    walk,
};

fn read(signal: Signal, json: &str) -> Result<Request, JsonError> {
    let bytes = to_protobuf(signal, json.as_bytes(), &Bounds::default())?;
    walk(signal, &bytes, &Bounds::default()).unwrap();
    Ok(Request::decode(signal, &bytes).unwrap())
}

/// A span from the JSON of its fields.
fn span(fields: &str) -> Result<Span, JsonError> {
    let json = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{fields}}}]}}]}}]}}"#);
    let Request::Traces(mut request) = read(Signal::Traces, &json)? else { unreachable!() };
    Ok(request.resource_spans.remove(0).scope_spans.remove(0).spans.remove(0))
}

fn log(fields: &str) -> Result<LogRecord, JsonError> {
    let json = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{{fields}}}]}}]}}]}}"#);
    let Request::Logs(mut request) = read(Signal::Logs, &json)? else { unreachable!() };
    Ok(request.resource_logs.remove(0).scope_logs.remove(0).log_records.remove(0))
}

/// An attribute value from its JSON.
fn value(json: &str) -> Result<Option<Value>, JsonError> {
    let body = log(&format!(r#""body":{json}"#))?.body;
    Ok(body.and_then(|body| body.value))
}

/// The JSON of a span that has these fields on the wire.
fn span_json(fields: &[u8]) -> String {
    let json = String::from_utf8(from_protobuf(Signal::Traces, &with_span(fields))).unwrap();
    let inner = json.strip_prefix(r#"{"resourceSpans":[{"scopeSpans":[{"spans":["#).unwrap();
    inner.strip_suffix("]}]}]}").unwrap().to_owned()
}

/// Without what says nothing: the oracle writes some fields that are not set, and leaves out others that are.
fn without_defaults(json: Json) -> Json {
    let says_something = |json: &Json| match json {
        Json::Null => false,
        Json::Bool(value) => *value,
        Json::Number(value) => value.as_f64() != Some(0.0),
        Json::String(value) => !value.is_empty() && value != "0",
        Json::Array(values) => !values.is_empty(),
        Json::Object(fields) => !fields.is_empty(),
    };
    match json {
        Json::Array(values) => Json::Array(values.into_iter().map(without_defaults).collect()),
        Json::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, without_defaults(value)));
            Json::Object(fields.filter(|(_, value)| says_something(value)).collect())
        }
        other => other,
    }
}

/// What the oracle's serde types write.
fn oracle_json(request: &Request) -> Vec<u8> {
    match request {
        Request::Traces(request) => serde_json::to_vec(request),
        Request::Logs(request) => serde_json::to_vec(request),
        Request::Metrics(request) => serde_json::to_vec(request),
    }
    .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn j6_protobuf_to_json_to_protobuf_is_the_same(
        request in any_request(),
        dice in prop::collection::vec(any::<u8>(), 1..100),
    ) {
        let signal = request.signal();
        for bytes in [request.encode().to_vec(), mutate(signal, &request.encode(), &dice).bytes] {
            let json = from_protobuf(signal, &bytes);
            let back = to_protobuf(signal, &json, &Bounds::default()).unwrap();
            walk(signal, &back, &Bounds::default()).unwrap();
            prop_assert_eq!(&Request::decode(signal, &back).unwrap(), &request);
        }
    }

    #[test]
    fn our_json_is_the_oracles_json(request in any_request()) {
        let ours: Json = serde_json::from_slice(&from_protobuf(request.signal(), &request.encode())).unwrap();
        let theirs: Json = serde_json::from_slice(&oracle_json(&request)).unwrap();
        prop_assert_eq!(without_defaults(ours), without_defaults(theirs));
    }

    #[test]
    fn the_oracles_json_is_our_request(request in any_request()) {
        let signal = request.signal();
        let ours = to_protobuf(signal, &oracle_json(&request), &Bounds::default()).unwrap();
        prop_assert_eq!(Request::decode(signal, &ours).unwrap(), request);
    }

    #[test]
    fn broken_json_is_refused_and_nothing_of_it_is_quoted(
        request in any_request(),
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
    ) {
        let signal = request.signal();
        let mut json = from_protobuf(signal, &request.encode());
        let at = at.index(json.len());
        json[at] = with;
        if let Ok(bytes) = to_protobuf(signal, &json, &Bounds::default()) {
            prop_assert!(walk(signal, &bytes, &Bounds::default()).is_ok());
        }
        prop_assert!(to_protobuf(signal, &json[..at], &Bounds::default()).is_err());
    }

    #[test]
    fn noise_never_panics(json in "[\\[\\]{}\":,0-9a-z ]{0,80}") {
        for signal in Signal::ALL {
            let _ = to_protobuf(signal, json.as_bytes(), &Bounds::default());
        }
    }
}

#[test]
fn j6_every_field_survives_the_round_trip() {
    for signal in Signal::ALL {
        let request = full(signal);
        let json = from_protobuf(signal, &request.encode());
        assert_eq!(read(signal, std::str::from_utf8(&json).unwrap()).unwrap(), request);
        let theirs: Json = serde_json::from_slice(&oracle_json(&request)).unwrap();
        let ours: Json = serde_json::from_slice(&json).unwrap();
        assert_eq!(without_defaults(ours), without_defaults(theirs));
    }
}

#[test]
fn j1_ids_are_hexadecimal_in_any_case() {
    let want = (1..=16).map(|i| i * 15).collect::<Vec<u8>>();
    for id in ["0f1e2d3c4b5a69788796a5b4c3d2e1f0", "0F1E2D3C4B5A69788796A5B4C3D2E1F0"] {
        assert_eq!(span(&format!(r#""traceId":"{id}""#)).unwrap().trace_id, want);
    }
    assert_eq!(span(r#""spanId":"","parentSpanId":null"#).unwrap(), Span::default(), "empty is unset");
    assert_eq!(
        span_json(b"\x0a\x10\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\xff"),
        r#"{"traceId":"000102030405060708090a0b0c0d0eff"}"#
    );
    assert_eq!(span_json(b"\x12\x00"), "{}", "an empty id is no id");
}

#[test]
fn j1_an_id_of_another_length_is_a_length_mismatch() {
    let error = span(r#""traceId":"abcd""#).unwrap_err();
    assert_eq!(error.what, "length mismatch: a trace id has 32 hexadecimal digits, not 4");
    assert_eq!(error.path, "resourceSpans[0].scopeSpans[0].spans[0].traceId");
    let error = span(r#""parentSpanId":"0102030405060708ff""#).unwrap_err();
    assert_eq!(error.what, "length mismatch: a span id has 16 hexadecimal digits, not 18");
    assert_eq!(span(r#""spanId":"010203040506070g""#).unwrap_err().what, "expected a hexadecimal string");
    assert_eq!(span(r#""spanId":5"#).unwrap_err().what, "expected a hexadecimal string");
}

#[test]
fn j2_integers_of_64_bits_are_strings_out_and_either_in() {
    for nanos in ["18446744073709551615", "\"18446744073709551615\""] {
        assert_eq!(span(&format!(r#""startTimeUnixNano":{nanos}"#)).unwrap().start_time_unix_nano, u64::MAX);
    }
    for five in ["5", "\"5\"", "5.0", "5e0", "\"5.0\"", "\"5e0\""] {
        assert_eq!(value(&format!(r#"{{"intValue":{five}}}"#)).unwrap(), Some(Value::IntValue(5)), "{five}");
        assert_eq!(span(&format!(r#""flags":{five},"droppedLinksCount":{five}"#)).unwrap().flags, 5, "{five}");
    }
    assert_eq!(value(r#"{"intValue":"-9223372036854775808"}"#).unwrap(), Some(Value::IntValue(i64::MIN)));
    assert_eq!(
        span_json(b"\x39\xff\xff\xff\xff\xff\xff\xff\xff\x50\x07"),
        r#"{"startTimeUnixNano":"18446744073709551615","droppedAttributesCount":7}"#
    );
    for wrong in ["\"five\"", "\"\"", "true", "[]", "{}"] {
        assert_eq!(value(&format!(r#"{{"intValue":{wrong}}}"#)).unwrap_err().what, "expected an integer", "{wrong}");
    }
    // JavaScript's SDK writes every number without a fraction so; one attribute must not cost the others the request.
    for (written, double) in [
        ("9223372036854775808", 9223372036854775808.0),
        ("\"-9223372036854775809\"", -9223372036854775808.0),
        ("1e19", 1e19),
        ("1e300", 1e300),
        ("\"1e300\"", 1e300),
        ("5.5", 5.5),
    ] {
        let value = value(&format!(r#"{{"intValue":{written}}}"#)).unwrap();
        assert_eq!(value, Some(Value::DoubleValue(double)), "{written}");
    }
    assert!(span(r#""flags":4294967296"#).is_err() && span(r#""flags":-1"#).is_err());
}

#[test]
fn j2_doubles_may_be_strings_and_not_finite() {
    for (json, want) in [
        ("1.5", 1.5),
        ("\"1.5\"", 1.5),
        ("2", 2.0),
        ("-3", -3.0),
        ("\"Infinity\"", f64::INFINITY),
        ("\"-Infinity\"", f64::NEG_INFINITY),
    ] {
        assert_eq!(value(&format!(r#"{{"doubleValue":{json}}}"#)).unwrap(), Some(Value::DoubleValue(want)));
    }
    let Some(Value::DoubleValue(nan)) = value(r#"{"doubleValue":"NaN"}"#).unwrap() else { panic!("no double") };
    assert!(nan.is_nan());
    for wrong in ["\"inf\"", "\"nan\"", "\"infinity\"", "\"\"", "true"] {
        assert_eq!(value(&format!(r#"{{"doubleValue":{wrong}}}"#)).unwrap_err().what, "expected a number", "{wrong}");
    }
    for (bits, want) in [
        (f64::NAN, "\"NaN\""),
        (f64::INFINITY, "\"Infinity\""),
        (f64::NEG_INFINITY, "\"-Infinity\""),
        (0.1, "0.1"),
        (3.0, "3.0"),
    ] {
        let mut attribute = b"\x4a\x0e\x0a\x01k\x12\x09\x21".to_vec();
        attribute.extend(bits.to_le_bytes());
        let want = format!(r#"{{"attributes":[{{"key":"k","value":{{"doubleValue":{want}}}}}]}}"#);
        assert_eq!(span_json(&attribute), want);
    }
}

#[test]
fn j3_enums_are_integers_out_and_names_too_in() {
    for kind in ["3", "\"3\"", "\"SPAN_KIND_CLIENT\""] {
        assert_eq!(span(&format!(r#""kind":{kind}"#)).unwrap().kind, 3);
    }
    assert_eq!(span(r#""kind":77"#).unwrap().kind, 77, "values of a newer protocol are kept");
    assert_eq!(log(r#""severityNumber":"SEVERITY_NUMBER_FATAL4""#).unwrap().severity_number, 24);
    assert_eq!(span(r#""status":{"code":"STATUS_CODE_ERROR"}"#).unwrap().status.unwrap().code, 2);
    let error = span(r#""kind":"SPAN_KIND_SECRET""#).unwrap_err();
    assert_eq!(error.what, "expected the number or name of an enum value");
    assert_eq!(span_json(b"\x30\x03"), r#"{"kind":3}"#);
}

#[test]
fn j4_unknown_names_are_ignored_at_every_level_and_snake_case_is_understood() {
    let json = r#"{"future":{"a":[1,{"b":null}]},"resource_spans":[{"x":1,"resource":{"y":[[]],"attributes":[
        {"z":{},"key":"k","value":{"w":"w","string_value":"v"}}]},
        "scope_spans":[{"spans":[{"trace_id":"0f1e2d3c4b5a69788796a5b4c3d2e1f0","newField":{"deep":{}}}]}]}]}"#;
    let Request::Traces(request) = read(Signal::Traces, json).unwrap() else { unreachable!() };
    let resource = request.resource_spans[0].resource.as_ref().unwrap();
    assert_eq!(resource.attributes[0].value.as_ref().unwrap().value, Some(Value::StringValue("v".into())));
    assert_eq!(request.resource_spans[0].scope_spans[0].spans[0].trace_id.len(), 16);
    let deep = format!(r#""unknown":{}{}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(span(&deep).unwrap(), Span::default(), "what is ignored may nest as deep as it likes");
}

#[test]
fn j5_bytes_are_base64_of_either_alphabet_with_or_without_padding() {
    for text in ["+/8=", "+/8", "-_8=", "-_8"] {
        let json = format!(r#"{{"bytesValue":"{text}"}}"#);
        assert_eq!(value(&json).unwrap(), Some(Value::BytesValue(vec![0xfb, 0xff])), "{text}");
    }
    assert_eq!(value(r#"{"bytesValue":""}"#).unwrap(), Some(Value::BytesValue(vec![])));
    for wrong in ["\"a\"", "\"+_8=\"", "\"*\"", "5"] {
        assert_eq!(value(&format!(r#"{{"bytesValue":{wrong}}}"#)).unwrap_err().what, "expected a base64 string");
    }
    assert_eq!(
        span_json(b"\x4a\x09\x0a\x01k\x12\x04\x3a\x02\xfb\xff"),
        r#"{"attributes":[{"key":"k","value":{"bytesValue":"+/8="}}]}"#
    );
}

#[test]
fn j5_nested_values_and_absent_ones() {
    assert_eq!(value("{}").unwrap(), None);
    assert_eq!(value("null").unwrap(), None);
    assert_eq!(value(r#"{"stringValue":null}"#).unwrap(), None);
    assert_eq!(log(r#""body":null"#).unwrap().body, None);
    assert_eq!(log(r#""body":{}"#).unwrap().body, Some(AnyValue { value: None }), "an empty value is a value");
    assert_eq!(value(r#"{"stringValue":""}"#).unwrap(), Some(Value::StringValue(String::new())));
    let Some(Value::ArrayValue(array)) =
        value(r#"{"arrayValue":{"values":[{"boolValue":false},{},null,{"kvlistValue":{"values":[{"key":"k"}]}}]}}"#)
            .unwrap()
    else {
        panic!("no array")
    };
    assert_eq!(array.values[0].value, Some(Value::BoolValue(false)));
    assert_eq!((&array.values[1].value, &array.values[2].value), (&None, &None), "null keeps its place");
    let Some(Value::KvlistValue(list)) = &array.values[3].value else { panic!("no list") };
    assert_eq!((list.values[0].key.as_str(), &list.values[0].value), ("k", &None));
    let all_null = r#"{"resourceSpans":null}"#;
    assert_eq!(read(Signal::Traces, all_null).unwrap().count(), 0);
    assert_eq!(
        span(r#""attributes":null,"events":[],"status":null,"name":null,"flags":null"#).unwrap(),
        Span::default()
    );
}

#[test]
fn of_two_values_in_one_oneof_the_last_counts() {
    let double = br#"{"doubleValue":1.0,"stringValue":"a"}"#;
    assert_eq!(value(std::str::from_utf8(double).unwrap()).unwrap(), Some(Value::StringValue("a".into())));
    // On the wire: string, int, string, string; then an array, an int, two arrays that merge.
    assert_eq!(
        span_json(b"\x4a\x10\x0a\x01k\x12\x0b\x0a\x01a\x18\x05\x0a\x01b\x0a\x01c"),
        r#"{"attributes":[{"key":"k","value":{"stringValue":"c"}}]}"#
    );
    let arrays = b"\x2a\x05\x0a\x03\x0a\x01a\x18\x05\x2a\x05\x0a\x03\x0a\x01b\x2a\x05\x0a\x03\x0a\x01c";
    let mut attribute = vec![0x4a, arrays.len() as u8 + 5, 0x0a, 1, b'k', 0x12, arrays.len() as u8];
    attribute.extend(arrays);
    assert_eq!(
        span_json(&attribute),
        r#"{"attributes":[{"key":"k","value":{"arrayValue":{"values":[{"stringValue":"b"},{"stringValue":"c"}]}}}]}"#
    );
}

#[test]
fn fields_that_stand_twice_are_written_once() {
    assert_eq!(
        span_json(b"\x2a\x01a\x7a\x03\x12\x01x\x2a\x01b\x7a\x02\x18\x02"),
        r#"{"name":"b","status":{"message":"x","code":2}}"#
    );
    assert_eq!(span(r#""name":"a","name":"b""#).unwrap().name, "b");
}

#[test]
fn packed_and_unpacked_lists_are_the_same() {
    let json = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"histogram":{"dataPoints":[
        {"bucketCounts":["1",2,"3"],"explicitBounds":[0.5,"Infinity"],"sum":0}]}},
        {"gauge":{"dataPoints":[{"asInt":"-7"},{"asDouble":7}]}}]}]}]}"#;
    let Request::Metrics(request) = read(Signal::Metrics, json).unwrap() else { unreachable!() };
    let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
    let Some(Data::Histogram(histogram)) = &metrics[0].data else { panic!("no histogram") };
    let point = &histogram.data_points[0];
    assert_eq!(
        (&point.bucket_counts[..], &point.explicit_bounds[..], point.sum),
        (&[1, 2, 3][..], &[0.5, f64::INFINITY][..], Some(0.0))
    );
    let Some(Data::Gauge(gauge)) = &metrics[1].data else { panic!("no gauge") };
    assert_eq!(gauge.data_points[0].value, Some(number_data_point::Value::AsInt(-7)));
    assert_eq!(gauge.data_points[1].value, Some(number_data_point::Value::AsDouble(7.0)));

    let wrap = |tag: u8, inner: Vec<u8>| [vec![tag, inner.len() as u8], inner].concat();
    let bytes = |point: Vec<u8>| wrap(0x0a, wrap(0x12, wrap(0x12, wrap(0x4a, wrap(0x0a, point)))));
    let packed = bytes([vec![0x32, 16, 1], vec![0; 7], vec![2], vec![0; 7]].concat());
    let unpacked = bytes([vec![0x31, 1], vec![0; 7], vec![0x31, 2], vec![0; 7]].concat());
    let json = from_protobuf(Signal::Metrics, &packed);
    assert!(String::from_utf8(json.clone()).unwrap().contains(r#""bucketCounts":["1","2"]"#));
    assert_eq!(from_protobuf(Signal::Metrics, &unpacked), json);
}

#[test]
fn text_that_is_no_utf8_is_taken_and_written_as_replacement() {
    assert_eq!(span_json(b"\x2a\x03a\xffb"), "{\"name\":\"a\u{fffd}b\"}");
    let mut json = br#"{"resourceSpans":[{"schemaUrl":"a"#.to_vec();
    json.extend(b"\xff\"}]}");
    let bytes = to_protobuf(Signal::Traces, &json, &Bounds::default()).unwrap();
    assert_eq!(bytes, b"\x0a\x04\x1a\x02a\xff");
    // Half a surrogate pair, as cut-off text has it.
    assert_eq!(span(r#""name":"a\ud83d""#).unwrap().name, "a\u{fffd}");
    assert_eq!(span(r#""name":"\ud83d\ude00 \u0000""#).unwrap().name, "😀 \0");
    assert_eq!(span_json(b"\x2a\x03\x00\"\n"), r#"{"name":"\u0000\"\n"}"#);
}

#[test]
fn what_is_no_json_is_refused_with_its_place() {
    let refused = |json: &str| {
        let error = read(Signal::Traces, json).unwrap_err();
        (error.what, error.line, error.column, error.path)
    };
    let root = || "ExportTraceServiceRequest".to_owned();
    assert_eq!(refused(""), ("not JSON: EOF while parsing a value".into(), 1, 0, root()));
    assert_eq!(refused("{} {}"), ("not JSON: trailing characters".into(), 1, 4, root()));
    assert_eq!(refused("[]").0, "expected an object");
    assert_eq!(refused("null {}"), ("expected an object".into(), 1, 4, root()));
    assert_eq!(read(Signal::Traces, " null\n").unwrap(), read(Signal::Traces, "{}").unwrap());
    assert_eq!(
        refused("{\"resourceSpans\":\n [}"),
        ("not JSON: expected value".into(), 2, 3, "resourceSpans[0]".into())
    );
    assert_eq!(refused(r#"{"resourceSpans":{}}"#).0, "expected a list");
    assert_eq!(refused(r#"{"resourceSpans":[5]}"#).0, "expected an object");
    assert_eq!(refused(r#"{"resourceSpans":[{},{"resource":[]}]}"#).3, "resourceSpans[1].resource");
    assert_eq!(refused(r#"{"resourceSpans":[{"schemaUrl":5}]}"#).0, "expected a string");
}

#[test]
fn errors_never_quote_payload() {
    const SECRET: &str = "sk-live-51H8xkq";
    for json in [
        format!(r#"{{"resourceSpans":"{SECRET}"}}"#),
        format!(r#"{{"resourceSpans":["{SECRET}"]}}"#),
        format!(r#"{{"resourceSpans":[{{"resource":"{SECRET}"}}]}}"#),
        format!(r#"{{"resourceSpans":[{{"schemaUrl":["{SECRET}"]}}]}}"#),
        format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"kind":"{SECRET}"}}]}}]}}]}}"#),
        format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"{SECRET}"}}]}}]}}]}}"#),
        format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"flags":"{SECRET}"}}]}}]}}]}}"#),
        format!(r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"value":{{"bytesValue":"{SECRET}*"}}}}]}}}}]}}"#),
        format!(r#"{{"{SECRET}":{SECRET}}}"#),
        format!(r#""{SECRET}""#),
        SECRET.to_owned(),
    ] {
        let error = read(Signal::Traces, &json).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("sk-live"), "{error}");
    }
}

#[test]
fn j6_what_the_walk_takes_survives_however_deep_it_is() {
    // request { resource_spans { scope_spans { spans { attributes { value: five deep, two or three for each level.
    for (levels, list) in [(97, false), (65, true)] {
        let bytes = nested(levels, list).encode();
        let bounds = Bounds { depth: usize::MAX, ..Bounds::default() };
        walk(Signal::Traces, &bytes, &bounds).unwrap();
        assert!(walk(Signal::Traces, &nested(levels + 1, list).encode(), &bounds).is_err(), "the deepest there is");
        let json = from_protobuf(Signal::Traces, &bytes);
        assert_eq!(to_protobuf(Signal::Traces, &json, &bounds).unwrap(), bytes);
    }
}

#[test]
fn nesting_and_counts_are_bounded() {
    let nested = |levels: usize| {
        let mut json = r#"{"stringValue":"deep"}"#.to_owned();
        for _ in 0..levels {
            json = format!(r#"{{"arrayValue":{{"values":[{json}]}}}}"#);
        }
        value(&json)
    };
    // request { resource_logs { scope_logs { log_records { body: four deep, and two for each level.
    assert!(nested(48).is_ok());
    let error = nested(49).unwrap_err();
    assert_eq!((error.what.as_str(), error.over_bounds), ("messages nest deeper than 100", true));
    let unbounded = Bounds { depth: usize::MAX, ..Bounds::default() };
    let deep = format!(
        r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{}{}}}]}}]}}]}}"#,
        r#"{"arrayValue":{"values":["#.repeat(100_000),
        "]}}".repeat(100_000)
    );
    let error = to_protobuf(Signal::Logs, deep.as_bytes(), &unbounded).unwrap_err();
    assert_eq!(error.what, "messages nest deeper than 200");

    let json = br#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"a"},{"name":"b"},{}]}]}]}"#;
    let bounded =
        |bounds: Bounds| to_protobuf(Signal::Traces, json, &bounds).map_err(|error| (error.what, error.over_bounds));
    assert!(bounded(Bounds { depth: 3, items: 3, leaves: 2 }).is_ok(), "bounds are inclusive");
    assert_eq!(bounded(Bounds { depth: 2, items: 3, leaves: 2 }), Err(("messages nest deeper than 2".into(), true)));
    assert_eq!(
        bounded(Bounds { depth: 3, items: 1, leaves: 2 }),
        Err(("more than 1 resources and scopes".into(), true))
    );
    assert_eq!(bounded(Bounds { depth: 3, items: 2, leaves: 2 }), Err(("more than 2 spans".into(), true)));
    assert_eq!(bounded(Bounds { depth: 3, items: 3, leaves: 1 }), Err(("more than 1 text fields".into(), true)));
}
