//! The code that a device shows so that a person can claim it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use zeroize::Zeroize;

use crate::Secret;

/// RFC 8628 §6.1: no vowels, so no words; no digits, so nothing looks like something else.
const ALPHABET: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const RANDOM_LETTERS: usize = 19;
const LETTERS: usize = RANDOM_LETTERS + 1;
const GROUP: usize = 4;

/// A claim code in clear: 19 random letters (82 bits) and a check letter, as in `WDJB-MJHT-KQXN-VZCP-LRFS`.
///
/// The device that it was made for keeps it in a file until somebody has claimed the device; the cloud keeps only its
/// [`ClaimDigest`]. Typed copies may have lower case, blanks and hyphens.
///
/// The check letter: a letter's number is a pair of GF(4) × GF(5), and in both fields the sum over all letters,
/// weighted with the powers of a generator, is zero. A wrong letter differs in one field at least; two neighbours that
/// changed places do too, since no two neighbouring weights are alike.
#[derive(Clone, PartialEq, Eq)]
pub struct ClaimCode([u8; LETTERS]);

/// What the cloud keeps of a claim code, and what the device tells of it in its hello: SHA-256 over
/// [`ClaimCode::letters`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClaimDigest(pub [u8; 32]);

/// Why a text is not a claim code. Says nothing of whether one like it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClaimCodeError {
    /// Not 20 letters after blanks and hyphens are removed.
    #[error("a claim code has {LETTERS} letters")]
    Length,
    /// A character outside the alphabet.
    #[error("a claim code has only the letters BCDFGHJKLMNPQRSTVWXZ")]
    Character,
    /// The check letter does not fit: a typing mistake.
    #[error("the claim code has a typing mistake (its last letter does not fit the others)")]
    Check,
}

impl ClaimCode {
    /// Makes a code of 16 random bytes. The letters are as good as evenly spread: what 20¹⁹ leaves of 2¹²⁸ favours
    /// some codes by less than one part in 2⁴⁵.
    pub fn from_random(mut bytes: [u8; 16]) -> Self {
        let mut rest = u128::from_be_bytes(bytes);
        bytes.zeroize();
        let mut values = [0_u8; LETTERS];
        for value in &mut values[..RANDOM_LETTERS] {
            *value = u8::try_from(rest % 20).unwrap_or(0);
            rest /= 20;
        }
        // What makes the whole sum zero: the negative of what the others come to, one step on.
        let (four, five) = step(sum(&values[..RANDOM_LETTERS]), 0);
        values[RANDOM_LETTERS] = four * 5 + (5 - five) % 5;
        let code = Self(values.map(|value| ALPHABET[usize::from(value)]));
        values.zeroize();
        code
    }

    /// The 20 letters without separators, over which the digest is taken. A secret.
    pub fn letters(&self) -> &[u8] {
        &self.0
    }

    /// The text to show: five groups of four letters. A secret.
    pub fn reveal(&self) -> Secret<String> {
        let mut text = String::with_capacity(LETTERS + LETTERS / GROUP);
        for (index, letter) in self.0.iter().enumerate() {
            if index > 0 && index % GROUP == 0 {
                text.push('-');
            }
            text.push(char::from(*letter));
        }
        Secret::new(text)
    }
}

/// The weighted sum of all values in both fields, by Horner's rule.
fn sum(values: &[u8]) -> (u8, u8) {
    values.iter().fold((0, 0), |sum, value| step(sum, *value))
}

/// One step: times the generator of each field (x in GF(4) = GF(2)[x]/(x² + x + 1), 2 in GF(5)), plus the value.
fn step((four, five): (u8, u8), value: u8) -> (u8, u8) {
    let shifted = four << 1;
    let four = if shifted & 4 == 0 { shifted } else { shifted ^ 0b111 };
    (four ^ (value / 5), (five * 2 + value % 5) % 5)
}

impl fmt::Debug for ClaimCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClaimCode(…)")
    }
}

impl Drop for ClaimCode {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl FromStr for ClaimCode {
    type Err = ClaimCodeError;
    fn from_str(text: &str) -> Result<Self, ClaimCodeError> {
        let mut values = [0_u8; LETTERS];
        let mut count = 0;
        for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'-') {
            let upper = byte.to_ascii_uppercase();
            let value = ALPHABET.iter().position(|letter| *letter == upper);
            let value = value.ok_or(ClaimCodeError::Character)?;
            *values.get_mut(count).ok_or(ClaimCodeError::Length)? = u8::try_from(value).unwrap_or(0);
            count += 1;
        }
        if count != LETTERS {
            return Err(ClaimCodeError::Length);
        }
        let fits = sum(&values) == (0, 0);
        let code = Self(values.map(|value| ALPHABET[usize::from(value)]));
        values.zeroize();
        if fits { Ok(code) } else { Err(ClaimCodeError::Check) }
    }
}

impl TryFrom<String> for ClaimDigest {
    type Error = &'static str;
    /// Reads 64 hex digits.
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let octets = crate::unhex(&text).and_then(|octets| octets.try_into().ok());
        octets.map(Self).ok_or("the digest of a claim code has 64 hex digits")
    }
}

impl From<ClaimDigest> for String {
    fn from(digest: ClaimDigest) -> Self {
        crate::hex(&digest.0)
    }
}

impl Serialize for ClaimCode {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(self.reveal().expose())
    }
}

impl<'de> Deserialize<'de> for ClaimCode {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = Secret::new(String::deserialize(input)?);
        text.expose().parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Codes of bytes that have nothing to do with each other.
    fn samples() -> impl Iterator<Item = ClaimCode> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        (0..200).map(move |_| {
            let bytes = (u128::from(next()) << 64) | u128::from(next());
            ClaimCode::from_random(bytes.to_be_bytes())
        })
    }

    fn read(letters: &[u8]) -> Result<ClaimCode, ClaimCodeError> {
        std::str::from_utf8(letters).unwrap().parse()
    }

    #[test]
    fn a_code_survives_its_text_however_it_is_typed() {
        for code in samples() {
            let shown = code.reveal();
            let shown = shown.expose();
            assert_eq!(shown.len(), 24);
            assert_eq!(shown.split('-').map(str::len).collect::<Vec<_>>(), [4; 5]);
            assert_eq!(shown.parse::<ClaimCode>().unwrap(), code);
            let typed = format!(" {}\t{} \n", shown[..7].to_lowercase(), shown[7..].replace('-', " "));
            assert_eq!(typed.parse::<ClaimCode>().unwrap(), code);
            let json = serde_json::to_string(&code).unwrap();
            assert_eq!(serde_json::from_str::<ClaimCode>(&json).unwrap(), code);
        }
    }

    #[test]
    fn every_wrong_letter_is_noticed() {
        for code in samples() {
            for position in 0..LETTERS {
                for letter in ALPHABET {
                    let mut wrong = code.0;
                    wrong[position] = *letter;
                    let outcome = read(&wrong).map(drop);
                    let expected = if wrong == code.0 { Ok(()) } else { Err(ClaimCodeError::Check) };
                    assert_eq!(outcome, expected, "at {position}");
                }
            }
        }
    }

    #[test]
    fn every_two_neighbours_that_changed_places_are_noticed() {
        let mut swapped = 0;
        for code in samples() {
            for position in 0..LETTERS - 1 {
                let mut wrong = code.0;
                wrong.swap(position, position + 1);
                if wrong != code.0 {
                    swapped += 1;
                    assert_eq!(read(&wrong), Err(ClaimCodeError::Check), "at {position}");
                }
            }
        }
        // All pairs of letters came up at some place, not only lucky ones.
        assert!(swapped > 3000, "{swapped}");
    }

    #[test]
    fn every_pair_of_different_letters_is_told_from_its_reverse_at_the_end() {
        // The last two letters, for all 380 pairs: the check letter itself may be one of them.
        for first in 0..20_u8 {
            for second in (0..20_u8).filter(|second| *second != first) {
                let start = step(sum(&[3, 17, 9]), 0);
                let ordered = step(step(start, first), second);
                assert_ne!(ordered, step(step(start, second), first), "{first} {second}");
            }
        }
    }

    #[test]
    fn every_letter_of_the_alphabet_comes_up_at_every_place_and_no_code_twice() {
        let mut seen = HashSet::new();
        let mut codes = HashSet::new();
        for code in samples() {
            seen.extend(code.0.iter().copied().enumerate());
            assert!(codes.insert(code.0));
        }
        assert_eq!(seen.len(), 20 * LETTERS);
    }

    #[test]
    fn a_code_is_not_printed() {
        for code in samples().take(3) {
            assert!(!format!("{code:?}").contains(&code.reveal().expose()[..4]));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        let long = "B".repeat(1_000_000);
        for (bad, why) in [
            ("", ClaimCodeError::Length),
            ("BBBB", ClaimCodeError::Length),
            (long.as_str(), ClaimCodeError::Length),
            ("héllo", ClaimCodeError::Character),
            ("BBBB-BBBB-BBBB-BBBB-BBB0", ClaimCodeError::Character),
            ("BBBB_BBBB_BBBB_BBBB_BBBB", ClaimCodeError::Character),
            ("BBBB-BBBB-BBBB-BBBB-BBBC", ClaimCodeError::Check),
        ] {
            assert_eq!(bad.parse::<ClaimCode>(), Err(why), "{}", &bad[..bad.len().min(30)]);
        }
    }
}
