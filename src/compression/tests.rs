//! Round trips, damage at every place, bounds, and the forms the Collector's own clients send.

use super::*;
use bytes::Bytes;
use proptest::prelude::*;
use std::io::Write;

fn packed(algorithm: Algorithm, data: &[u8]) -> Bytes {
    Encoder::new(algorithm).compress(&[data]).unwrap()
}

fn unpacked(algorithm: Algorithm, packed: Bytes) -> Result<Vec<u8>, Damaged> {
    decompress(algorithm, packed, 1 << 24).map(|out| out.unwrap())
}

/// Text that repeats itself somewhat, as telemetry does.
fn sample(len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|i| if i % 7 < 4 { b"span"[i as usize % 4] } else { (i.wrapping_mul(2_654_435_761) >> 24) as u8 })
        .collect()
}

#[test]
fn what_goes_in_comes_out() {
    for algorithm in Algorithm::ALL {
        for len in [0, 1, 1000, 65_536, 65_537, 300_000] {
            let data = sample(len);
            assert_eq!(unpacked(algorithm, packed(algorithm, &data)).unwrap(), data, "{algorithm:?} {len}");
        }
        let parts = [Bytes::from(sample(70_000)), Bytes::new(), Bytes::from_static(b"end")];
        let whole = Encoder::new(algorithm).compress(&parts).unwrap();
        assert_eq!(unpacked(algorithm, whole).unwrap(), parts.concat(), "{algorithm:?}");
    }
}

#[test]
fn the_limit_is_the_limit() {
    for algorithm in Algorithm::ALL {
        let whole = packed(algorithm, &sample(100_001));
        assert_eq!(decompress(algorithm, whole.clone(), 100_000), Ok(None), "{algorithm:?}");
        assert_eq!(decompress(algorithm, whole, 100_001).unwrap().unwrap().len(), 100_001, "{algorithm:?}");
    }
}

/// A cut is only ever seen as the end where the format has no end of its own: between the chunks of a Snappy stream.
#[test]
fn a_cut_anywhere_is_damage() {
    for algorithm in Algorithm::ALL {
        let whole = packed(algorithm, &sample(3000));
        for cut in 1..whole.len() {
            let got = unpacked(algorithm, whole.slice(..cut));
            if algorithm == Algorithm::SnappyFramed && cut == 10 {
                assert_eq!(got.unwrap(), b"", "the stream's head alone is an empty stream");
            } else {
                assert!(got.is_err(), "{algorithm:?} cut at {cut} of {}: {} bytes", whole.len(), got.unwrap().len());
            }
        }
    }
}

#[test]
fn a_wrong_sum_is_damage() {
    for algorithm in [Algorithm::Gzip, Algorithm::Zlib, Algorithm::SnappyFramed] {
        let mut whole = packed(algorithm, &sample(1000)).to_vec();
        let at = match algorithm {
            // Behind the stream's head and the chunk's.
            Algorithm::SnappyFramed => 14,
            Algorithm::Gzip => whole.len() - 8,
            _ => whole.len() - 1,
        };
        whole[at] ^= 1;
        assert!(unpacked(algorithm, whole.into()).is_err(), "{algorithm:?}");
    }
    let info = lz4_flex::frame::FrameInfo::new().content_checksum(true);
    let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(&sample(1000)).unwrap();
    let mut whole = encoder.finish().unwrap();
    assert_eq!(unpacked(Algorithm::Lz4, whole.clone().into()).unwrap(), sample(1000));
    *whole.last_mut().unwrap() ^= 1;
    assert!(unpacked(Algorithm::Lz4, whole.into()).is_err());
}

#[test]
fn members_and_frames_may_follow_each_other_and_nothing_else_may() {
    for algorithm in [Algorithm::Gzip, Algorithm::Zstd, Algorithm::Lz4, Algorithm::SnappyFramed] {
        let two = [packed(algorithm, b"ab"), packed(algorithm, b""), packed(algorithm, b"cd")].concat();
        assert_eq!(unpacked(algorithm, two.into()).unwrap(), b"abcd", "{algorithm:?}");
    }
    for algorithm in Algorithm::ALL {
        for junk in [&b"\0"[..], b"\0\0\0\0\0\0\0\0", b"junk", b"\x01\x02\x03\x04\x05\x06\x07\x08"] {
            let followed = [&packed(algorithm, &sample(500))[..], junk].concat();
            let got = unpacked(algorithm, followed.into());
            assert!(got.is_err(), "{algorithm:?} {junk:?}");
        }
    }
}

#[test]
fn nothing_is_an_empty_body_only_where_frames_may_be_none() {
    for algorithm in Algorithm::ALL {
        let header = matches!(algorithm, Algorithm::Gzip | Algorithm::Zlib | Algorithm::Deflate);
        assert_eq!(unpacked(algorithm, Bytes::new()).is_err(), header, "{algorithm:?}");
    }
}

#[test]
fn one_formats_data_is_damage_to_another() {
    for from in Algorithm::ALL {
        for to in Algorithm::ALL {
            let same = |a, b| [(from, to), (to, from)].contains(&(a, b));
            if from == to
                || same(Algorithm::Zlib, Algorithm::Deflate)
                || same(Algorithm::Snappy, Algorithm::SnappyFramed)
            {
                assert_eq!(unpacked(to, packed(from, &sample(500))).unwrap(), sample(500), "{from:?} as {to:?}");
            } else {
                assert!(unpacked(to, packed(from, &sample(500))).is_err(), "{from:?} as {to:?}");
            }
        }
        assert!(unpacked(from, Bytes::from(vec![0xff; 1000])).is_err(), "{from:?}");
    }
}

#[test]
fn a_snappy_block_that_begins_like_a_stream_does_not_exist() {
    let mut block = b"\xff\x06\x00\x00sNaPpY".to_vec();
    block.extend_from_slice(&[0; 2000]);
    assert_eq!(snap::raw::decompress_len(&block).unwrap(), 895);
    assert!(snap::raw::Decoder::new().decompress_vec(&block).is_err());
}

#[test]
fn a_snappy_block_that_announces_more_than_it_can_hold_is_refused_before_anything_is_allocated() {
    // 64 MiB announced in four bytes, followed by a little.
    let block = Bytes::from_static(&[0x80, 0x80, 0x80, 0x20, 0x00, b'a']);
    assert_eq!(snap::raw::decompress_len(&block).unwrap(), 64 << 20);
    assert_eq!(Decoder::new(Algorithm::Snappy, block).err(), Some(Damaged::After(0)));
    assert_eq!(Damaged::After(0).to_string(), "the compressed body is damaged, or not compressed as its encoding says");
    assert_eq!(Damaged::After(7).to_string(), "the compressed body is damaged behind the first 7 bytes of its content");
    // The best there is stays possible.
    let zeros = vec![0; 1 << 20];
    assert_eq!(unpacked(Algorithm::Snappy, packed(Algorithm::Snappy, &zeros)).unwrap(), zeros);
}

#[test]
fn a_zstd_frame_may_ask_for_a_window_within_bounds_and_it_is_counted() {
    let frame = |exponent: u8| Bytes::from(vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, exponent << 3, 0x01, 0x00, 0x00]);
    // 2^(10 + exponent) bytes; the frame is empty.
    for (exponent, counted) in [(0, 0), (13, 0), (14, 16 << 20), (16, 64 << 20)] {
        let mut decoder = Decoder::new(Algorithm::Zstd, frame(exponent)).unwrap();
        assert_eq!(decoder.working_bytes(), counted);
        assert_eq!(decoder.read(&mut Vec::new(), 10), Ok(true), "{exponent}");
    }
    // Nine mebibytes: counted as the sixteen that a later frame may then ask for.
    let odd = Bytes::from(vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 13 << 3 | 1, 0x01, 0x00, 0x00]);
    assert_eq!(Decoder::new(Algorithm::Zstd, odd).unwrap().working_bytes(), 16 << 20);
    for exponent in [17, 21, 31] {
        assert_eq!(Decoder::new(Algorithm::Zstd, frame(exponent)).err(), Some(Damaged::Window));
    }
    // A later frame may not ask for what was not counted.
    let two = [frame(0), frame(14)].concat();
    assert!(unpacked(Algorithm::Zstd, two.into()).is_err());
    let long = Encoder::with_level(Algorithm::Zstd, 22).unwrap();
    let data = sample(9 << 20);
    assert!(Decoder::new(Algorithm::Zstd, long.compress(&[&data]).unwrap()).unwrap().working_bytes() > 8 << 20);
}

#[test]
fn linked_and_large_lz4_blocks_are_read() {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let data = sample(700_000);
    for mode in [BlockMode::Linked, BlockMode::Independent] {
        for size in [BlockSize::Max64KB, BlockSize::Max4MB] {
            let info = FrameInfo::new().block_mode(mode).block_size(size).block_checksums(true).content_checksum(true);
            let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(&data).unwrap();
            let whole = Bytes::from(encoder.finish().unwrap());
            assert_eq!(unpacked(Algorithm::Lz4, whole.clone()).unwrap(), data, "{mode:?} {size:?}");
            for cut in [5, 100, whole.len() - 9, whole.len() - 4, whole.len() - 1] {
                assert!(unpacked(Algorithm::Lz4, whole.slice(..cut)).is_err());
            }
        }
    }
}

#[test]
fn names_are_the_collectors() {
    let parse = |name: &str| serde_json::from_value::<Compression>(name.into());
    assert_eq!(parse("none").unwrap(), Compression::None);
    assert_eq!(parse("").unwrap(), Compression::None);
    for algorithm in Algorithm::ALL {
        assert_eq!(parse(algorithm.name()).unwrap(), Compression::By(algorithm));
        assert_eq!(parse(algorithm.name()).unwrap().encoding(), Some(algorithm.name()));
    }
    assert_eq!(Compression::default().encoding(), Some("gzip"));
    let error = |name: &str| parse(name).unwrap_err().to_string();
    let known = "use gzip, zstd, zlib, snappy, deflate, lz4, x-snappy-framed or none";
    assert_eq!(error("brotli"), format!("unsupported compression type \"brotli\"; {known}"));
    assert_eq!(error("correct horse battery"), format!("unsupported compression type; {known}"));
}

#[test]
fn levels_are_the_collectors() {
    use Algorithm::{Deflate, Gzip, Lz4, Snappy, SnappyFramed, Zlib, Zstd};
    for (algorithm, good, bad) in [
        (Gzip, &[-2, -1, 0, 1, 9][..], &[-3, 10][..]),
        (Zlib, &[-2, -1, 0, 1, 9], &[-3, 10]),
        (Deflate, &[-2, -1, 0, 1, 9], &[-3, 10]),
        (Zstd, &[-7, -1, 0, 1, 3, 6, 11, 22, 100], &[]),
        (Snappy, &[0], &[-1, 1]),
        (SnappyFramed, &[0], &[-1, 1]),
        (Lz4, &[0], &[-1, 1]),
    ] {
        for &level in good {
            let encoder = Compression::By(algorithm).for_http(level).unwrap().unwrap();
            let whole = encoder.compress(&[sample(5000)]).unwrap();
            assert_eq!(unpacked(algorithm, whole).unwrap(), sample(5000), "{algorithm:?} {level}");
        }
        for &level in bad {
            let error = Compression::By(algorithm).for_http(level).unwrap_err();
            let name = algorithm.name();
            assert_eq!(error, format!("unsupported parameters {{Level:{level}}} for compression type \"{name}\""));
        }
    }
    assert_eq!(Compression::None.for_http(77), Ok(None), "nothing to set a level of");
    let size = |level| Encoder::with_level(Gzip, level).unwrap().compress(&[sample(50_000)]).unwrap().len();
    assert!(size(9) <= size(1));
}

#[test]
fn grpc_snappy_is_the_framing_format_and_other_names_are_refused() {
    let whole = Compression::By(Algorithm::Snappy).for_grpc().unwrap().unwrap().compress(&[b"abc"]).unwrap();
    assert!(whole.starts_with(b"\xff\x06\x00\x00sNaPpY"));
    let block = Compression::By(Algorithm::Snappy).for_http(0).unwrap().unwrap().compress(&[b"abc"]).unwrap();
    assert_eq!(&block[..], b"\x03\x08abc");
    for algorithm in [Algorithm::Lz4, Algorithm::Zlib, Algorithm::Deflate, Algorithm::SnappyFramed] {
        let error = Compression::By(algorithm).for_grpc().unwrap_err();
        assert!(error.starts_with(&format!("unsupported compression type \"{}\"", algorithm.name())), "{error}");
    }
}

proptest! {
    #[test]
    fn steps_of_any_size_make_the_same(
        data in proptest::collection::vec(0_u8..4, 0..5000),
        step in 1_usize..3000,
        which in 0_usize..7,
    ) {
        let algorithm = Algorithm::ALL[which];
        let mut decoder = Decoder::new(algorithm, packed(algorithm, &data)).unwrap();
        let mut out = Vec::new();
        let mut steps = 0;
        loop {
            let room = step.max(decoder.least_room());
            let before = out.len();
            let end = decoder.read(&mut out, room).unwrap();
            prop_assert!(out.len() - before <= room);
            if end {
                break;
            }
            steps += 1;
            prop_assert!(steps <= data.len() + 1, "it goes on for ever");
        }
        prop_assert_eq!(out, data);
    }

    #[test]
    fn garbage_never_makes_more_than_the_limit(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
        real in any::<bool>(),
        which in 0_usize..7,
    ) {
        let algorithm = Algorithm::ALL[which];
        if real {
            bytes = packed(algorithm, &bytes.repeat(5)).to_vec();
            for (at, to) in flips {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = to;
                }
            }
        }
        if let Ok(Some(out)) = decompress(algorithm, bytes.into(), 1000) {
            prop_assert!(out.len() <= 1000);
        }
    }
}
