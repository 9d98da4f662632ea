//! Decompression that stops at the limit, counts what it makes, and leaves the async workers alone.

use super::{body::Buffer, fault::Fault};
use crate::pipeline::Permit;
use bytes::{Buf, Bytes, buf::Reader};
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use std::{
    io::{self, Read},
    sync::Arc,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Work on more bytes than this moves off the async workers.
pub(super) const INLINE_BYTES: usize = 256 * 1024;

/// The largest window a zstd frame may ask for, as a power of two: 8 MiB, the bound of RFC 9659. A decoder allocates
/// the window before the first byte comes out.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Compressions tracegate reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952, one or more members.
    Gzip,
    /// RFC 1950; what HTTP calls `deflate`.
    Zlib,
    /// RFC 8878, one or more frames.
    Zstd,
}

/// Decompresses `packed` to at most `limit` bytes, charging `permit` for what comes out.
///
/// # Errors
/// Too large beyond `limit`; an overload when the budget is full; [`Fault::Framing`] when it does not decompress.
pub(super) async fn inflate(
    workers: &Arc<Semaphore>,
    coding: Coding,
    packed: Bytes,
    permit: Permit,
    limit: usize,
) -> Result<(Bytes, Permit), Fault> {
    // The turn comes first: no more decoders with their windows are alive than there are turns.
    let turn = turn(workers).await?;
    let small = packed.len() <= INLINE_BYTES;
    let mut work = Inflate::new(coding, packed, permit, limit)?;
    if small && work.run(INLINE_BYTES)? {
        return Ok(work.out.finish());
    }
    blocking(turn, move || {
        work.run(usize::MAX)?;
        Ok(work.out.finish())
    })
    .await
}

/// Waits for a turn to do heavy work.
pub(super) async fn turn(workers: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Fault> {
    workers.clone().acquire_owned().await.map_err(|_| Fault::internal("the receiver is closing"))
}

/// Runs heavy work off the async workers. It keeps its turn, and whatever it owns, even if the caller goes away.
pub(super) async fn blocking<T: Send + 'static>(
    turn: OwnedSemaphorePermit,
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let done = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    done.await.unwrap_or_else(|_| Err(Fault::internal("the request could not be decoded")))
}

struct Inflate {
    reader: Decoder,
    out: Buffer,
    limit: usize,
}

enum Decoder {
    Gzip(MultiGzDecoder<Reader<Bytes>>),
    Zlib(ZlibDecoder<Reader<Bytes>>),
    Zstd(Box<zstd::Decoder<'static, Reader<Bytes>>>),
}

impl Read for Decoder {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Decoder::Gzip(reader) => reader.read(into),
            Decoder::Zlib(reader) => reader.read(into),
            Decoder::Zstd(reader) => reader.read(into),
        }
    }
}

impl Inflate {
    fn new(coding: Coding, packed: Bytes, permit: Permit, limit: usize) -> Result<Self, Fault> {
        let reader = match coding {
            Coding::Gzip => Decoder::Gzip(MultiGzDecoder::new(packed.reader())),
            Coding::Zlib => Decoder::Zlib(ZlibDecoder::new(packed.reader())),
            Coding::Zstd => {
                let open = || {
                    let mut decoder = zstd::Decoder::with_buffer(packed.reader())?;
                    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                    io::Result::Ok(decoder)
                };
                Decoder::Zstd(Box::new(open().map_err(|_| Fault::internal("no zstd decoder"))?))
            }
        };
        Ok(Inflate { reader, out: Buffer::new(permit), limit })
    }

    /// Produces until at least `until` bytes are out; answers whether that was all.
    fn run(&mut self, until: usize) -> Result<bool, Fault> {
        // One byte over the limit is asked for, to tell "exactly the limit" from "more".
        let most = self.limit.saturating_add(1);
        while self.out.bytes().len() < until {
            let before = self.out.bytes().len();
            self.out.make_room(1, most)?;
            let room = self.out.spare().min(most - before);
            let took = (&mut self.reader).take(room as u64).read_to_end(self.out.vec());
            // The decoder's own error text may describe the data; ours does not.
            took.map_err(|_| Fault::Framing(format!("the compressed body is damaged after {before} bytes or more")))?;
            let len = self.out.bytes().len();
            if len > self.limit {
                return Err(Fault::too_large(self.limit));
            }
            if len < before + room {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::pipeline::{Budget, Refusal};
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn gzip(data: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap().into()
    }

    fn run(coding: Coding, packed: Bytes, limit: usize, budget: &Budget) -> Result<Vec<u8>, Fault> {
        let mut work = Inflate::new(coding, packed, budget.try_reserve(0).unwrap(), limit)?;
        while !work.run(work.out.bytes().len() + 1000)? {}
        Ok(work.out.finish().0.to_vec())
    }

    #[test]
    fn every_coding_gives_back_what_went_in() {
        let budget = Budget::new(1 << 30, 10);
        for len in [0, 1, 1000, 65_536, 65_537, 300_000] {
            let data: Vec<u8> = (0..len).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
            assert_eq!(run(Coding::Gzip, gzip(&data), len as usize, &budget).unwrap(), data, "gzip {len}");
            let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), Compression::fast());
            zlib.write_all(&data).unwrap();
            let zlib = Bytes::from(zlib.finish().unwrap());
            assert_eq!(run(Coding::Zlib, zlib, len as usize, &budget).unwrap(), data, "zlib {len}");
            let zstd = Bytes::from(zstd::encode_all(&data[..], 3).unwrap());
            assert_eq!(run(Coding::Zstd, zstd, len as usize, &budget).unwrap(), data, "zstd {len}");
        }
        assert_eq!(budget.bytes(), 0);
    }

    #[test]
    fn it_stops_at_the_limit() {
        let budget = Budget::new(1 << 30, 10);
        let packed = gzip(&vec![0; 100_001]);
        assert!(matches!(
            run(Coding::Gzip, packed.clone(), 100_000, &budget),
            Err(Fault::Refused(Refusal::TooLarge(_)))
        ));
        assert_eq!(run(Coding::Gzip, packed, 100_001, &budget).unwrap().len(), 100_001);
    }

    #[test]
    fn it_stops_where_the_budget_ends() {
        let budget = Budget::new(100_000, 10);
        let packed = gzip(&vec![0; 1_000_000]);
        let fault = run(Coding::Gzip, packed, 10_000_000, &budget).unwrap_err();
        assert!(matches!(fault, Fault::Refused(Refusal::Overloaded { .. })), "{fault:?}");
        assert_eq!(budget.bytes(), 0);
    }

    #[test]
    fn members_and_frames_may_follow_each_other_and_damage_is_damage() {
        let budget = Budget::new(1 << 20, 10);
        let two = Bytes::from([gzip(b"ab"), gzip(b"cd")].concat());
        assert_eq!(run(Coding::Gzip, two, 100, &budget).unwrap(), b"abcd");
        let frames = [zstd::encode_all(&b"ab"[..], 1).unwrap(), zstd::encode_all(&b"cd"[..], 1).unwrap()].concat();
        assert_eq!(run(Coding::Zstd, frames.into(), 100, &budget).unwrap(), b"abcd");
        let whole = gzip(&[7; 1000]);
        for cut in 0..whole.len() {
            let fault = run(Coding::Gzip, whole.slice(..cut), 10_000, &budget);
            assert!(cut == 0 || matches!(fault, Err(Fault::Framing(_))), "cut at {cut}: {fault:?}");
        }
        let mut wrong_sum = whole.to_vec();
        let at = wrong_sum.len() - 8;
        wrong_sum[at] ^= 1;
        assert!(matches!(run(Coding::Gzip, wrong_sum.into(), 10_000, &budget), Err(Fault::Framing(_))));
    }

    #[test]
    fn a_zstd_frame_that_wants_a_huge_window_is_refused() {
        // A frame header that asks for a window of 2 GiB (RFC 8878, 3.1.1.1.2: exponent 21, mantissa 0).
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0x00, 0x00];
        let budget = Budget::new(1 << 20, 10);
        let fault = run(Coding::Zstd, Bytes::copy_from_slice(&frame), 1 << 20, &budget);
        assert!(matches!(fault, Err(Fault::Framing(_))), "{fault:?}");
    }
}
