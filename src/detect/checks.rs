//! Checksums and structures that tell a real token from a look-alike.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, general_purpose};

/// Base64 in either alphabet, padded or not, last bits as they come: what clients write, not what the RFC asks.
const LOOSE: GeneralPurposeConfig = general_purpose::NO_PAD
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LOOSE);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LOOSE);

/// A check a rule can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// The last six characters are the CRC-32 of those between prefix and them, in base 62.
    Crc32Base62,
    /// `glsa_`: the last eight hexadecimal digits are the CRC-32 of what stands before their `_`.
    Crc32Grafana,
    /// A JSON Web Token's header.
    Jwt,
    /// NATS keys: base 32 with a CRC-16.
    Nkey,
    /// 40 characters of base64 that are no hash and no path.
    Mixed40,
    /// An AWS key id whose base 32 part holds an account number.
    AwsKeyId,
}

/// What a check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It holds.
    Proved,
    /// It does not hold, yet the format is distinctive enough to mask.
    Plausible,
    /// Something else.
    Refused,
}

impl Check {
    /// The check of a name in the catalog.
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "crc32-base62" => Check::Crc32Base62,
            "crc32-grafana" => Check::Crc32Grafana,
            "jwt" => Check::Jwt,
            "nkey" => Check::Nkey,
            "mixed-40" => Check::Mixed40,
            "published-aws" => Check::AwsKeyId,
            _ => return None,
        })
    }

    /// Judges a whole token.
    pub fn judge(self, token: &[u8]) -> Verdict {
        let plausible = |proved: bool| if proved { Verdict::Proved } else { Verdict::Plausible };
        match self {
            Check::Crc32Base62 => plausible(crc32_base62(token)),
            Check::Crc32Grafana => plausible(crc32_grafana(token)),
            Check::Jwt => jwt(token),
            Check::Nkey => plausible(nkey(token)),
            Check::Mixed40 => {
                let count = |f: fn(&u8) -> bool| token.iter().filter(|c| f(c)).count();
                let slashes = count(|c| *c == b'/');
                if count(u8::is_ascii_digit) >= 1
                    && count(u8::is_ascii_uppercase) >= 3
                    && count(u8::is_ascii_lowercase) >= 3
                    && slashes <= 6
                {
                    Verdict::Plausible
                } else {
                    Verdict::Refused
                }
            }
            Check::AwsKeyId => plausible(true),
        }
    }
}

/// CRC-32 as in IEEE 802.3.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0u32; 256];
        let mut i = 0;
        while i < 256 {
            let mut c = i as u32;
            let mut k = 0;
            while k < 8 {
                c = if c & 1 == 1 { 0xEDB8_8320 ^ c >> 1 } else { c >> 1 };
                k += 1;
            }
            table[i] = c;
            i += 1;
        }
        table
    };
    !bytes.iter().fold(!0u32, |c, &b| TABLE[((c ^ u32::from(b)) & 255) as usize] ^ c >> 8)
}

/// The six characters GitHub and npm append: CRC-32 in base 62, left-padded with 0.
pub(super) fn base62_crc(body: &[u8]) -> [u8; 6] {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut crc = crc32(body);
    let mut out = [b'0'; 6];
    for place in out.iter_mut().rev() {
        *place = DIGITS[(crc % 62) as usize];
        crc /= 62;
    }
    out
}

fn crc32_base62(token: &[u8]) -> bool {
    let Some(at) = token.iter().position(|&c| c == b'_') else { return false };
    let body = &token[at + 1..];
    body.len() > 6 && base62_crc(&body[..body.len() - 6]) == body[body.len() - 6..]
}

fn crc32_grafana(token: &[u8]) -> bool {
    let Some(at) = token.len().checked_sub(9).filter(|&at| token[at] == b'_') else { return false };
    let hex = |crc: u32| format!("{crc:08x}").into_bytes();
    token[at + 1..].eq_ignore_ascii_case(&hex(crc32(&token[..at])))
        || token[at + 1..].eq_ignore_ascii_case(&hex(crc32(&token[..at]).swap_bytes()))
}

fn jwt(token: &[u8]) -> Verdict {
    if token.starts_with(b"ZXlK") {
        // The beginning tells enough; the end may hold what is not part of the token.
        let Some(inner) = decode_base64(&token[..token.len().min(64) & !3]) else { return Verdict::Refused };
        let jwt = inner.starts_with(b"eyJ") && inner.iter().all(u8::is_ascii_graphic);
        return if jwt { Verdict::Proved } else { Verdict::Refused };
    }
    match jwt_header(token) {
        Some(true) => Verdict::Proved,
        _ if token.split(|&c| c == b'.').nth(1).is_some_and(|p| p.starts_with(b"eyJ")) => Verdict::Plausible,
        _ => Verdict::Refused,
    }
}

/// Whether the first part decodes to JSON that names an algorithm; `None` when it does not decode.
fn jwt_header(token: &[u8]) -> Option<bool> {
    let first = token.split(|&c| c == b'.').next()?;
    let header = decode_base64(&first[..first.len().min(1024)])?;
    Some(
        header.starts_with(b"{")
            && (memchr::memmem::find(&header, b"\"alg\"").is_some()
                || memchr::memmem::find(&header, b"\"enc\"").is_some()),
    )
}

/// Base64 of either alphabet, padded or not.
pub(super) fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = if text.len() % 4 == 1 && !text.contains(&b'=') { &text[..text.len() - 1] } else { text };
    STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()
}

/// `Basic` credentials: base64 of printable `user:password`.
pub(super) fn basic(text: &[u8]) -> bool {
    match decode_base64(text) {
        Some(plain) => {
            let colon = plain.iter().position(|&c| c == b':');
            let text = std::str::from_utf8(&plain).is_ok_and(|s| !s.chars().any(char::is_control));
            text && colon.is_some() && plain.len() > 2
        }
        None => false,
    }
}

fn nkey(token: &[u8]) -> bool {
    let mut bits = 0u32;
    let mut n = 0;
    let mut bytes = Vec::with_capacity(36);
    for &c in token {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'2'..=b'7' => c - b'2' + 26,
            _ => return false,
        };
        bits = bits << 5 | u32::from(value);
        n += 5;
        if n >= 8 {
            n -= 8;
            bytes.push((bits >> n) as u8);
            bits &= (1 << n) - 1;
        }
    }
    let Some(at) = bytes.len().checked_sub(2) else { return false };
    let crc = bytes[..at].iter().fold(0u16, |mut crc, &b| {
        crc ^= u16::from(b) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 != 0 { crc << 1 ^ 0x1021 } else { crc << 1 };
        }
        crc
    });
    bytes[at..] == crc.to_le_bytes()
}

/// The Luhn check over digits (values 0 to 9).
pub(super) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, &d)| {
            let d = u32::from(d);
            if i % 2 == 0 { d } else { d * 2 - if d > 4 { 9 } else { 0 } }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Whether the digits are a card number of a known brand: number range, length of that brand, Luhn.
pub(super) fn card(digits: &[u8]) -> bool {
    let n = digits.len();
    if !(13..=19).contains(&n) {
        return false;
    }
    let head = |k: usize| digits[..k].iter().fold(0u32, |a, &d| a * 10 + u32::from(d));
    let (two, three, four) = (head(2), head(3), head(4));
    let brand = match () {
        () if digits[0] == 4 => n == 13 || n == 16 || n == 19,
        () if (51..=55).contains(&two) || (2221..=2720).contains(&four) => n == 16,
        () if two == 34 || two == 37 => n == 15,
        () if four == 6011 || (644..=649).contains(&three) || two == 65 => (16..=19).contains(&n),
        () if (3528..=3589).contains(&four) => (16..=19).contains(&n),
        () if two == 62 => (16..=19).contains(&n),
        () if (300..=305).contains(&three) || two == 36 || two == 38 || two == 39 => (14..=19).contains(&n) && n != 15,
        () if two == 50 || (56..=58).contains(&two) || two == 63 || two == 67 => n == 16,
        () => false,
    };
    // A number of one or two distinct digits has no owner.
    let distinct = digits.iter().fold(0u16, |seen, d| seen | 1 << d).count_ones();
    brand && distinct > 1 && luhn(digits)
}

/// The IBAN check over the text without spaces: country's length, then remainder 1 modulo 97.
pub(super) fn iban(text: &[u8]) -> bool {
    if text.len() < 15 || iban_length([text[0], text[1]]) != Some(text.len()) {
        return false;
    }
    let mut rest = 0u32;
    for &c in text[4..].iter().chain(&text[..4]) {
        rest = match c {
            b'0'..=b'9' => rest * 10 + u32::from(c - b'0'),
            b'A'..=b'Z' => rest * 100 + u32::from(c - b'A') + 10,
            _ => return false,
        } % 97;
    }
    rest == 1
}

/// The length of a country's IBAN (IBAN registry).
pub(super) fn iban_length(country: [u8; 2]) -> Option<usize> {
    const LENGTHS: &[(&[u8; 2], usize)] = &[
        (b"AD", 24),
        (b"AE", 23),
        (b"AL", 28),
        (b"AT", 20),
        (b"AZ", 28),
        (b"BA", 20),
        (b"BE", 16),
        (b"BG", 22),
        (b"BH", 22),
        (b"BI", 27),
        (b"BR", 29),
        (b"BY", 28),
        (b"CH", 21),
        (b"CR", 22),
        (b"CY", 28),
        (b"CZ", 24),
        (b"DE", 22),
        (b"DJ", 27),
        (b"DK", 18),
        (b"DO", 28),
        (b"EE", 20),
        (b"EG", 29),
        (b"ES", 24),
        (b"FI", 18),
        (b"FK", 18),
        (b"FO", 18),
        (b"FR", 27),
        (b"GB", 22),
        (b"GE", 22),
        (b"GI", 23),
        (b"GL", 18),
        (b"GR", 27),
        (b"GT", 28),
        (b"HN", 28),
        (b"HR", 21),
        (b"HU", 28),
        (b"IE", 22),
        (b"IL", 23),
        (b"IQ", 23),
        (b"IS", 26),
        (b"IT", 27),
        (b"JO", 30),
        (b"KW", 30),
        (b"KZ", 20),
        (b"LB", 28),
        (b"LC", 32),
        (b"LI", 21),
        (b"LT", 20),
        (b"LU", 20),
        (b"LV", 21),
        (b"LY", 25),
        (b"MC", 27),
        (b"MD", 24),
        (b"ME", 22),
        (b"MK", 19),
        (b"MN", 20),
        (b"MR", 27),
        (b"MT", 31),
        (b"MU", 30),
        (b"NI", 28),
        (b"NL", 18),
        (b"NO", 15),
        (b"OM", 23),
        (b"PK", 24),
        (b"PL", 28),
        (b"PS", 29),
        (b"PT", 25),
        (b"QA", 29),
        (b"RO", 24),
        (b"RS", 22),
        (b"RU", 33),
        (b"SA", 24),
        (b"SC", 31),
        (b"SD", 18),
        (b"SE", 24),
        (b"SI", 19),
        (b"SK", 24),
        (b"SM", 27),
        (b"SO", 23),
        (b"ST", 25),
        (b"SV", 28),
        (b"TL", 23),
        (b"TN", 24),
        (b"TR", 26),
        (b"UA", 29),
        (b"VA", 22),
        (b"VG", 24),
        (b"XK", 20),
        (b"YE", 30),
    ];
    LENGTHS.iter().find(|(c, _)| **c == country).map(|(_, n)| *n)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn crc32_has_the_value_of_its_definition() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn a_github_token_proves_itself_only_with_its_checksum() {
        let body = b"FakeFakeFakeFakeFakeFakeFake00";
        let mut token = b"ghp_".to_vec();
        token.extend_from_slice(body);
        token.extend_from_slice(&base62_crc(body));
        assert_eq!(Check::Crc32Base62.judge(&token), Verdict::Proved);
        *token.last_mut().unwrap() ^= 1;
        assert_eq!(Check::Crc32Base62.judge(&token), Verdict::Plausible);
    }

    #[test]
    fn cards_need_range_length_and_luhn() {
        let digits = |s: &str| s.bytes().map(|c| c - b'0').collect::<Vec<_>>();
        for good in [
            "4111111111111111",
            "5555555555554444",
            "378282246310005",
            "6011111111111117",
            "3530111333300000",
            "30569309025904",
            "2223003122003222",
        ] {
            assert!(card(&digits(good)), "{good}");
        }
        // Luhn holds for all of these; range or length does not.
        for bad in ["9111111111111111", "41111111111111111", "55555555555544440"] {
            assert!(!card(&digits(bad)), "{bad}");
        }
        assert!(!card(&digits("4111111111111112")));
    }

    #[test]
    fn ibans_need_country_length_and_remainder() {
        for good in
            ["DE89370400440532013000", "GB82WEST12345698765432", "FR1420041010050500013M02606", "NO9386011117947"]
        {
            assert!(iban(good.as_bytes()), "{good}");
        }
        for bad in ["DE89370400440532013001", "DE8937040044053201300", "ZZ82WEST12345698765432"] {
            assert!(!iban(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn basic_credentials_hold_a_colon() {
        assert!(basic(b"dXNlcjpmYWtl"));
        assert!(!basic(b"bm9jb2xvbg"));
        assert!(!basic(b"not base64!"));
    }
}
