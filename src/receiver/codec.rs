//! The gRPC message frame: one flag byte, four length bytes, the message. Messages are handed over as they came.
//!
//! tonic's own decoder is not used on this side: it allocates the announced length before a byte of it has arrived,
//! decompresses on the async worker, answers an over-long message with a code that clients retry, and knows nothing of
//! the budget.

use super::{
    body::{Buffer, Pace},
    fault::Fault,
};
use crate::pipeline::Permit;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body::Body;

/// Bytes before a message.
pub(super) const HEADER: usize = 5;

/// One message as it came.
#[derive(Debug)]
pub(super) struct Frame {
    /// Whether the message is compressed with the call's `grpc-encoding`.
    pub(super) compressed: bool,
    /// The message.
    pub(super) message: Bytes,
}

/// Reads the one message of a unary call, of at most `limit` bytes as it stands on the wire.
///
/// # Errors
/// As [`Pace::next`]; too large as soon as the frame's header says so; [`Fault::Framing`] for a wrong flag or a message
/// that ends early; [`Fault::Messages`] for none or a second one.
pub(super) async fn read_message<B>(
    body: &mut B,
    limit: usize,
    permit: Permit,
    mut pace: Pace,
) -> Result<(Frame, Permit), Fault>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut buffer = Buffer::new(permit);
    let mut header: Option<(bool, usize)> = None;
    while let Some(chunk) = pace.next(body).await? {
        // Until the header is complete, room is made for what is there and no more.
        let expected = header.map_or(0, |(_, end)| end);
        let from = buffer.bytes().len();
        if header.is_none() && from + chunk.len() >= HEADER {
            let mut start = [0; HEADER];
            let (kept, fresh) = start.split_at_mut(from);
            kept.copy_from_slice(buffer.bytes());
            fresh.copy_from_slice(&chunk[..HEADER - from]);
            let (compressed, len) = parse_header(start)?;
            if len > limit {
                return Err(Fault::too_large(limit));
            }
            header = Some((compressed, HEADER + len));
            buffer.extend(&chunk, HEADER + len)?;
        } else {
            buffer.extend(&chunk, expected)?;
        }
        if header.is_some_and(|(_, end)| buffer.bytes().len() > end) {
            return Err(Fault::Messages(2));
        }
    }
    let got = buffer.bytes().len();
    match header {
        None if got == 0 => Err(Fault::Messages(0)),
        None => Err(Fault::Framing(format!("the message ends within its frame header, after {got} bytes"))),
        Some((_, end)) if got < end => {
            Err(Fault::Framing(format!("the message ends after {} of {} bytes", got - HEADER, end - HEADER)))
        }
        Some((compressed, _)) => {
            let (mut message, permit) = buffer.finish();
            message.advance(HEADER);
            Ok((Frame { compressed, message }, permit))
        }
    }
}

fn parse_header(header: [u8; HEADER]) -> Result<(bool, usize), Fault> {
    let [flag, len @ ..] = header;
    let compressed = match flag {
        0 => false,
        1 => true,
        other => return Err(Fault::Framing(format!("the frame's compressed flag is {other}; it must be 0 or 1"))),
    };
    Ok((compressed, u32::from_be_bytes(len) as usize))
}

/// A message in its frame.
pub(super) fn frame(compressed: bool, message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER + message.len());
    out.put_u8(compressed.into());
    // Answers are bounded to a few kilobytes.
    out.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    out.put_slice(message);
    out.freeze()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::pipeline::Budget;
    use http_body::Frame as Piece;
    use proptest::prelude::*;
    use std::{
        collections::VecDeque,
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
        time::Duration,
    };

    struct Pieces(VecDeque<Bytes>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Piece<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Piece::data(piece))))
        }
    }

    /// What reading should make of the whole body, worked out on the whole body.
    #[derive(Debug, PartialEq)]
    enum Outcome {
        Message(bool, Vec<u8>),
        Framing,
        TooLarge,
        Count,
    }

    fn expected(body: &[u8], limit: usize) -> Outcome {
        if body.is_empty() {
            return Outcome::Count;
        }
        let Some((header, rest)) = body.split_at_checked(HEADER) else { return Outcome::Framing };
        let len = u32::from_be_bytes(header[1..].try_into().unwrap()) as usize;
        match header[0] {
            2.. => Outcome::Framing,
            _ if len > limit => Outcome::TooLarge,
            _ if rest.len() < len => Outcome::Framing,
            _ if rest.len() > len => Outcome::Count,
            flag => Outcome::Message(flag == 1, rest.to_vec()),
        }
    }

    fn read(body: &[u8], cuts: &[usize], limit: usize) -> Outcome {
        let mut pieces = VecDeque::new();
        let mut rest = body;
        for cut in cuts {
            let (piece, more) = rest.split_at((*cut).min(rest.len()));
            pieces.push_back(Bytes::copy_from_slice(piece));
            rest = more;
        }
        pieces.push_back(Bytes::copy_from_slice(rest));
        let budget = Budget::new(1 << 20, 1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let result = runtime.block_on(async {
            let pace = Pace::new(Duration::from_secs(60), &budget);
            read_message(&mut Pieces(pieces), limit, budget.try_reserve(0).unwrap(), pace).await
        });
        match result {
            Ok((frame, permit)) => {
                assert!(permit.bytes() >= frame.message.len() as u64, "a message is paid for while it is held");
                Outcome::Message(frame.compressed, frame.message.to_vec())
            }
            Err(Fault::Framing(_)) => Outcome::Framing,
            Err(Fault::Messages(_)) => Outcome::Count,
            Err(Fault::Refused(_)) => Outcome::TooLarge,
            Err(other) => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn however_a_body_is_cut_it_reads_the_same(
            flag in 0..3_u8,
            announced in 0..40_u32,
            message in prop::collection::vec(any::<u8>(), 0..40),
            keep in 0..50_usize,
            cuts in prop::collection::vec(0..12_usize, 0..8),
        ) {
            let mut body = vec![flag];
            // Half of the announcements are true.
            let len = if announced % 2 == 0 { message.len() as u32 } else { announced };
            body.extend_from_slice(&len.to_be_bytes());
            body.extend_from_slice(&message);
            body.truncate(keep);
            prop_assert_eq!(read(&body, &cuts, 30), expected(&body, 30));
        }
    }

    #[test]
    fn a_frame_reads_back() {
        assert_eq!(read(&frame(true, b"abc"), &[], 3), Outcome::Message(true, b"abc".to_vec()));
        assert_eq!(read(&frame(false, b""), &[2], 3), Outcome::Message(false, Vec::new()));
    }
}
