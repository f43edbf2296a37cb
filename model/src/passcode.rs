//! The one-time passcode that lets a device ask for its first certificate.

use std::{fmt, str::FromStr};

use zeroize::Zeroize;

use crate::Secret;

/// Crockford's base 32: no I, L, O, U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const SECRET_BYTES: usize = 20;
const SECRET_CHARS: usize = SECRET_BYTES * 8 / 5;

/// A passcode in clear: 160 random bits, 32 characters of Crockford base 32 and a check character.
///
/// It is shown once, when it is made; only its [`PasscodeDigest`] is kept. Typed copies may have
/// lower case, spaces and hyphens, and `O` for `0`, `I` or `L` for `1`.
#[derive(Clone)]
pub struct Passcode(Secret<[u8; SECRET_BYTES]>);

/// What is kept of a passcode: SHA-256 over its 20 octets. 160 random bits need no slow hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PasscodeDigest(pub [u8; 32]);

/// Why a text is not a passcode. Says nothing of whether one like it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasscodeError {
    /// Not 33 characters after spaces and hyphens are removed.
    #[error("a passcode has 33 characters")]
    Length,
    /// A character outside the alphabet.
    #[error("a passcode has only digits and letters other than U")]
    Character,
    /// The check character does not fit: a typing mistake.
    #[error("the passcode has a typing mistake (its check character does not fit)")]
    Check,
}

impl Passcode {
    /// Makes a passcode of 20 random bytes.
    pub fn from_random(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(Secret::new(bytes))
    }

    /// The 20 octets that the digest is taken over.
    pub fn secret_bytes(&self) -> &[u8] {
        self.0.expose()
    }

    /// The text to hand out, 33 characters without separators. A secret.
    pub fn reveal(&self) -> String {
        let mut text = String::with_capacity(SECRET_CHARS + 1);
        for index in 0..SECRET_CHARS {
            text.push(char::from(ALPHABET[self.quintet(index)]));
        }
        text.push(char::from(ALPHABET[self.check()]));
        text
    }

    fn quintet(&self, index: usize) -> usize {
        let bytes = self.0.expose();
        let bit = index * 5;
        let pair = (usize::from(bytes[bit / 8]) << 8) | bytes.get(bit / 8 + 1).map_or(0, |b| usize::from(*b));
        (pair >> (11 - bit % 8)) & 31
    }

    /// Σ α^position · value in GF(32), x⁵ + x² + 1: any one wrong character and any two neighbours
    /// swapped change it.
    fn check(&self) -> usize {
        // Horner's rule: each step multiplies what is so far by α.
        (0..SECRET_CHARS).fold(0, |sum, index| {
            let shifted = sum << 1;
            (if shifted & 32 == 0 { shifted } else { shifted ^ 0b10_0101 }) ^ self.quintet(index)
        })
    }
}

impl fmt::Debug for Passcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passcode(…)")
    }
}

impl FromStr for Passcode {
    type Err = PasscodeError;
    fn from_str(text: &str) -> Result<Self, PasscodeError> {
        let mut values = [0_u8; SECRET_CHARS + 1];
        let mut count = 0;
        for byte in text.bytes().filter(|b| !matches!(b, b' ' | b'-')) {
            let folded = match byte.to_ascii_uppercase() {
                b'O' => b'0',
                b'I' | b'L' => b'1',
                other => other,
            };
            let value = ALPHABET.iter().position(|c| *c == folded).ok_or(PasscodeError::Character)?;
            *values.get_mut(count).ok_or(PasscodeError::Length)? = u8::try_from(value).unwrap_or(0);
            count += 1;
        }
        if count != values.len() {
            return Err(PasscodeError::Length);
        }
        let mut bytes = [0_u8; SECRET_BYTES];
        for (index, value) in values[..SECRET_CHARS].iter().enumerate() {
            let bit = index * 5;
            let pair = u16::from(*value) << (11 - bit % 8);
            bytes[bit / 8] |= (pair >> 8) as u8;
            if let Some(next) = bytes.get_mut(bit / 8 + 1) {
                *next |= (pair & 255) as u8;
            }
        }
        let passcode = Self::from_random(bytes);
        let fits = passcode.check() == usize::from(values[SECRET_CHARS]);
        bytes.zeroize();
        values.zeroize();
        if fits { Ok(passcode) } else { Err(PasscodeError::Check) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Passcode {
        let mut bytes = [0; 20];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = (index as u8).wrapping_mul(37).wrapping_add(11);
        }
        Passcode::from_random(bytes)
    }

    #[test]
    fn a_passcode_survives_its_text() {
        let text = sample().reveal();
        assert_eq!(text.len(), 33);
        assert_eq!(text.parse::<Passcode>().unwrap().secret_bytes(), sample().secret_bytes());
        let typed = format!(" {}-{} ", &text[..10].to_lowercase(), &text[10..]);
        assert_eq!(typed.parse::<Passcode>().unwrap().secret_bytes(), sample().secret_bytes());
    }

    #[test]
    fn one_wrong_character_and_two_swapped_ones_are_noticed() {
        let text = sample().reveal();
        for position in 0..32 {
            let mut wrong = text.clone().into_bytes();
            wrong[position] = if wrong[position] == b'7' { b'8' } else { b'7' };
            assert!(String::from_utf8(wrong).unwrap().parse::<Passcode>().is_err(), "at {position}");
        }
        for position in 0..31 {
            let mut swapped = text.clone().into_bytes();
            swapped.swap(position, position + 1);
            if swapped != text.as_bytes() {
                assert!(String::from_utf8(swapped).unwrap().parse::<Passcode>().is_err(), "at {position}");
            }
        }
    }

    #[test]
    fn a_passcode_is_not_printed() {
        assert!(!format!("{:?}", sample()).contains(&sample().reveal()));
    }

    #[test]
    fn other_texts_are_refused() {
        let long = "0".repeat(1_000_000);
        for bad in ["", "0", "héllo", long.as_str(), "UUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUU"] {
            assert!(bad.parse::<Passcode>().is_err());
        }
    }
}
