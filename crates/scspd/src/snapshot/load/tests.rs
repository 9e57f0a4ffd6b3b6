use scsp_engine::ShardIndex;
use scsp_engine::shard::{Condition, Life};
use scsp_net::Backend;
use scsp_wire::ServerId;
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::config::Config;
use crate::daemon::engine_setup;
use crate::reach::reaches;
use crate::runtime;
use crate::snapshot::Slice;
use crate::snapshot::write::{Order, WriteError, Written, write};

use super::*;

const GROUPS: &str = "[[group]]\nname = \"a\"\n[[group]]\nname = \"b\"\nprotocol = \"0xFF01\"\n";
/// Records of each group.
const COUNT: u32 = 3000;
const KV: InstanceIndex = InstanceIndex(0);
const OPAQUE: InstanceIndex = InstanceIndex(1);

/// The shards of one hub.
struct Shards {
    setup: Arc<Setup>,
    all: Vec<Shard>,
    clock: Clock,
}

impl Shards {
    fn new(text: &str, workers: usize) -> Self {
        let id = ServerId::from_bytes(&[10, 0, 0, 1]).unwrap();
        let config = Config::parse("hub.toml", text, || id).unwrap();
        let clock = Clock::start();
        let (reaches, links) = reaches(&config);
        let setup = Arc::new(engine_setup(&config, &reaches, &links, workers, 5));
        let all = (0..setup.shards).map(ShardIndex);
        let all = all.map(|at| Shard::new(Arc::clone(&setup), at, clock.now()));
        Self {
            all: all.collect(),
            setup,
            clock,
        }
    }

    fn home(&mut self, key: &[u8]) -> &mut Shard {
        &mut self.all[shard_of(key, self.setup.shards).index()]
    }

    fn fill(&mut self) {
        let now = self.clock.now();
        for n in 0..COUNT {
            let (key, value) = (n.to_be_bytes(), vec![0x55; 60 + n as usize % 50]);
            let home = self.home(&key);
            let life = if n % 3 == 0 {
                Life::For(Duration::from_secs(1000))
            } else {
                Life::Forever
            };
            home.kv_set(now, KV, &key, &value, life, Condition::Always)
                .unwrap();
            home.publish(now, OPAQUE, &key, &value, None).unwrap();
        }
    }

    /// Number of entries and digest of an instance.
    fn digest(&self, at: InstanceIndex) -> (usize, u64) {
        let profile = self.setup.instances[at.index()].profile;
        let each = self.all.iter();
        each.map(|shard| shard.store(at).digest(profile, |_| true))
            .fold((0, 0), |(n, sum), (more, digest)| {
                (n + more, sum.wrapping_add(digest))
            })
    }

    /// Writes a snapshot as the control thread does; `workers` of them take part.
    fn write(
        &self,
        dir: &Arc<DataDir>,
        backend: Backend,
        is_last: bool,
        workers: usize,
    ) -> Result<Written, WriteError> {
        let order = Order {
            id: 42,
            taken_unix_ms: self.clock.now().unix_ms,
            is_last,
            setup: Arc::clone(&self.setup),
            backend,
        };
        let written = runtime::run(backend, async {
            let (filled, slices) = mpsc::channel(self.all.len());
            let (returns, mut empty) = mpsc::channel(self.all.len());
            let mut job = runtime::spawn(write(Arc::clone(dir), order, slices, returns));
            let fill = |mut slice: Box<Slice>| {
                slice.fill(self.clock.now(), &self.all[slice.worker]);
                filled.try_send(slice).unwrap();
            };
            for worker in 0..workers {
                fill(Box::new(Slice::new(42, worker)));
            }
            if workers < self.all.len() {
                drop(filled);
                return job.await.unwrap();
            }
            loop {
                tokio::select! {
                    written = &mut job => return written.unwrap(),
                    Some(slice) = empty.recv() => fill(slice),
                }
            }
        });
        written.unwrap()
    }

    fn load(&mut self, dir: &DataDir) -> Loaded {
        let mut reader = Reader::new(dir.snapshot().unwrap().unwrap()).unwrap();
        assert!(matches!(reader.next_block(), Ok(Block::Server(_))));
        let now = self.clock.now();
        load(&mut reader, &self.setup, &mut self.all, now)
    }
}

fn backends() -> Vec<Backend> {
    let auto = scsp_net::select(scsp_net::BackendChoice::Auto).unwrap();
    let mut backends = vec![Backend::Poll];
    if auto.backend == Backend::IoUring {
        backends.push(Backend::IoUring);
    }
    backends
}

/// Goal: with either backend a snapshot of two shards fills three of the next run, record by
/// record; only the last one bears the mark of a graceful stop, and both leave that of having
/// originated.
#[test]
fn d_19_a_snapshot_fills_the_next_run() {
    for backend in backends() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Arc::new(DataDir::open(folder.path()).unwrap());
        let mut before = Shards::new(GROUPS, 2);
        before.fill();
        for is_last in [false, true] {
            let written = before.write(&dir, backend, is_last, 2).unwrap();
            assert_eq!(written.entries, 2 * u64::from(COUNT));
            assert_eq!(dir.graceful().unwrap(), is_last.then_some(42));
            let mut after = Shards::new(GROUPS, 3);
            let loaded = after.load(&dir);
            assert!(loaded.damage.is_none());
            let taken = Counts {
                taken: 2 * u64::from(COUNT),
                ..Counts::default()
            };
            assert_eq!(loaded.counts, taken);
            for at in [KV, OPAQUE] {
                assert_eq!(before.digest(at), after.digest(at));
            }
            let pasts: Vec<_> = loaded.pasts.into_iter().map(Option::unwrap).collect();
            assert!(pasts[0].clock > pasts[1].clock, "K-05");
        }
        let originated = dir.originated().unwrap();
        assert!(names(&before.setup).all(|name| originated.contains(before.setup.lsid, name)));
    }
}

/// Goal: a snapshot that is not finished leaves the last one and no trace of itself.
#[test]
fn an_abandoned_snapshot_leaves_the_last_one() {
    for backend in backends() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Arc::new(DataDir::open(folder.path()).unwrap());
        let mut shards = Shards::new(GROUPS, 2);
        shards.write(&dir, backend, false, 2).unwrap();
        shards.fill();
        let stopped = shards.write(&dir, backend, true, 1);
        assert!(matches!(stopped, Err(WriteError::Stopped)), "{stopped:?}");
        assert_eq!(dir.graceful().unwrap(), None);
        let mut files: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        assert_eq!(files, ["lock", "originated", "snapshot"]);
        let mut after = Shards::new(GROUPS, 2);
        assert_eq!(after.load(&dir).counts, Counts::default());
    }
}

/// Goal: groups that are not configured any more, and records that are malformed for the protocol
/// that a group has now, are counted and left out.
#[test]
fn what_has_no_place_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let dir = Arc::new(DataDir::open(folder.path()).unwrap());
    let mut before = Shards::new(GROUPS, 2);
    before.fill();
    before.write(&dir, Backend::Poll, true, 2).unwrap();
    let mut after = Shards::new("", 1);
    let loaded = after.load(&dir);
    let count = u64::from(COUNT);
    assert_eq!((loaded.counts.taken, loaded.counts.foreign), (count, count));
    assert_eq!(loaded.pasts.len(), 1);
}

/// Goal: a snapshot that ends early gives what comes before, and its records only.
#[test]
fn a_damaged_snapshot_gives_what_comes_before() {
    let folder = tempfile::tempdir().unwrap();
    let dir = Arc::new(DataDir::open(folder.path()).unwrap());
    let mut before = Shards::new(GROUPS, 2);
    before.fill();
    before.write(&dir, Backend::Poll, true, 2).unwrap();
    let path = dir.snapshot_path();
    let mut octets = std::fs::read(&path).unwrap();
    let middle = octets.len() / 2;
    octets[middle] ^= 0x10;
    std::fs::write(&path, &octets).unwrap();
    let mut after = Shards::new(GROUPS, 2);
    let loaded = after.load(&dir);
    let (taken, total) = (loaded.counts.taken, 2 * u64::from(COUNT));
    assert!(
        loaded.damage.is_some() && taken > 0 && taken < total,
        "{taken}"
    );
    let held = after.digest(KV).0 + after.digest(OPAQUE).0;
    assert_eq!(held as u64, taken);
}
