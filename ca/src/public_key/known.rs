//! Keys that are refused although they are well formed: their private half is known or needless.

use super::KeyKind;

/// Why a key of this kind with these octets is refused, if it is.
pub(super) fn why_blocked(kind: KeyKind, key: &[u8]) -> Option<&'static str> {
    match kind {
        // A point and its negative share x and, but for the sign, the private key.
        KeyKind::P256 => is_listed(&key[1..33], PUBLISHED_P256),
        KeyKind::P384 => is_listed(&key[1..49], PUBLISHED_P384),
        KeyKind::Ed25519 => is_small_order(key)
            .then_some("the Ed25519 point has a small order, so anyone can sign for it")
            .or_else(|| is_listed(key, PUBLISHED_ED25519)),
        KeyKind::Rsa { .. } => None,
    }
}

fn is_listed(key: &[u8], list: &[&str]) -> Option<&'static str> {
    let text = model::hex(key);
    list.contains(&text.as_str())
        .then_some("this key is printed in a standard together with its private half")
}

fn is_small_order(key: &[u8]) -> bool {
    let mut text = key.to_vec();
    if let Some(last) = text.last_mut() {
        *last &= 0x7f;
    }
    SMALL_ORDER_ED25519.contains(&model::hex(&text).as_str())
}

/// X coordinates: RFC 6979 §A.2.5, RFC 7515 §A.3, RFC 7517 §A.1, and the generator (private key 1).
const PUBLISHED_P256: &[&str] = &[
    "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6",
    "7fcdce2770f6c45d4183cbee6fdb4b7b580733357be9ef13bacf6e3c7bd15445",
    "30a0424cd21c2944838a2d75c92b37e76ea20d9f00893a3b4eee8a3c0aafec3e",
    "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
];

/// X coordinates: RFC 6979 §A.2.6, and the generator.
const PUBLISHED_P384: &[&str] = &[
    "ec3a4e415b4e19a4568618029f427fa5da9a8bc4ae92e02e06aae5286b300c64def8f0ea9055866064a254515480bc13",
    "aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7",
];

/// RFC 8032 §7.1 tests 1 to 3 (the first is also in RFC 8037 appendix A).
const PUBLISHED_ED25519: &[&str] = &[
    "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
];

/// All encodings of points of order 1, 2, 4 and 8, the sign bit cleared.
const SMALL_ORDER_ED25519: &[&str] = &[
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];
