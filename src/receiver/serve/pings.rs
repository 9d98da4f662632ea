//! Keepalive enforcement (gRPC, doc/keepalive.md and proposal A8): a client that pings more often than it may is told to
//! go away with ENHANCE_YOUR_CALM and `too_many_pings`, the words on which gRPC clients slow down.
//!
//! hyper answers pings by itself and counts none, so the frames that pass the socket are followed.

use super::frames::{ACK, DATA, Frames, HEADERS, PING};
use std::time::Duration;
use tokio::time::Instant;

/// Pings without a call in hand may come this often where `permit_without_stream` is false.
const IDLE_MIN_TIME: Duration = Duration::from_secs(2 * 60 * 60);

/// Pings that come too early before the client is told.
const MAX_STRIKES: u8 = 2;

/// GOAWAY with ENHANCE_YOUR_CALM. Every stream so far is still answered (RFC 9113, 6.8).
pub(super) const TOO_MANY_PINGS: &[u8] = b"\0\0\x16\x07\0\0\0\0\0\x7f\xff\xff\xff\0\0\0\x0btoo_many_pings";

/// How often a client may ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct PingPolicy {
    /// The least time between two pings.
    pub(in super::super) min_time: Duration,
    /// Whether that holds without a call in hand, too.
    pub(in super::super) without_stream: bool,
}

/// The pings of one connection.
#[derive(Debug)]
pub(super) struct Pings {
    policy: PingPolicy,
    last: Option<Instant>,
    strikes: u8,
    from_client: Frames,
    to_client: Frames,
}

impl Pings {
    pub(super) fn new(policy: PingPolicy) -> Self {
        Pings { policy, last: None, strikes: 0, from_client: Frames::default(), to_client: Frames::default() }
    }

    /// Follows what the client sent, from behind the preface; answers whether it has pinged once too often.
    pub(super) fn read(&mut self, bytes: &[u8], calls_in_hand: impl Fn() -> bool) -> bool {
        let mut pinged = 0;
        self.from_client.follow(bytes, |kind, flags| pinged += u32::from(kind == PING && flags & ACK == 0));
        for _ in 0..pinged {
            self.ping(Instant::now(), calls_in_hand());
        }
        self.strikes > MAX_STRIKES
    }

    fn ping(&mut self, now: Instant, calls_in_hand: bool) {
        let least = if calls_in_hand || self.policy.without_stream { self.policy.min_time } else { IDLE_MIN_TIME };
        if self.last.is_some_and(|last| now - last < least) {
            self.strikes = self.strikes.saturating_add(1);
        }
        self.last = Some(now);
    }

    /// Follows what the client is sent. An answer begins a new count: clients measure the line with pings then.
    pub(super) fn written(&mut self, bytes: &[u8]) {
        let mut answered = false;
        self.to_client.follow(bytes, |kind, _| answered |= matches!(kind, DATA | HEADERS));
        if answered {
            (self.last, self.strikes) = (None, 0);
        }
    }

    /// How many bytes may be written before a frame of our own can stand: 0 between frames.
    pub(super) fn rest_of_frame(&self) -> usize {
        if self.to_client.between() { 0 } else { self.to_client.rest() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING_FRAME: &[u8] = b"\0\0\x08\x06\0\0\0\0\0pingpong";
    const PONG_FRAME: &[u8] = b"\0\0\x08\x06\x01\0\0\0\0pingpong";
    const HEADERS_FRAME: &[u8] = b"\0\0\x01\x01\x04\0\0\0\x01x";

    fn pings(minutes: u64, without_stream: bool) -> Pings {
        Pings::new(PingPolicy { min_time: Duration::from_secs(60 * minutes), without_stream })
    }

    #[test]
    fn the_third_early_ping_is_too_many_and_answers_to_our_pings_are_none() {
        let mut pings = pings(5, false);
        for _ in 0..10 {
            assert!(!pings.read(PONG_FRAME, || true));
        }
        let told: Vec<bool> = (0..4).map(|_| pings.read(PING_FRAME, || true)).collect();
        assert_eq!(told, [false, false, false, true], "the first is never early");
    }

    #[test]
    fn an_answer_begins_a_new_count() {
        let mut pings = pings(5, false);
        for _ in 0..10 {
            assert!(!pings.read(&PING_FRAME.repeat(3), || true));
            pings.written(HEADERS_FRAME);
        }
    }

    #[test]
    fn without_a_call_in_hand_a_client_waits_longer_unless_permitted() {
        for (without_stream, calls, strikes) in [(false, false, 4), (true, false, 0), (false, true, 0), (true, true, 0)]
        {
            let (mut pings, start) = (pings(1, without_stream), Instant::now());
            for minute in 0..5 {
                pings.ping(start + Duration::from_secs(60 * minute), calls);
            }
            assert_eq!(pings.strikes, strikes, "{without_stream} {calls}");
        }
    }

    #[test]
    fn the_goaway_is_one_whole_frame() {
        let mut frames = Frames::default();
        let mut kinds = Vec::new();
        frames.follow(TOO_MANY_PINGS, |kind, _| kinds.push(kind));
        assert_eq!(kinds, [7]);
        assert!(frames.between());
    }
}
