//! The file format of everything that is content-addressed: one layout, a magic and a hash domain each.
//!
//! ```text
//!  magic (8) │ version u32 │ length u64 │ body │ BLAKE3 of all before (32): the address
//! ```
//! Integers are little-endian. A file whose address is on the chain cannot be exchanged, cut or extended.

use crate::encoding::{Digest, hash};

const HEAD: usize = 20;
const ADDRESS: usize = 32;

/// One kind of file.
#[derive(Clone, Copy, Debug)]
pub struct Container {
    /// First eight bytes.
    pub magic: &'static [u8; 8],
    /// Version of the body's layout.
    pub version: u32,
    /// Domain of the address.
    pub context: &'static str,
}

/// Why bytes are no such file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Shorter than any.
    #[error("{0} bytes are too few")]
    Short(usize),
    /// Another kind of file.
    #[error("does not begin with {0}")]
    Alien(String),
    /// The bytes are not those that the address was made from.
    #[error("the file does not hash to its address {0}")]
    Address(String),
    /// Written by another version.
    #[error("version is not {0}")]
    Version(u32),
    /// The length in the header is not that of the body.
    #[error("the length in the header is not that of the body")]
    Length,
}

impl Container {
    /// The file around `body`, and its address: the last 32 bytes.
    pub fn seal(&self, body: &[u8]) -> (Vec<u8>, Digest) {
        let mut out = Vec::with_capacity(HEAD + body.len() + ADDRESS);
        out.extend_from_slice(self.magic);
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&(body.len() as u64).to_le_bytes());
        out.extend_from_slice(body);
        let address = hash(self.context, &[&out]);
        out.extend_from_slice(&address);
        (out, address)
    }

    /// The address at the end, if the bytes before hash to it; says nothing about what they are.
    pub fn address(&self, bytes: &[u8]) -> Option<Digest> {
        let (content, address) = bytes.split_last_chunk::<ADDRESS>()?;
        (hash(self.context, &[content]) == *address).then_some(*address)
    }

    /// Whether `bytes` begin like one.
    pub fn begins(&self, bytes: &[u8]) -> bool {
        bytes.starts_with(self.magic)
    }

    /// The body and the address.
    ///
    /// # Errors
    /// The first [`Damage`] found.
    pub fn open<'a>(&self, bytes: &'a [u8]) -> Result<(&'a [u8], Digest), Damage> {
        let (content, address) = bytes
            .split_last_chunk::<ADDRESS>()
            .ok_or(Damage::Short(bytes.len()))?;
        if !self.begins(content) {
            let magic = String::from_utf8_lossy(self.magic).into_owned();
            return Err(Damage::Alien(magic));
        }
        if self.address(bytes).is_none() {
            return Err(Damage::Address(hex::encode(address)));
        }
        let (head, body) = content
            .split_at_checked(HEAD)
            .ok_or(Damage::Short(bytes.len()))?;
        if head[8..12] != self.version.to_le_bytes() {
            return Err(Damage::Version(self.version));
        }
        if head[12..HEAD] != (body.len() as u64).to_le_bytes() {
            return Err(Damage::Length);
        }
        Ok((body, *address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Container = Container {
        magic: b"PLUMBTST",
        version: 7,
        context: "plumbline 2026-11 container test v1",
    };

    #[test]
    fn what_was_sealed_opens_and_no_changed_bit_does() {
        let (bytes, address) = KIND.seal(b"body");
        assert_eq!(KIND.open(&bytes), Ok((&b"body"[..], address)));
        assert!(bytes.ends_with(&address) && KIND.begins(&bytes));
        for bit in 0..bytes.len() * 8 {
            let mut bent = bytes.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            assert!(KIND.open(&bent).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(KIND.open(&bytes[..length]).is_err(), "length {length}");
        }
    }

    #[test]
    fn an_address_is_of_the_bytes_whatever_they_are() {
        let odd = b"neither magic nor version".to_vec();
        let address = hash(KIND.context, &[&odd]);
        assert_eq!(KIND.address(&[&odd[..], &address].concat()), Some(address));
        assert_eq!(KIND.address(&[&odd[1..], &address].concat()), None);
    }

    #[test]
    fn each_damage_has_its_name() {
        let mended = |change: &dyn Fn(&mut Vec<u8>)| {
            let (mut bytes, _) = KIND.seal(b"body");
            bytes.truncate(bytes.len() - ADDRESS);
            change(&mut bytes);
            let address = hash(KIND.context, &[&bytes]);
            bytes.extend_from_slice(&address);
            KIND.open(&bytes).map(drop)
        };
        assert_eq!(mended(&|_| ()), Ok(()));
        assert_eq!(mended(&|b| b[8] = 8), Err(Damage::Version(7)));
        assert_eq!(mended(&|b| b[12] = 5), Err(Damage::Length));
        assert_eq!(mended(&|b| b.push(0)), Err(Damage::Length));
        assert_eq!(
            mended(&|b| b[0] = b'Q'),
            Err(Damage::Alien("PLUMBTST".into()))
        );
        assert_eq!(mended(&|b| b.truncate(8)), Err(Damage::Short(8 + ADDRESS)));
        assert_eq!(KIND.open(&[0; 31]), Err(Damage::Short(31)));
    }
}
