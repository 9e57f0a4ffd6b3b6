//! Signed packets (RFC 2334 B.3.1) and this project's own extension (B.3.2).

use proptest::prelude::*;
use scsp_wire::{
    Algorithm, AlignmentOffer, Builder, CsaSeq, EXTENSION_AUTHENTICATION, Envelope, ExtensionKind,
    FamilyId, Header, HelloFields, Item, ItemKind, Items, MacKey, Message, OWN_VENDOR, ParseError,
    ProtocolId, ServerGroupId, Signer, SummaryFields, VendorError, checksum, items_len,
};

/// A Hello of 10.0.0.1 to 10.0.0.2 in kv group 1, interval 3, dead factor 3, signed under SPI 256
/// with the secret `swordfishswordfishswordfish`.
///
/// Computed with Python's `struct`, `hmac` and `hashlib` alone; for BLAKE3 with a transcription of
/// the compression function of its paper:
///
/// ```text
/// body   = pack('!HHHH', 3, 3, 0, 0)                          # interval, factor, unused, family
///        + pack('!HHHHBBH', 0xFF00, 1, 0, 0, 4, 4, 0) + id_1 + id_2
/// start  = 8 + len(body)
/// packet = lambda sum, mac: pack('!BBHHH', 1, 5, start + 12 + len(mac), sum, start) + body
///        + pack('!HHI', 1, 4 + len(mac), 256) + mac + bytes(4)
/// mac    = hmac.new(secret, packet(0, bytes(n)), hash).digest()[:n]
/// golden = packet(internet_checksum(packet(0, mac)), mac)
/// ```
const GOLDEN: [(Algorithm, &str); 4] = [
    (
        Algorithm::HmacMd5,
        "01050040ad3e00240003000300000000ff00000100000000040400000a0000010a000002\
         0001001400000100f20c30ddd4c812027351aa21796e989d00000000",
    ),
    (
        Algorithm::HmacSha256,
        "0105004094e100240003000300000000ff00000100000000040400000a0000010a000002\
         000100140000010039644d94440cad53ee2c5298835f151400000000",
    ),
    (
        Algorithm::HmacSha512,
        "01050050bae900240003000300000000ff00000100000000040400000a0000010a000002\
         0001002400000100bfecb204ff4c4ef3440d7cd510f4ce5a72e831ac1e3a3160eafc085e0fb4d3c7\
         00000000",
    ),
    (
        Algorithm::Blake3,
        "01050050b4ae00240003000300000000ff00000100000000040400000a0000010a000002\
         000100240000010014e19122d3ddb9088ef6cdee3d4b8473699f23ddff413fe0b161f31b20d84e21\
         00000000",
    ),
];
const SECRET: &[u8] = b"swordfishswordfishswordfish";
const SPI: u32 = 256;

const HEADER: Header<'_> = Header {
    protocol: ProtocolId::KV,
    group: ServerGroupId(1),
    sender: &[10, 0, 0, 1],
    receiver: &[10, 0, 0, 2],
};
const HELLO: HelloFields = HelloFields {
    interval_secs: 3,
    dead_factor: 3,
    family: FamilyId(0),
};

fn octets(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn key(algorithm: Algorithm) -> MacKey {
    MacKey::new(algorithm, SECRET)
}

/// A CSU Request with one record of `body_len` octets, signed.
fn signed_request(key: &MacKey, body_len: usize) -> Vec<u8> {
    let signer = Signer { spi: SPI, key };
    let mut bytes = vec![0; body_len + 200];
    let limit = bytes.len();
    let mut builder = Builder::csu_request(&mut bytes, limit, &HEADER).unwrap();
    assert!(builder.reserve_signature(&signer));
    let fields = SummaryFields {
        hop_count: 3,
        null: false,
        seq: CsaSeq::FIRST,
        key: b"key",
        originator: &[10, 0, 0, 1],
    };
    assert!(builder.push_record(&fields, &vec![0xA5; body_len]));
    let len = builder.finish_signed(&signer);
    bytes.truncate(len);
    bytes
}

fn verifies(bytes: &[u8], key: &MacKey) -> bool {
    let Ok(envelope) = Envelope::parse(bytes) else {
        return false;
    };
    let found = envelope.authentication();
    found.is_some_and(|found| found.spi() == SPI && found.verify(key))
}

/// Goal: a packet signed here is, octet for octet, the one computed by other means, for every
/// algorithm, whether signed while built or later; and that one verifies here.
#[test]
fn x_03_golden_packets_of_an_independent_derivation() {
    for (algorithm, golden) in GOLDEN {
        let (key, golden) = (key(algorithm), octets(golden));
        let signer = Signer {
            spi: SPI,
            key: &key,
        };
        let mut bytes = [0; 200];
        let mut builder = Builder::hello(&mut bytes, 200, &HEADER, HELLO).unwrap();
        assert!(builder.reserve_signature(&signer));
        let len = builder.finish_signed(&signer);
        assert_eq!(bytes[..len], golden, "{algorithm:?}");

        let plain = Builder::hello(&mut bytes, 200, &HEADER, HELLO)
            .unwrap()
            .finish();
        assert_eq!(plain + signer.extension_len(), golden.len());
        assert_eq!(signer.sign(&mut bytes, plain), Some(golden.len()));
        assert_eq!(bytes[..golden.len()], golden, "{algorithm:?}");

        assert!(verifies(&golden, &key));
        let message = Message::parse(&golden).unwrap();
        let found: Vec<_> = message.extensions().collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].code(), EXTENSION_AUTHENTICATION);
    }
}

/// Goal: a MAC is the one of its key alone: another secret or another algorithm does not verify.
#[test]
fn x_01_a_mac_belongs_to_key_and_algorithm() {
    for signed_with in Algorithm::ALL {
        let bytes = signed_request(&key(signed_with), 50);
        for algorithm in Algorithm::ALL {
            assert_eq!(verifies(&bytes, &key(algorithm)), algorithm == signed_with);
            let other = MacKey::new(algorithm, b"swordfishswordfishswordfisH");
            assert!(!verifies(&bytes, &other), "{algorithm:?}");
        }
    }
}

/// Goal: the MAC covers every octet of the packet but the checksum; padding behind the packet does
/// not matter (W-02).
#[test]
fn x_03_every_octet_is_covered() {
    for algorithm in Algorithm::ALL {
        let key = key(algorithm);
        let bytes = signed_request(&key, 30);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            checksum::seal(&mut changed);
            assert_eq!(verifies(&changed, &key), (4..6).contains(&at), "octet {at}");
        }
        let mut padded = bytes;
        padded.extend([0xFF; 20]);
        assert!(verifies(&padded, &key));
    }
}

/// Goal: the MAC is computed with checksum zero, then the checksum over all; on receipt a wrong
/// checksum is found before anything is verified.
#[test]
fn d_08_mac_first_then_checksum() {
    let key = key(Algorithm::HmacMd5);
    let bytes = signed_request(&key, 30);
    assert!(checksum::verify(&bytes));
    let mut broken = bytes;
    broken[5] ^= 1;
    assert_eq!(Envelope::parse(&broken).unwrap_err(), ParseError::Checksum);
}

/// Goal: the authentication extension is found before the records are checked, behind other
/// extensions too, and not behind octets that are none.
#[test]
fn d_08_authentication_is_found_in_malformed_packets() {
    let key = key(Algorithm::HmacSha256);
    let signer = Signer {
        spi: SPI,
        key: &key,
    };
    // A record count of 2 is malformed, and signed by who sent it.
    let mut bytes = signed_request(&key, 30);
    let plain_len = bytes.len() - signer.extension_len();
    bytes[18..20].copy_from_slice(&[0, 2]);
    bytes[6..8].copy_from_slice(&[0, 0]);
    let len = signer.sign(&mut bytes, plain_len).unwrap();
    let bytes = &bytes[..len];
    assert!(Message::parse(bytes).is_err());
    assert!(verifies(bytes, &key));

    let build = |extensions: &[(u16, &[u8])]| {
        let mut bytes = vec![0; 300];
        let mut builder = Builder::hello(&mut bytes, 300, &HEADER, HELLO).unwrap();
        for (code, value) in extensions {
            assert!(builder.push_extension(*code, value));
        }
        let len = builder.finish_signed(&signer);
        bytes.truncate(len);
        bytes
    };
    let behind_others = build(&[(7, b"x"), (2, &[0, 0, 1, 9]), (0xFFFF, b"")]);
    assert!(verifies(&behind_others, &key));
    let mut unreadable = build(&[(7, b"x")]);
    let at = usize::from(u16::from_be_bytes([unreadable[6], unreadable[7]]));
    unreadable[at + 2] = 0xFF; // The first extension's length.
    checksum::seal(&mut unreadable);
    let envelope = Envelope::parse(&unreadable).unwrap();
    assert!(envelope.authentication().is_none());
    // Start of extensions points into the ids.
    let mut astray = behind_others;
    astray[7] = 9;
    checksum::seal(&mut astray);
    assert!(Envelope::parse(&astray).unwrap().authentication().is_none());
}

/// Goal: a signature follows the other extensions, whose order stays, and is kept room for.
#[test]
fn w_09_a_signature_follows_other_extensions() {
    let key = key(Algorithm::Blake3);
    let signer = Signer {
        spi: SPI,
        key: &key,
    };
    let mut bytes = [0; 300];
    let items = [Item {
        kind: ItemKind::Digest,
        value: b"12345678",
    }];
    let mut builder = Builder::hello(&mut bytes, 300, &HEADER, HELLO).unwrap();
    assert!(builder.reserve_signature(&signer));
    assert!(builder.push_extension(9, b"nine"));
    assert!(builder.push_items(&items));
    let len = builder.finish_signed(&signer);
    let message = Message::parse(&bytes[..len]).unwrap();
    let codes: Vec<_> = message.extensions().map(|it| it.code()).collect();
    assert_eq!(codes, [9, 2, 1]);
    assert!(verifies(&bytes[..len], &key));
    // The same where the extensions are there before it is signed.
    let mut builder = Builder::hello(&mut bytes, 300, &HEADER, HELLO).unwrap();
    assert!(builder.push_extension(9, b"nine"));
    let plain = builder.finish();
    let len = signer.sign(&mut bytes, plain).unwrap();
    assert_eq!(Message::parse(&bytes[..len]).unwrap().extensions().len(), 2);
    assert!(verifies(&bytes[..len], &key));
}

/// Goal: building and signing never exceed limit and buffer; what does not fit is not begun.
#[test]
fn w_10_a_signature_counts_towards_the_limit() {
    for algorithm in Algorithm::ALL {
        let key = key(algorithm);
        let signer = Signer {
            spi: SPI,
            key: &key,
        };
        let fields = SummaryFields {
            hop_count: 1,
            null: false,
            seq: CsaSeq::FIRST,
            key: b"k",
            originator: &[10, 0, 0, 1],
        };
        for limit in 28..200 {
            let mut bytes = [0; 200];
            let Some(mut builder) = Builder::csu_reply(&mut bytes, limit, &HEADER) else {
                continue;
            };
            if !builder.reserve_signature(&signer) {
                assert!(limit < 28 + algorithm.extension_len());
                continue;
            }
            while builder.push_summary(&fields) {}
            let count = usize::from(builder.record_count());
            let len = builder.finish_signed(&signer);
            assert_eq!(len, 28 + count * 17 + algorithm.extension_len());
            assert!(len <= limit && limit - len < 17);
            assert!(verifies(&bytes[..len], &key));
        }
        let mut bytes = [0; 200];
        let plain = Builder::hello(&mut bytes, 200, &HEADER, HELLO)
            .unwrap()
            .finish();
        let whole = plain + algorithm.extension_len();
        let before = bytes;
        assert_eq!(signer.sign(&mut bytes[..whole - 1], plain), None);
        assert_eq!(signer.sign(&mut bytes, 7), None);
        assert_eq!(signer.sign(&mut bytes, 201), None);
        assert_eq!(bytes, before);
        assert_eq!(signer.sign(&mut bytes[..whole], plain), Some(whole));
    }
}

/// Goal: nothing of a secret, or of what is derived from it, can be printed.
#[test]
fn x_03_debug_shows_no_secret() {
    for algorithm in Algorithm::ALL {
        let key = key(algorithm);
        let shown = format!(
            "{:?}",
            Signer {
                spi: SPI,
                key: &key
            }
        );
        let wanted = format!(
            "Signer {{ spi: 256, key: MacKey({}, ..) }}",
            algorithm.name()
        );
        assert_eq!(shown, wanted);
    }
}

/// Goal: extensions of other vendors are nothing to us; of our own, unknown items are skipped.
#[test]
fn x_07_unknown_vendors_and_items_are_ignored() {
    let hello = |extensions: &[(u16, &[u8])]| {
        let mut bytes = vec![0; 900];
        let mut builder = Builder::hello(&mut bytes, 900, &HEADER, HELLO).unwrap();
        for (code, value) in extensions {
            assert!(builder.push_extension(*code, value));
        }
        let len = builder.finish();
        bytes.truncate(len);
        bytes
    };
    let own = |data: &[u8]| [&OWN_VENDOR[..], data].concat();
    let none = hello(&[(2, &[0, 0, 0x5E, 1, 2, 3]), (2, &[2, 0x53, 0x44])]);
    assert!(
        Message::parse(&none)
            .unwrap()
            .extensions()
            .own_items()
            .is_none()
    );

    let value = own(&[1, 200, 1, 9, 2, 2, 7, 8, 0, 0, 3, 0]);
    let some = hello(&[(2, &[0, 0, 0x5E]), (2, &value)]);
    let items = Message::parse(&some).unwrap().extensions().own_items();
    let wanted = [
        Item {
            kind: ItemKind::ReplayCounter,
            value: &[7, 8],
        },
        Item {
            kind: ItemKind::Alignment,
            value: &[],
        },
    ];
    assert!(items.unwrap().unwrap().eq(wanted));

    for (data, error) in [
        (&[][..], VendorError::Version),
        (&[2, 1, 0], VendorError::Version),
        (&[1, 1], VendorError::Truncated),
        (&[1, 1, 2, 0], VendorError::Truncated),
    ] {
        let bytes = hello(&[(2, &own(data))]);
        // The packet is none the worse for it.
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(
            message.extensions().own_items().unwrap().unwrap_err(),
            error
        );
    }
}

/// Goal: what is built of our own items is read back, and at most one such extension is built.
#[test]
fn x_07_own_items_are_built_and_read() {
    let long = [7; 255];
    let items = ItemKind::ALL.map(|kind| Item {
        kind,
        value: &long[..usize::from(kind.code()) * 85],
    });
    let mut bytes = [0; 700];
    let mut builder = Builder::hello(&mut bytes, 700, &HEADER, HELLO).unwrap();
    let too_long = [0; 256];
    assert!(!builder.push_items(&[Item {
        kind: ItemKind::Digest,
        value: &too_long
    }]));
    assert!(builder.push_items(&items));
    assert!(!builder.push_items(&[]), "W-09");
    let len = builder.finish();
    let message = Message::parse(&bytes[..len]).unwrap();
    assert!(message.extensions().own_items().unwrap().unwrap().eq(items));
    let extension = message.extensions().next().unwrap();
    assert_eq!(extension.value.len(), items_len(&items));
    assert!(matches!(
        extension.kind,
        ExtensionKind::Vendor {
            oui: [2, 0x53, 0x43],
            ..
        }
    ));
    for kind in ItemKind::ALL {
        assert_eq!(ItemKind::from_code(kind.code()), Some(kind));
    }
    assert_eq!(ItemKind::from_code(0), None);
}

proptest! {
    /// Goal: octets that were not signed with the key do not verify, whatever they are, and nothing
    /// panics: a packet verifies exactly when its MAC is the one the key gives.
    #[test]
    fn x_03_a_packet_verifies_iff_its_mac_is_right(
        body_len in 0_usize..400,
        which in 0_usize..4,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        tail in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let key = key(Algorithm::ALL[which]);
        let good = signed_request(&key, body_len);
        let mut bytes = good.clone();
        for (at, change) in changes {
            bytes[at.index(good.len())] ^= change;
        }
        checksum::seal(&mut bytes);
        bytes.extend(tail);
        let same = bytes[..good.len()] == good[..];
        prop_assert_eq!(verifies(&bytes, &key), same);
    }

    /// Goal: any octets as extensions are looked through without a panic (W-10).
    #[test]
    fn w_10_any_extensions(
        tail in proptest::collection::vec(any::<u8>(), 0..200),
        start in 0_u8..60,
    ) {
        let mut bytes = vec![0; 300];
        let len = Builder::hello(&mut bytes, 300, &HEADER, HELLO).unwrap().finish();
        bytes.truncate(len);
        bytes.extend(&tail);
        let size = u16::try_from(bytes.len()).unwrap();
        bytes[2..4].copy_from_slice(&size.to_be_bytes());
        bytes[7] = if start < 20 { 36 } else { start };
        checksum::seal(&mut bytes);
        if let Some(found) = Envelope::parse(&bytes).unwrap().authentication() {
            prop_assert!(!Algorithm::ALL.iter().any(|it| found.verify(&key(*it))));
        }
        if let Ok(items) = Items::parse(&tail) {
            prop_assert!(items.count() <= tail.len());
        }
    }
}

/// Goal: what a server offers for alignments is found among other items; octets behind it are for
/// later versions, and an item that is too short offers nothing.
#[test]
fn x_07_alignment_offers() {
    fn item(value: &[u8]) -> Item<'_> {
        Item {
            kind: ItemKind::Alignment,
            value,
        }
    }
    let of = |items: &[Item<'_>]| {
        let mut bytes = vec![0; 900];
        let mut builder = Builder::hello(&mut bytes, 900, &HEADER, HELLO).unwrap();
        assert!(builder.push_items(items));
        let len = builder.finish();
        let message = Message::parse(&bytes[..len]).unwrap();
        message.extensions().alignment_offer()
    };
    let counter = Item {
        kind: ItemKind::ReplayCounter,
        value: &[1, 2],
    };
    let offer = AlignmentOffer {
        window: 64,
        packet: 1472,
    };
    assert_eq!(offer.encode(), [0, 64, 5, 0xC0]);
    assert_eq!(of(&[counter, item(&offer.encode())]), Some(offer));
    assert_eq!(of(&[item(&[0, 64, 5, 0xC0, 9, 9])]), Some(offer));
    assert_eq!(of(&[item(&[0, 64, 5])]), None);
    assert_eq!(of(&[counter]), None);
}

proptest! {
    /// X-07: every offer is read as it was written, and any octets are read without a panic.
    #[test]
    fn x_07_any_alignment_offer(window: u16, packet: u16, octets: Vec<u8>) {
        let offer = AlignmentOffer { window, packet };
        prop_assert_eq!(AlignmentOffer::parse(&offer.encode()), Some(offer));
        let read = AlignmentOffer::parse(&octets);
        prop_assert_eq!(read.is_some(), octets.len() >= AlignmentOffer::LEN);
    }
}
