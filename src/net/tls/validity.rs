//! From when to when a certificate is valid, read from its DER (RFC 5280, 4.1). rustls judges validity in a handshake
//! only; a person should hear of it before.

use rustls::pki_types::CertificateDer;
use std::time::{Duration, SystemTime};

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Seconds of the epoch at both ends, and the end as a person reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    not_before: Moment,
    not_after: Moment,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Moment {
    seconds: i64,
    text: String,
}

impl Validity {
    /// `None` where the bytes are not a certificate as RFC 5280 wants it.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let mut outer = certificate.as_ref();
        let mut certificate = expect(&mut outer, SEQUENCE)?;
        let mut fields = expect(&mut certificate, SEQUENCE)?;
        let (tag, _) = element(&mut fields)?;
        if tag == VERSION {
            element(&mut fields)?; // serial number
        }
        expect(&mut fields, SEQUENCE)?; // signature algorithm
        expect(&mut fields, SEQUENCE)?; // issuer
        let mut validity = expect(&mut fields, SEQUENCE)?;
        Some(Validity { not_before: moment(element(&mut validity)?)?, not_after: moment(element(&mut validity)?)? })
    }

    /// What is wrong with the certificate now, if anything.
    pub(super) fn complaint(&self, now: SystemTime) -> Option<String> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        if now > self.not_after.seconds {
            Some(format!("expired, notAfter is {}", self.not_after.text))
        } else if now < self.not_before.seconds {
            Some(format!("is not yet valid, notBefore is {}", self.not_before.text))
        } else {
            None
        }
    }
}

/// Takes one element: its tag and its content.
fn element<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&[tag, first], after) = rest.split_first_chunk::<2>()?;
    let (length, after) = match first {
        0..=0x7f => (usize::from(first), after),
        0x81..=0x84 => {
            let (digits, after) = after.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit)), after)
        }
        _ => return None,
    };
    let (content, after) = after.split_at_checked(length)?;
    *rest = after;
    Some((tag, content))
}

fn expect<'a>(rest: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    element(rest).filter(|(found, _)| *found == tag).map(|(_, content)| content)
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`, always UTC and with seconds (RFC 5280, 4.1.2.5).
fn moment((tag, text): (u8, &[u8])) -> Option<Moment> {
    let digits = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let year: i64 = digits[..2].parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
        }
        (GENERALIZED_TIME, 14) => (digits[..4].parse().ok()?, &digits[4..]),
        _ => return None,
    };
    let part = |at: usize| rest[at..at + 2].parse::<i64>().ok();
    let (month, day, hour, minute, second) = (part(0)?, part(2)?, part(4)?, part(6)?, part(8)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some(Moment {
        seconds: ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second,
        text: format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"),
    })
}

/// Days from 1970-01-01, in years that begin in March so that the leap day is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn certificate(from: (i32, u8, u8), to: (i32, u8, u8)) -> CertificateDer<'static> {
        let mut params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
        params.not_after = rcgen::date_time_ymd(to.0, to.1, to.2);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn both_ends_are_read_in_either_form() {
        // Beyond 2049 the form with four digits of the year is used.
        let der = certificate((1999, 2, 28), (2060, 2, 29));
        let validity = Validity::of(&der).unwrap();
        assert_eq!(validity.not_before, Moment { seconds: 920_160_000, text: "1999-02-28T00:00:00Z".to_owned() });
        assert_eq!(validity.not_after, Moment { seconds: 2_845_238_400, text: "2060-02-29T00:00:00Z".to_owned() });
        assert_eq!(validity.complaint(at(920_160_000)), None);
        assert_eq!(validity.complaint(at(2_845_238_400)), None, "the last second counts");
        assert_eq!(validity.complaint(at(2_845_238_401)).unwrap(), "expired, notAfter is 2060-02-29T00:00:00Z");
        assert_eq!(validity.complaint(at(920_159_999)).unwrap(), "is not yet valid, notBefore is 1999-02-28T00:00:00Z");
    }

    #[test]
    fn whatever_is_cut_off_or_changed_is_no_certificate_or_another_time_and_never_a_panic() {
        let der = certificate((2020, 1, 1), (2040, 1, 1));
        for end in 0..der.len() {
            let _ = Validity::of(&der[..end].into());
        }
        for at in 0..der.len() {
            let mut bytes = der.to_vec();
            bytes[at] ^= 0xff;
            let _ = Validity::of(&bytes.as_slice().into());
        }
        assert_eq!(Validity::of(&b"hunter2"[..].into()), None);
    }
}
