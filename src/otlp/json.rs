//! OTLP/JSON to protobuf and back, driven by the same schema as the walk (OTLP specification, "JSON Protobuf
//! Encoding").

mod output;
mod read;
mod scalar;
mod write;

use super::{Bounds, Signal};

/// Why a JSON request could not be read. Carries line, column and field path, never payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at line {line} column {column}, in {path}")]
pub struct JsonError {
    /// What is wrong, for a person.
    pub what: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// Field path in JSON names.
    pub path: String,
    /// The request is well-formed but exceeds one of [`Bounds`].
    pub over_bounds: bool,
}

/// Converts an OTLP/JSON export request to protobuf. Lenient as the Collector is: numbers as strings, enum names,
/// `snake_case` keys, any case of hex; unknown fields are ignored, `null` means absent (an empty message or value in a
/// list, an empty request where it is all). Base64 may be of the standard or the URL alphabet, with or without padding.
///
/// Strings may hold what is no UTF-8, as in protobuf; half a surrogate pair becomes U+FFFD. Where a name stands twice
/// in an object, both are written: a later one wins, as the decoder has it.
///
/// # Errors
/// [`JsonError`] for anything that is not JSON, has a wrong type, a bad identifier, or nests too deep.
pub fn to_protobuf(signal: Signal, json: &[u8], bounds: &Bounds) -> Result<Vec<u8>, JsonError> {
    read::request(signal, json, bounds)
}

/// Converts an accepted protobuf request to OTLP/JSON, strictly as the specification asks: hex ids, 64-bit integers as
/// strings, enums as integers, lowerCamelCase. Unknown fields have no JSON form and are left out; of fields that stand
/// several times, what a decoder would make of them is written; bytes that are no UTF-8 become U+FFFD.
pub fn from_protobuf(signal: Signal, bytes: &[u8]) -> Vec<u8> {
    write::request(signal, bytes)
}
