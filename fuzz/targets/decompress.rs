//! Whatever the bytes, decompression ends within its limit, in small steps as at once; and what was compressed comes
//! back.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tracegate::compression::{Algorithm, Damaged, Decoder, Encoder, decompress};

/// More than most inputs make, so that both sides of the limit are seen.
const LIMIT: usize = 1 << 18;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, data)) = data.split_first() else { return };
    let algorithm = Algorithm::ALL[usize::from(choice) % Algorithm::ALL.len()];
    let packed = Bytes::copy_from_slice(data);

    let at_once = decompress(algorithm, packed.clone(), LIMIT);
    if let Ok(Some(out)) = &at_once {
        assert!(out.len() <= LIMIT);
    }
    match (&at_once, in_steps(algorithm, packed, usize::from(choice) + 1)) {
        // Where damage lies behind the limit, it depends on the step which of the two is met first.
        (Ok(None), Err(_)) | (Err(_), Ok(None)) => {}
        (one, other) => assert_eq!(one.as_ref().ok(), other.as_ref().ok()),
    }

    let packed = Encoder::new(algorithm).compress(&[data]).expect("there is memory");
    assert_eq!(decompress(algorithm, packed, data.len()), Ok(Some(data.to_vec())));
});

fn in_steps(algorithm: Algorithm, packed: Bytes, step: usize) -> Result<Option<Vec<u8>>, Damaged> {
    let mut decoder = Decoder::new(algorithm, packed)?;
    let mut out = Vec::new();
    loop {
        let room = decoder.least_room().max(step);
        if decoder.least_room() > LIMIT + 1 {
            return Ok(None);
        }
        let before = out.len();
        let end = decoder.read(&mut out, room)?;
        assert!(out.len() - before <= room);
        if out.len() > LIMIT {
            return Ok(None);
        }
        if end {
            return Ok(Some(out));
        }
        assert!(out.len() > before, "it goes on for ever");
    }
}
