use super::*;

fn server() -> ServerId {
    ServerId::from_bytes(&[10, 0, 0, 1]).unwrap()
}

fn name(group: u16) -> InstanceName {
    InstanceName {
        protocol: ProtocolId::KV,
        group: ServerGroupId(group),
    }
}

fn open(folder: &tempfile::TempDir) -> DataDir {
    DataDir::open(&folder.path().join("data")).unwrap()
}

/// Goal: a missing directory is made, with those it is in; a second opener is told that it is used.
#[test]
fn one_process_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/data");
    let dir = DataDir::open(&path).unwrap();
    let refusal = DataDir::open(&path).unwrap_err().to_string();
    assert!(
        refusal.starts_with("server.data_dir: ") && refusal.contains("in use"),
        "{refusal}"
    );
    drop(dir);
    DataDir::open(&path).unwrap();
}

/// Goal: what cannot be a directory says so, with the key and the path.
#[test]
fn no_directory_no_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "").unwrap();
    for path in [&path, &path.join("data")] {
        let refusal = DataDir::open(path).unwrap_err().to_string();
        let expected = format!("server.data_dir: cannot create {}", path.display());
        assert!(refusal.starts_with(&expected), "{refusal}");
    }
}

/// Goal: D-19: only a directory without any mark says that the server never ran; one that makes no
/// sense does not.
#[test]
fn d_19_marks_of_origination() {
    let folder = tempfile::tempdir().unwrap();
    let dir = open(&folder);
    let mut originated = dir.originated().unwrap();
    assert!(!originated.contains(server(), name(1)));
    assert!(originated.add(server(), name(1)) && !originated.add(server(), name(1)));
    dir.note_originated(&originated).unwrap();
    let again = dir.originated().unwrap();
    assert_eq!(again, originated);
    assert!(again.contains(server(), name(1)));
    assert!(!again.contains(server(), name(2)), "by group");
    let other = ServerId::from_bytes(&[10, 0, 0, 2]).unwrap();
    assert!(!again.contains(other, name(1)), "by server");
    for garbage in ["", "\0\0\0\0", "10.0.0.1", "a b c d\n"] {
        fs::write(dir.file(ORIGINATED), garbage).unwrap();
        let originated = dir.originated().unwrap();
        assert!(originated.contains(server(), name(1)), "{garbage:?}");
    }
}

/// Goal: D-12: the mark of a graceful stop names one snapshot, and goes.
#[test]
fn d_12_mark_of_a_graceful_stop() {
    let folder = tempfile::tempdir().unwrap();
    let dir = open(&folder);
    assert_eq!(dir.graceful().unwrap(), None);
    dir.mark_graceful(0xABC).unwrap();
    assert_eq!(dir.graceful().unwrap(), Some(0xABC));
    dir.clear_graceful().unwrap();
    dir.clear_graceful().unwrap();
    assert_eq!(dir.graceful().unwrap(), None);
    fs::write(dir.file(GRACEFUL), "no number").unwrap();
    assert_eq!(dir.graceful().unwrap(), None);
}

/// Goal: a snapshot takes the last one's place in one step; what an ended process left half written
/// is gone after the next start, and the last whole one stays.
#[test]
fn snapshots_are_replaced_in_one_step() {
    let folder = tempfile::tempdir().unwrap();
    let text = |dir: &DataDir| {
        let file = dir.snapshot().unwrap();
        file.map(|mut file| {
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            text
        })
    };
    let dir = open(&folder);
    assert_eq!(text(&dir), None);
    dir.new_snapshot().unwrap().write_all(b"one").unwrap();
    assert_eq!(text(&dir), None);
    dir.commit_snapshot().unwrap();
    dir.new_snapshot().unwrap().write_all(b"half").unwrap();
    assert_eq!(text(&dir).unwrap(), "one");
    drop(dir);
    let dir = open(&folder);
    assert!(!dir.file(SNAPSHOT_TEMPORARY).exists());
    assert_eq!(text(&dir).unwrap(), "one");
    let damaged = dir.keep_damaged().unwrap();
    dir.new_snapshot().unwrap().write_all(b"two").unwrap();
    dir.commit_snapshot().unwrap();
    assert_eq!(fs::read_to_string(damaged).unwrap(), "one");
    dir.keep_damaged().unwrap();
    let aside = dir.put_aside(5).unwrap();
    assert_eq!(
        (text(&dir), fs::read_to_string(aside).unwrap().as_str()),
        (None, "two")
    );
}
