//! Everything that can go wrong with a request, once, for both protocols.

use crate::{
    auth::Denied,
    otlp::Signal,
    pipeline::{Full, Refusal},
};
use http::HeaderValue;
use std::time::Duration;

/// When a client should come back after it was refused for lack of room.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The longest message tracegate puts into an answer. Clients bound their headers (gRPC C-core at 8 KiB) and bodies.
const MESSAGE_BYTES: usize = 1024;

/// Why a request was not taken.
#[derive(Debug)]
pub(super) enum Fault {
    /// Refused by a limit, by the decoder or by the pipeline.
    Refused(Refusal),
    /// The transport's own framing is broken: a gRPC frame, or compressed data that does not decompress.
    Framing(String),
    /// Compressed with something tracegate does not read. The name, if it is fit to be shown.
    Encoding(Option<String>),
    /// gRPC calls take exactly one message; this many came (2 stands for more).
    Messages(u8),
    /// The body did not arrive in time.
    Slow,
    /// The client's own deadline passed before there was an answer.
    Deadline,
    /// The client broke off; nobody reads the answer.
    Gone,
    /// It was not said, or not proved, who sends the request. The challenge says how to.
    Unauthenticated { denied: Denied, challenge: HeaderValue },
}

/// Why a request never reached the pipeline, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rejected {
    /// It could not be read: broken framing, compression or JSON, or an encoding tracegate does not know.
    Malformed,
    /// It is larger than the limit, before or after decompression.
    TooLarge,
    /// There was no room for it.
    Overloaded,
    /// Its body did not arrive in time.
    Slow,
    /// The client's own deadline passed before there was an answer.
    Deadline,
    /// The client broke off.
    Gone,
    /// A defect of ours.
    Internal,
    /// It was not said, or not proved, who sends it.
    Unauthenticated,
}

impl Rejected {
    /// Every reason, in the order they are listed.
    pub const ALL: [Rejected; 8] = [
        Rejected::Malformed,
        Rejected::TooLarge,
        Rejected::Overloaded,
        Rejected::Slow,
        Rejected::Deadline,
        Rejected::Gone,
        Rejected::Internal,
        Rejected::Unauthenticated,
    ];

    /// The metric label's value.
    pub fn name(self) -> &'static str {
        match self {
            Rejected::Malformed => "malformed",
            Rejected::TooLarge => "too_large",
            Rejected::Overloaded => "overloaded",
            Rejected::Slow => "slow",
            Rejected::Deadline => "deadline",
            Rejected::Gone => "gone",
            Rejected::Internal => "internal",
            Rejected::Unauthenticated => "unauthenticated",
        }
    }
}

impl Fault {
    /// Larger than `limit` bytes.
    pub(super) fn too_large(limit: usize) -> Self {
        let what = format!("the request is larger than the limit of {limit} bytes; send smaller batches");
        Fault::Refused(Refusal::TooLarge(what))
    }

    /// No room in the budget of request bytes.
    pub(super) fn full(full: Full) -> Self {
        let message = format!("too many requests at once: {full}");
        Fault::Refused(Refusal::Overloaded { message, retry_after: RETRY_AFTER })
    }

    /// Its body arrives too slowly while others wait for the room it takes.
    pub(super) fn too_slow_for_its_room() -> Self {
        let message = "the request body arrives too slowly while room is scarce".to_owned();
        Fault::Refused(Refusal::Overloaded { message, retry_after: RETRY_AFTER })
    }

    /// A defect of ours.
    pub(super) fn internal(what: &str) -> Self {
        Fault::Refused(Refusal::Internal(what.to_owned()))
    }

    /// An encoding tracegate does not read, or a list of several. It comes from the client, so it is shown only if it is
    /// short and made of tokens.
    pub(super) fn encoding(name: &[u8]) -> Self {
        let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let token = |part: &[u8]| !part.is_empty() && part.iter().all(plain);
        let fit = name.len() <= 32 && name.split(|&b| b == b',').all(|part| token(part.trim_ascii()));
        Fault::Encoding(fit.then(|| String::from_utf8_lossy(name).into_owned()))
    }

    /// When the client should come back, where that can help.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Fault::Refused(Refusal::Overloaded { retry_after, .. }) => Some(*retry_after),
            Fault::Slow | Fault::Deadline => Some(RETRY_AFTER),
            _ => None,
        }
    }

    /// How it counts.
    pub(super) fn kind(&self) -> Rejected {
        match self {
            Fault::Refused(Refusal::TooLarge(_)) => Rejected::TooLarge,
            Fault::Refused(Refusal::Overloaded { .. }) => Rejected::Overloaded,
            Fault::Refused(Refusal::Internal(_) | Refusal::Undeliverable(_)) => Rejected::Internal,
            Fault::Refused(Refusal::Malformed(_) | Refusal::NoPipeline(_))
            | Fault::Framing(_)
            | Fault::Encoding(_)
            | Fault::Messages(_) => Rejected::Malformed,
            Fault::Slow => Rejected::Slow,
            Fault::Deadline => Rejected::Deadline,
            Fault::Gone => Rejected::Gone,
            Fault::Unauthenticated { .. } => Rejected::Unauthenticated,
        }
    }

    /// The text for the client: our own words, at most one kilobyte.
    pub(super) fn message(&self) -> String {
        bounded(match self {
            Fault::Refused(refusal) => refusal.to_string(),
            Fault::Framing(what) => what.clone(),
            Fault::Encoding(Some(name)) => format!("unsupported Content-Encoding: {name}"),
            Fault::Encoding(None) => "unsupported Content-Encoding".to_owned(),
            Fault::Messages(0) => "no message in the request; an export call takes exactly one".to_owned(),
            Fault::Messages(_) => "more than one message in the request; an export call takes exactly one".to_owned(),
            Fault::Slow => "the request body did not arrive in time".to_owned(),
            Fault::Deadline => "the client's deadline passed before the request was done".to_owned(),
            Fault::Gone => "the client broke off".to_owned(),
            Fault::Unauthenticated { denied, .. } => denied.to_string(),
        })
    }
}

/// What tracegate says about a signal that no pipeline takes.
pub(super) fn no_pipeline(signal: Signal) -> Fault {
    Fault::Refused(Refusal::NoPipeline(signal))
}

/// Cuts a message to [`MESSAGE_BYTES`], at a character.
pub(super) fn bounded(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES {
        let mark = "...";
        let cut = (0..=MESSAGE_BYTES - mark.len()).rev().find(|&at| message.is_char_boundary(at)).unwrap_or(0);
        message.truncate(cut);
        message.push_str(mark);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_at_a_character() {
        let long = "\u{e9}".repeat(2000);
        let cut = bounded(long);
        assert!(cut.len() <= MESSAGE_BYTES && cut.len() > MESSAGE_BYTES - 8, "{}", cut.len());
        assert!(cut.ends_with("..."));
        assert_eq!(bounded("short".to_owned()), "short");
    }

    #[test]
    fn an_encoding_is_named_only_if_it_is_short_and_made_of_tokens() {
        assert_eq!(Fault::encoding(b"br").message(), "unsupported Content-Encoding: br");
        assert_eq!(Fault::encoding(b"gzip, gzip").message(), "unsupported Content-Encoding: gzip, gzip");
        for bad in [&b""[..], b"a b", b"a,", b",", b"a, b c", b"\xff", b"<script>", &[b'a'; 33]] {
            assert_eq!(Fault::encoding(bad).message(), "unsupported Content-Encoding");
        }
    }
}
