//! JSON that is taken is a request; a request survives the way through JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracegate::otlp::{Bounds, json, walk};
use tracegate_fuzz::{oracle, signal_and_rest};

fuzz_target!(|data: &[u8]| {
    let Some((signal, bytes)) = signal_and_rest(data) else { return };
    let bounds = Bounds::default();

    if let Ok(protobuf) = json::to_protobuf(signal, bytes, &bounds) {
        walk(signal, &protobuf, &bounds).expect("what was read is a request");
        round_trip(signal, &protobuf);
    }
    if walk(signal, bytes, &bounds).is_ok() {
        round_trip(signal, bytes);
    }
});

fn round_trip(signal: tracegate::otlp::Signal, protobuf: &[u8]) {
    let text = json::from_protobuf(signal, protobuf);
    std::str::from_utf8(&text).expect("JSON is UTF-8");
    let back = json::to_protobuf(signal, &text, &Bounds::default()).expect("our own JSON can be read");
    // The oracle minds UTF-8, which becomes U+FFFD on the way, and NaN has many forms but one in JSON. Then only the
    // second round must be stable.
    match oracle(signal, protobuf) {
        Ok(request) if !text.windows(5).any(|text| text == b"\"NaN\"") => {
            assert_eq!(oracle(signal, &back).expect("the oracle reads it"), request);
        }
        _ => assert_eq!(json::from_protobuf(signal, &back), text),
    }
}
