//! The algorithms against the vectors that their authors published.

use super::*;

fn octets(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The MAC over `data`, cut into segments at `cut` and in between.
fn mac(key: &MacKey, data: &[u8], cut: usize) -> Vec<u8> {
    let (a, b) = data.split_at(cut.min(data.len()));
    let (b, c) = b.split_at(b.len() / 2);
    key.compute(&[a, &[], b, c])[..key.algorithm().mac_len()].to_vec()
}

#[track_caller]
fn check(key: &MacKey, data: &[u8], wanted: &str) {
    for cut in [0, 1, 63, 64, 65, data.len()] {
        assert_eq!(mac(key, data, cut), octets(wanted), "{key:?} cut at {cut}");
    }
}

const LARGER: &[u8] = b"Test Using Larger Than Block-Size Key - Hash Key First";

/// Goal: HMAC-MD5 gives the values of RFC 2202 section 2, cut into segments in any way.
#[test]
fn x_01_hmac_md5_vectors_of_rfc_2202() {
    let counted: Vec<u8> = (1..=25).collect();
    for (secret, data, wanted) in [
        (
            &[0x0B; 16][..],
            &b"Hi There"[..],
            "9294727a3638bb1c13f48ef8158bfc9d",
        ),
        (
            b"Jefe",
            b"what do ya want for nothing?",
            "750c783e6ab0b503eaa86e310a5db738",
        ),
        (&[0xAA; 16], &[0xDD; 50], "56be34521d144c88dbb8c733f0e8b3f6"),
        (&counted, &[0xCD; 50], "697eaf0aca3a3aea3a75164746ffaa79"),
        (&[0xAA; 80], LARGER, "6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd"),
    ] {
        check(&MacKey::new(Algorithm::HmacMd5, secret), data, wanted);
    }
}

/// Goal: HMAC-SHA-256 and HMAC-SHA-512 give the values of RFC 4231, cut off as RFC 4868 says.
#[test]
fn x_05_hmac_sha_vectors_of_rfc_4231() {
    for (secret, data, sha256, sha512) in [
        (
            &[0x0B; 20][..],
            &b"Hi There"[..],
            "b0344c61d8db38535ca8afceaf0bf12b",
            "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde",
        ),
        (
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c7",
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554",
        ),
        (
            &[0xAA; 131],
            LARGER,
            "60e431591ee0b67f0d8a26aacbf5b77f",
            "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352",
        ),
    ] {
        check(&MacKey::new(Algorithm::HmacSha256, secret), data, sha256);
        check(&MacKey::new(Algorithm::HmacSha512, secret), data, sha512);
    }
    let secret = [0x0C; 20];
    let truncated = "a3b6167473100ee06e0c796c2955552b";
    check(
        &MacKey::new(Algorithm::HmacSha256, &secret),
        b"Test With Truncation",
        truncated,
    );
}

/// Goal: keyed BLAKE3 gives the values of the project's `test_vectors.json`, over one chunk and
/// over several.
#[test]
fn x_05_blake3_vectors_of_its_authors() {
    let key = MacKey(State::Blake3(Zeroizing::new(
        *b"whats the Elvish word for friend",
    )));
    let input: Vec<u8> = (0..=250).cycle().take(3072).collect();
    for (len, wanted) in [
        (
            0,
            "92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26",
        ),
        (
            1,
            "6d7878dfff2f485635d39013278ae14f1454b8c0a3a2d34bc1ab38228a80c95b",
        ),
        (
            64,
            "ba8ced36f327700d213f120b1a207a3b8c04330528586f414d09f2f7d9ccb7e6",
        ),
        (
            65,
            "c0a4edefa2d2accb9277c371ac12fcdbb52988a86edc54f0716e1591b4326e72",
        ),
        (
            1024,
            "75c46f6f3d9eb4f55ecaaee480db732e6c2105546f1e675003687c31719c7ba4",
        ),
        (
            1025,
            "357dc55de0c7e382c900fd6e320acc04146be01db6a8ce7210b7189bd664ea69",
        ),
        (
            3072,
            "044a0e7b172a312dc02a4c9a818c036ffa2776368d7f528268d2e6b5df191770",
        ),
    ] {
        check(&key, &input[..len], wanted);
    }
}
