use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::store::tests::{new_entry, put, seq};
use crate::{EntryFlags, Store, Update};

/// Goal: a newer instance takes the older one's node: back to unsent, no retries, one per queue.
#[test]
fn csu_07_queue_holds_newest_instance_only() {
    let mut store = Store::new(1);
    let peer = store.add_peer();
    let (a, b) = (
        put(&mut store, &new_entry(b"a", b"o", b"12345")),
        put(&mut store, &new_entry(b"b", b"o", b"")),
    );
    store.enqueue(a, peer, true);
    store.enqueue(b, peer, false);
    store.mark_sent(peer, Time::from_nanos(1));
    let sent_len = store.wire_len(a);
    let update = Update {
        seq: seq(2),
        hop_count: 1,
        body: &[0; 500],
        expires: None,
        changed: Time::ZERO,
        flags: EntryFlags::default(),
    };
    store.update(a, &update).unwrap();
    assert_eq!(
        store.in_flight_bytes(peer),
        sent_len,
        "what was sent, not what is stored"
    );
    assert_eq!(store.take_overdue(peer, Time::from_nanos(0)), None);
    assert_eq!(store.take_overdue(peer, Time::from_nanos(1)), Some((a, 1)));
    assert_eq!(store.peek_unsent(peer), Some((a, true)), "resends go first");
    store.enqueue(a, peer, false);
    assert_eq!((store.queue_len(peer), store.in_flight_bytes(peer)), (2, 0));
    assert_eq!(store.peek_unsent(peer), Some((b, false)));
    assert_eq!(
        store.acknowledge(a, peer),
        Some(Acknowledged {
            sent_at: None,
            retries: 0,
            octets: 0
        })
    );
    assert_eq!(store.acknowledge(a, peer), None);
    store.remove(b);
    assert_eq!((store.queue_len(peer), store.peek_unsent(peer)), (0, None));
}

/// Goal: a cleared queue is empty at once and its memory serves again, however often.
#[test]
fn cleared_queue_is_empty_and_reused() {
    let mut store = Store::new(1);
    let peers = [store.add_peer(), store.add_peer()];
    let ids: Vec<_> = (0..1000_u32)
        .map(|n| put(&mut store, &new_entry(&n.to_be_bytes(), b"o", b"")))
        .collect();
    for round in 0..600 {
        for id in &ids[..if round < 3 { 1000 } else { 20 }] {
            store.enqueue(*id, peers[0], false);
        }
        store.mark_sent(peers[0], Time::from_nanos(round));
        store.enqueue(ids[0], peers[1], false);
        store.clear_queue(peers[0]);
        assert_eq!(
            (store.queue_len(peers[0]), store.in_flight_bytes(peers[0])),
            (0, 0)
        );
        assert!(!store.is_queued(ids[0], peers[0]));
        assert_eq!(store.pending_peers(ids[0]).collect::<Vec<_>>(), [peers[1]]);
    }
    assert_eq!(store.queue_len(peers[1]), 1);
    assert!(
        store.stats().queue_bytes <= 2 * 4096 * size_of::<Node>(),
        "nodes are reused"
    );
}

/// Goal: however often an emptied queue is cleared, nothing of what it held comes back.
#[test]
fn cleared_records_stay_away() {
    let mut store = Store::new(1);
    let peer = store.add_peer();
    let ids: Vec<_> = (0..5000_u32)
        .map(|n| put(&mut store, &new_entry(&n.to_be_bytes(), b"o", b"")))
        .collect();
    for id in &ids {
        store.enqueue(*id, peer, false);
    }
    for _ in 0..600 {
        store.clear_queue(peer);
        assert!(!ids.iter().any(|id| store.is_queued(*id, peer)));
    }
}

#[derive(Clone, Debug)]
enum Op {
    Enqueue(usize, u16, bool),
    Send(u16),
    Acknowledge(usize, u16),
    Overdue(u16, u64),
    Resize(usize, usize),
    Replace(usize),
    Clear(u16),
    Group(usize),
    Tell(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let (entry, peer) = (0..8_usize, 0..3_u16);
    prop_oneof![
        6 => (entry.clone(), peer.clone(), any::<bool>()).prop_map(|(e, p, s)| Op::Enqueue(e, p, s)),
        5 => peer.clone().prop_map(Op::Send),
        3 => (entry.clone(), peer.clone()).prop_map(|(e, p)| Op::Acknowledge(e, p)),
        3 => (peer.clone(), 0..20_u64).prop_map(|(p, age)| Op::Overdue(p, age)),
        2 => (entry.clone(), 0..200_usize).prop_map(|(e, len)| Op::Resize(e, len)),
        1 => entry.clone().prop_map(Op::Replace),
        2 => entry.clone().prop_map(Op::Group),
        4 => entry.prop_map(Op::Tell),
        1 => peer.prop_map(Op::Clear),
    ]
}

#[derive(Clone, Debug)]
struct Pending {
    entry: usize,
    solicited: bool,
    retries: u8,
    sent_at: Option<Time>,
    bytes: usize,
}

#[derive(Clone, Default)]
struct Model {
    resend: VecDeque<Pending>,
    unsent: VecDeque<Pending>,
    sent: VecDeque<Pending>,
}

impl Model {
    fn take(&mut self, entry: usize) -> Option<Pending> {
        [&mut self.resend, &mut self.unsent, &mut self.sent]
            .into_iter()
            .find_map(|list| {
                let at = list.iter().position(|p| p.entry == entry)?;
                list.remove(at)
            })
    }

    fn enqueue(&mut self, entry: usize, solicited: bool) {
        let solicited = self.take(entry).is_none_or(|old| old.solicited) && solicited;
        self.unsent.push_back(Pending {
            entry,
            solicited,
            retries: 0,
            sent_at: None,
            bytes: 0,
        });
    }

    fn peek(&self) -> Option<&Pending> {
        self.resend.front().or(self.unsent.front())
    }

    fn send(&mut self, now: Time, wire_len: usize) {
        let mut pending = self
            .resend
            .pop_front()
            .or_else(|| self.unsent.pop_front())
            .unwrap();
        (pending.sent_at, pending.bytes) = (Some(now), wire_len);
        self.sent.push_back(pending);
    }

    /// A packet for several DCSs took the entry along.
    fn tell(&mut self, entry: usize, now: Time, wire_len: usize) {
        let untold = |p: &Pending| p.entry == entry && !p.solicited;
        if let Some(at) = self.unsent.iter().position(untold) {
            let mut pending = self.unsent.remove(at).unwrap();
            (pending.sent_at, pending.bytes) = (Some(now), wire_len);
            self.sent.push_back(pending);
        }
    }

    fn overdue(&mut self, before: Time) -> Option<(usize, u8)> {
        self.sent.front().filter(|p| p.sent_at <= Some(before))?;
        let mut pending = self.sent.pop_front()?;
        pending.retries += 1;
        let taken = (pending.entry, pending.retries);
        self.resend.push_back(pending);
        Some(taken)
    }
}

proptest! {
    /// Goal: the queues behave like three plain lists per DCS (CSU-06, CSU-07), whatever is sent,
    /// to one DCS or to two at once (CSU-14), acknowledged, changed, removed and cleared in between.
    #[test]
    fn csu_07_queues_are_three_lists(ops in proptest::collection::vec(op(), 1..300)) {
        let mut store = Store::new(1);
        let peers = [store.add_peer(), store.add_peer(), store.add_peer()];
        let group = store.add_group();
        let mut model = vec![Model::default(); 3];
        let mut ids: Vec<_> =
            (0..8_u8).map(|n| put(&mut store, &new_entry(&[n], b"o", b"body"))).collect();
        for (clock, op) in (20..).zip(ops) {
            let now = Time::from_nanos(clock);
            match op {
                Op::Enqueue(entry, peer, solicited) => {
                    store.enqueue(ids[entry], PeerIndex(peer), solicited);
                    model[usize::from(peer)].enqueue(entry, solicited);
                }
                Op::Send(peer) => {
                    if let Some((id, _)) = store.peek_unsent(PeerIndex(peer)) {
                        model[usize::from(peer)].send(now, store.wire_len(id));
                    }
                    store.mark_sent(PeerIndex(peer), now);
                }
                Op::Acknowledge(entry, peer) => {
                    let expected = model[usize::from(peer)]
                        .take(entry)
                        .map(|p| (p.sent_at, p.retries));
                    let done = store.acknowledge(ids[entry], PeerIndex(peer));
                    prop_assert_eq!(done.map(|it| (it.sent_at, it.retries)), expected);
                }
                Op::Overdue(peer, age) => {
                    let before = Time::from_nanos(clock - age);
                    let expected = model[usize::from(peer)].overdue(before);
                    let taken = store.take_overdue(PeerIndex(peer), before);
                    prop_assert_eq!(taken, expected.map(|(e, retries)| (ids[e], retries)));
                }
                Op::Resize(entry, len) => {
                    let update = Update {
                        seq: seq(2),
                        hop_count: 1,
                        body: &vec![0; len],
                        expires: None,
                        changed: now,
                        flags: EntryFlags::default(),
                    };
                    store.update(ids[entry], &update).unwrap();
                }
                Op::Replace(entry) => {
                    store.remove(ids[entry]);
                    for peer in &mut model {
                        peer.take(entry);
                    }
                    let key = [u8::try_from(entry).unwrap()];
                    ids[entry] = put(&mut store, &new_entry(&key, b"o", b"again"));
                }
                Op::Clear(peer) => {
                    store.clear_queue(PeerIndex(peer));
                    model[usize::from(peer)] = Model::default();
                }
                Op::Group(entry) => {
                    store.clear_queue(group);
                    store.enqueue(ids[entry], group, false);
                    prop_assert_eq!(store.peek_unsent(group), Some((ids[entry], false)));
                }
                Op::Tell(entry) => {
                    let told = &peers[..2];
                    store.mark_told(ids[entry], now, |peer| told.contains(&peer));
                    for model in &mut model[..2] {
                        model.tell(entry, now, store.wire_len(ids[entry]));
                    }
                }
            }
            for (peer, model) in peers.iter().zip(&model) {
                let unsent = model.unsent.len() + model.resend.len();
                prop_assert_eq!(store.unsent_len(*peer), unsent);
                prop_assert_eq!(store.in_flight_len(*peer), model.sent.len());
                prop_assert_eq!(store.queue_len(*peer), unsent + model.sent.len());
                let bytes: usize = model.sent.iter().map(|p| p.bytes).sum();
                prop_assert_eq!(store.in_flight_bytes(*peer), bytes);
                let resent = model.sent.iter().chain(&model.resend).filter(|p| p.retries > 0);
                prop_assert_eq!(store.resent_len(*peer), resent.count());
                let next = model.peek().map(|p| (ids[p.entry], p.solicited));
                prop_assert_eq!(store.peek_unsent(*peer), next);
                prop_assert_eq!(store.oldest_sent(*peer), model.sent.front().and_then(|p| p.sent_at));
            }
            for (entry, id) in ids.iter().enumerate() {
                let mut pending: Vec<_> = store.pending_peers(*id).collect();
                pending.sort_unstable();
                let expected: Vec<_> = peers
                    .into_iter()
                    .filter(|p| model[usize::from(p.0)].clone().take(entry).is_some())
                    .collect();
                prop_assert_eq!(pending, expected);
                let untold = |p: &Pending| p.entry == entry && !p.solicited;
                let expected = model.iter().filter(|model| model.unsent.iter().any(untold));
                prop_assert_eq!(store.untold_peers(*id).count(), expected.count());
            }
        }
    }
}

/// Goal: since when nothing was acknowledged goes on over resends and changes, and ends with any
/// acknowledgement and with the last record.
#[test]
fn csu_06_silence_outlasts_changes() {
    let mut store = Store::new(1);
    let peer = store.add_peer();
    let at = |secs| Time::ZERO.saturating_add(std::time::Duration::from_secs(secs));
    let ids = [0_u8, 1].map(|n| put(&mut store, &new_entry(&[n], b"o", b"body")));
    for id in ids {
        store.enqueue(id, peer, false);
    }
    assert_eq!(store.unanswered_since(peer), None);
    store.mark_sent(peer, at(1));
    store.mark_sent(peer, at(2));
    store.enqueue(ids[0], peer, false);
    store.enqueue(ids[1], peer, false);
    store.mark_sent(peer, at(3));
    assert!(store.take_overdue(peer, at(3)).is_some());
    assert_eq!(store.unanswered_since(peer), Some(at(1)));
    store.answered(peer);
    assert_eq!(store.unanswered_since(peer), None);
    store.mark_sent(peer, at(4));
    store.remove(ids[0]);
    assert_eq!(store.unanswered_since(peer), Some(at(4)));
    store.acknowledge(ids[1], peer);
    assert_eq!(store.unanswered_since(peer), None);
    store.enqueue_as_sent(ids[1], peer, at(5));
    assert_eq!(store.oldest_sent(peer), Some(at(5)));
    assert_eq!(store.unanswered_since(peer), Some(at(5)));
    store.clear_queue(peer);
    assert_eq!(store.unanswered_since(peer), None);
}
