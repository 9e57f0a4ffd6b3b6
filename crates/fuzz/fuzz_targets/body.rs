//! Record bodies of every protocol: any octets are refused or read in full, and what is read stays
//! the same when it is written, aged and withdrawn.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use scsp_profile::{KvBody, NhrpBody, Profile, Stamp};

const PROFILES: [Profile; 3] = [Profile::Kv, Profile::Nhrp, Profile::Opaque];

fuzz_target!(|input: (u8, u64, Vec<u8>, Vec<u8>)| {
    let (choice, remaining_ms, key, body) = input;
    let profile = PROFILES[usize::from(choice) % PROFILES.len()];
    let remaining = Duration::from_millis(remaining_ms);
    let mut aged = body.clone();
    profile.set_remaining(&mut aged, remaining);
    assert_eq!(aged.len(), body.len());
    assert_eq!(profile.lasting_parts(&aged), profile.lasting_parts(&body));
    let Ok(facts) = profile.inspect(&key, &body) else {
        return;
    };
    let (shortest, longest) = profile.key_len();
    assert!(profile == Profile::Opaque || (shortest..=longest).contains(&key.len()));
    rebuild(profile, &body);
    let later = profile
        .inspect(&key, &aged)
        .expect("aging keeps a body whole");
    assert_eq!(later.withdrawn, facts.withdrawn);
    assert!(later.life <= facts.life, "life never grows");
    let mut gone = body.clone();
    let len = profile.withdraw(&mut gone, Stamp::new(1, 0));
    let gone = profile
        .inspect(&key, &gone[..len])
        .expect("a withdrawal is a body");
    assert!(gone.withdrawn && gone.life.is_none());
});

/// What is canonical comes out as it went in; unused bits come out as zero.
fn rebuild(profile: Profile, body: &[u8]) {
    let mut out = vec![0; body.len()];
    match profile {
        Profile::Kv => {
            let parsed = KvBody::parse(body).expect("inspected");
            parsed.encode(&mut out);
            assert_eq!(out, body);
        }
        Profile::Nhrp => {
            let parsed = NhrpBody::parse(body).expect("inspected");
            assert_eq!(parsed.encode(&mut out), Some(body.len()));
            assert_eq!(NhrpBody::parse(&out), Ok(parsed));
        }
        Profile::Opaque => {}
    }
}
