//! A DER writer of the tests' own, so that a fault of the crate's writer cannot hide itself. It writes
//! whatever it is told, also what is not DER.

pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        short @ 0..=127 => out.push(short as u8),
        long @ 128..=255 => out.extend([0x81, long as u8]),
        long @ 256..=65_535 => out.extend([0x82, (long >> 8) as u8, long as u8]),
        long => out.extend([0x83, (long >> 16) as u8, (long >> 8) as u8, long as u8]),
    }
    out.extend(content);
    out
}

pub(crate) fn seq(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

pub(crate) fn set(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x31, &parts.concat())
}

pub(crate) fn oid(dotted: &str) -> Vec<u8> {
    let arcs: Vec<u64> = dotted.split('.').map(|arc| arc.parse().unwrap()).collect();
    let mut content = Vec::new();
    let first = arcs[0] * 40 + arcs[1];
    for arc in std::iter::once(&first).chain(&arcs[2..]) {
        let mut groups = vec![(arc & 0x7f) as u8];
        let mut rest = arc >> 7;
        while rest > 0 {
            groups.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        content.extend(groups.iter().rev());
    }
    tlv(6, &content)
}

pub(crate) fn int(content: &[u8]) -> Vec<u8> {
    tlv(2, content)
}

pub(crate) fn bits(octets: &[u8]) -> Vec<u8> {
    tlv(3, &[&[0], octets].concat())
}

pub(crate) fn octets(content: &[u8]) -> Vec<u8> {
    tlv(4, content)
}

pub(crate) fn utf8(text: &str) -> Vec<u8> {
    tlv(0x0c, text.as_bytes())
}

/// One attribute type and value.
pub(crate) fn pair(kind: &str, value: Vec<u8>) -> Vec<u8> {
    seq(&[oid(kind), value])
}

/// A Name of one CN.
pub(crate) fn cn(text: &str) -> Vec<u8> {
    seq(&[set(&[pair("2.5.4.3", utf8(text))])])
}

pub(crate) fn extension(id: &str, critical: bool, value: Vec<u8>) -> Vec<u8> {
    let flag = if critical { vec![1, 1, 0xff] } else { Vec::new() };
    seq(&[oid(id), flag, octets(&value)])
}

pub(crate) fn san(names: &[(u8, &[u8])]) -> Vec<u8> {
    seq(&names.iter().map(|(tag, content)| tlv(*tag, content)).collect::<Vec<_>>())
}
