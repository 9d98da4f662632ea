//! Where in its frames a direction of an HTTP/2 connection is (RFC 9113, 4.1): headers are read, payloads skipped by
//! their length, so that following costs next to nothing.

const HEADER: usize = 9;

/// DATA
pub(super) const DATA: u8 = 0;
/// HEADERS
pub(super) const HEADERS: u8 = 1;
/// PING
pub(super) const PING: u8 = 6;
/// The flag of a PING that answers another.
pub(super) const ACK: u8 = 1;

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Frames {
    header: [u8; HEADER],
    /// Bytes of the header seen so far.
    seen: usize,
    /// Bytes of the payload still to come.
    payload: usize,
}

impl Frames {
    /// Follows `bytes`; `frame` is told the type and flags of every frame that begins in them.
    pub(super) fn follow(&mut self, mut bytes: &[u8], mut frame: impl FnMut(u8, u8)) {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let skipped = self.payload.min(bytes.len());
                self.payload -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let fresh = (HEADER - self.seen).min(bytes.len());
            self.header[self.seen..self.seen + fresh].copy_from_slice(&bytes[..fresh]);
            self.seen += fresh;
            bytes = &bytes[fresh..];
            if self.seen == HEADER {
                let [high, middle, low, kind, flags, ..] = self.header;
                self.payload = u32::from_be_bytes([0, high, middle, low]) as usize;
                self.seen = 0;
                frame(kind, flags);
            }
        }
    }

    /// Whether the last frame has ended.
    pub(super) fn between(&self) -> bool {
        self.seen == 0 && self.payload == 0
    }

    /// How many bytes may follow before the frame ends for certain, if one has begun: its payload, or its header.
    pub(super) fn rest(&self) -> usize {
        if self.payload > 0 { self.payload } else { HEADER - self.seen }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let [_, high, middle, low] = (length as u32).to_be_bytes();
        [&[high, middle, low, kind, flags, 0, 0, 0, 1][..], &vec![0xaa; length]].concat()
    }

    proptest! {
        #[test]
        fn however_the_bytes_are_cut_the_frames_are_the_same(
            frames in prop::collection::vec((0_u8..10, any::<u8>(), 0_usize..70_000), 1..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|&(kind, flags, length)| written(kind, flags, length)).collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let ends: Vec<usize> = frames.iter().scan(0, |at, frame| { *at += 9 + frame.2; Some(*at) }).collect();
            let (mut seen, mut follower) = (Vec::new(), Frames::default());
            for cut in cuts.windows(2) {
                follower.follow(&bytes[cut[0]..cut[1]], |kind, flags| seen.push((kind, flags)));
                prop_assert_eq!(follower.between(), cut[1] == 0 || ends.contains(&cut[1]));
                if !follower.between() {
                    let end = ends.iter().find(|end| **end > cut[1]).copied().unwrap_or_default();
                    prop_assert!(follower.rest() > 0 && cut[1] + follower.rest() <= end);
                }
            }
            let wanted: Vec<(u8, u8)> = frames.iter().map(|&(kind, flags, _)| (kind, flags)).collect();
            prop_assert_eq!(seen, wanted);
        }
    }
}
