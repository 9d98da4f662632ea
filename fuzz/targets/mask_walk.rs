//! A masked request is a request with as many items, and a planted token does not survive wherever in a leaf it
//! stands.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use tracegate::{
    otlp::{Bounds, Edit, Role, Signal, render},
    pipeline::{Metadata, Origin, Plan, Request, Stage, Transport},
    processor::mask::{Config, Mask},
};
use tracegate_fuzz::signal_and_rest;

const TOKEN: &[u8] = b"ghp_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8";

fuzz_target!(|data: &[u8]| {
    let Some((signal, bytes)) = signal_and_rest(data) else { return };
    let bytes = Bytes::copy_from_slice(bytes);
    let Some(request) = read(signal, &bytes) else { return };
    let once = mask(&request);
    let masked = read(signal, &once).expect("a masked request is a request");
    assert_eq!((masked.index.count, masked.index.items.len()), (request.index.count, request.index.items.len()));

    // The fuzzer learns the token from the comparison below, and then it may stand anywhere, as part of longer words.
    if contains_token(&bytes) {
        return;
    }
    // Between spaces in the middle of the longest text.
    let texts = request.index.leaves.iter().filter(|leaf| matches!(leaf.role, Role::Text | Role::Name));
    let Some(leaf) = texts.max_by_key(|leaf| leaf.len).filter(|leaf| leaf.len > 0) else { return };
    let at = leaf.start + leaf.len / 2;
    let with = [b" ", TOKEN, b" "].concat();
    let planted = render(signal, &bytes, &[Edit { start: at, end: at, container: leaf.start, with }]);
    let masked = mask(&read(signal, &planted).expect("the same request with a longer text"));
    assert!(!contains_token(&masked), "a planted token survives");
});

fn contains_token(bytes: &[u8]) -> bool {
    bytes.windows(TOKEN.len()).any(|window| window == TOKEN)
}

fn read(signal: Signal, bytes: &Bytes) -> Option<Request> {
    let origin = Origin {
        receiver: Arc::from("fuzz"),
        transport: Transport::Grpc,
        peer: None,
        metadata: Metadata::default(),
        principal: None,
    };
    Request::read(signal, bytes.clone(), origin, &Bounds::default()).ok()
}

fn mask(request: &Request) -> Bytes {
    let mut plan = Plan::default();
    Mask::new("mask", Config::default()).apply(request, &mut plan).expect("mask refuses nothing");
    plan.render(request).passed.expect("nothing is blocked")
}
