//! Any octets through parser, views and builder: no panic (W-10), and what is well-formed rebuilds
//! to its canonical form (W-11).
//!
//! Each input is tried as it is and with version, size and checksum made right, so that mutations
//! reach the records.

#![no_main]
#![forbid(unsafe_code)]

mod sealed;
#[path = "../../wire/tests/support/mod.rs"]
mod support;

use libfuzzer_sys::fuzz_target;
use scsp_wire::{Message, Records, Summaries};
use sealed::sealed;

fuzz_target!(|bytes: &[u8]| {
    exercise(bytes);
    if let Some(sealed) = sealed(bytes) {
        exercise(&sealed);
    }
    for record in Records::over(bytes) {
        assert_eq!(
            record.wire.len(),
            record.summary.wire_len() + record.body.len()
        );
    }
    if let Ok(summaries) = Summaries::new(bytes) {
        assert_eq!(summaries.len(), Summaries::over(bytes).count());
    }
});

fn exercise(bytes: &[u8]) {
    let Ok(message) = Message::parse(bytes) else {
        return;
    };
    let first = rebuilt(&message);
    if let Some(canonical) = support::canonical(&message) {
        assert_eq!(first, canonical, "the canonical form is rebuilt");
    }
    let again = Message::parse(&first).expect("what is built is well-formed");
    assert_eq!(rebuilt(&again), first, "building is stable");
    walk(&message, &again);
}

fn rebuilt(message: &Message<'_>) -> Vec<u8> {
    let len = message.envelope().bytes().len();
    let mut out = vec![0; len];
    let written = message
        .write(&mut out, len)
        .expect("the canonical form is not longer");
    out.truncate(written);
    out
}

/// Both hold the same, field by field.
fn walk(a: &Message<'_>, b: &Message<'_>) {
    let same_summaries = |a: Summaries<'_>, b: Summaries<'_>| {
        assert_eq!(a.len(), a.clone().count());
        assert!(
            a.map(|summary| summary.fields())
                .eq(b.map(|summary| summary.fields()))
        );
    };
    match (a, b) {
        (Message::Ca(a), Message::Ca(b)) => {
            assert_eq!((a.seq, a.flags), (b.seq, b.flags));
            same_summaries(a.summaries(), b.summaries());
        }
        (Message::CsuRequest(a), Message::CsuRequest(b)) => {
            assert_eq!(a.records().len(), a.records().count());
            assert!(
                a.records()
                    .zip(b.records())
                    .all(|(a, b)| { a.summary.fields() == b.summary.fields() && a.body == b.body })
            );
        }
        (Message::CsuReply(a), Message::CsuReply(b)) => {
            same_summaries(a.summaries(), b.summaries());
        }
        (Message::Csus(a), Message::Csus(b)) => same_summaries(a.summaries(), b.summaries()),
        (Message::Hello(a), Message::Hello(b)) => {
            assert_eq!(a.fields(), b.fields());
            assert_eq!(a.receivers().len(), a.receivers().count());
            assert!(a.receivers().eq(b.receivers()));
        }
        _ => panic!("the type is kept"),
    }
    assert!(a.extensions().eq(b.extensions()));
}
