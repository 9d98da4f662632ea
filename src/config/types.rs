//! Types that configuration sections share.

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Visitor},
};
use std::{fmt, str::FromStr};

/// A length of time as the Collector writes it: a Go duration such as `200ms` or `1m30s`. A bare integer is
/// nanoseconds, as in Go; one below a millisecond is refused, since whoever writes `30` means seconds. Never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(pub std::time::Duration);

/// Units of a Go duration with their nanoseconds; two-letter units stand before the one-letter units they end in.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// In nanoseconds.
const LEAST_BARE: u64 = 1_000_000;

const INVALID_DURATION: &str = "invalid duration: write a number with a unit, such as 200ms, 5s or 1m30s";

impl Duration {
    /// Whole milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Self(std::time::Duration::from_millis(millis))
    }

    /// Whole seconds.
    pub const fn secs(secs: u64) -> Self {
        Self(std::time::Duration::from_secs(secs))
    }

    /// As the standard library's duration.
    pub const fn get(self) -> std::time::Duration {
        self.0
    }

    /// Whether it is zero, which many keys read as "no limit".
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl From<Duration> for std::time::Duration {
    fn from(duration: Duration) -> Self {
        duration.0
    }
}

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || INVALID_DURATION.to_owned();
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        if let Some(positive) = text.strip_prefix('-') {
            return match Self::from_str(positive) {
                Ok(zero) if zero.is_zero() && !positive.starts_with(['+', '-']) => Ok(zero),
                _ => Err("a duration must not be negative".to_owned()),
            };
        }
        if rest == "0" {
            return Ok(Self::default());
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut total: u128 = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
            let (number, after) = rest.split_at(digits);
            let (unit, scale) = UNITS.iter().copied().find(|(unit, _)| after.starts_with(unit)).ok_or_else(invalid)?;
            total = nanoseconds(number, scale).and_then(|n| total.checked_add(n)).ok_or_else(invalid)?;
            rest = &after[unit.len()..];
        }
        // Go's durations end at 292 years.
        let nanos = i64::try_from(total).map_err(|_| "the duration is too long".to_owned())?;
        Ok(Self(std::time::Duration::from_nanos(nanos.unsigned_abs())))
    }
}

/// `number` is digits with at most one point; digits beyond a nanosecond are dropped, as in Go.
fn nanoseconds(number: &str, scale: u64) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let mut total = match whole {
        "" => 0,
        digits => digits.parse::<u128>().ok()?.checked_mul(u128::from(scale))?,
    };
    let mut unit = u128::from(scale);
    for digit in fraction.bytes().take(18) {
        // Kept scaled up, so that 1.333333333s does not lose a nanosecond per digit.
        unit = unit.checked_mul(10)?;
        total = total.checked_mul(10)?.checked_add(u128::from(digit - b'0').checked_mul(u128::from(scale))?)?;
    }
    Some(total / (unit / u128::from(scale)))
}

impl fmt::Display for Duration {
    /// As Go writes it: `1m30s`, `200ms`, `1.5s`, `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let decimal = |value: u128, scale: u128| {
            let (whole, fraction) = (value / scale, value % scale);
            if fraction == 0 {
                return whole.to_string();
            }
            let width = scale.ilog10() as usize;
            format!("{whole}.{}", format!("{fraction:0width$}").trim_end_matches('0'))
        };
        const SECOND: u128 = 1_000_000_000;
        match nanos {
            0 => f.write_str("0s"),
            n if n < 1_000 => write!(f, "{n}ns"),
            n if n < 1_000_000 => write!(f, "{}µs", decimal(n, 1_000)),
            n if n < SECOND => write!(f, "{}ms", decimal(n, 1_000_000)),
            n => {
                let (hours, minutes) = (n / (3600 * SECOND), n / (60 * SECOND) % 60);
                if hours > 0 {
                    write!(f, "{hours}h")?;
                }
                if hours > 0 || minutes > 0 {
                    write!(f, "{minutes}m")?;
                }
                write!(f, "{}s", decimal(n % (60 * SECOND), SECOND))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DurationVisitor;
        impl Visitor<'_> for DurationVisitor {
            type Value = Duration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as 200ms, 5s or 1m30s")
            }
            fn visit_u64<E: Error>(self, nanos: u64) -> Result<Duration, E> {
                if nanos > 0 && nanos < LEAST_BARE {
                    return Err(E::custom(format_args!(
                        "a number without a unit is nanoseconds, and {nanos} of them are no time; write {nanos}s or \
                         {nanos}ms"
                    )));
                }
                Ok(Duration(std::time::Duration::from_nanos(nanos)))
            }
            fn visit_i64<E: Error>(self, nanos: i64) -> Result<Duration, E> {
                let nanos = u64::try_from(nanos).map_err(|_| E::custom("a duration must not be negative"))?;
                self.visit_u64(nanos)
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(DurationVisitor)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A number of bytes: a bare integer, or with a unit such as `64MiB`, `20 MB`, `4096 B`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || "invalid size: write bytes, or a number with a unit such as 512KiB, 64MiB or 1GiB".to_owned();
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let scale: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            _ => return Err(invalid()),
        };
        let number: u64 = number.parse().map_err(|_| invalid())?;
        number.checked_mul(scale).map(Self).ok_or_else(|| "the size is too large".to_owned())
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as 67108864 or 64MiB")
            }
            fn visit_u64<E: Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }
            fn visit_i64<E: Error>(self, _: i64) -> Result<ByteSize, E> {
                Err(E::custom("a size must not be negative"))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(SizeVisitor)
    }
}

/// A configured secret. It can be used but not printed: Debug, Display and serialisation say `[REDACTED]`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Opaque(String);

impl Opaque {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether nothing was configured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(super::REDACTED)
    }
}

impl fmt::Display for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(super::REDACTED)
    }
}

impl Serialize for Opaque {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(super::REDACTED)
    }
}

/// For `Option` fields where the key alone, with nothing behind it, means "enabled with defaults", as in
/// `protocols: {grpc: }`. Use with `#[serde(default, deserialize_with = "present")]`.
pub fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, nanos) in [
            ("0", 0),
            ("0s", 0),
            ("-0s", 0),
            ("200ms", 200_000_000),
            ("1m30s", 90_000_000_000),
            ("1h", 3_600_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("+5s", 5_000_000_000),
            ("10ns", 10),
            ("10us", 10_000),
            ("10µs", 10_000),
            ("10μs", 10_000),
            ("1.333333333333333333333s", 1_333_333_333),
            ("1h1m1s1ms1us1ns", 3_661_001_001_001),
            ("9223372036854775807ns", i64::MAX as u64),
        ] {
            let parsed: Duration = text.parse().unwrap();
            assert_eq!(parsed.get().as_nanos(), u128::from(nanos), "{text}");
        }
        for text in ["", "5", "5 s", "s", ".s", "1..s", "1d", "ms", "+", "--5s", "1h-5s", "9999999999h", "1e3s", "５s"]
        {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
        for text in ["-5s", "-1ns", "-0.1s"] {
            assert_eq!(text.parse::<Duration>().unwrap_err(), "a duration must not be negative");
        }
    }

    #[test]
    fn durations_print_as_go_does() {
        for (nanos, want) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (200_000_000, "200ms"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (5_000_000_001, "5.000000001s"),
        ] {
            let duration = Duration(std::time::Duration::from_nanos(nanos));
            assert_eq!(duration.to_string(), want);
            assert_eq!(want.parse::<Duration>().unwrap(), duration);
        }
    }

    proptest::proptest! {
        #[test]
        fn durations_read_as_they_print(nanos in 0..=i64::MAX as u64) {
            let duration = Duration(std::time::Duration::from_nanos(nanos));
            proptest::prop_assert_eq!(duration.to_string().parse::<Duration>().unwrap(), duration);
        }
    }

    #[test]
    fn sizes() {
        for (text, want) in
            [("0", 0), ("4096", 4096), ("64MiB", 64 << 20), ("20 MB", 20_000_000), ("1gib", 1 << 30), ("7 b", 7)]
        {
            assert_eq!(text.parse::<ByteSize>().unwrap(), ByteSize(want), "{text}");
        }
        for text in ["", "-1", "1.5MB", "MB", "5 bananas", "99999999999999999999", "99999999999GiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }
}
