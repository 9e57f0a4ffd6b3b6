//! Authentication of packets (RFC 2334 B.3.1): algorithms, keys ready for use, signing, verifying.
//!
//! The MAC covers the whole packet with the MAC's own octets and the checksum as zero (X-03,
//! D-08). It is computed over segments of the packet where it lies; the packet is never copied.

use core::fmt;
use core::ops::Range;

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha2::{Sha256, Sha512};
use subtle::ConstantTimeEq;
use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, IntoBytes};
use zeroize::{Zeroize, Zeroizing};

use crate::checksum;
use crate::extensions::{EXTENSION_AUTHENTICATION, EXTENSION_END};
use crate::layout::{EXTENSION_HEADER_LEN, ExtensionHeader, FIXED_LEN, FixedPart};

/// Octets of an SPI.
const SPI_LEN: usize = size_of::<u32>();
/// Octets of the longest MAC.
pub const MAC_LEN_MAX: usize = 32;
/// What the KDF mode of BLAKE3 separates our keys from all others by.
const BLAKE3_CONTEXT: &str = "scspd 2026-11 packet authentication";

/// How a MAC is computed; chosen by the SPI.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Algorithm {
    /// HMAC-MD5-128, the only one RFC 2334 names (B.3.1.2).
    HmacMd5,
    /// HMAC-SHA-256-128, cut to 128 bits as in RFC 4868.
    HmacSha256,
    /// HMAC-SHA-512-256, cut to 256 bits as in RFC 4868.
    HmacSha512,
    /// Keyed BLAKE3, its key derived from the secret.
    Blake3,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 4] = [
        Self::HmacMd5,
        Self::HmacSha256,
        Self::HmacSha512,
        Self::Blake3,
    ];

    /// Name in configurations.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HmacMd5 => "hmac-md5-128",
            Self::HmacSha256 => "hmac-sha-256-128",
            Self::HmacSha512 => "hmac-sha-512-256",
            Self::Blake3 => "blake3-256",
        }
    }

    /// Octets of a MAC.
    #[inline]
    pub const fn mac_len(self) -> usize {
        match self {
            Self::HmacMd5 | Self::HmacSha256 => 16,
            Self::HmacSha512 | Self::Blake3 => MAC_LEN_MAX,
        }
    }

    /// Octets that the authentication extension adds to a packet, the end marker included.
    #[inline]
    pub const fn extension_len(self) -> usize {
        EXTENSION_HEADER_LEN + SPI_LEN + self.mac_len() + EXTENSION_HEADER_LEN
    }
}

/// A secret made ready: what depends on it alone is computed once, a packet takes a clone of it.
///
/// The secret itself is not kept. What is kept would do to forge packets, so it is wiped when
/// dropped, and `Debug` does not show it.
#[derive(Clone)]
pub struct MacKey(State);

#[derive(Clone)]
enum State {
    HmacMd5(Hmac<Md5>),
    HmacSha256(Hmac<Sha256>),
    HmacSha512(Hmac<Sha512>),
    Blake3(Zeroizing<[u8; blake3::KEY_LEN]>),
}

impl MacKey {
    /// Prepares `secret`, which may have any length.
    pub fn new(algorithm: Algorithm, secret: &[u8]) -> Self {
        const ANY_LEN: &str = "HMAC takes secrets of any length";
        Self(match algorithm {
            Algorithm::HmacMd5 => State::HmacMd5(Hmac::new_from_slice(secret).expect(ANY_LEN)),
            Algorithm::HmacSha256 => {
                State::HmacSha256(Hmac::new_from_slice(secret).expect(ANY_LEN))
            }
            Algorithm::HmacSha512 => {
                State::HmacSha512(Hmac::new_from_slice(secret).expect(ANY_LEN))
            }
            Algorithm::Blake3 => {
                State::Blake3(Zeroizing::new(blake3::derive_key(BLAKE3_CONTEXT, secret)))
            }
        })
    }

    /// The algorithm it is for.
    #[inline]
    pub const fn algorithm(&self) -> Algorithm {
        match self.0 {
            State::HmacMd5(_) => Algorithm::HmacMd5,
            State::HmacSha256(_) => Algorithm::HmacSha256,
            State::HmacSha512(_) => Algorithm::HmacSha512,
            State::Blake3(_) => Algorithm::Blake3,
        }
    }

    /// MAC over `segments`, one behind the other; the first [`Algorithm::mac_len`] octets count.
    fn compute(&self, segments: &[&[u8]]) -> [u8; MAC_LEN_MAX] {
        match &self.0 {
            State::HmacMd5(mac) => hmac(mac, segments),
            State::HmacSha256(mac) => hmac(mac, segments),
            State::HmacSha512(mac) => hmac(mac, segments),
            State::Blake3(key) => {
                let mut hasher = blake3::Hasher::new_keyed(key);
                for segment in segments {
                    hasher.update(segment);
                }
                let mac = hasher.finalize();
                hasher.zeroize();
                mac.into()
            }
        }
    }

    /// MAC over `packet`, whose octets at `mac` and of the checksum count as zero (X-03, D-08).
    fn of_packet(&self, packet: &[u8], mac: &Range<usize>) -> [u8; MAC_LEN_MAX] {
        const ZEROS: [u8; MAC_LEN_MAX] = [0; MAC_LEN_MAX];
        let sum = checksum::FIELD;
        self.compute(&[
            &packet[..sum.start],
            &ZEROS[..sum.len()],
            &packet[sum.end..mac.start],
            &ZEROS[..mac.len()],
            &packet[mac.end..],
        ])
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MacKey({}, ..)", self.algorithm().name())
    }
}

/// The first octets of an HMAC.
fn hmac<M: Mac + Clone>(keyed: &M, segments: &[&[u8]]) -> [u8; MAC_LEN_MAX] {
    let mut mac = keyed.clone();
    for segment in segments {
        mac.update(segment);
    }
    let whole = mac.finalize().into_bytes();
    let mut out = [0; MAC_LEN_MAX];
    let len = whole.len().min(MAC_LEN_MAX);
    out[..len].copy_from_slice(&whole[..len]);
    out
}

/// What signs a packet: a key, and the SPI under which its receiver knows it.
#[derive(Clone, Copy, Debug)]
pub struct Signer<'k> {
    /// Security parameter index.
    pub spi: u32,
    /// The key.
    pub key: &'k MacKey,
}

impl Signer<'_> {
    /// Octets that signing adds to a packet without extensions.
    #[inline]
    pub const fn extension_len(&self) -> usize {
        self.key.algorithm().extension_len()
    }

    /// Octets of the extension's value.
    #[inline]
    pub(crate) const fn value_len(&self) -> usize {
        SPI_LEN + self.key.algorithm().mac_len()
    }

    /// Signs the finished packet in the first `len` octets of `buf`: the authentication extension
    /// goes behind all others, MAC and checksum are set (D-08). Returns the packet's octets;
    /// `None`, and nothing done, when there is no room or no packet.
    pub fn sign(&self, buf: &mut [u8], len: usize) -> Option<usize> {
        let (fixed, _) = FixedPart::ref_from_prefix(buf.get(..len)?).ok()?;
        let start = match usize::from(fixed.extensions_start.get()) {
            0 => len,
            start => start,
        };
        let at = if start == len {
            len
        } else {
            len.checked_sub(EXTENSION_HEADER_LEN)? // The end marker moves.
        };
        let value = at + EXTENSION_HEADER_LEN;
        let mac = value + SPI_LEN..value + self.value_len();
        let signed_len = mac.end + EXTENSION_HEADER_LEN;
        let size = U16::new(u16::try_from(signed_len).ok()?);
        let packet = buf.get_mut(..signed_len)?;
        put_header(packet, at, EXTENSION_AUTHENTICATION, self.value_len());
        packet[value..mac.start].copy_from_slice(&self.spi.to_be_bytes());
        put_header(packet, mac.end, EXTENSION_END, 0);
        let (fixed, _) = FixedPart::mut_from_prefix(packet).ok()?;
        fixed.packet_size = size;
        fixed.extensions_start = U16::new(u16::try_from(start).ok()?);
        let tag = self.key.of_packet(packet, &mac);
        let mac_len = mac.len();
        packet[mac].copy_from_slice(&tag[..mac_len]);
        checksum::seal(packet);
        Some(signed_len)
    }
}

fn put_header(packet: &mut [u8], at: usize, code: u16, value_len: usize) {
    let header = ExtensionHeader {
        code: U16::new(code),
        value_len: U16::new(u16::try_from(value_len).expect("an SPI and a MAC are short")),
    };
    packet[at..at + EXTENSION_HEADER_LEN].copy_from_slice(header.as_bytes());
}

/// The authentication extension of a received packet.
#[derive(Clone, Debug)]
pub struct Authentication<'a> {
    spi: u32,
    /// Exactly the packet; its fixed part lies before the MAC.
    packet: &'a [u8],
    mac: Range<usize>,
}

impl<'a> Authentication<'a> {
    /// The caller has found the extension behind the fixed part of `packet`.
    pub(crate) fn new(spi: u32, packet: &'a [u8], mac: Range<usize>) -> Self {
        debug_assert!(mac.start >= FIXED_LEN && mac.end <= packet.len());
        Self { spi, packet, mac }
    }

    /// Security parameter index.
    #[inline]
    pub const fn spi(&self) -> u32 {
        self.spi
    }

    /// Whether the MAC is the one that `key` gives; compared in constant time.
    pub fn verify(&self, key: &MacKey) -> bool {
        let mac_len = key.algorithm().mac_len();
        if self.mac.len() != mac_len {
            return false; // The length is no secret.
        }
        let tag = key.of_packet(self.packet, &self.mac);
        tag[..mac_len].ct_eq(&self.packet[self.mac.clone()]).into()
    }
}

#[cfg(test)]
mod tests;
