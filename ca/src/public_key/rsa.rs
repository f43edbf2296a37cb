//! RSA keys: sizes first, then the marks of keys whose factors can be found.

use x509_parser::num_bigint::BigUint;

use super::{KeyError, KeyKind};
use crate::der::{self, Reader, tag};

/// Holds an RSAPublicKey (RFC 8017 §A.1.1) to our sizes before anything is computed with it.
pub(super) fn read(key: &[u8]) -> Result<KeyKind, KeyError> {
    der::check(key)?;
    let mut reader = Reader::new(key);
    let mut numbers = reader.expect(tag::SEQUENCE, "an RSAPublicKey was expected")?.reader();
    let modulus = numbers.expect(tag::INTEGER, "a modulus was expected")?.unsigned()?;
    let exponent = numbers.expect(tag::INTEGER, "an exponent was expected")?.unsigned()?;
    numbers.finish()?;
    let leading_zeros = modulus.first().map_or(0, |octet| octet.leading_zeros() as usize);
    let Ok(bits @ 2048..=4096) = u16::try_from(modulus.len() * 8 - leading_zeros) else {
        return Err(KeyError::Type("the RSA modulus has less than 2048 or more than 4096 bits"));
    };
    if exponent != [1, 0, 1] {
        return Err(KeyError::Type("the RSA exponent is not 65537"));
    }
    let modulus = BigUint::from_bytes_be(modulus);
    let digits = modulus.to_u64_digits();
    if has_small_factor(&digits) {
        return Err(KeyError::Blocked("the RSA modulus has a small factor"));
    }
    if is_of_flawed_generator(&digits) {
        return Err(KeyError::Blocked("the RSA modulus comes from a generator known to be flawed (ROCA)"));
    }
    if has_close_factors(&modulus) {
        return Err(KeyError::Blocked("the RSA modulus is the product of two primes that are too close"));
    }
    Ok(KeyKind::Rsa { bits })
}

fn has_small_factor(modulus: &[u64]) -> bool {
    let is_even = modulus.first().is_none_or(|digit| digit & 1 == 0);
    is_even || small_primes(752).any(|prime| remainder(modulus, prime) == 0)
}

/// CVE-2017-15361: such moduli are powers of 65537 modulo every small prime. A sound modulus is so for
/// all of these with probability below 2^-27.
fn is_of_flawed_generator(modulus: &[u64]) -> bool {
    small_primes(168).all(|prime| {
        let wanted = remainder(modulus, prime);
        let mut power = 1;
        for _ in 0..prime {
            if power == wanted {
                return true;
            }
            power = power * 65_537 % prime;
        }
        false
    })
}

/// Fermat's method: finds factors that agree in about their upper half, also two equal ones.
fn has_close_factors(modulus: &BigUint) -> bool {
    let mut middle = modulus.sqrt();
    if &middle * &middle < *modulus {
        middle += 1u8;
    }
    let mut rest = &middle * &middle - modulus;
    for _ in 0..FERMAT_ROUNDS {
        if is_square(&rest) {
            return true;
        }
        // (m + 1)² − n = (m² − n) + 2m + 1
        rest += &middle << 1;
        rest += 1u8;
        middle += 1u8;
    }
    false
}

fn is_square(number: &BigUint) -> bool {
    // Most numbers end here, without a root.
    let residue = number.iter_u32_digits().next().unwrap_or(0) % 64;
    if !SQUARES_MODULO_64.contains(&residue) {
        return false;
    }
    let root = number.sqrt();
    &root * &root == *number
}

/// Of a number whose least significant digit comes first.
fn remainder(number: &[u64], divisor: u64) -> u64 {
    number.iter().rev().fold(0, |rest, digit| {
        let joined = u128::from(rest) << 64 | u128::from(*digit);
        u64::try_from(joined % u128::from(divisor)).expect("a remainder is less than its divisor")
    })
}

/// Odd primes below `limit`.
fn small_primes(limit: u64) -> impl Iterator<Item = u64> {
    (3..limit).step_by(2).filter(|n| (3..).step_by(2).take_while(|d| d * d <= *n).all(|d| n % d != 0))
}

const SQUARES_MODULO_64: [u32; 12] = [0, 1, 4, 9, 16, 17, 25, 33, 36, 41, 49, 57];

/// As many as public CAs make (CA/Browser Forum ballot SC-073).
const FERMAT_ROUNDS: usize = 100;
