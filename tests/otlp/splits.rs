//! Splitting, joining and leaving out items, against the oracle.

use super::{
    build::{Request, any_request, full},
    mutate::mutate,
};
use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use tracegate::otlp::{Bounds, Signal, render, split, walk};

/// The items of a request with the envelopes around each, all as encoded by the oracle; and its empty envelopes.
fn flat(request: &Request) -> Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> {
    let mut out = Vec::new();
    macro_rules! flatten {
        ($request:expr, $envelopes:ident, $scopes:ident, $items:ident) => {
            for envelope in &$request.$envelopes {
                let mut bare = envelope.clone();
                bare.$scopes.clear();
                if envelope.$scopes.is_empty() {
                    out.push((bare.encode_to_vec(), Vec::new(), Vec::new()));
                }
                for scope in &envelope.$scopes {
                    let mut bare_scope = scope.clone();
                    bare_scope.$items.clear();
                    if scope.$items.is_empty() {
                        out.push((bare.encode_to_vec(), bare_scope.encode_to_vec(), Vec::new()));
                    }
                    for item in &scope.$items {
                        out.push((bare.encode_to_vec(), bare_scope.encode_to_vec(), item.encode_to_vec()));
                    }
                }
            }
        };
    }
    match request {
        Request::Traces(request) => flatten!(request, resource_spans, scope_spans, spans),
        Request::Logs(request) => flatten!(request, resource_logs, scope_logs, log_records),
        Request::Metrics(request) => flatten!(request, resource_metrics, scope_metrics, metrics),
    }
    out
}

/// Leaves out items by position; what becomes empty goes, what was empty stays while its envelope does.
fn retained(request: &Request, keep: impl Fn(usize) -> bool) -> Request {
    let mut request = request.clone();
    let mut position = 0;
    macro_rules! retain {
        ($request:expr, $envelopes:ident, $scopes:ident, $items:ident) => {
            $request.$envelopes.retain_mut(|envelope| {
                let before = position;
                let mut kept = 0;
                envelope.$scopes.retain_mut(|scope| {
                    let had = !scope.$items.is_empty();
                    scope.$items.retain(|_| {
                        position += 1;
                        keep(position - 1)
                    });
                    kept += scope.$items.len();
                    !had || !scope.$items.is_empty()
                });
                kept > 0 || position == before
            })
        };
    }
    match &mut request {
        Request::Traces(request) => retain!(request, resource_spans, scope_spans, spans),
        Request::Logs(request) => retain!(request, resource_logs, scope_logs, log_records),
        Request::Metrics(request) => retain!(request, resource_metrics, scope_metrics, metrics),
    }
    request
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn parts_are_the_whole_and_no_larger_than_asked_for(
        request in any_request(),
        dice in prop::collection::vec(any::<u8>(), 1..100),
        odd in any::<bool>(),
        divisor in 1usize..20,
    ) {
        let signal = request.signal();
        let mut bytes = request.encode();
        if odd {
            bytes = mutate(signal, &bytes, &dice).bytes.into();
        }
        let max = bytes.len() / divisor + 1;
        let parts = split::split(signal, &bytes, max);
        let mut union = Vec::new();
        let mut total = 0;
        for part in &parts {
            let decoded = Request::decode(signal, &part.bytes).unwrap();
            walk(signal, &part.bytes, &Bounds::default()).unwrap();
            prop_assert_eq!(part.oversize, part.bytes.len() > max);
            prop_assert_eq!(part.count, decoded.count());
            let items = flat(&decoded);
            if part.oversize && !odd {
                // One item, or an envelope that leaves no room.
                let envelopes = items.first().map_or(0, |(envelope, scope, _)| envelope.len() + scope.len());
                prop_assert!(items.len() <= 1 || envelopes * 4 > max * 3, "{} of {}", part.bytes.len(), max);
            }
            total += part.bytes.len();
            union.extend(items);
        }
        prop_assert_eq!(union, flat(&request));
        prop_assert!(total <= bytes.len() * 10, "{} bytes became {}", bytes.len(), total);
    }

    #[test]
    fn joined_parts_hold_everything(requests in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..4)) {
        for signal in Signal::ALL {
            let requests: Vec<_> = requests.iter().map(|bytes| super::build::build(signal, bytes.clone())).collect();
            let joined = split::concat(&requests.iter().map(Request::encode).collect::<Vec<_>>());
            let decoded = Request::decode(signal, &joined).unwrap();
            prop_assert_eq!(flat(&decoded), requests.iter().flat_map(flat).collect::<Vec<_>>());
            prop_assert_eq!(split::count(signal, &joined), requests.iter().map(Request::count).sum::<u64>());
        }
    }

    #[test]
    fn items_are_left_out_with_their_envelopes(
        request in any_request(),
        dice in prop::collection::vec(any::<u8>(), 1..60),
        odd in any::<bool>(),
    ) {
        let signal = request.signal();
        let mut bytes = request.encode();
        if odd {
            bytes = mutate(signal, &bytes, &dice).bytes.into();
        }
        let index = walk(signal, &bytes, &Bounds::default()).unwrap();
        let keep = |item: usize| dice[item % dice.len()] % 3 != 0;
        let expected = retained(&request, keep);
        let edits = split::removals(signal, &bytes, &index, keep);
        let rendered = render(signal, &bytes, &edits);
        prop_assert_eq!(&Request::decode(signal, &rendered).unwrap(), &expected);
        match split::retain(signal, &bytes, &index, keep) {
            None => prop_assert!((0..index.items.len()).all(|item| !keep(item))),
            Some((kept, count)) => {
                prop_assert_eq!(kept, rendered);
                prop_assert_eq!(count, expected.count());
            }
        }
    }
}

#[test]
fn a_request_that_fits_is_returned_as_it_is() {
    let bytes = full(Signal::Metrics).encode();
    let parts = split::split(Signal::Metrics, &bytes, bytes.len());
    assert_eq!((parts.len(), parts[0].bytes.as_ptr()), (1, bytes.as_ptr()));
    assert_eq!((parts[0].count, parts[0].oversize), (full(Signal::Metrics).count(), false));
}

#[test]
fn one_part_is_joined_without_a_copy() {
    let bytes = full(Signal::Logs).encode();
    assert_eq!(split::concat(std::slice::from_ref(&bytes)).as_ptr(), bytes.as_ptr());
    assert!(split::concat(&[]).is_empty());
}

#[test]
fn a_large_resource_does_not_multiply_the_request() {
    let Request::Traces(mut request) = full(Signal::Traces) else { unreachable!() };
    request.resource_spans.truncate(1);
    let envelope = &mut request.resource_spans[0];
    envelope.schema_url = "u".repeat(100_000);
    envelope.scope_spans.truncate(1);
    let span = envelope.scope_spans[0].spans[0].clone();
    envelope.scope_spans[0].spans = vec![span; 1_000];
    let bytes = Bytes::from(request.encode_to_vec());
    let parts = split::split(Signal::Traces, &bytes, 50_000);
    assert!(parts.iter().all(|part| part.oversize));
    assert_eq!(parts.iter().map(|part| part.count).sum::<u64>(), 1_000);
    let total: usize = parts.iter().map(|part| part.bytes.len()).sum();
    assert!(total < bytes.len() * 10, "{} became {total}", bytes.len());
}

#[test]
fn unknown_fields_of_the_request_go_with_the_first_part() {
    let mut bytes = full(Signal::Logs).encode().to_vec();
    bytes.extend(b"\xa2\x06\x05loose");
    let parts = split::split(Signal::Logs, &bytes.into(), 1_000);
    assert!(parts.len() > 2);
    let with: Vec<_> = parts.iter().map(|part| part.bytes.starts_with(b"\xa2\x06\x05loose")).collect();
    assert!(with[0] && !with[1..].contains(&true));
}

#[test]
fn nothing_but_unknown_fields_is_one_part() {
    let bytes = Bytes::from_static(b"\xa2\x06\x05loose");
    let parts = split::split(Signal::Logs, &bytes, 3);
    assert_eq!((parts.len(), parts[0].bytes.clone(), parts[0].count, parts[0].oversize), (1, bytes, 0, true));
}
