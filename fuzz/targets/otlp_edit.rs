//! Edited leaves hold what they were edited to, everything else is as it was, and the oracle still reads it.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tracegate::otlp::{Bounds, Edit, Index, Role, Signal, edit::string_attribute, locate, render, walk};
use tracegate_fuzz::{oracle, signal_and_rest};

fn texts(bytes: &[u8], index: &Index) -> Vec<Vec<u8>> {
    index.leaves.iter().map(|leaf| bytes[leaf.start as usize..(leaf.start + leaf.len) as usize].to_vec()).collect()
}

fn index_of(signal: Signal, bytes: &[u8]) -> Index {
    walk(signal, bytes, &Bounds::default()).expect("what was rendered is a request")
}

fuzz_target!(|data: &[u8]| {
    let Some((signal, rest)) = signal_and_rest(data) else { return };
    let Some((dice, bytes)) = rest.split_at_checked(8) else { return };
    let Ok(index) = walk(signal, bytes, &Bounds::default()) else { return };
    let readable = oracle(signal, bytes).is_ok();
    let bytes = Bytes::copy_from_slice(bytes);

    // Parts of leaves; the replacement is text, and unknown fields keep their length.
    let mut expected = texts(&bytes, &index);
    let mut edits = Vec::new();
    for (i, leaf) in index.leaves.iter().enumerate() {
        let roll = usize::from(dice[i % 8]).wrapping_add(i);
        if roll % 3 == 0 || matches!(leaf.role, Role::Int | Role::Double) {
            continue;
        }
        let len = leaf.len as usize;
        let (start, end, with) = match leaf.role {
            Role::Unknown => (0, len, vec![b'*'; len]),
            // The whole text, or text that may have been cut inside a character.
            _ if readable => (0, len, b"[MASKED:x]".repeat(roll % 20)),
            _ => (roll % (len + 1), len, b"[MASKED:x]".repeat(roll % 20)),
        };
        expected[i].splice(start..end, with.iter().copied());
        edits.push(Edit {
            start: leaf.start + start as u32,
            end: leaf.start + end as u32,
            container: leaf.start,
            with,
        });
    }
    let rendered = render(signal, &bytes, &edits);
    let after = index_of(signal, &rendered);
    assert_eq!(texts(&rendered, &after), expected);
    assert_eq!((after.count, after.items.len()), (index.count, index.items.len()));
    assert!(!readable || oracle(signal, &rendered).is_ok());

    // An attribute for every resource.
    let stamps: Vec<Edit> = index
        .resources
        .iter()
        .filter_map(|slot| slot.resource)
        .map(|(payload, end)| Edit { start: end, end, container: payload, with: string_attribute(1, "k", "v") })
        .collect();
    let after = index_of(signal, &render(signal, &bytes, &stamps));
    assert_eq!(after.leaves.len(), index.leaves.len() + 2 * stamps.len());

    // One value replaced, one attribute removed.
    if let Some(leaf) = index.leaves.get(usize::from(dice[0]) % index.leaves.len().max(1)) {
        let location = &locate(signal, &bytes, &[leaf.start])[0];
        if let Some(edits) = location.replace_value(&bytes, "[MASKED:x]") {
            let rendered = render(signal, &bytes, &edits);
            assert!(texts(&rendered, &index_of(signal, &rendered)).contains(&b"[MASKED:x]".to_vec()));
            assert!(!readable || oracle(signal, &rendered).is_ok());
        }
        if let Some(edit) = location.remove_attribute() {
            let rendered = render(signal, &bytes, std::slice::from_ref(&edit));
            assert!(index_of(signal, &rendered).leaves.len() < index.leaves.len());
        }
    }
});
