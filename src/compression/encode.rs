//! Compression of whole bodies.

use super::Algorithm;
use bytes::Bytes;
use flate2::write::{GzEncoder, ZlibEncoder};
use std::io::{self, Write};

/// zstd's level unless set: its fastest, as the Collector's encoder chooses.
const ZSTD_LEVEL: i32 = 1;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoder {
    algorithm: Algorithm,
    /// 0 is the default.
    level: i32,
}

impl Encoder {
    /// At the algorithm's default level.
    pub fn new(algorithm: Algorithm) -> Self {
        Encoder { algorithm, level: 0 }
    }

    /// At a level: gzip, zlib and deflate take -2 (here the same as 1), -1 (default), 0 (default) and 1 to 9; zstd takes
    /// any and uses the nearest of 1 to 22; the others take only 0.
    ///
    /// # Errors
    /// The Collector's text for a level the algorithm does not have.
    pub fn with_level(algorithm: Algorithm, level: i32) -> Result<Self, String> {
        let valid = match algorithm {
            Algorithm::Gzip | Algorithm::Zlib | Algorithm::Deflate => (-2..=9).contains(&level),
            Algorithm::Zstd => true,
            Algorithm::Snappy | Algorithm::SnappyFramed | Algorithm::Lz4 => level == 0,
        };
        let name = algorithm.name();
        valid
            .then_some(Encoder { algorithm, level })
            .ok_or_else(|| format!("unsupported parameters {{Level:{level}}} for compression type \"{name}\""))
    }

    /// Compresses the concatenation of `parts`.
    ///
    /// # Errors
    /// When the compressor cannot work, which only lack of memory makes it do.
    pub fn compress<B: AsRef<[u8]>>(&self, parts: &[B]) -> io::Result<Bytes> {
        let len = parts.iter().map(|part| part.as_ref().len()).sum::<usize>();
        let out = Vec::with_capacity(len / 4 + 64);
        let out = match self.algorithm {
            Algorithm::Gzip => {
                let mut encoder = GzEncoder::new(out, self.deflate_level());
                write(&mut encoder, parts)?;
                encoder.finish()?
            }
            Algorithm::Zlib | Algorithm::Deflate => {
                let mut encoder = ZlibEncoder::new(out, self.deflate_level());
                write(&mut encoder, parts)?;
                encoder.finish()?
            }
            Algorithm::Zstd => {
                let level = if self.level == 0 { ZSTD_LEVEL } else { self.level.clamp(1, 22) };
                let mut encoder = zstd::Encoder::new(out, level)?;
                encoder.set_pledged_src_size(Some(len as u64))?;
                write(&mut encoder, parts)?;
                encoder.finish()?
            }
            Algorithm::Snappy => match parts {
                [one] => snap::raw::Encoder::new().compress_vec(one.as_ref())?,
                parts => {
                    let mut whole = Vec::with_capacity(len);
                    write(&mut whole, parts)?;
                    snap::raw::Encoder::new().compress_vec(&whole)?
                }
            },
            Algorithm::SnappyFramed => {
                let mut encoder = snap::write::FrameEncoder::new(out);
                write(&mut encoder, parts)?;
                encoder.into_inner().map_err(|error| error.into_error())?
            }
            Algorithm::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(out);
                write(&mut encoder, parts)?;
                encoder.finish().map_err(io::Error::other)?
            }
        };
        Ok(out.into())
    }

    fn deflate_level(&self) -> flate2::Compression {
        match self.level {
            -2 => flate2::Compression::fast(),
            level => {
                u32::try_from(level).ok().filter(|&n| n > 0).map_or_else(Default::default, flate2::Compression::new)
            }
        }
    }
}

fn write<B: AsRef<[u8]>>(into: &mut impl Write, parts: &[B]) -> io::Result<()> {
    parts.iter().try_for_each(|part| into.write_all(part.as_ref()))
}
