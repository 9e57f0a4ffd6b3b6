//! What `Control` does about authentication (RFC 2334 B.3.1): signing what it sends, and counting
//! what the shards refused.

use crate::Now;
use crate::auth::{AuthFailure, Signing};
use crate::message::{Abnormal, Epoch};
use crate::setup::{DcsIndex, Destination};

use super::{Control, Notice, Outgoing};

impl Control {
    /// Packets that `Control` did not send, since no key was valid for them.
    pub fn withheld(&self) -> u64 {
        self.withheld
    }

    /// Hands out a finished packet, signed as it is to be now with the keys of `dcs`; a resent one
    /// is signed anew, since its key may have expired.
    pub(super) fn transmit(
        &mut self,
        now: Now,
        dcs: DcsIndex,
        to: Destination,
        mut bytes: Vec<u8>,
    ) {
        match self.setup.signing(dcs, now.unix_ms) {
            Signing::Plain => {}
            Signing::Signed(signer) => {
                let len = bytes.len();
                bytes.resize(len + signer.extension_len(), 0);
                let signed = signer.sign(&mut bytes, len);
                bytes.truncate(signed.expect("room was made"));
            }
            without @ (Signing::Unsigned | Signing::Withheld) => {
                let withheld = matches!(without, Signing::Withheld);
                self.notices.push_back(Notice::NoSendKey { dcs, withheld });
                if withheld {
                    self.withheld += 1;
                    return;
                }
            }
        }
        self.transmits.push_back(Outgoing { to, bytes });
    }

    /// Packets that failed authentication: counted, said, and only by the letter an abnormal event
    /// (X-04, D-03).
    pub(super) fn handle_unauthenticated(
        &mut self,
        now: Now,
        dcs: DcsIndex,
        epoch: Epoch,
        counts: [u64; AuthFailure::ALL.len()],
    ) {
        for (failure, count) in AuthFailure::ALL.into_iter().zip(counts) {
            if count > 0 {
                self.notices.push_back(Notice::Unauthenticated {
                    dcs,
                    failure,
                    count,
                });
            }
        }
        let (cause, count) = (Abnormal::Authentication, counts.iter().sum());
        if self.setup.dcs[dcs.index()].auth.failure_resets {
            self.handle_abnormal(now, dcs, Some(epoch), cause, count);
        } else {
            self.dcs[dcs.index()].abnormal[cause.index()] += count;
        }
    }
}
