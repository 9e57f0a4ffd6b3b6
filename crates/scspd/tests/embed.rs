//! A hub inside this program, with a real one as its neighbour.

mod support;

use std::fs;
use std::time::Duration;

use redis::Commands;
use scspd::config::Config;
use scspd::embed::{Batch, Embedded};

use support::{Backend, Hub, Net, PATIENCE, Setup, eventually, on_both_backends};

on_both_backends! {
    batches_come_back_when_the_neighbour_has_them,
    batches_come_back_without_neighbours,
}

const RECORDS: usize = 1000;

fn embed(setup: &Setup, backend: Backend) -> Embedded {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("hub.toml");
    let text = format!("{}\n[io]\nbackend = \"{}\"\n", setup.text(), backend.name());
    fs::write(&path, text).expect("written");
    Embedded::start(Config::load(&path).expect("valid")).expect("it starts")
}

/// Batches of up to 100 records, each for the worker that owns their keys.
fn batches(hub: &Embedded, value: &[u8]) -> Vec<(usize, Batch)> {
    let group = hub.hub().group(b"clients").expect("the group of the setup");
    let mut batches: Vec<(usize, Batch)> = Vec::new();
    for number in 0..RECORDS {
        let key = format!("key-{number}").into_bytes();
        let owner = hub.owner(&key);
        let open = batches
            .iter_mut()
            .find(|(worker, batch)| *worker == owner && batch.len() < 100);
        match open {
            Some((_, batch)) => batch.push(&key, value),
            None => {
                let mut batch = Batch::new(group);
                batch.push(&key, value);
                batches.push((owner, batch));
            }
        }
    }
    batches
}

/// Submits all, and receives all back.
fn originate(hub: &mut Embedded, value: &[u8]) {
    let batches = batches(hub, value);
    let count = batches.len();
    for (worker, batch) in batches {
        hub.submit(worker, batch);
    }
    let mut records = 0;
    for _ in 0..count {
        let batch = hub.receive(PATIENCE).expect("it is acknowledged");
        assert_eq!(batch.refused(), 0);
        records += batch.len();
    }
    assert_eq!(records, RECORDS);
    assert!(hub.receive(Duration::ZERO).is_none());
}

/// Goal: what has come back can be read at the neighbour at once, also when the same keys are
/// written again; stopping the embedded hub ends its threads and frees its addresses.
fn batches_come_back_when_the_neighbour_has_them(backend: Backend) {
    let net = Net::claim();
    let mut here = embed(&Setup::hub(&net, 1, &[2]), backend);
    let there = Hub::start(&Setup::hub(&net, 2, &[1]), backend);
    there.wait_until_aligned();
    let released = || here.hub().is_released(scspd::embed::InstanceIndex(0));
    eventually("the embedded hub serves", released);
    let mut redis = there.redis();
    for value in ["first", "second"] {
        originate(&mut here, value.as_bytes());
        for number in [0, RECORDS / 2, RECORDS - 1] {
            let got: Option<String> = redis.get(format!("key-{number}")).expect("a reply");
            assert_eq!(got.as_deref(), Some(value));
        }
    }
    here.stop().expect("it stops");
    let again = embed(&Setup::hub(&net, 1, &[2]), backend);
    again.stop().expect("it stops");
}

/// Goal: a hub on its own has nobody to wait for.
fn batches_come_back_without_neighbours(backend: Backend) {
    let net = Net::claim();
    let mut hub = embed(&Setup::hub(&net, 1, &[]), backend);
    let released = || hub.hub().is_released(scspd::embed::InstanceIndex(0));
    eventually("the embedded hub serves", released);
    originate(&mut hub, b"value");
    hub.stop().expect("it stops");
}
