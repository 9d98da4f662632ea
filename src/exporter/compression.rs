//! Compression of outgoing requests.

use super::{Failure, blocking};
use bytes::Bytes;
use flate2::write::GzEncoder;
use serde::{Deserialize, Deserializer, de::Error as _};
use std::io::{self, Write};

/// How a request body is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As it is.
    None,
    /// gzip, which every OTLP server takes; the Collector's default.
    #[default]
    Gzip,
    /// Zstandard: smaller and several times cheaper, where the backend takes it.
    Zstd,
}

impl Compression {
    /// The name used in `grpc-encoding` and `Content-Encoding`; none when not compressed.
    pub(super) fn encoding(self) -> Option<&'static str> {
        match self {
            Compression::None => None,
            Compression::Gzip => Some("gzip"),
            Compression::Zstd => Some("zstd"),
        }
    }
}

impl<'de> Deserialize<'de> for Compression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "" | "none" => Ok(Compression::None),
            "gzip" => Ok(Compression::Gzip),
            "zstd" => Ok(Compression::Zstd),
            name @ ("snappy" | "x-snappy-framed" | "zlib" | "deflate" | "lz4") => Err(D::Error::custom(format_args!(
                "compression \"{name}\" is not supported yet; use gzip, zstd or none"
            ))),
            _ => Err(D::Error::custom("unsupported compression type; use gzip, zstd or none")),
        }
    }
}

/// From this size on, compressing would hold up other work on the same thread for too long.
const BLOCKING_FROM: usize = 128 * 1024;

/// Compresses a body. `level` is the algorithm's own scale; `None` its default.
pub(super) async fn compress(
    parts: Vec<Bytes>,
    compression: Compression,
    level: Option<i32>,
) -> Result<Vec<Bytes>, Failure> {
    if compression == Compression::None {
        return Ok(parts);
    }
    let len = parts.iter().map(Bytes::len).sum::<usize>();
    if len < BLOCKING_FROM {
        return compress_now(&parts, compression, level).map(|whole| vec![whole]).map_err(failed);
    }
    let compressed = blocking(move || compress_now(&parts, compression, level)).await?;
    compressed.map(|whole| vec![whole]).map_err(failed)
}

fn failed(_: io::Error) -> Failure {
    Failure::refused("the request could not be compressed")
}

fn compress_now(parts: &[Bytes], compression: Compression, level: Option<i32>) -> io::Result<Bytes> {
    let len = parts.iter().map(Bytes::len).sum::<usize>();
    let out = Vec::with_capacity(len / 4 + 64);
    let out = match compression {
        Compression::None => parts.concat(),
        Compression::Gzip => {
            let level = level.and_then(|level| u32::try_from(level).ok());
            let mut encoder = GzEncoder::new(out, level.map_or_else(Default::default, flate2::Compression::new));
            parts.iter().try_for_each(|part| encoder.write_all(part))?;
            encoder.finish()?
        }
        Compression::Zstd => {
            let mut encoder = zstd::Encoder::new(out, level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL))?;
            encoder.set_pledged_src_size(Some(len as u64))?;
            parts.iter().try_for_each(|part| encoder.write_all(part))?;
            encoder.finish()?
        }
    };
    Ok(out.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Read;

    #[tokio::test]
    async fn what_goes_in_comes_out_small_and_large() {
        for size in [0, 10, BLOCKING_FROM] {
            let parts = vec![Bytes::from(vec![7_u8; size]), Bytes::from_static(b"end")];
            let whole = parts.concat();
            let gzip = compress(parts.clone(), Compression::Gzip, None).await.unwrap().concat();
            let mut out = Vec::new();
            flate2::read::GzDecoder::new(gzip.as_slice()).read_to_end(&mut out).unwrap();
            assert_eq!(out, whole);
            let zstd = compress(parts.clone(), Compression::Zstd, Some(1)).await.unwrap().concat();
            assert_eq!(zstd::decode_all(zstd.as_slice()).unwrap(), whole);
            assert_eq!(compress(parts.clone(), Compression::None, None).await.unwrap(), parts);
        }
    }

    #[test]
    fn names_are_the_collectors() {
        let parse = |name: &str| serde_json::from_value::<Compression>(name.into());
        assert_eq!(parse("none").unwrap(), Compression::None);
        assert_eq!(parse("").unwrap(), Compression::None);
        assert_eq!(parse("gzip").unwrap(), Compression::Gzip);
        assert_eq!(parse("zstd").unwrap(), Compression::Zstd);
        assert!(parse("snappy").unwrap_err().to_string().contains("\"snappy\" is not supported yet"));
        assert!(!parse("hunter2").unwrap_err().to_string().contains("hunter2"));
    }
}
