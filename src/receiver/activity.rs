//! What a connection is doing, as requests and its own bytes tell, and when it has run out of its allowances.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// How long a handshake, then the head of a request, may still take to arrive when the connection is to close.
pub(super) const HEAD_PATIENCE: Duration = Duration::from_secs(1);

/// How often it is looked whether it has.
const HEAD_CHECK: Duration = Duration::from_millis(5);

/// The least time between two looks at a connection's allowances.
const LEAST_STEP: Duration = Duration::from_millis(10);

/// What a connection has done, as far as its limits depend on it.
#[derive(Debug)]
pub(super) struct Activity {
    begin: Instant,
    http2: AtomicBool,
    in_flight: AtomicUsize,
    /// Milliseconds after `begin` at which the last request ended.
    idle_since: AtomicU64,
    /// Whether the client owes us something: the start of HTTP/2, or the rest of an HTTP/1 head.
    owing: AtomicBool,
    /// Milliseconds after `begin` since when it owes.
    owing_since: AtomicU64,
    /// Whether the client broke a rule it was told of, and the connection ends for that.
    told_off: AtomicBool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Without ceremony: there is no request to finish.
    Now,
    /// After the requests in hand.
    Gracefully,
}

impl Activity {
    pub(super) fn new() -> Self {
        Activity {
            begin: Instant::now(),
            http2: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            idle_since: AtomicU64::new(0),
            owing: AtomicBool::new(true),
            owing_since: AtomicU64::new(0),
            told_off: AtomicBool::new(false),
        }
    }

    pub(super) fn has_requests(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }

    /// The connection is to end for what the client did. Answers whether that is new.
    pub(super) fn tell_off(&self) -> bool {
        !self.told_off.swap(true, Ordering::Relaxed)
    }

    pub(super) fn is_told_off(&self) -> bool {
        self.told_off.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn age_of(&self, moment: &AtomicU64) -> Duration {
        Duration::from_millis(self.now().saturating_sub(moment.load(Ordering::Relaxed)))
    }

    /// The client has said that it speaks HTTP/2. From here on pings find out whether it is there.
    pub(super) fn speaks_http2(&self) {
        self.http2.store(true, Ordering::Relaxed);
        self.owing.store(false, Ordering::Relaxed);
    }

    /// Something was read: between HTTP/1 requests that is the start of a head.
    pub(super) fn read(&self) {
        let between = !self.http2.load(Ordering::Relaxed) && self.in_flight.load(Ordering::Relaxed) == 0;
        if between && !self.owing.swap(true, Ordering::Relaxed) {
            self.owing_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// Resolves when the client owes nothing: a client that has just connected, or has begun a head, is about to ask,
    /// and closing the connection now would leave it without an answer. Not for long: it may never ask.
    pub(super) async fn asked(&self) {
        let patience = Instant::now() + HEAD_PATIENCE;
        while self.owing.load(Ordering::Relaxed) && Instant::now() < patience {
            tokio::time::sleep(HEAD_CHECK).await;
        }
    }

    /// Resolves when the connection has run out of one of its allowances: at the earliest when it has, at the latest
    /// one shortest allowance later.
    pub(super) async fn over(&self, header_timeout: Duration, idle: Option<Duration>, age: Option<Duration>) -> End {
        let allowances = [Some(header_timeout), idle, age];
        let step = allowances.into_iter().flatten().min().unwrap_or(header_timeout).max(LEAST_STEP);
        loop {
            tokio::time::sleep(step).await;
            if self.owing.load(Ordering::Relaxed) && self.age_of(&self.owing_since) >= header_timeout {
                return End::Now;
            }
            let at_rest = self.in_flight.load(Ordering::Relaxed) == 0;
            if at_rest && idle.is_some_and(|limit| self.age_of(&self.idle_since) >= limit) {
                return End::Gracefully;
            }
            if age.is_some_and(|limit| self.begin.elapsed() >= limit) {
                return End::Gracefully;
            }
        }
    }
}

/// Marks its connection as busy while it lives.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Activity>);

impl InFlight {
    pub(super) fn new(activity: Arc<Activity>) -> Self {
        activity.in_flight.fetch_add(1, Ordering::Relaxed);
        activity.owing.store(false, Ordering::Relaxed);
        InFlight(activity)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.now(), Ordering::Relaxed);
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn http1_owes_a_head_between_requests_and_http2_only_its_preface() {
        let activity = Arc::new(Activity::new());
        let owing = || activity.owing.load(Ordering::Relaxed);
        assert!(owing(), "a new connection owes its first bytes");
        let busy = InFlight::new(activity.clone());
        assert!(!owing());
        activity.read();
        assert!(!owing(), "while a request is in hand, what is read is its body");
        drop(busy);
        assert!(!owing(), "an idle connection owes nothing");
        activity.read();
        assert!(owing(), "half a head");
        activity.speaks_http2();
        activity.read();
        assert!(!owing(), "pings and settings come at any time");
    }
}
