//! The end of the sequence space (CSU-19). Neighbours: 10.0.0.9 (first), 10.0.0.1 (second), where
//! not said otherwise; the hub is 10.0.0.5.

use std::time::Duration;

use scsp_engine::alignment::State::{Aligned, Down};
use scsp_engine::hello::State::Waiting;
use scsp_engine::shard::{Condition, Life, Refusal};
use scsp_profile::{KvBody, KvKind};
use scsp_wire::CsaSeq;

use crate::kv::{tombstone, value};
use crate::multipoint::mesh;
use crate::script::{LSID, Lab, Msg, ca, hello, rec, records, replies, solicits, sum};
use crate::support::{D0, D1, I0, World, id, millis, opaque_instance, secs};

const FIRST: i32 = CsaSeq::FIRST.get();
const LAST: i32 = CsaSeq::LAST.get();
const PURGE: i32 = CsaSeq::PURGE.get();
/// `csu_retransmit` × (max + 1).
const REMEMBERED: Duration = Duration::from_secs(6);

/// Neighbours 9 and 1 Aligned.
fn aligned() -> Lab {
    let mut lab = Lab::new(&[9, 1]);
    lab.align(D0);
    lab.align(D1);
    lab
}

impl Lab {
    /// Publishes an own record with a sequence of the client's choice.
    fn choose(&mut self, key: &[u8], body: &[u8], seq: i32) -> Result<i32, Refusal> {
        let now = self.now();
        let home = self.hub.home(key);
        let done = home.publish(now, I0, key, body, CsaSeq::new(seq));
        self.collect();
        done.map(CsaSeq::get)
    }

    /// Acknowledges all records sent to the neighbour since the last call, and returns them.
    fn acknowledge(&mut self, dcs: scsp_engine::DcsIndex) -> Vec<crate::script::Rec> {
        let sent = records(&self.sent(dcs));
        if !sent.is_empty() {
            let acks = sent.iter().map(|rec| rec.sum.clone().hops(1)).collect();
            self.send(dcs, &Msg::Reply(acks));
        }
        sent
    }

    /// An own entry `own` at the end of the sequence space, known to both neighbours.
    fn at_the_end(&mut self, peers: &[scsp_engine::DcsIndex]) {
        assert_eq!(self.choose(b"own", b"old", LAST), Ok(LAST));
        for dcs in peers {
            self.acknowledge(*dcs);
        }
    }
}

/// Goal: a late copy of before a purge, which is newer by its number, goes on with all hops however
/// few it came with: only its originator can end it.
#[test]
fn csu_19_a_copy_of_before_travels_to_its_originator() {
    let mut lab = aligned();
    lab.flood(D0, &[rec(b"key", 9, FIRST, 4, b"new")]);
    lab.acknowledge(D1);
    lab.flood(D0, &[rec(b"key", 9, LAST, 1, b"old")]);
    assert_eq!(lab.acknowledge(D1), [rec(b"key", 9, LAST, 16, b"old")]);
    lab.flood(D0, &[rec(b"other", 9, 1, 1, b"body")]);
    assert_eq!(lab.acknowledge(D1), [], "CSU-16");
}

/// Goal: an own entry at 2^31-2 that changes goes out as a purge; what waits for it is accepted at
/// once, shown to clients, replaced by later changes, and goes out with -2^31+1 when the last
/// neighbour has acknowledged.
#[test]
fn csu_19_own_entry_starts_again() {
    let mut lab = aligned();
    lab.at_the_end(&[D0, D1]);
    assert_eq!(lab.publish(b"own", b"new"), FIRST);
    let purge = vec![rec(b"own", LSID, PURGE, 16, b"")];
    assert_eq!(records(&lab.sent(D1)), purge);
    assert_eq!(lab.acknowledge(D0), purge);
    assert_eq!(lab.entry(b"own", LSID), Some((PURGE, b"new".to_vec())));
    assert_eq!(lab.publish(b"own", b"newest"), FIRST);
    assert_eq!((lab.sent(D0), lab.sent(D1)), (vec![], vec![]));
    let (now, mut seen) = (lab.now(), Vec::new());
    let home = lab.hub.home(b"own");
    home.records(now, I0, b"own", false, |it| seen.push(it.body.to_vec()))
        .unwrap();
    assert_eq!(seen, [b"newest"]);
    // An acknowledgement of the old record is none of the purge.
    lab.send(D1, &Msg::Reply(vec![sum(b"own", LSID, LAST)]));
    assert_eq!((lab.sent(D0), lab.sent(D1)), (vec![], vec![]));
    lab.send(D1, &Msg::Reply(vec![sum(b"own", LSID, PURGE)]));
    let again = [rec(b"own", LSID, FIRST, 16, b"newest")];
    assert_eq!(lab.acknowledge(D0), again);
    assert_eq!(lab.acknowledge(D1), again);
    assert_eq!(lab.publish(b"own", b"next"), FIRST + 1);
}

/// Goal: without neighbours there is nothing to wait for.
#[test]
fn csu_19_alone() {
    let mut lab = Lab::new(&[]);
    lab.at_the_end(&[]);
    assert_eq!(lab.publish(b"own", b"new"), FIRST);
    assert_eq!(lab.entry(b"own", LSID), Some((FIRST, b"new".to_vec())));
    assert_eq!(lab.publish(b"own", b"next"), FIRST + 1);
}

/// Goal: the sequence that a client chooses is what the entry goes on with; it must be above the
/// one that waits already.
#[test]
fn csu_19_chosen_sequence_waits() {
    let mut lab = aligned();
    lab.at_the_end(&[D0, D1]);
    assert!(matches!(
        lab.choose(b"own", b"no", LAST),
        Err(Refusal::Sequence { .. })
    ));
    assert_eq!(lab.publish(b"own", b"new"), FIRST);
    assert!(matches!(
        lab.choose(b"own", b"no", FIRST),
        Err(Refusal::Sequence { .. })
    ));
    assert_eq!(lab.choose(b"own", b"chosen", 70), Ok(70));
    assert_eq!(lab.publish(b"own", b"last"), 70);
    lab.acknowledge(D0);
    lab.acknowledge(D1);
    assert_eq!(lab.acknowledge(D0), [rec(b"own", LSID, 70, 16, b"last")]);
}

/// Goal: a neighbour that never acknowledges the purge holds the entry up until it is reset, and
/// not longer.
#[test]
fn csu_19_silent_neighbour_goes_down() {
    let mut lab = aligned();
    lab.at_the_end(&[D0, D1]);
    lab.publish(b"own", b"new");
    lab.acknowledge(D0);
    for _ in 0..6 {
        assert_eq!(lab.hub.alignment(D1), Aligned);
        assert_eq!(records(&lab.sent(D1)), [rec(b"own", LSID, PURGE, 16, b"")]);
        assert_eq!(lab.sent(D0), []);
        lab.wait(secs(1));
    }
    assert_eq!(lab.hub.hello(D1), Waiting);
    assert_eq!(lab.acknowledge(D0), [rec(b"own", LSID, FIRST, 16, b"new")]);
}

/// Goal: a neighbour that leaves Update Cache by itself is not waited for either.
#[test]
fn csu_19_neighbour_goes() {
    // 1: its Hello does not name the hub; 2: it starts another exchange
    for leaves in [hello(&[]), ca(990, "MIO", &[])] {
        let mut lab = aligned();
        lab.at_the_end(&[D0, D1]);
        lab.publish(b"own", b"new");
        lab.acknowledge(D1);
        assert_eq!(lab.sent(D1), []);
        lab.send(D0, &leaves);
        assert_eq!(
            records(&lab.sent(D1)),
            [rec(b"own", LSID, FIRST, 16, b"new")]
        );
    }
}

/// Goal: a neighbour that comes while the purge is under way is told of it, in the exchange and
/// by the purge itself, and is waited for as well.
#[test]
fn csu_19_neighbour_comes() {
    let mut lab = Lab::new(&[9, 1]);
    lab.align(D1);
    lab.at_the_end(&[D1]);
    lab.publish(b"own", b"new");
    lab.open(D0);
    lab.send(D0, &ca(900, "MIO", &[]));
    assert_eq!(lab.sent(D0), [ca(900, "", &[sum(b"own", LSID, PURGE)])]);
    lab.send(D0, &ca(901, "M", &[sum(b"own", LSID, LAST)]));
    assert_eq!(
        lab.alignment(D0),
        Aligned,
        "the old record is not asked for"
    );
    let purge = [rec(b"own", LSID, PURGE, 16, b"")];
    assert_eq!(records(&lab.sent(D0)), purge);
    // It solicits what it was told of: that is on its way already.
    lab.send(D0, &Msg::Csus(vec![sum(b"own", LSID, PURGE)]));
    lab.acknowledge(D1);
    assert_eq!(lab.sent(D1), []);
    lab.send(D0, &Msg::Reply(vec![sum(b"own", LSID, PURGE)]));
    let again = [rec(b"own", LSID, FIRST, 16, b"new")];
    assert_eq!(records(&lab.sent(D1)), again);
    assert_eq!(lab.acknowledge(D0).last(), again.last());
}

/// Goal: a neighbour that does not get beyond the exchange is not waited for, and gets the record
/// that followed once it does.
#[test]
fn csu_19_exchange_is_not_waited_for() {
    let mut lab = Lab::new(&[9, 1]);
    lab.align(D1);
    lab.at_the_end(&[D1]);
    lab.open(D0);
    lab.send(D0, &ca(900, "MIO", &[]));
    assert_eq!(lab.sent(D0), [ca(900, "", &[sum(b"own", LSID, LAST)])]);
    lab.publish(b"own", b"new");
    lab.acknowledge(D1);
    let again = [rec(b"own", LSID, FIRST, 16, b"new")];
    assert_eq!(records(&lab.sent(D1)), again);
    lab.send(D0, &ca(901, "M", &[]));
    assert_eq!(records(&lab.sent(D0)), again);
}

/// Goal: whatever its body, a purge of another server's entry is stored, acknowledged and flooded.
/// Until the other neighbours have acknowledged it nothing else is taken in for the entry or
/// acknowledged; then the entry is gone at once, and what it starts again with is new.
#[test]
fn csu_19_purge_of_anothers_entry() {
    for body in [&b""[..], b"body"] {
        let mut lab = aligned();
        lab.flood(D0, &[rec(b"key", 9, LAST, 4, b"old")]);
        lab.acknowledge(D1);
        let sent = lab.flood(D0, &[rec(b"key", 9, PURGE, 4, body)]);
        assert_eq!(sent, [Msg::Reply(vec![sum(b"key", 9, PURGE)])]);
        assert_eq!(records(&lab.sent(D1)), [rec(b"key", 9, PURGE, 3, body)]);
        let (now, mut seen) = (lab.now(), 0);
        let home = lab.hub.home(b"key");
        home.records(now, I0, b"key", false, |_| seen += 1).unwrap();
        assert_eq!(seen, 0, "clients do not see it any more");
        // 1: others are neither taken in nor acknowledged, the purge is
        for seq in [LAST, FIRST, FIRST + 1, 0] {
            assert_eq!(lab.flood(D0, &[rec(b"key", 9, seq, 4, b"new")]), []);
            assert_eq!(lab.entry(b"key", 9).unwrap().0, PURGE);
        }
        let sent = lab.flood(D0, &[rec(b"key", 9, PURGE, 4, body)]);
        assert_eq!(sent, [Msg::Reply(vec![sum(b"key", 9, PURGE)])]);
        assert_eq!(lab.sent(D1), []);
        // 2: over; the largest of the lower half was kept meanwhile
        lab.send(D1, &Msg::Reply(vec![sum(b"key", 9, PURGE)]));
        assert_eq!(lab.entry(b"key", 9), Some((FIRST + 1, b"new".to_vec())));
        assert_eq!(lab.sent(D0), [Msg::Reply(vec![sum(b"key", 9, FIRST + 1)])]);
        assert_eq!(
            records(&lab.sent(D1)),
            [rec(b"key", 9, FIRST + 1, 3, b"new")]
        );
    }
}

/// Goal: without other neighbours, and for an entry that is not held, a purge is acknowledged,
/// flooded and forgotten.
#[test]
fn csu_19_purge_of_an_unknown_entry() {
    let mut lab = Lab::new(&[9]);
    lab.align(D0);
    let sent = lab.flood(D0, &[rec(b"key", 9, PURGE, 4, b"")]);
    assert_eq!(sent, [Msg::Reply(vec![sum(b"key", 9, PURGE)])]);
    assert_eq!(lab.hub.entries(), []);
    let mut lab = aligned();
    lab.flood(D0, &[rec(b"key", 9, PURGE, 4, b"")]);
    assert_eq!(lab.acknowledge(D1), [rec(b"key", 9, PURGE, 3, b"")]);
    assert_eq!(lab.hub.entries(), []);
}

/// Goal: the same purge from two neighbours acknowledges itself, and goes back to neither.
#[test]
fn csu_19_purge_from_two_neighbours() {
    let mut lab = aligned();
    lab.flood(D0, &[rec(b"key", 3, LAST, 4, b"old")]);
    lab.acknowledge(D1);
    lab.flood(D0, &[rec(b"key", 3, PURGE, 4, b"")]);
    lab.sent(D1);
    let sent = lab.flood(D1, &[rec(b"key", 3, PURGE, 9, b"")]);
    assert_eq!(sent, [Msg::Reply(vec![sum(b"key", 3, PURGE)])]);
    assert_eq!((lab.hub.entries(), lab.sent(D0)), (vec![], vec![]));
}

/// Goal: copies of a purge are acknowledged and otherwise ignored for a while after it is over,
/// whether the entry has come again or not, and summaries of it are not asked for; later, and
/// for an entry near the end of the space, it is a new purge.
#[test]
fn csu_19_copies_are_ignored_for_a_while() {
    let mut lab = aligned();
    lab.flood(D0, &[rec(b"key", 3, PURGE, 4, b"")]);
    lab.acknowledge(D1);
    for _ in 0..2 {
        for dcs in [D0, D1] {
            let sent = lab.flood(dcs, &[rec(b"key", 3, PURGE, 4, b"")]);
            assert_eq!(sent, [Msg::Reply(vec![sum(b"key", 3, PURGE)])]);
        }
        assert_eq!((lab.sent(D0), lab.sent(D1)), (vec![], vec![]));
        lab.flood(D0, &[rec(b"key", 3, FIRST, 4, b"new")]);
        lab.acknowledge(D1);
    }
    lab.send(D1, &hello(&[]));
    assert_eq!(lab.alignment(D1), Down);
    assert_eq!(lab.exchange(D1, &[sum(b"key", 3, PURGE)]), []);
    assert_eq!(lab.alignment(D1), Aligned);
    lab.sent(D1);
    // 1: near the end again
    lab.flood(D0, &[rec(b"key", 3, LAST, 4, b"new")]);
    lab.acknowledge(D1);
    lab.flood(D0, &[rec(b"key", 3, PURGE, 4, b"")]);
    assert_eq!(lab.acknowledge(D1), [rec(b"key", 3, PURGE, 3, b"")]);
    assert_eq!(lab.hub.entries(), []);
    // 2: later
    lab.flood(D0, &[rec(b"key", 3, FIRST, 4, b"new")]);
    lab.acknowledge(D1);
    lab.wait(millis(5999));
    lab.flood(D0, &[rec(b"key", 3, PURGE, 4, b"")]);
    assert_eq!((lab.sent(D1), lab.hub.entries().len()), (vec![], 1));
    lab.wait(millis(1));
    lab.flood(D0, &[rec(b"key", 3, PURGE, 4, b"")]);
    assert_eq!(lab.acknowledge(D1), [rec(b"key", 3, PURGE, 3, b"")]);
    assert_eq!(lab.hub.entries(), []);
}

/// Goal: a purge that is learned of from a summary is solicited, flooded with the own hop count,
/// and forgotten like any other.
#[test]
fn csu_19_solicited_purge() {
    let mut lab = Lab::new(&[9, 1]);
    lab.align(D1);
    lab.flood(D1, &[rec(b"key", 3, LAST, 4, b"old")]);
    let sent = lab.exchange(D0, &[sum(b"key", 3, PURGE)]);
    assert_eq!(solicits(&sent), [sum(b"key", 3, PURGE)]);
    lab.flood(D0, &[rec(b"key", 3, PURGE, 1, b"")]);
    assert_eq!(lab.alignment(D0), Aligned);
    assert_eq!(lab.acknowledge(D1), [rec(b"key", 3, PURGE, 16, b"")]);
    assert_eq!(lab.hub.entries(), []);
}

/// Goal: a neighbour that has forgotten the purge already, and holds what came after it, is asked
/// for that while the purge is still under way here; it would not offer it a second time.
#[test]
fn csu_19_what_followed_is_asked_for() {
    let mut lab = Lab::new(&[9, 1, 7]);
    let d2 = scsp_engine::DcsIndex(2);
    lab.align(D1);
    lab.align(d2);
    lab.flood(D1, &[rec(b"key", 3, PURGE, 4, b"")]);
    lab.sent(D1);
    let sent = lab.exchange(D0, &[sum(b"key", 3, FIRST)]);
    assert_eq!(solicits(&sent), [sum(b"key", 3, FIRST)]);
    lab.flood(D0, &[rec(b"key", 3, FIRST, 1, b"new")]);
    lab.send(D0, &Msg::Reply(vec![sum(b"key", 3, PURGE)]));
    assert_eq!(lab.entry(b"key", 3).unwrap().0, PURGE);
    lab.acknowledge(d2);
    assert_eq!(lab.entry(b"key", 3), Some((FIRST, b"new".to_vec())));
    assert_eq!(replies(&lab.sent(D0)), [sum(b"key", 3, FIRST)]);
}

/// Goal: a reply with the purge, from a server that still waits, does not count for the record
/// that follows it: it goes out until it is taken.
#[test]
fn csu_19_purge_in_a_reply_acknowledges_nothing() {
    let mut lab = aligned();
    lab.at_the_end(&[D0, D1]);
    lab.publish(b"own", b"new");
    lab.acknowledge(D0);
    lab.acknowledge(D1);
    lab.acknowledge(D1);
    lab.sent(D0);
    lab.send(D0, &Msg::Reply(vec![sum(b"own", LSID, PURGE)]));
    assert_eq!(lab.sent(D0), []);
    lab.wait(secs(1));
    assert_eq!(lab.acknowledge(D0), [rec(b"own", LSID, FIRST, 16, b"new")]);
}

/// Goal: the own purge that comes back while it is under way, or lately was, is acknowledged and
/// counts as the neighbour's acknowledgement; any other purge of an own entry has the own state
/// go on behind it, without that another change is lost.
#[test]
fn csu_19_own_purge_comes_back() {
    let mut lab = aligned();
    lab.at_the_end(&[D0, D1]);
    lab.publish(b"own", b"new");
    lab.acknowledge(D1);
    let purge = [rec(b"own", LSID, PURGE, 15, b"")];
    let sent = lab.flood(D0, &purge);
    assert_eq!(replies(&sent), [sum(b"own", LSID, PURGE)]);
    assert_eq!(lab.acknowledge(D1), [rec(b"own", LSID, FIRST, 16, b"new")]);
    lab.send(D0, &Msg::Reply(vec![sum(b"own", LSID, FIRST)]));
    // 1: lately
    let sent = lab.flood(D0, &purge);
    assert_eq!(sent, [Msg::Reply(vec![sum(b"own", LSID, PURGE)])]);
    assert_eq!(lab.entry(b"own", LSID).unwrap().0, FIRST);
    assert_eq!(lab.sent(D1), []);
    // 2: another one
    lab.wait(REMEMBERED);
    lab.publish(b"own", b"later");
    for dcs in [D0, D1] {
        lab.acknowledge(dcs);
    }
    let sent = lab.flood(D0, &purge);
    assert_eq!(sent, [Msg::Reply(vec![sum(b"own", LSID, PURGE)])]);
    assert_eq!(lab.acknowledge(D1), [rec(b"own", LSID, PURGE, 16, b"")]);
    let again = [rec(b"own", LSID, FIRST + 2, 16, b"later")];
    assert_eq!(
        (records(&lab.sent(D0)), records(&lab.sent(D1))),
        (again.to_vec(), again.to_vec())
    );
}

/// Goal: an own entry that nobody here knows of any more is purged like another's; a change of it
/// that comes meanwhile waits for that.
#[test]
fn csu_19_own_purge_of_an_earlier_run() {
    let mut lab = aligned();
    lab.flood(D0, &[rec(b"own", LSID, PURGE, 9, b"")]);
    assert_eq!(lab.publish(b"own", b"new"), FIRST);
    assert_eq!(lab.acknowledge(D1), [rec(b"own", LSID, PURGE, 16, b"")]);
    assert_eq!(lab.acknowledge(D1), [rec(b"own", LSID, FIRST, 16, b"new")]);
}

/// Goal: where the sequence after a restart (CSU-20), or after a record that came back (D-12),
/// would exceed the space, the entry is purged and starts again.
#[test]
fn csu_19_restart_and_return_beyond_the_end() {
    let mut lab = Lab::new(&[9]);
    lab.exchange(D0, &[sum(b"own", LSID, LAST - 999)]);
    lab.flood(D0, &[rec(b"own", LSID, LAST - 999, 1, b"before")]);
    assert_eq!(lab.publish(b"own", b"new"), FIRST);
    assert_eq!(lab.acknowledge(D0), [rec(b"own", LSID, PURGE, 16, b"")]);
    assert_eq!(lab.acknowledge(D0), [rec(b"own", LSID, FIRST, 16, b"new")]);
    // The record of before comes back from a server that was away.
    lab.flood(D0, &[rec(b"own", LSID, LAST, 4, b"before")]);
    assert_eq!(lab.entry(b"own", LSID), Some((PURGE, b"new".to_vec())));
    lab.send(D0, &Msg::Reply(vec![sum(b"own", LSID, PURGE)]));
    let again = [rec(b"own", LSID, FIRST + 1, 16, b"new")];
    assert_eq!(lab.acknowledge(D0), again, "FIRST was used a moment ago");
}

/// Goal: with a purge the smaller instances of the key go as well, and nothing larger; clients
/// read the new value throughout, others nothing until it is there (K-04).
#[test]
fn csu_19_k_04_smaller_instances_go_along() {
    let mut lab = Lab::kv(&[9, 1]);
    lab.align(D0);
    lab.align(D1);
    lab.flood(D0, &[rec(b"k", 3, 1, 1, &value(10, None, b"older"))]);
    lab.flood(D0, &[rec(b"k", 9, LAST, 4, &value(20, None, b"old"))]);
    lab.acknowledge(D1);
    let purge = rec(b"k", 9, PURGE, 4, &tombstone(20));
    lab.flood(D0, std::slice::from_ref(&purge));
    assert_eq!(lab.hub.get(lab.now(), b"k"), None);
    lab.acknowledge(D1);
    assert_eq!(lab.hub.entries(), []);
    lab.flood(D0, &[rec(b"k", 3, 2, 1, &value(30, None, b"larger"))]);
    lab.wait(REMEMBERED);
    lab.flood(D0, &[purge]);
    lab.acknowledge(D1);
    assert_eq!(lab.hub.get(lab.now(), b"k").unwrap(), b"larger");
    // A purge with a body that is none of the protocol's says nothing of other instances.
    lab.wait(REMEMBERED);
    lab.flood(D0, &[rec(b"k", 9, PURGE, 4, b"?")]);
    assert_eq!(lab.acknowledge(D1), [rec(b"k", 9, PURGE, 3, b"?")]);
    assert_eq!(lab.hub.entries().len(), 1);
}

/// A kv hub with neighbour 9 whose own value of `k` is at the end of the space.
fn kv_at_the_end() -> Lab {
    let mut lab = Lab::kv(&[9]);
    lab.align(D0);
    lab.wait(millis(50));
    let old = value(50, None, b"old");
    assert_eq!(lab.choose(b"k", &old, LAST), Ok(LAST));
    lab.acknowledge(D0);
    lab
}

/// Goal: a value whose life ends, and a delete, while the purge is under way are kept for it, and
/// go out after it; the purge is the tombstone of the old value.
#[test]
fn csu_19_life_and_delete_while_waiting() {
    let mut lab = kv_at_the_end();
    let now = lab.now();
    let life = Life::For(secs(1));
    let set = lab
        .hub
        .home(b"k")
        .kv_set(now, I0, b"k", b"short", life, Condition::Always);
    assert_eq!(set, Ok(true));
    assert_eq!(lab.hub.get(now, b"k").unwrap(), b"short");
    lab.collect();
    assert_eq!(
        records(&lab.sent(D0)),
        [rec(b"k", LSID, PURGE, 16, &tombstone(50))]
    );
    lab.wait(secs(2));
    assert_eq!(lab.hub.get(lab.now(), b"k"), None);
    lab.acknowledge(D0);
    let sent = records(&lab.sent(D0));
    let body = KvBody::parse(&sent[0].body).unwrap();
    assert_eq!((sent[0].sum.seq, body.life_ms), (FIRST, Some(0)));

    let mut lab = kv_at_the_end();
    let now = lab.now();
    assert!(lab.hub.del(now, b"k"));
    assert_eq!(lab.hub.get(now, b"k"), None);
    lab.collect();
    lab.acknowledge(D0);
    let sent = records(&lab.sent(D0));
    let body = KvBody::parse(&sent[0].body).unwrap();
    assert_eq!((sent[0].sum.seq, body.kind), (FIRST, KvKind::Tombstone));
    assert!(!lab.hub.del(now, b"k"));
}

/// Goal: a waiting change with a body far larger than a packet does not enlarge the purge's.
#[test]
fn csu_19_purge_is_small() {
    let mut lab = aligned();
    lab.at_the_end(&[D0, D1]);
    lab.publish(b"own", &vec![7; 60_000]);
    lab.publish(b"other", &[7; 1000]);
    let limit = lab.hub.setup.dcs[0].packet_limit;
    assert!(
        limit < 60_000,
        "packets are checked against it as they are sent"
    );
    assert_eq!(records(&lab.sent(D0)).len(), 2);
}

/// A kv world: the first hub's `k` at the end of the space everywhere.
fn world_at_the_end(mut world: World) -> World {
    world.align();
    let now = world.now();
    world.hubs[0].set(now, b"other", b"value");
    let old = value(
        u64::try_from(world.since_start.as_millis()).unwrap(),
        None,
        b"old",
    );
    world.hubs[0]
        .home(b"k")
        .publish(now, I0, b"k", &old, CsaSeq::new(LAST))
        .unwrap();
    world.run(secs(2));
    world.assert_equal();
    world
}

fn assert_read(world: &World, expected: &[u8]) {
    world.assert_equal();
    for hub in &world.hubs {
        assert_eq!(hub.get(world.now(), b"k").as_deref(), Some(expected));
    }
}

fn assert_restarted(world: &World, seq: i32) {
    for hub in &world.hubs {
        let row = hub
            .entries()
            .into_iter()
            .find(|row| row.key == b"k")
            .unwrap();
        assert_eq!((row.seq, &row.originator[..]), (seq, id(1).as_bytes()));
    }
}

/// Goal: in a line and in rings, of one shard and of several, the entry starts again everywhere
/// within moments, and nothing circles afterwards.
#[test]
fn csu_19_lines_and_rings() {
    let worlds = [
        World::line(&[1, 2, 1]),
        World::line(&[2, 1, 3, 1, 2]),
        World::ring_of(&[1, 2, 1], |_, setup| setup),
        World::ring_of(&[2, 1, 1, 2, 1], |_, setup| setup),
        mesh(&[1, 2, 1, 1], 1, |_| {}),
    ];
    for world in worlds {
        let mut world = world_at_the_end(world);
        let now = world.now();
        world.hubs[0].set(now, b"k", b"new");
        assert_eq!(world.hubs[0].get(now, b"k").unwrap(), b"new");
        // As long as the way there, back and there again takes at each hub.
        world.run(millis(50));
        assert_read(&world, b"new");
        assert_restarted(&world, FIRST);
        world.run(secs(30));
        assert_restarted(&world, FIRST);
        assert!(world.is_aligned());
        let now = world.now();
        world.hubs[0].set(now, b"k", b"next");
        world.run(secs(1));
        assert_read(&world, b"next");
        assert_restarted(&world, FIRST + 1);
    }
}

/// Goal: the same for records of any protocol, which know no timestamps.
#[test]
fn csu_19_opaque_ring() {
    let mut world = World::ring_of(&[1, 2, 1], |_, setup| scsp_engine::Setup {
        instances: vec![opaque_instance()],
        ..setup
    });
    world.align();
    for (body, seq) in [(&b"old"[..], Some(LAST)), (b"new", None)] {
        let now = world.now();
        let home = world.hubs[1].home(b"key");
        home.publish(now, I0, b"key", body, seq.and_then(CsaSeq::new))
            .unwrap();
        world.run(secs(2));
        world.assert_equal();
    }
    let rows = world.hubs[0].entries();
    assert_eq!(
        (rows[0].seq, &rows[0].body[..], rows.len()),
        (FIRST, &b"new"[..], 1)
    );
}

/// Goal: a hub that was away and comes back with the old record, or one before that, has it
/// replaced again by one more purge; what was written meanwhile is what all hold.
#[test]
fn csu_19_old_record_returns() {
    for ring in [false, true] {
        let shards = [1, 2, 1, 1];
        let world = if ring {
            World::ring_of(&shards, |_, setup| setup)
        } else {
            World::line(&shards)
        };
        let mut world = world_at_the_end(world);
        let cables: Vec<usize> = (0..world.cables.len())
            .filter(|&cable| world.cables[cable].iter().any(|end| end.0 == 3))
            .collect();
        world.cut.extend(&cables);
        world.run(secs(20));
        for value in [&b"new"[..], b"newer"] {
            let now = world.now();
            world.hubs[0].set(now, b"k", value);
            world.run(secs(20));
        }
        world.cut.clear();
        world.align();
        world.run(secs(5));
        assert_read(&world, b"newer");
        assert_restarted(&world, FIRST + 2);
        world.run(secs(30));
        assert_restarted(&world, FIRST + 2);
        let again = world.hubs[0].home(b"k").counters(I0).reoriginated;
        assert_eq!((again, world.is_aligned()), (1, true));
    }
}

/// Goal: what was deleted after the entry had started again, and is forgotten, stays deleted when a
/// hub that was away all the time comes back with the old record; a new value goes above all that
/// was used since.
#[test]
fn csu_19_old_record_of_a_deleted_entry_returns() {
    let mut world = World::line_of(&[1, 2, 1], |_, mut setup| {
        setup.instances[0].purge_retention = secs(20);
        setup
    });
    world = world_at_the_end(world);
    world.cut.insert(1);
    world.run(secs(20));
    let now = world.now();
    world.hubs[0].set(now, b"k", b"new");
    world.run(secs(1));
    let now = world.now();
    assert!(world.hubs[0].del(now, b"k"));
    world.run(secs(60));
    assert!(world.hubs[0].entries().iter().all(|row| row.key != b"k"));
    world.cut.clear();
    world.align();
    world.run(secs(5));
    world.assert_equal();
    assert!(
        world
            .hubs
            .iter()
            .all(|hub| hub.get(world.now(), b"k").is_none())
    );
    world.run(secs(60));
    let now = world.now();
    world.hubs[0].set(now, b"k", b"again");
    world.run(secs(1));
    assert_read(&world, b"again");
    assert_restarted(&world, FIRST + 3);
}

/// Goal: an originator that restarted after the wrap keeps the state it took back when a hub comes
/// with the record of before, although that has the larger sequence.
#[test]
fn csu_19_old_record_returns_after_a_restart() {
    let mut world = world_at_the_end(World::line(&[1, 1, 1]));
    world.cut.insert(1);
    world.run(secs(20));
    let now = world.now();
    world.hubs[0].set(now, b"k", b"new");
    world.run(secs(5));
    world.restart(0);
    assert!(world.run_until(secs(30), |world| world.hubs[0].alignment(D0) == Aligned));
    world.cut.clear();
    world.align();
    world.run(secs(5));
    assert_read(&world, b"new");
}

/// Goal: the server in the middle waits for one that never answers, until it is down; the
/// originator's adjacency with the middle one survives that.
#[test]
fn csu_19_silent_end_of_a_line() {
    let mut world = world_at_the_end(World::line(&[1, 1, 1]));
    world.cut.insert(1);
    let now = world.now();
    world.hubs[0].set(now, b"k", b"new");
    assert!(!world.run_until(secs(5), |world| {
        world.hubs[1].entries().iter().any(|row| row.seq == FIRST)
    }));
    world.run(secs(3));
    assert_eq!(world.hubs[1].get(world.now(), b"k").unwrap(), b"new");
    assert_eq!(world.hubs[0].alignment(D0), Aligned);
    assert_eq!(
        world.hubs[0].peer(D0).abnormal,
        world.hubs[1].peer(D0).abnormal
    );
    assert_eq!(world.hubs[0].peer(D0).abnormal.iter().sum::<u64>(), 0);
    world.cut.clear();
    world.align();
    world.run(secs(5));
    assert_read(&world, b"new");
}

/// Goal: an originator that restarts after the wrap takes its record back and goes on above it; one
/// that restarts in the middle of it leaves nothing behind that could not be written again.
#[test]
fn csu_19_restarts() {
    let mut world = world_at_the_end(World::ring_of(&[1, 2, 1], |_, setup| setup));
    let now = world.now();
    world.hubs[0].set(now, b"k", b"new");
    world.run(secs(5));
    world.restart(0);
    world.align();
    world.run(secs(2));
    assert_read(&world, b"new");
    let now = world.now();
    world.hubs[0].set(now, b"k", b"after");
    world.run(secs(2));
    assert_read(&world, b"after");
    assert_restarted(&world, FIRST + 1000);
    // 2: in the middle
    let mut world = world_at_the_end(World::line(&[1, 1, 1]));
    let now = world.now();
    world.hubs[0].set(now, b"k", b"lost");
    world.run(millis(2));
    world.restart(0);
    world.align();
    world.run(secs(20));
    world.assert_equal();
    let now = world.now();
    world.hubs[0].set(now, b"k", b"after");
    world.run(secs(2));
    assert_read(&world, b"after");
}
