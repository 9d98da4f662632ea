//! Decompression in steps: the caller says how much may come out next, and how much may come out at all.

use super::{Algorithm, lz4};
use bytes::{Buf, Bytes, buf::Reader};
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use std::io::{self, Read};

/// The largest window a zstd frame may ask for: what the Collector's encoder asks for at its best level, and twice that.
/// A decoder allocates the window before the first byte comes out.
pub const MAX_WINDOW_BYTES: u64 = 64 << 20;

/// The window any zstd frame may ask for (RFC 9659), and that needs no counting.
const PLAIN_WINDOW_BYTES: u64 = 8 << 20;

/// How a Snappy stream in the framing format begins: a chunk of type 0xff, six bytes long.
///
/// No raw block begins so: it would announce 895 bytes, then one literal byte, then a copy from 2^30 bytes before the
/// start.
const SNAPPY_STREAM: &[u8] = b"\xff\x06\x00\x00sNaPpY";

/// The most that one byte of a Snappy block can stand for: a copy of 64 bytes takes three.
const SNAPPY_RATIO: usize = 22;

/// The data is not what its name says, or it is cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// It does not decompress; this many bytes came out before that shows.
    #[error("the compressed body {}", damage(*.0))]
    After(usize),
    /// There are bytes behind its end.
    #[error("the compressed body is followed by something else")]
    Trailing,
    /// A zstd frame wants more memory than it may have.
    #[error("the zstd frame asks for a window of more than {MAX_WINDOW_BYTES} bytes; compress with a lower level")]
    Window,
}

fn damage(made: usize) -> String {
    match made {
        0 => "is damaged, or not compressed as its encoding says".to_owned(),
        _ => format!("is damaged behind the first {made} bytes of its content"),
    }
}

/// Compressed data and how far it has been read.
pub struct Decoder {
    kind: Kind,
    /// Bytes that came out.
    made: usize,
    working_bytes: u64,
}

enum Kind {
    Nothing,
    Gzip(MultiGzDecoder<Reader<Bytes>>),
    Zlib(ZlibDecoder<Reader<Bytes>>),
    Zstd(Box<zstd::Decoder<'static, Reader<Bytes>>>),
    SnappyStream(Box<snap::read::FrameDecoder<Reader<Bytes>>>),
    SnappyBlock(Bytes, usize),
    Lz4(Box<lz4_flex::frame::FrameDecoder<Reader<Bytes>>>),
}

impl Decoder {
    /// Looks at the beginning of `packed`; nothing is decompressed yet.
    ///
    /// No bytes at all are an empty body where the format is a sequence of frames, which may be none (zstd, Snappy's
    /// framing, LZ4: encoders make that of nothing), and damage where it begins with a header (gzip, zlib).
    ///
    /// # Errors
    /// [`Damaged`] when the beginning already shows it.
    pub fn new(algorithm: Algorithm, packed: Bytes) -> Result<Self, Damaged> {
        let damaged = Damaged::After(0);
        let mut working_bytes = 0;
        let kind = match algorithm {
            Algorithm::Gzip | Algorithm::Zlib | Algorithm::Deflate if packed.is_empty() => return Err(damaged),
            _ if packed.is_empty() => Kind::Nothing,
            Algorithm::Gzip => Kind::Gzip(MultiGzDecoder::new(packed.reader())),
            Algorithm::Zlib | Algorithm::Deflate => Kind::Zlib(ZlibDecoder::new(packed.reader())),
            Algorithm::Zstd => {
                let window = zstd_window(&packed).unwrap_or_default().max(PLAIN_WINDOW_BYTES);
                if window > MAX_WINDOW_BYTES {
                    return Err(Damaged::Window);
                }
                // The decoder's bound is a power of two.
                let window = window.next_power_of_two();
                if window > PLAIN_WINDOW_BYTES {
                    working_bytes = window;
                }
                Kind::Zstd(Box::new(zstd_decoder(packed, window).map_err(|_| damaged)?))
            }
            Algorithm::Snappy | Algorithm::SnappyFramed if packed.starts_with(SNAPPY_STREAM) => {
                Kind::SnappyStream(Box::new(snap::read::FrameDecoder::new(packed.reader())))
            }
            Algorithm::Snappy | Algorithm::SnappyFramed => match snap::raw::decompress_len(&packed) {
                Ok(len) if len <= packed.len().saturating_mul(SNAPPY_RATIO) => Kind::SnappyBlock(packed, len),
                _ => return Err(damaged),
            },
            Algorithm::Lz4 if lz4::is_whole(&packed) => {
                Kind::Lz4(Box::new(lz4_flex::frame::FrameDecoder::new(packed.reader())))
            }
            Algorithm::Lz4 => return Err(damaged),
        };
        Ok(Decoder { kind, made: 0, working_bytes })
    }

    /// The least room [`Decoder::read`] needs: one byte, except for a Snappy block, which comes out whole.
    pub fn least_room(&self) -> usize {
        match self.kind {
            Kind::SnappyBlock(_, len) => len.max(1),
            _ => 1,
        }
    }

    /// Memory it takes beside input and output, where that is more than the few megabytes any of them may take.
    pub fn working_bytes(&self) -> u64 {
        self.working_bytes
    }

    /// Appends the next bytes to `out`, as many as there are but not more than `room`, which must not be less than
    /// [`Decoder::least_room`]. Answers whether that was all.
    ///
    /// # Errors
    /// [`Damaged`]; what came out before is in `out`.
    pub fn read(&mut self, out: &mut Vec<u8>, room: usize) -> Result<bool, Damaged> {
        let start = out.len();
        // The decoders' own error texts may describe the data; ours does not.
        let read = match &mut self.kind {
            Kind::Nothing => Ok(true),
            Kind::Gzip(reader) => read_some(reader, out, room),
            Kind::Zlib(reader) => match read_some(reader, out, room) {
                Ok(true) if reader.get_ref().get_ref().has_remaining() => return Err(Damaged::Trailing),
                read => read,
            },
            Kind::Zstd(reader) => read_some(reader, out, room),
            Kind::SnappyStream(reader) => read_some(reader, out, room),
            Kind::SnappyBlock(packed, len) => read_block(packed, *len, out),
            Kind::Lz4(reader) => loop {
                // A reader of frames ends with each of them.
                let left = room - (out.len() - start);
                match read_some(reader, out, left) {
                    Ok(true) if reader.get_ref().get_ref().has_remaining() => {}
                    read => break read,
                }
            },
        };
        self.made += out.len() - start;
        read.map_err(|_| Damaged::After(self.made))
    }
}

fn read_some(reader: &mut impl Read, out: &mut Vec<u8>, room: usize) -> io::Result<bool> {
    let got = reader.take(room as u64).read_to_end(out)?;
    Ok(got < room)
}

fn read_block(packed: &[u8], len: usize, out: &mut Vec<u8>) -> io::Result<bool> {
    let start = out.len();
    out.resize(start + len, 0);
    let got = snap::raw::Decoder::new().decompress(packed, &mut out[start..]);
    out.truncate(start + got.as_ref().map_or(0, |&got| got));
    got.map(|_| true).map_err(io::Error::from)
}

fn zstd_decoder(packed: Bytes, window: u64) -> io::Result<zstd::Decoder<'static, Reader<Bytes>>> {
    let mut decoder = zstd::Decoder::with_buffer(packed.reader())?;
    // Later frames may not ask for more than the first: this much is counted.
    decoder.window_log_max(window.ilog2())?;
    Ok(decoder)
}

/// The window the first frame asks for, unless it is not a zstd frame with data (RFC 8878, 3.1.1.1).
fn zstd_window(packed: &[u8]) -> Option<u64> {
    let (magic, rest) = packed.split_first_chunk()?;
    let (&descriptor, rest) = rest.split_first()?;
    if u32::from_le_bytes(*magic) != 0xFD2F_B528 {
        return None;
    }
    if descriptor >> 5 & 1 == 0 {
        let &window = rest.first()?;
        let base = 1_u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // One segment: the window is the content, whose size follows the dictionary's id.
    let content = rest.get([0, 1, 2, 4][usize::from(descriptor & 3)]..)?;
    let sized = |len: usize| content.get(..len).map(|bytes| bytes.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b)));
    match descriptor >> 6 {
        0 => sized(1),
        1 => sized(2).map(|n| n + 256),
        2 => sized(4),
        _ => sized(8),
    }
}

/// Decompresses the whole of `packed`. `None` when that would be more than `limit` bytes.
///
/// # Errors
/// [`Damaged`] when it does not decompress.
pub fn decompress(algorithm: Algorithm, packed: Bytes, limit: usize) -> Result<Option<Vec<u8>>, Damaged> {
    let mut decoder = Decoder::new(algorithm, packed)?;
    let mut out = Vec::new();
    // One byte over the limit is asked for, to tell "exactly the limit" from "more".
    let most = limit.saturating_add(1);
    loop {
        if decoder.least_room() > most - out.len() {
            return Ok(None);
        }
        let room = (most - out.len()).min(decoder.least_room().max(64 * 1024));
        let end = decoder.read(&mut out, room)?;
        if out.len() > limit {
            return Ok(None);
        }
        if end {
            return Ok(Some(out));
        }
    }
}
