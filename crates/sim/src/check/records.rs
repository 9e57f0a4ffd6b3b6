//! What is watched of every record that a hub holds, in one run of it.

use crate::client::{self, END_BEGINS};
use crate::hub::Seen;
use crate::plan::{MS, Plan};
use crate::report::Check;

use super::Violation;

/// What is known of the record of one chain, see [`client::chain`].
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// What was held when last looked at.
    held: Option<i32>,
    expires: Option<u64>,
    /// Largest sequence originated.
    originated: Option<i32>,
    /// Most hops with which the record of this sequence may go on.
    hops: Option<(i32, u16)>,
    /// The shard that holds it.
    shard: usize,
    /// Number of the sweep that saw it last.
    swept: u32,
}

/// The records that a hub holds and has originated, in this run.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecordWatch {
    hubs: usize,
    known: Vec<Known>,
    sweep: u32,
}

impl RecordWatch {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            hubs: plan.hubs.len(),
            known: vec![Known::default(); client::chains_len(plan)],
            sweep: 0,
        }
    }

    /// An entry was looked at: it must not have gone backwards unless it had gone (CSU-03), and
    /// lives no longer than when last looked at (K-03).
    pub(crate) fn held(
        &mut self,
        chain: usize,
        shard: usize,
        seen: Option<&Seen<'_>>,
    ) -> Result<(), Violation> {
        let known = &mut self.known[chain];
        known.shard = shard;
        let before = (known.held, known.expires);
        known.swept = self.sweep;
        known.held = seen.map(|seen| seen.seq);
        known.expires = seen
            .filter(|seen| !seen.withdrawn)
            .and_then(|seen| seen.expires);
        if seen.is_none() {
            known.hops = None;
        }
        let hub = chain % self.hubs;
        match (before.0, known.held) {
            // It was at its end, was purged and starts again (CSU-19), perhaps between two looks.
            (Some(END_BEGINS..), _) => return Ok(()),
            (Some(before), Some(seq)) if seq < before => {
                let detail = format!("chain {chain}, of hub {hub}: from {before} to {seq}");
                return Err((Check::Sequence, detail));
            }
            (Some(same), Some(seq)) if seq == same => {}
            _ => return Ok(()),
        }
        match (before.1, known.expires) {
            (Some(before), Some(expires)) if expires > before + 2 * MS => {
                let detail = format!("chain {chain}, of hub {hub}: until {before}, now {expires}");
                Err((Check::Life, detail))
            }
            _ => Ok(()),
        }
    }

    /// What was held when last looked at.
    pub(crate) fn last(&self, chain: usize) -> Option<i32> {
        self.known[chain].held
    }

    /// A record came and was taken in: it may go on with so many hops.
    pub(crate) fn came(&mut self, chain: usize, seq: i32, hops: u16) {
        self.known[chain].hops = Some((seq, hops));
    }

    /// Most hops with which the record of this sequence may go on.
    pub(crate) fn hops(&self, chain: usize, seq: i32) -> Option<u16> {
        let (known, hops) = self.known[chain].hops?;
        (known == seq).then_some(hops)
    }

    /// Every own change has a sequence above all before it (CSU-18), up to the end (CSU-19).
    pub(crate) fn originated(&mut self, chain: usize, seq: i32) -> Result<(), Violation> {
        match self.known[chain].originated.replace(seq) {
            Some(before) if seq <= before && before < END_BEGINS => {
                Err((Check::Sequence, format!("originated {seq} after {before}")))
            }
            _ => Ok(()),
        }
    }

    /// All entries of a shard are about to be looked at.
    pub(crate) fn begin_sweep(&mut self) {
        self.sweep += 1;
    }

    /// All entries of a shard were looked at: those that were not seen have gone, and may come
    /// back with any sequence.
    pub(crate) fn end_sweep(&mut self, shard: usize) {
        for known in &mut self.known {
            if known.held.is_some() && known.shard == shard && known.swept != self.sweep {
                (known.held, known.expires, known.hops) = (None, None, None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(seq: i32, expires: Option<u64>) -> Seen<'static> {
        Seen {
            seq,
            withdrawn: false,
            stamp: 0,
            content: &[],
            expires,
        }
    }

    /// Goal: CSU-03, a sequence that goes backwards is noticed; one that comes anew after its
    /// entry had gone is not.
    #[test]
    fn csu_03_sequences_going_backwards() {
        let mut watch = RecordWatch::new(&Plan::new(0, None, None));
        assert!(watch.held(0, 0, Some(&seen(5, None))).is_ok());
        assert!(watch.held(0, 0, Some(&seen(5, None))).is_ok());
        let back = watch.held(0, 0, Some(&seen(4, None)));
        assert_eq!(back.unwrap_err().0, Check::Sequence);
        assert!(watch.held(0, 0, None).is_ok());
        assert!(watch.held(0, 0, Some(&seen(1, None))).is_ok());
        watch.begin_sweep();
        watch.end_sweep(0);
        assert_eq!(watch.last(0), None);
    }

    /// Goal: CSU-19, what was at its end may start again, and nothing else.
    #[test]
    fn csu_19_restarted_sequences() {
        let mut watch = RecordWatch::new(&Plan::new(0, None, None));
        assert!(watch.held(0, 0, Some(&seen(END_BEGINS - 1, None))).is_ok());
        let back = watch.held(0, 0, Some(&seen(i32::MIN + 1, None)));
        assert_eq!(back.unwrap_err().0, Check::Sequence);
        assert!(watch.held(0, 0, Some(&seen(END_BEGINS, None))).is_ok());
        assert!(watch.held(0, 0, Some(&seen(i32::MIN + 1, None))).is_ok());
    }

    /// Goal: CSU-18, an own change that repeats a sequence is noticed.
    #[test]
    fn csu_18_repeated_sequences() {
        let mut watch = RecordWatch::new(&Plan::new(0, None, None));
        assert!(watch.originated(0, 5).is_ok());
        assert!(watch.originated(0, 6).is_ok());
        assert_eq!(watch.originated(0, 6).unwrap_err().0, Check::Sequence);
    }

    /// Goal: K-03, a life that grows is noticed; a newer record may have a longer one.
    #[test]
    fn k_03_growing_lives() {
        let mut watch = RecordWatch::new(&Plan::new(0, None, None));
        assert!(watch.held(0, 0, Some(&seen(5, Some(100 * MS)))).is_ok());
        assert!(watch.held(0, 0, Some(&seen(6, Some(900 * MS)))).is_ok());
        let grown = watch.held(0, 0, Some(&seen(6, Some(903 * MS))));
        assert_eq!(grown.unwrap_err().0, Check::Life);
    }

    /// Goal: CSU-16, how far a record goes is known of the instance that came last.
    #[test]
    fn csu_16_hops_left() {
        let mut watch = RecordWatch::new(&Plan::new(0, None, None));
        watch.came(0, 5, 3);
        assert_eq!(watch.hops(0, 5), Some(3));
        assert_eq!(watch.hops(0, 6), None);
        assert!(watch.held(0, 0, None).is_ok());
        assert_eq!(watch.hops(0, 5), None);
    }
}
