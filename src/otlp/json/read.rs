//! JSON in: a stream of tokens becomes protobuf as it is read, nothing in between.

use super::{
    JsonError,
    output::Output,
    scalar::{decode_base64, hex, number_of, parse_double, parse_integer, replace_surrogates, whole},
};
use crate::otlp::{
    Bounds, Signal,
    schema::{Field, Kind, Msg, Rule},
    walk::MAX_DEPTH,
    wire,
};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt::{self, Write};

/// Longer JSON is refused, so that offsets into the protobuf fit 32 bits: `0,` becomes eight bytes, and nothing grows
/// more.
const MAX_LENGTH: usize = u32::MAX as usize / 5;

pub(super) fn request(signal: Signal, json: &[u8], bounds: &Bounds) -> Result<Vec<u8>, JsonError> {
    let message = Msg::request(signal);
    // As the Collector has it, and as everywhere below: absent.
    if json.trim_ascii() == b"null" {
        return Ok(Vec::new());
    }
    let mut reader = Reader::new(json.len(), bounds, signal);
    if json.len() > MAX_LENGTH {
        let what = format!("{} bytes are more than one request may have", json.len());
        let path = message.table().name.to_owned();
        return Err(JsonError { what, line: 1, column: 1, path, over_bounds: true });
    }
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    // Messages are counted here, and what is not in the schema is passed over without recursion.
    deserializer.disable_recursion_limit();
    let read =
        ObjectSeed { message, reader: &mut reader }.deserialize(&mut deserializer).and_then(|()| deserializer.end());
    match read {
        Ok(()) => Ok(reader.out.finish()),
        Err(error) => Err(reader.explain(message, &error)),
    }
}

/// A step of the path to what is being read.
#[derive(Clone, Copy)]
enum Step {
    Name(&'static str),
    Position(usize),
}

struct Reader {
    out: Output,
    signal: Signal,
    /// The way to what is being read; after an error, to what is wrong.
    path: Vec<Step>,
    /// What would have been right at this place.
    expected: &'static str,
    /// What is wrong, if it is not a matter of type.
    fault: Option<String>,
    over_bounds: bool,
    depth: usize,
    items: usize,
    metrics: usize,
    envelopes: usize,
    leaves: usize,
    bounds: Bounds,
}

impl Reader {
    fn new(len: usize, bounds: &Bounds, signal: Signal) -> Self {
        let out = Output::with_capacity(len / 2);
        let (path, expected) = (Vec::new(), "an object");
        let bounds = Bounds { depth: bounds.depth.min(MAX_DEPTH), ..*bounds };
        Reader {
            out,
            signal,
            path,
            expected,
            fault: None,
            over_bounds: false,
            depth: 0,
            items: 0,
            metrics: 0,
            envelopes: 0,
            leaves: 0,
            bounds,
        }
    }

    /// Ends the reading with this text. What serde carries is never shown, as it may quote payload.
    fn fail<T, E: Error>(&mut self, what: impl Into<String>) -> Result<T, E> {
        self.fault = Some(what.into());
        Err(E::custom(""))
    }

    fn over_bounds<T, E: Error>(&mut self, what: String) -> Result<T, E> {
        self.over_bounds = true;
        self.fail(what)
    }

    fn wrong_type<T, E: Error>(&mut self) -> Result<T, E> {
        let what = format!("expected {}", self.expected);
        self.fail(what)
    }

    fn count_leaf<E: Error>(&mut self) -> Result<(), E> {
        self.leaves += 1;
        let max = self.bounds.leaves;
        if self.leaves > max { self.over_bounds(format!("more than {max} text fields")) } else { Ok(()) }
    }

    fn count_message<E: Error>(&mut self, message: Msg) -> Result<(), E> {
        let max = self.bounds.items;
        let count = match message {
            Msg::Metric => &mut self.metrics,
            Msg::Span
            | Msg::LogRecord
            | Msg::NumberDataPoint
            | Msg::HistogramDataPoint
            | Msg::ExponentialHistogramDataPoint
            | Msg::SummaryDataPoint => &mut self.items,
            Msg::ResourceSpans
            | Msg::ResourceLogs
            | Msg::ResourceMetrics
            | Msg::ScopeSpans
            | Msg::ScopeLogs
            | Msg::ScopeMetrics => {
                self.envelopes += 1;
                if self.envelopes > max {
                    return self.over_bounds(format!("more than {max} resources and scopes"));
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        *count += 1;
        if *count > max {
            return self.over_bounds(format!("more than {max} {}", self.signal.items_name().replace('_', " ")));
        }
        Ok(())
    }

    fn explain(self, message: Msg, error: &serde_json::Error) -> JsonError {
        let what = match (self.fault, error.classify()) {
            (Some(fault), _) => fault,
            (None, serde_json::error::Category::Data) => format!("expected {}", self.expected),
            // These texts are fixed; they never quote what was read.
            (None, _) => {
                format!("not JSON: {}", error.to_string().split(" at line ").next().unwrap_or_default())
            }
        };
        let mut path = String::new();
        for step in &self.path {
            // Writing to a String does not fail.
            let _ = match step {
                Step::Name(name) if path.is_empty() => write!(path, "{name}"),
                Step::Name(name) => write!(path, ".{name}"),
                Step::Position(at) => write!(path, "[{at}]"),
            };
        }
        if path.is_empty() {
            path = message.table().name.to_owned();
        }
        JsonError { what, line: error.line(), column: error.column(), path, over_bounds: self.over_bounds }
    }
}

/// The fields of a message, without its tag.
struct ObjectSeed<'a> {
    message: Msg,
    reader: &'a mut Reader,
}

impl<'de> DeserializeSeed<'de> for ObjectSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.reader.expected = "an object";
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ObjectSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let message = self.message;
        while let Some(field) = map.next_key_seed(NameSeed(message))? {
            let Some(field) = field else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            self.reader.path.push(Step::Name(field.json));
            if field.rule == Rule::Many {
                map.next_value_seed(ListSeed { field, reader: self.reader })?;
            } else {
                map.next_value_seed(ValueSeed { field, reader: self.reader, place: Place::Single })?;
            }
            self.reader.path.pop();
        }
        Ok(())
    }
}

/// The name of a field: the JSON name, or the proto name. `None` for one that is not in the schema.
struct NameSeed(Msg);

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = Option<&'static Field>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for NameSeed {
    type Value = Option<&'static Field>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_bytes<E: Error>(self, name: &[u8]) -> Result<Self::Value, E> {
        let fields = self.0.table().fields;
        Ok(fields.iter().find(|field| field.json.as_bytes() == name || field.name.as_bytes() == name))
    }
}

/// The values of a repeated field.
struct ListSeed<'a> {
    field: &'static Field,
    reader: &'a mut Reader,
}

impl<'de> DeserializeSeed<'de> for ListSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.reader.expected = "a list";
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for ListSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let (field, reader) = (self.field, self.reader);
        let packed = matches!(field.kind, Kind::Fixed64 | Kind::Double | Kind::Uint64);
        let place = if packed { Place::Packed } else { Place::Element };
        let begun = packed.then(|| reader.out.begin(field));
        let step = reader.path.len();
        reader.path.push(Step::Position(0));
        let mut position = 0;
        while list.next_element_seed(ValueSeed { field, reader, place })?.is_some() {
            position += 1;
            if let Some(last) = reader.path.get_mut(step) {
                *last = Step::Position(position);
            }
        }
        reader.path.pop();
        if let Some(begun) = begun {
            reader.out.end(begun);
        }
        Ok(())
    }
}

/// Where a value stands, which decides what `null` means and whether it has a tag.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A field of an object.
    Single,
    /// One of a list.
    Element,
    /// One of a list that has one tag for all.
    Packed,
}

/// One value of a field.
struct ValueSeed<'a> {
    field: &'static Field,
    reader: &'a mut Reader,
    place: Place,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.reader.expected = match self.field.kind {
            Kind::Message(_) => "an object",
            Kind::Name | Kind::Key | Kind::Text => "a string",
            Kind::Bytes => "a base64 string",
            Kind::TraceId | Kind::SpanId => "a hexadecimal string",
            Kind::Bool => "true or false",
            Kind::Enum(_) => "the number or name of an enum value",
            Kind::Double | Kind::ValueDouble => "a number",
            Kind::Int32
            | Kind::Int64
            | Kind::Uint32
            | Kind::Uint64
            | Kind::Sint32
            | Kind::Fixed32
            | Kind::Fixed64
            | Kind::Sfixed64 => "an integer",
        };
        match self.field.kind {
            Kind::Message(_) | Kind::Name | Kind::Key | Kind::Text => deserializer.deserialize_option(self),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.reader.expected)
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.visit_unit()
    }

    /// `null`: absent, but it keeps its place in a list.
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        if self.place == Place::Single {
            return Ok(());
        }
        match self.field.kind {
            Kind::Message(of) => {
                self.reader.count_message(of)?;
                let begun = self.reader.out.begin(self.field);
                self.reader.out.end(begun);
                Ok(())
            }
            Kind::Name => self.visit_bytes(&[]),
            _ => self.visit_u64(0),
        }
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Kind::Message(message) = self.field.kind else {
            return deserializer.deserialize_bytes(self);
        };
        let reader = self.reader;
        if reader.depth >= reader.bounds.depth {
            let max = reader.bounds.depth;
            return reader.over_bounds(format!("messages nest deeper than {max}"));
        }
        reader.count_message(message)?;
        reader.depth += 1;
        let begun = reader.out.begin(self.field);
        ObjectSeed { message, reader }.deserialize(deserializer)?;
        reader.out.end(begun);
        reader.depth -= 1;
        Ok(())
    }

    /// Text. Escapes may have named half a surrogate pair, which has no UTF-8 form.
    fn visit_bytes<E: Error>(self, text: &[u8]) -> Result<(), E> {
        self.reader.count_leaf()?;
        let start = self.reader.out.bytes.len();
        self.reader.out.payload(self.field, text);
        if memchr::memchr(0xed, text).is_some() {
            replace_surrogates(&mut self.reader.out.bytes[start..]);
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        match self.field.kind {
            Kind::Bool => {
                self.reader.out.tag(self.field, wire::VARINT);
                self.reader.out.bytes.push(u8::from(value));
                Ok(())
            }
            _ => self.reader.wrong_type(),
        }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        match self.field.kind {
            Kind::Double | Kind::ValueDouble => self.double(value as f64),
            _ => self.integer(i128::from(value)),
        }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        match self.field.kind {
            Kind::Double | Kind::ValueDouble => self.double(value as f64),
            _ => self.integer(i128::from(value)),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        match self.field.kind {
            Kind::Double | Kind::ValueDouble => self.double(value),
            _ => match whole(value) {
                Some(value) => self.integer(value),
                None => self.no_integer(value),
            },
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        match self.field.kind {
            Kind::Bytes => match decode_base64(text) {
                Some(bytes) => {
                    self.reader.count_leaf()?;
                    self.reader.out.payload(self.field, &bytes);
                    Ok(())
                }
                None => self.reader.wrong_type(),
            },
            Kind::TraceId => self.id::<16, E>("trace", text),
            Kind::SpanId => self.id::<8, E>("span", text),
            Kind::Double | Kind::ValueDouble => match parse_double(text) {
                Some(value) => self.double(value),
                None => self.reader.wrong_type(),
            },
            Kind::Enum(names) => match number_of(names, text).or_else(|| parse_integer(text)) {
                Some(value) => self.integer(value),
                None => self.reader.wrong_type(),
            },
            _ => match (parse_integer(text), parse_double(text)) {
                (Some(value), _) => self.integer(value),
                (None, Some(value)) => self.no_integer(value),
                (None, None) => self.reader.wrong_type(),
            },
        }
    }
}

impl ValueSeed<'_> {
    /// Writes an integer in the form its kind has, if it has one.
    fn integer<E: Error>(self, value: i128) -> Result<(), E> {
        /// How it stands on the wire.
        enum Form {
            Varint(u64),
            Four([u8; 4]),
            Eight([u8; 8]),
        }
        let signed = |value: i32| i64::from(value) as u64;
        let zigzag = |value: i32| u64::from(((value << 1) ^ (value >> 31)) as u32);
        let form = match self.field.kind {
            Kind::Int32 | Kind::Enum(_) => i32::try_from(value).ok().map(|value| Form::Varint(signed(value))),
            Kind::Sint32 => i32::try_from(value).ok().map(|value| Form::Varint(zigzag(value))),
            Kind::Uint32 => u32::try_from(value).ok().map(|value| Form::Varint(u64::from(value))),
            Kind::Int64 => i64::try_from(value).ok().map(|value| Form::Varint(value as u64)),
            Kind::Uint64 => u64::try_from(value).ok().map(Form::Varint),
            Kind::Fixed32 => u32::try_from(value).ok().map(|value| Form::Four(value.to_le_bytes())),
            Kind::Fixed64 => u64::try_from(value).ok().map(|value| Form::Eight(value.to_le_bytes())),
            Kind::Sfixed64 => i64::try_from(value).ok().map(|value| Form::Eight(value.to_le_bytes())),
            _ => return self.reader.wrong_type(),
        };
        let Some(form) = form else {
            if matches!(self.field.kind, Kind::Int64) {
                return self.no_integer(value as f64);
            }
            return self.reader.fail("a number out of the range of its field");
        };
        if matches!(self.field.kind, Kind::Int64) {
            self.reader.count_leaf()?;
        }
        let tagged = self.place != Place::Packed;
        let out = &mut self.reader.out;
        match form {
            Form::Varint(value) => {
                if tagged {
                    out.tag(self.field, wire::VARINT);
                }
                wire::put_varint(&mut out.bytes, value);
            }
            Form::Four(bytes) => {
                out.tag(self.field, wire::I32);
                out.bytes.extend_from_slice(&bytes);
            }
            Form::Eight(bytes) => {
                if tagged {
                    out.tag(self.field, wire::I64);
                }
                out.bytes.extend_from_slice(&bytes);
            }
        }
        Ok(())
    }

    /// A number that its integer field cannot hold. An attribute takes it as the double it is: JavaScript's SDK writes
    /// every number without a fraction as `intValue`, also beyond 64 bits, and refusing one attribute would cost its
    /// neighbours the request.
    fn no_integer<E: Error>(self, value: f64) -> Result<(), E> {
        let as_double = Msg::AnyValue.table().fields.iter().find(|field| matches!(field.kind, Kind::ValueDouble));
        match (self.field.kind, as_double) {
            (Kind::Int64, Some(field)) => ValueSeed { field, ..self }.double(value),
            _ => self.reader.wrong_type(),
        }
    }

    fn double<E: Error>(self, value: f64) -> Result<(), E> {
        if matches!(self.field.kind, Kind::ValueDouble) {
            self.reader.count_leaf()?;
        }
        if self.place != Place::Packed {
            self.reader.out.tag(self.field, wire::I64);
        }
        self.reader.out.bytes.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }

    /// An id of `N` bytes; an empty one is no id.
    fn id<const N: usize, E: Error>(self, name: &str, text: &str) -> Result<(), E> {
        if text.is_empty() {
            return Ok(());
        }
        if text.len() != 2 * N {
            let have = text.chars().count();
            let want = 2 * N;
            let what = format!("length mismatch: a {name} id has {want} hexadecimal digits, not {have}");
            return self.reader.fail(what);
        }
        let mut id = [0; N];
        for (byte, digits) in id.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            match (hex(digits[0]), hex(digits[1])) {
                (Some(high), Some(low)) => *byte = high << 4 | low,
                _ => return self.reader.wrong_type(),
            }
        }
        self.reader.out.payload(self.field, &id);
        Ok(())
    }
}
