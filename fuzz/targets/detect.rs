//! Any bytes in any fields are survived, and hits are sorted, apart and inside a field.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracegate::detect::{Engine, Field, replace};

fuzz_target!(|data: &[u8]| {
    // The first bytes say how the rest is cut into fields, keys included.
    let Some((&[cuts, width, key], text)) = data.split_first_chunk::<3>() else { return };
    let width = u32::from(width) + 1;
    let gap = u32::from(cuts & 3);
    let key_len = u32::from(key).min(text.len() as u32);
    let mut fields = Vec::new();
    let mut start = key_len;
    while start < text.len() as u32 {
        let len = if cuts & 4 == 0 { text.len() as u32 - start } else { width.min(text.len() as u32 - start) };
        fields.push(Field { start, len, key_start: 0, key_len });
        start += len + gap;
    }
    let engine = Engine::builtin();
    let mut hits = Vec::new();
    engine.scan(text, &fields, &mut hits);
    let mut end = 0;
    for hit in &hits {
        assert!(hit.len > 0 && hit.start >= end && usize::from(hit.rule) < engine.rules().len());
        end = hit.start + hit.len;
        assert!(fields.iter().any(|f| f.start <= hit.start && end <= f.start + f.len));
    }
    replace::mask_text(engine, text);
});
