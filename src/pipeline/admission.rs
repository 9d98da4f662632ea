//! Room, counted before anything is taken: a budget of bytes and of requests, reserved whole or not at all.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// A bounded amount of room, shared by everyone who holds a clone.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Room>);

#[derive(Debug)]
struct Room {
    max_bytes: u64,
    max_requests: u64,
    bytes: AtomicU64,
    requests: AtomicU64,
}

/// There is no room. The bound that was hit, for a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The byte bound.
    #[error("{in_use} of {max} bytes in use")]
    Bytes {
        /// Bytes reserved now.
        in_use: u64,
        /// The bound.
        max: u64,
    },
    /// The request bound.
    #[error("{max} requests in the queue")]
    Requests {
        /// The bound.
        max: u64,
    },
}

/// Reserved room; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    room: Arc<Room>,
    bytes: u64,
}

impl Budget {
    /// Room for `max_bytes` in at most `max_requests` requests.
    pub fn new(max_bytes: u64, max_requests: u64) -> Self {
        Budget(Arc::new(Room { max_bytes, max_requests, bytes: AtomicU64::new(0), requests: AtomicU64::new(0) }))
    }

    /// Reserves room for one request of `bytes`.
    ///
    /// # Errors
    /// [`Full`] when a bound would be passed; nothing is reserved then.
    pub fn try_reserve(&self, bytes: u64) -> Result<Permit, Full> {
        let room = &self.0;
        room.requests
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < room.max_requests).then_some(n + 1))
            .map_err(|_| Full::Requests { max: room.max_requests })?;
        let fits = |in_use: u64| in_use.checked_add(bytes).filter(|&sum| sum <= room.max_bytes);
        match room.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits) {
            Ok(_) => Ok(Permit { room: room.clone(), bytes }),
            Err(in_use) => {
                room.requests.fetch_sub(1, Ordering::AcqRel);
                Err(Full::Bytes { in_use, max: room.max_bytes })
            }
        }
    }

    /// Bytes reserved now.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Acquire)
    }

    /// Requests with a permit now.
    pub fn requests(&self) -> u64 {
        self.0.requests.load(Ordering::Acquire)
    }

    /// The byte bound.
    pub fn max_bytes(&self) -> u64 {
        self.0.max_bytes
    }

    /// The request bound.
    pub fn max_requests(&self) -> u64 {
        self.0.max_requests
    }
}

impl Permit {
    /// The budget it takes room from.
    pub fn budget(&self) -> Budget {
        Budget(self.room.clone())
    }

    /// Bytes this permit holds.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes more room into the same permit, for a body that grows while it is read.
    ///
    /// # Errors
    /// [`Full`] when the byte bound would be passed; the permit is unchanged then.
    pub fn grow(&mut self, more: u64) -> Result<(), Full> {
        let room = &self.room;
        let fits = |in_use: u64| in_use.checked_add(more).filter(|&sum| sum <= room.max_bytes);
        room.bytes
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, fits)
            .map_err(|in_use| Full::Bytes { in_use, max: room.max_bytes })?;
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.room.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        self.room.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_back_when_the_permit_goes() {
        let budget = Budget::new(100, 2);
        let permit = budget.try_reserve(60).unwrap();
        assert_eq!(budget.try_reserve(41).unwrap_err(), Full::Bytes { in_use: 60, max: 100 });
        assert_eq!(budget.requests(), 1, "a refused reservation leaves nothing behind");
        let second = budget.try_reserve(40).unwrap();
        assert_eq!(budget.try_reserve(0).unwrap_err(), Full::Requests { max: 2 });
        drop((permit, second));
        assert_eq!((budget.bytes(), budget.requests()), (0, 0));
    }

    #[test]
    fn a_permit_grows_only_within_the_bound() {
        let budget = Budget::new(100, 1);
        let mut permit = budget.try_reserve(10).unwrap();
        permit.grow(90).unwrap();
        assert!(permit.grow(1).is_err());
        assert_eq!((permit.bytes(), budget.bytes()), (100, 100));
    }
}
