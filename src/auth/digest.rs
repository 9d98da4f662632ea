//! Credentials as digests under a key that only this process has: to compare them in constant time whatever their
//! lengths, and to remember them without having them.

use ring::hmac;
use std::sync::LazyLock;
use subtle::{Choice, ConstantTimeEq};

static KEY: LazyLock<hmac::Key> = LazyLock::new(|| hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>()));

/// HMAC-SHA-256 of a credential. As a key of a map it gives nothing away: its bytes look random to whoever has not the
/// key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    pub(super) fn of(credential: &[u8]) -> Self {
        let tag = hmac::sign(&KEY, credential);
        let mut digest = [0; 32];
        digest.copy_from_slice(tag.as_ref());
        Digest(digest)
    }
}

impl ConstantTimeEq for Digest {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_differ_as_credentials_do() {
        let same = |a: &[u8], b: &[u8]| bool::from(Digest::of(a).ct_eq(&Digest::of(b)));
        assert!(same(b"", b"") && same(b"a", b"a") && same(&[0xff; 9999], &[0xff; 9999]));
        assert!(!same(b"a", b"b") && !same(b"a", b"a ") && !same(b"", b"\0"));
    }
}
