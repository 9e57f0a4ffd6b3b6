//! Any octets as a snapshot: blocks are read up to the first damaged one without a panic, and
//! nothing is kept in memory beyond one block.
//!
//! No random octets have a right checksum, so the input is also taken as the payloads of blocks that
//! do: the first octet of each is its kind, the next two its length. What is read of those is
//! restored into a shard, and what the shard then hands out is read again.
//!
//! The module is compiled in directly: the daemon's other dependencies are of no use here.

#![no_main]
#![forbid(unsafe_code)]

#[allow(dead_code, reason = "the daemon's parts are not all exercised")]
#[path = "../../scspd/src/snapshot/format.rs"]
mod format;

use std::sync::Arc;
use std::time::Duration;

use format::{Block, Encoder, FILE_HEAD_LEN, Reader, Writer};
use libfuzzer_sys::fuzz_target;
use scsp_engine::snapshot::{Kept, Part, Walk};
use scsp_engine::{InstanceIndex, InstanceSetup, Now, Setup, Shard, ShardIndex, Time};
use scsp_profile::Profile;
use scsp_wire::{FamilyId, ProtocolId, ServerGroupId, ServerId};

const ID: u64 = 7;

fuzz_target!(|octets: &[u8]| {
    read(octets, |_| {});
    let mut shard = shard();
    let file = file(octets);
    read(&file, |block| match block {
        Block::Entries {
            entries,
            taken_unix_ms,
            ..
        } => {
            for kept in entries {
                let elapsed = Duration::from_millis(taken_unix_ms);
                shard.restore(now(), InstanceIndex(0), elapsed, &kept);
            }
        }
        Block::Past { past, .. } => shard.recall(InstanceIndex(0), &past),
        Block::Server(_) | Block::End => {}
    });
    shard.handle_timeouts(now());
    let (mut walk, mut out) = (Walk::default(), Vec::new());
    while shard.export(now(), &mut walk, 1000, &mut out) != Part::End {}
    let mut rest = &out[..];
    while !rest.is_empty() {
        (_, rest) = Kept::split_first(rest).expect("what is handed out can be read");
    }
});

fn read(octets: &[u8], mut each: impl FnMut(Block<'_>)) {
    let Ok(mut reader) = Reader::new(octets) else {
        return;
    };
    loop {
        match reader.next_block() {
            Ok(Block::End) | Err(_) => return,
            Ok(block) => each(block),
        }
    }
}

/// A file whose blocks have the payloads that `octets` say.
fn file(mut octets: &[u8]) -> Vec<u8> {
    let writer = Writer {
        server: lsid(),
        hash_seed: 1,
        taken_unix_ms: 0,
    };
    let mut file = Encoder::new(ID).begin(&writer);
    let mut number = 1_u32;
    while let [kind, high, low, rest @ ..] = octets {
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (payload, rest) = rest.split_at(len);
        octets = rest;
        let len = u32::try_from(len).expect("two octets");
        let block = [&[*kind][..], &len.to_be_bytes(), payload].concat();
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&ID.to_be_bytes());
        hasher.update(&number.to_be_bytes());
        hasher.update(&block);
        file.extend_from_slice(&block);
        file.extend_from_slice(&hasher.finalize().to_be_bytes());
        number += 1;
    }
    assert!(file.len() > FILE_HEAD_LEN);
    file
}

fn lsid() -> ServerId {
    ServerId::from_bytes(&[10, 0, 0, 1]).expect("4 octets are an id")
}

fn now() -> Now {
    Now {
        time: Time::from_nanos(1 << 40),
        unix_ms: 1_790_000_000_000,
    }
}

fn shard() -> Shard {
    let second = Duration::from_secs(1);
    let setup = Setup {
        lsid: lsid(),
        shards: 1,
        hash_seed: 1,
        started_unix_ms: now().unix_ms,
        instances: vec![InstanceSetup {
            protocol: ProtocolId::KV,
            group: ServerGroupId(1),
            family: FamilyId(0),
            profile: Profile::Kv,
            hello_interval_secs: 3,
            dead_factor: 3,
            ca_retransmit: second,
            csus_retransmit: second,
            csu_retransmit: second,
            csu_retransmit_max: 5,
            csus_retransmit_max: 5,
            hop_count: 16,
            restart_increment: 1000,
            boot_hold: second,
            purge_retention: second,
            ignore_abnormal: false,
        }],
        links: Vec::new(),
        dcs: Vec::new(),
    };
    Shard::new(Arc::new(setup), ShardIndex(0), now())
}
