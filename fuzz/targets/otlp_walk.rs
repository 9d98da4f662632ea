//! The walk judges as the oracle does, and what it lists can be located, split and left out.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tracegate::otlp::{Bounds, locate, render, split, walk};
use tracegate_fuzz::{oracle, signal_and_rest};

fuzz_target!(|data: &[u8]| {
    let Some((signal, bytes)) = signal_and_rest(data) else { return };
    let theirs = oracle(signal, bytes);
    let index = match (walk(signal, bytes, &Bounds::default()), &theirs) {
        (Ok(index), Ok(_)) => index,
        (Ok(index), Err(error)) => {
            assert!(error.to_string().contains("UTF-8"), "accepted what the oracle refuses: {error}");
            index
        }
        (Err(error), Ok(_)) => {
            // The two things the walk is documented to be stricter on.
            assert!(error.what.starts_with("an id of") || error.what.starts_with("a group"), "{error}");
            return;
        }
        (Err(error), Err(_)) => {
            assert!(error.offset <= bytes.len() && !error.path.is_empty());
            return;
        }
    };

    let mut end = 0;
    for leaf in &index.leaves {
        assert!(leaf.start >= end);
        end = leaf.start + leaf.len;
        assert!(end as usize <= bytes.len());
    }
    assert_eq!(index.count, split::count(signal, bytes));

    let offsets: Vec<u32> = index.leaves.iter().map(|leaf| leaf.start).collect();
    for (location, leaf) in locate(signal, bytes, &offsets).iter().zip(&index.leaves) {
        let (_, payload, end) = location.enclosing_field().expect("every leaf is in a field");
        assert_eq!((payload, end), (leaf.start, leaf.start + leaf.len));
        assert!(!location.path(bytes, |_, _| true).is_empty());
    }

    let received = Bytes::copy_from_slice(bytes);
    let max = bytes.len() / 3 + 1;
    let parts = split::split(signal, &received, max);
    assert!(parts.iter().all(|part| part.oversize == (part.bytes.len() > max)));
    assert_eq!(parts.iter().map(|part| part.count).sum::<u64>(), index.count);
    let mut items = 0;
    for part in &parts {
        items += walk(signal, &part.bytes, &Bounds::default()).expect("parts are requests").items.len();
    }
    assert_eq!(items, index.items.len());

    let keep = |item: usize| item % 2 == 0;
    let kept = render(signal, &received, &split::removals(signal, bytes, &index, keep));
    let kept = walk(signal, &kept, &Bounds::default()).expect("what is left is a request");
    assert_eq!(kept.items.len(), index.items.len().div_ceil(2));
});
