//! Compression of request bodies, both ways: what clients send is decompressed piece by piece within bounds the caller
//! sets; what exporters send is compressed.
//!
//! Names are those of HTTP's `Content-Encoding`, of gRPC's `grpc-encoding` and of the Collector's configuration. One name
//! means two things: `snappy` over HTTP is one raw block, `snappy` over gRPC is the framing format. A block can never
//! begin like a frame, so [`Decoder`] reads both under both names; an encoder must choose.

use crate::config::named;
use serde::{Deserialize, Deserializer, de::Error as _};

mod decode;
mod encode;
mod lz4;

pub use decode::{Damaged, Decoder, MAX_WINDOW_BYTES, decompress};
pub use encode::Encoder;

/// A compression by its name in `Content-Encoding` and in the Collector's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// `gzip`: RFC 1952, one or more members.
    Gzip,
    /// `zstd`: RFC 8878, one or more frames.
    Zstd,
    /// `zlib`: RFC 1950, under a name only the Collector uses.
    Zlib,
    /// `snappy`: a raw block, as HTTP means it.
    Snappy,
    /// `deflate`: RFC 1950 too (RFC 9110, 8.4.1.2).
    Deflate,
    /// `lz4`: LZ4 frames.
    Lz4,
    /// `x-snappy-framed`: Snappy's framing format; what gRPC calls `snappy`.
    SnappyFramed,
}

impl Algorithm {
    /// All of them, in the Collector's order.
    pub const ALL: [Algorithm; 7] = [
        Algorithm::Gzip,
        Algorithm::Zstd,
        Algorithm::Zlib,
        Algorithm::Snappy,
        Algorithm::Deflate,
        Algorithm::Lz4,
        Algorithm::SnappyFramed,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Gzip => "gzip",
            Algorithm::Zstd => "zstd",
            Algorithm::Zlib => "zlib",
            Algorithm::Snappy => "snappy",
            Algorithm::Deflate => "deflate",
            Algorithm::Lz4 => "lz4",
            Algorithm::SnappyFramed => "x-snappy-framed",
        }
    }

    /// The one with this name, in small letters.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// The `compression` key of an exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// `none`, or an empty text.
    None,
    /// By its name.
    By(Algorithm),
}

impl Default for Compression {
    /// gzip, which every OTLP server takes; the Collector's default.
    fn default() -> Self {
        Compression::By(Algorithm::Gzip)
    }
}

impl Compression {
    /// The name in `Content-Encoding` and `grpc-encoding`; none when not compressed.
    pub fn encoding(self) -> Option<&'static str> {
        match self {
            Compression::None => None,
            Compression::By(algorithm) => Some(algorithm.name()),
        }
    }

    /// What HTTP sends; `level` is the Collector's `compression_params.level`, 0 its default.
    ///
    /// # Errors
    /// The Collector's text when the algorithm has no such level.
    pub fn for_http(self, level: i32) -> Result<Option<Encoder>, String> {
        match self {
            Compression::None => Ok(None),
            Compression::By(algorithm) => Encoder::with_level(algorithm, level).map(Some),
        }
    }

    /// What gRPC sends.
    ///
    /// # Errors
    /// The Collector's text for what gRPC has no name for.
    pub fn for_grpc(self) -> Result<Option<Encoder>, String> {
        match self {
            Compression::None => Ok(None),
            Compression::By(Algorithm::Snappy) => Ok(Some(Encoder::new(Algorithm::SnappyFramed))),
            Compression::By(algorithm @ (Algorithm::Gzip | Algorithm::Zstd)) => Ok(Some(Encoder::new(algorithm))),
            Compression::By(other) => {
                Err(format!("unsupported compression type \"{}\"; use gzip, snappy, zstd or none", other.name()))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Compression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if matches!(name.as_str(), "" | "none") {
            return Ok(Compression::None);
        }
        Algorithm::named(&name).map(Compression::By).ok_or_else(|| {
            let known = Algorithm::ALL.map(Algorithm::name).join(", ");
            D::Error::custom(format_args!("unsupported compression type{}; use {known} or none", named(&name)))
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
