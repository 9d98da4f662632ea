//! Decompression that stops at the limit, counts what it makes, and leaves the async workers alone.

use super::{body::Buffer, fault::Fault};
use crate::{
    compression::{Algorithm, Damaged, Decoder},
    pipeline::Permit,
};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Work on more bytes than this moves off the async workers.
pub(super) const INLINE_BYTES: usize = 256 * 1024;

/// Decompresses `packed` to at most `limit` bytes, charging `permit` for what comes out.
///
/// # Errors
/// Too large beyond `limit`; an overload when the budget is full; [`Fault::Framing`] when it does not decompress.
pub(super) async fn inflate(
    workers: &Arc<Semaphore>,
    algorithm: Algorithm,
    packed: Bytes,
    permit: Permit,
    limit: usize,
) -> Result<(Bytes, Permit), Fault> {
    // The turn comes first: no more decoders with their windows are alive than there are turns.
    let turn = turn(workers).await?;
    let small = packed.len() <= INLINE_BYTES;
    let mut work = Inflate::new(algorithm, packed, permit, limit)?;
    if small && work.decoder.least_room() <= INLINE_BYTES && work.run(INLINE_BYTES)? {
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
    decoder: Decoder,
    out: Buffer,
    limit: usize,
    /// Room for the decoder's own memory, for as long as it works.
    _working: Option<Permit>,
}

impl Inflate {
    fn new(algorithm: Algorithm, packed: Bytes, permit: Permit, limit: usize) -> Result<Self, Fault> {
        let decoder = Decoder::new(algorithm, packed).map_err(damaged)?;
        let working = match decoder.working_bytes() {
            0 => None,
            bytes => Some(permit.budget().try_reserve(bytes).map_err(Fault::full)?),
        };
        Ok(Inflate { decoder, out: Buffer::new(permit), limit, _working: working })
    }

    /// Produces until at least `until` bytes are out; answers whether that was all.
    fn run(&mut self, until: usize) -> Result<bool, Fault> {
        // One byte over the limit is asked for, to tell "exactly the limit" from "more".
        let most = self.limit.saturating_add(1);
        while self.out.bytes().len() < until {
            let before = self.out.bytes().len();
            let least = self.decoder.least_room();
            if least > most - before {
                return Err(Fault::too_large(self.limit));
            }
            self.out.make_room(least, if least > 1 { before + least } else { most })?;
            let room = self.out.spare().min(most - before);
            let end = self.decoder.read(self.out.vec(), room).map_err(damaged)?;
            if self.out.bytes().len() > self.limit {
                return Err(Fault::too_large(self.limit));
            }
            if end {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn damaged(damaged: Damaged) -> Fault {
    Fault::Framing(damaged.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{
        compression::Encoder,
        pipeline::{Budget, Refusal},
    };

    fn packed(algorithm: Algorithm, data: &[u8]) -> Bytes {
        Encoder::new(algorithm).compress(&[data]).unwrap()
    }

    fn run(algorithm: Algorithm, packed: Bytes, limit: usize, budget: &Budget) -> Result<Vec<u8>, Fault> {
        let mut work = Inflate::new(algorithm, packed, budget.try_reserve(0).unwrap(), limit)?;
        while !work.run(work.out.bytes().len() + 1000)? {}
        Ok(work.out.finish().0.to_vec())
    }

    #[test]
    fn every_coding_gives_back_what_went_in_and_counts_it() {
        let budget = Budget::new(1 << 30, 10);
        for algorithm in Algorithm::ALL {
            for len in [0, 1, 1000, 65_536, 65_537, 300_000] {
                let data: Vec<u8> = (0..len).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
                let packed = packed(algorithm, &data);
                assert_eq!(run(algorithm, packed, len as usize, &budget).unwrap(), data, "{algorithm:?} {len}");
            }
        }
        assert_eq!(budget.bytes(), 0);
    }

    #[test]
    fn it_stops_at_the_limit() {
        let budget = Budget::new(1 << 30, 10);
        for algorithm in Algorithm::ALL {
            let packed = packed(algorithm, &vec![0; 100_001]);
            let fault = run(algorithm, packed.clone(), 100_000, &budget);
            assert!(matches!(fault, Err(Fault::Refused(Refusal::TooLarge(_)))), "{algorithm:?} {fault:?}");
            assert_eq!(run(algorithm, packed, 100_001, &budget).unwrap().len(), 100_001);
        }
    }

    #[test]
    fn it_stops_where_the_budget_ends() {
        for algorithm in Algorithm::ALL {
            let budget = Budget::new(100_000, 10);
            let packed = packed(algorithm, &vec![0; 1_000_000]);
            let fault = run(algorithm, packed, 10_000_000, &budget).unwrap_err();
            assert!(matches!(fault, Fault::Refused(Refusal::Overloaded { .. })), "{algorithm:?} {fault:?}");
            assert_eq!(budget.bytes(), 0);
        }
    }

    #[test]
    fn damage_is_damage() {
        let budget = Budget::new(1 << 20, 10);
        for algorithm in Algorithm::ALL {
            let whole = packed(algorithm, &[7; 1000]);
            let fault = run(algorithm, whole.slice(..whole.len() - 1), 10_000, &budget);
            assert!(matches!(fault, Err(Fault::Framing(_))), "{algorithm:?} {fault:?}");
        }
    }

    #[test]
    fn a_zstd_window_beyond_the_usual_needs_room_while_it_is_in_use() {
        // An empty frame that asks for a window of 32 MiB, then one of 2 GiB (RFC 8878, 3.1.1.1.2).
        let frame = |exponent: u8| Bytes::from(vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, exponent << 3, 0x01, 0x00, 0x00]);
        let budget = Budget::new(1 << 20, 10);
        let fault = run(Algorithm::Zstd, frame(15), 1 << 20, &budget);
        assert!(matches!(fault, Err(Fault::Refused(Refusal::Overloaded { .. }))), "{fault:?}");
        let budget = Budget::new(64 << 20, 10);
        let work = Inflate::new(Algorithm::Zstd, frame(15), budget.try_reserve(0).unwrap(), 1 << 20).unwrap();
        assert_eq!(budget.bytes(), 32 << 20);
        drop(work);
        assert_eq!(budget.bytes(), 0);
        let fault = run(Algorithm::Zstd, frame(21), 1 << 20, &budget);
        assert!(matches!(fault, Err(Fault::Framing(_))), "{fault:?}");
    }
}
