//! Room, counted before anything is taken: a budget of bytes, requests and items, reserved whole or not at all.

use serde::Deserialize;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};
use tokio::sync::{Notify, futures::OwnedNotified, watch};

/// A bounded amount of room, shared by everyone who holds a clone.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Room>);

#[derive(Debug)]
struct Room {
    sizer: Sizer,
    max_bytes: u64,
    max_requests: u64,
    max_items: u64,
    bytes: AtomicU64,
    /// Requests and items in one word, see [`Units`], so that both cost what one would.
    units: AtomicU64,
    /// How many wait for room; nobody is notified while it is zero.
    waiting: AtomicUsize,
    freed: Arc<Notify>,
    closed: AtomicBool,
    /// The process stops, see [`Budget::stop_waiting`].
    stopping: Notify,
    /// Those who keep requests back, see [`Budget::holder`].
    holders: watch::Sender<usize>,
}

/// Somebody who keeps requests with a permit back for a while, in front of the queue.
#[derive(Debug)]
pub struct Holder(Arc<Room>);

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.holders.send_modify(|holders| *holders -= 1);
    }
}

/// What sizes are counted in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sizer {
    /// Export requests.
    #[default]
    Requests,
    /// Spans, log records or metric data points.
    Items,
    /// Bytes in protobuf form.
    Bytes,
}

/// Requests in the upper bits, spans, log records or metric data points in the lower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Units(u64);

impl Units {
    const ITEM_BITS: u32 = 40;
    /// More items than memory can hold; nothing is reserved beyond it.
    const MAX_ITEMS: u64 = (1 << Self::ITEM_BITS) - 1;
    /// Requests at one time, whatever is configured.
    const MAX_REQUESTS: u64 = (1 << (u64::BITS - Self::ITEM_BITS)) - 1;

    fn new(requests: u64, items: u64) -> Self {
        Units(requests << Self::ITEM_BITS | items)
    }

    fn requests(self) -> u64 {
        self.0 >> Self::ITEM_BITS
    }

    fn items(self) -> u64 {
        self.0 & Self::MAX_ITEMS
    }
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
    /// The item bound.
    #[error("{in_use} of {max} items in the queue")]
    Items {
        /// Items reserved now.
        in_use: u64,
        /// The bound.
        max: u64,
    },
}

/// Reserved room; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    room: Arc<Room>,
    bytes: u64,
    units: Units,
}

impl Budget {
    /// Room for `max_bytes` in at most `max_requests` requests.
    pub fn new(max_bytes: u64, max_requests: u64) -> Self {
        Budget::sized(Sizer::Requests, max_bytes, max_requests, u64::MAX)
    }

    /// Room for `max_bytes` in at most `max_requests` requests of together at most `max_items` items. There are never
    /// more than 16 777 215 requests at a time. `sizer` is what people count it in.
    pub fn sized(sizer: Sizer, max_bytes: u64, max_requests: u64, max_items: u64) -> Self {
        Budget(Arc::new(Room {
            sizer,
            max_bytes,
            max_requests,
            max_items,
            bytes: AtomicU64::new(0),
            units: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            freed: Arc::default(),
            closed: AtomicBool::new(false),
            stopping: Notify::new(),
            holders: watch::Sender::new(0),
        }))
    }

    /// Reserves room for one request of `bytes`, whose items nobody counts.
    ///
    /// # Errors
    /// [`Full`] when a bound would be passed; nothing is reserved then.
    pub fn try_reserve(&self, bytes: u64) -> Result<Permit, Full> {
        self.try_reserve_items(bytes, 0)
    }

    /// Reserves room for one request of `bytes` with `items` items.
    ///
    /// # Errors
    /// [`Full`] when a bound would be passed; nothing is reserved then.
    pub fn try_reserve_items(&self, bytes: u64, items: u64) -> Result<Permit, Full> {
        let room = &self.0;
        let (max_requests, max_items) =
            (room.max_requests.min(Units::MAX_REQUESTS), room.max_items.min(Units::MAX_ITEMS));
        room.units
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |word| {
                let in_use = Units(word);
                let items = in_use.items().checked_add(items).filter(|&sum| sum <= max_items)?;
                (in_use.requests() < max_requests).then(|| Units::new(in_use.requests() + 1, items).0)
            })
            .map_err(|word| match Units(word) {
                in_use if in_use.requests() >= max_requests => Full::Requests { max: room.max_requests },
                in_use => Full::Items { in_use: in_use.items(), max: room.max_items },
            })?;
        let fits = |in_use: u64| in_use.checked_add(bytes).filter(|&sum| sum <= room.max_bytes);
        let units = Units::new(1, items);
        match room.bytes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits) {
            Ok(_) => Ok(Permit { room: room.clone(), bytes, units }),
            Err(in_use) => {
                // Nobody is woken: whoever saw these units taken is woken when the bytes are given back.
                room.units.fetch_sub(units.0, Ordering::SeqCst);
                Err(Full::Bytes { in_use, max: room.max_bytes })
            }
        }
    }

    /// Whether a request of this size has room in an empty budget. One that has not need not wait.
    pub fn can_hold(&self, bytes: u64, items: u64) -> bool {
        bytes <= self.0.max_bytes && items <= self.0.max_items.min(Units::MAX_ITEMS) && self.0.max_requests > 0
    }

    /// Bytes reserved now.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Acquire)
    }

    /// Requests with a permit now.
    pub fn requests(&self) -> u64 {
        Units(self.0.units.load(Ordering::Acquire)).requests()
    }

    /// Items with a permit now: what would be lost if the process ended.
    pub fn items(&self) -> u64 {
        Units(self.0.units.load(Ordering::Acquire)).items()
    }

    /// The byte bound.
    pub fn max_bytes(&self) -> u64 {
        self.0.max_bytes
    }

    /// The request bound.
    pub fn max_requests(&self) -> u64 {
        self.0.max_requests
    }

    /// The item bound.
    pub fn max_items(&self) -> u64 {
        self.0.max_items
    }

    /// What is reserved now, in the unit of its sizer.
    pub fn size(&self) -> u64 {
        match self.0.sizer {
            Sizer::Requests => self.requests(),
            Sizer::Items => self.items(),
            Sizer::Bytes => self.bytes(),
        }
    }

    /// The bound in the unit of its sizer.
    pub fn capacity(&self) -> u64 {
        match self.0.sizer {
            Sizer::Requests => self.0.max_requests,
            Sizer::Items => self.0.max_items,
            Sizer::Bytes => self.0.max_bytes,
        }
    }

    /// Whether both are the same room.
    pub fn is(&self, other: &Budget) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Takes a place among those who wait for room. Try to reserve after this and before [`Waiter::freed`]: what is
    /// given back in between is not missed.
    pub fn wait(&self) -> Waiter {
        self.0.waiting.fetch_add(1, Ordering::SeqCst);
        let mut notified = Box::pin(self.0.freed.clone().notified_owned());
        notified.as_mut().enable();
        Waiter { room: self.0.clone(), notified }
    }

    /// Wakes the next one who waits. Whoever was woken and did not take all the room calls this, because room that is
    /// given back wakes one only.
    pub fn pass_on(&self) {
        self.0.notify();
    }

    /// Nobody waits for room from now on, as when the process stops; reserving goes on as before.
    pub fn stop_waiting(&self) {
        self.0.closed.store(true, Ordering::SeqCst);
        self.0.freed.notify_waiters();
        self.0.stopping.notify_waiters();
    }

    /// Resolves when [`Budget::stop_waiting`] was called.
    pub async fn stopped_waiting(&self) {
        let stopping = self.0.stopping.notified();
        let mut stopping = std::pin::pin!(stopping);
        stopping.as_mut().enable();
        if !self.has_stopped_waiting() {
            stopping.await;
        }
    }

    /// Enters somebody who keeps requests back until [`Budget::stop_waiting`]; dropped when nothing is kept any more.
    #[must_use]
    pub fn holder(&self) -> Holder {
        self.0.holders.send_modify(|holders| *holders += 1);
        Holder(self.0.clone())
    }

    /// Resolves when nobody keeps requests back. A queue that closes earlier loses them.
    pub async fn handed_over(&self) {
        let mut holders = self.0.holders.subscribe();
        // The sender lives as long as this budget.
        let _none = holders.wait_for(|holders| *holders == 0).await;
    }

    /// Whether [`Budget::stop_waiting`] was called.
    pub fn has_stopped_waiting(&self) -> bool {
        self.0.closed.load(Ordering::SeqCst)
    }
}

impl Room {
    fn notify(&self) {
        // Sequentially consistent with `Budget::wait`: either this sees who waits, or they see what was given back.
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.freed.notify_one();
        }
    }
}

/// A place among those who wait for room.
#[derive(Debug)]
pub struct Waiter {
    room: Arc<Room>,
    notified: std::pin::Pin<Box<OwnedNotified>>,
}

impl Waiter {
    /// Resolves when room was given back, which may not be enough, or when waiting is over for everyone.
    pub async fn freed(mut self) {
        self.notified.as_mut().await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.room.waiting.fetch_sub(1, Ordering::SeqCst);
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
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits)
            .map_err(|in_use| Full::Bytes { in_use, max: room.max_bytes })?;
        self.bytes += more;
        Ok(())
    }

    /// Splits off room for a part of the request, at most what there is. Both together hold what one held; the
    /// request itself stays counted with what remains.
    #[must_use]
    pub fn take(&mut self, bytes: u64, items: u64) -> Permit {
        let (bytes, items) = (bytes.min(self.bytes), items.min(self.units.items()));
        self.bytes -= bytes;
        self.units = Units::new(self.units.requests(), self.units.items() - items);
        Permit { room: self.room.clone(), bytes, units: Units::new(0, items) }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.room.bytes.fetch_sub(self.bytes, Ordering::SeqCst);
        self.room.units.fetch_sub(self.units.0, Ordering::SeqCst);
        self.room.notify();
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

    #[test]
    fn items_are_bounded_and_what_is_split_off_counts_on() {
        let budget = Budget::sized(Sizer::Items, 100, 10, 5);
        let mut whole = budget.try_reserve_items(50, 4).unwrap();
        assert_eq!(budget.try_reserve_items(1, 2).unwrap_err(), Full::Items { in_use: 4, max: 5 });
        assert_eq!((budget.size(), budget.capacity()), (4, 5));
        assert!(!budget.can_hold(1, 6) && !budget.can_hold(101, 1) && budget.can_hold(100, 5));
        let part = whole.take(30, 3);
        assert_eq!((budget.bytes(), budget.requests(), budget.items()), (50, 1, 4));
        drop(whole);
        assert_eq!((budget.bytes(), budget.requests(), budget.items()), (30, 0, 3));
        drop(part);
        assert_eq!((budget.bytes(), budget.requests(), budget.items()), (0, 0, 0));
    }

    #[tokio::test]
    async fn one_who_waits_is_woken_when_room_is_given_back() {
        let budget = Budget::new(100, 1);
        let held = budget.try_reserve(60).unwrap();
        let (first, second) = (budget.wait(), budget.wait());
        drop(held);
        first.freed().await;
        let permit = budget.try_reserve(60).unwrap();
        budget.pass_on();
        second.freed().await;
        drop(permit);
        let third = budget.wait();
        budget.stop_waiting();
        third.freed().await;
        assert!(budget.has_stopped_waiting() && budget.try_reserve(1).is_ok());
    }
}
