//! Numbers of an `AnyValue` as the decimal text a reader sees.

use super::{Leaf, Role, wire};

impl Leaf {
    /// The decimal text of an integer or of a finite double, as JSON would show it; `None` for any other leaf.
    /// `request` is what the leaf was found in.
    pub fn decimal(&self, request: &[u8]) -> Option<String> {
        let start = self.start as usize;
        let payload = request.get(start..start + self.len as usize)?;
        match self.role {
            Role::Int => wire::varint(payload, 0).ok().map(|(value, _)| (value as i64).to_string()),
            Role::Double => {
                let value = f64::from_le_bytes(payload.try_into().ok()?);
                value.is_finite().then(|| value.to_string())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        let leaf = |role, len| Leaf { start: 0, len, key: super::super::NO_KEY, role };
        assert_eq!(leaf(Role::Int, 2).decimal(&[0x96, 0x01]).as_deref(), Some("150"));
        assert_eq!(
            leaf(Role::Int, 10).decimal(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]).as_deref(),
            Some("-1")
        );
        let double = |value: f64| leaf(Role::Double, 8).decimal(&value.to_le_bytes());
        assert_eq!(double(4_111_111_111_111_111.0).as_deref(), Some("4111111111111111"));
        assert_eq!(double(0.5).as_deref(), Some("0.5"));
        assert_eq!(double(f64::NAN), None);
        assert_eq!(leaf(Role::Text, 1).decimal(b"1"), None);
    }
}
