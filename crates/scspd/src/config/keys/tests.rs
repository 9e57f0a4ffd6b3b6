//! Good and bad keys; bad ones are compared with the exact lines an operator sees.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use scsp_wire::ServerId;
use tempfile::TempDir;

use super::*;
use crate::config::ConfigErrors;

/// Line 4 is that of `auth`, line 5 the first one of the key.
const PEER: &str = "[[group]]\n[[group.peer]]\naddress = \"127.0.0.2:2334\"\n";
const KEY: &str = "[[group.peer.key]]\nspi = 256\nalgorithm = \"hmac-md5-128\"\n";
const SECRET: &str = "secret = \"text:swordfishswordfish\"\n";

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    let own_id = || ServerId::from_bytes(&[10, 0, 0, 1]).unwrap();
    Config::parse("hub.toml", text, own_id)
}

fn good(text: &str) -> Peer {
    let config = parse(text).unwrap_or_else(|errors| panic!("{text}\n{errors}"));
    config.groups[0].peers[0].clone()
}

fn refused(text: &str, lines: &[&str]) {
    match parse(text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(errors) => assert_eq!(errors.to_string(), lines.join("\n"), "for:\n{text}"),
    }
}

/// One key with these lines in it.
fn with_key(auth: &str, lines: &str) -> String {
    format!("{PEER}auth = \"{auth}\"\n{KEY}{lines}")
}

fn file(folder: &TempDir, content: &[u8], mode: u32) -> String {
    let path = folder.path().join("key");
    // It may be there already, unwritable.
    let _ = fs::remove_file(&path);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn x_01_keys_are_read() {
    // Goal: every key of the section, its defaults, and what the cores are told.
    let text = format!(
        "{PEER}auth = \"require\"\n{KEY}{SECRET}
        [[group.peer.key]]
        spi = 4294967295
        algorithm = \"blake3-256\"
        direction = \"send\"
        secret = \"hex:00fF10\"
        send_from = \"2026-01-01T00:00:00Z\"
        send_until = 2026-01-02T01:30:00.250+01:30
        [[group.peer.key]]
        spi = 0
        algorithm = \"hmac-sha-512-256\"
        direction = \"receive\"
        secret = \"text: \"
        accept_until = \"2026-01-01T00:00:00-05:00\"
        "
    );
    let peer = good(&text);
    let second = 1_767_225_600_000; // 2026-01-01T00:00:00Z
    assert_eq!((peer.auth, peer.keys.len()), (AuthMode::Require, 3));
    let [both, send, receive] = &peer.keys[..] else {
        panic!()
    };
    assert_eq!((both.spi, both.direction), (256, Direction::Both));
    assert_eq!(
        (both.send, both.accept),
        (Period::default(), Period::default())
    );
    assert_eq!(*both.secret.0, b"swordfishswordfish");
    assert_eq!((send.spi, send.algorithm), (u32::MAX, Algorithm::Blake3));
    assert_eq!(*send.secret.0, [0, 0xFF, 0x10]);
    let (from_ms, until_ms) = (Some(second), Some(second + 86_400_250));
    assert_eq!(send.send, Period { from_ms, until_ms });
    assert_eq!(*receive.secret.0, b" ");
    assert_eq!(receive.accept.until_ms, Some(second + 5 * 3_600_000));

    for (action, resets) in [
        (AuthFailureAction::Discard, false),
        (AuthFailureAction::Reset, true),
    ] {
        let setup = peer.auth_setup(action);
        assert_eq!(
            (setup.mode, setup.failure_resets),
            (AuthMode::Require, resets)
        );
        let ways: Vec<_> = (setup.keys.iter())
            .map(|key| (key.send.is_some(), key.receive.is_some()))
            .collect();
        assert_eq!(ways, [(true, true), (true, false), (false, true)]);
    }
}

#[test]
fn x_06_times_are_those_of_rfc_3339() {
    // Goal: offsets shift the time, whatever else is no time, and all is written as it is read.
    for (text, unix_ms) in [
        ("1970-01-01T00:00:00Z", Some(0)),
        ("2026-11-22T12:00:00Z", Some(1_795_348_800_000)),
        ("2026-11-22T12:00:00.5Z", Some(1_795_348_800_500)),
        ("2026-11-22T12:00:00+00:30", Some(1_795_347_000_000)),
        ("2026-11-22T12:00:00-11:00", Some(1_795_388_400_000)),
        ("1970-01-01T00:00:00+01:00", None),
        ("2026-11-22T12:00:00", None),
        ("2026-11-22", None),
        ("2026-13-01T00:00:00Z", None),
        ("2026-11-22T12:00:00+24:00", None),
        ("2026-11-22T12:00:00+1:00", None),
        ("2026-11-22T12:00:00+01:60", None),
        ("2026-11-22T12:00:00+-1:00", None),
        ("noon", None),
        ("é:00", None),
        ("", None),
    ] {
        assert_eq!(parse_moment(text), unix_ms, "{text}");
        if let Some(unix_ms) = unix_ms {
            assert_eq!(
                parse_moment(&format_moment(unix_ms)),
                Some(unix_ms),
                "{text}"
            );
        }
    }
}

#[test]
fn x_01_secret_files() {
    // Goal: a file gives its octets without the newline, or what its prefix makes of them; one that
    // others may use is refused with its mode.
    let folder = tempfile::tempdir().unwrap();
    for (content, secret) in [
        (&b"swordfish\n"[..], &b"swordfish"[..]),
        (b"swordfish\r\n", b"swordfish"),
        (b"two\nlines\n\n", b"two\nlines\n"),
        (b"\xFF\x00binary", b"\xFF\x00binary"),
        (b"text:hex:", b"hex:"),
        (b"hex:736563726574\n", b"secret"),
    ] {
        for mode in [0o600, 0o400] {
            let path = file(&folder, content, mode);
            let text = with_key("require", &format!("secret_file = \"{path}\""));
            assert_eq!(*good(&text).keys[0].secret.0, secret);
        }
    }
    let line =
        |message: String| format!("hub.toml:8: group[0].peer[0].key[0].secret_file: {message}");
    for (mode, shown) in [
        (0o640, "0640"),
        (0o604, "0604"),
        (0o622, "0622"),
        (0o4610, "4610"),
    ] {
        let path = file(&folder, b"secret", mode);
        let text = with_key("off", &format!("secret_file = \"{path}\""));
        let message = format!(
            "expected a file that only its owner may use (mode 0600), got mode {shown} of \"{path}\""
        );
        refused(&text, &[&line(message)]);
    }
    for content in [
        &b""[..],
        b"\n",
        b"hex:",
        b"hex:0",
        b"hex:0g",
        b"text:\n",
        &[b'x'; 1025],
        &[b'x'; 9000],
    ] {
        let path = file(&folder, content, 0o600);
        let text = with_key("off", &format!("secret_file = \"{path}\""));
        let message = format!(
            "expected a file with 1 to 1024 octets, or \"hex:…\" or \"text:…\" with 1 to 1024 octets, \
             got \"{path}\" with other content"
        );
        refused(&text, &[&line(message)]);
    }
    let shown = folder.path().display();
    let text = with_key("off", &format!("secret_file = \"{shown}\""));
    refused(
        &text,
        &[&line(format!("expected a file, \"{shown}\" is none"))],
    );
    let text = with_key("off", &format!("secret_file = \"{shown}/none\""));
    let message =
        format!("\"{shown}/none\" cannot be read: No such file or directory (os error 2)");
    refused(&text, &[&line(message)]);
    let text = with_key("off", "secret_file = \"hub-b.key\"");
    refused(
        &text,
        &[&line("expected an absolute path, got \"hub-b.key\"".into())],
    );
}

#[test]
fn x_01_bad_keys_are_errors() {
    // Goal: each says what was expected, and no secret is ever shown.
    let key = "hub.toml:5: group[0].peer[0].key[0]";
    for (lines, message) in [
        ("", format!("{key}.secret: missing, expected secret or secret_file")),
        (
            "secret = \"swordfish\"",
            "hub.toml:8: group[0].peer[0].key[0].secret: expected \"hex:…\" or \"text:…\" with 1 to \
             1024 octets, got a string of another form".into(),
        ),
        (
            "secret = \"text:\"",
            "hub.toml:8: group[0].peer[0].key[0].secret: expected \"hex:…\" or \"text:…\" with 1 to \
             1024 octets, got a string of another form".into(),
        ),
        (
            "secret = \"text:x\"\nsend_from = \"2026-01-01\"",
            "hub.toml:9: group[0].peer[0].key[0].send_from: expected a time such as \
             \"2026-01-01T00:00:00Z\" or \"2026-01-01T01:00:00+01:00\", got \"2026-01-01\"".into(),
        ),
        (
            "secret = \"text:x\"\naccept_from = \"2026-01-02T00:00:00Z\"\naccept_until = \"2026-01-02T00:00:00Z\"",
            "hub.toml:10: group[0].peer[0].key[0].accept_until: expected a time after accept_from \
             (2026-01-02T00:00:00Z)".into(),
        ),
        (
            "secret = \"text:x\"\ndirection = \"send\"\naccept_until = \"2026-01-02T00:00:00Z\"",
            "hub.toml:10: group[0].peer[0].key[0].accept_until: means nothing for a key with \
             direction \"send\"".into(),
        ),
        (
            "secret = \"text:x\"\nsecret_length = 3",
            "hub.toml:9: group[0].peer[0].key[0].secret_length: unknown key, expected one of spi, \
             direction, algorithm, secret, secret_file, send_from, send_until, accept_from, \
             accept_until".into(),
        ),
    ] {
        refused(&with_key("off", lines), &[&message]);
    }
    refused(
        &format!("{PEER}[[group.peer.key]]\nsecret = \"text:x\""),
        &[
            "hub.toml:4: group[0].peer[0].key[0].spi: missing, expected a number from 0 to 4294967295",
            "hub.toml:4: group[0].peer[0].key[0].algorithm: missing, expected an algorithm such as \"hmac-sha-256-128\"",
        ],
    );
    refused(
        &format!("{PEER}[[group.peer.key]]\nspi = -1\nalgorithm = \"md5\"\nsecret = \"text:x\""),
        &[
            "hub.toml:5: group[0].peer[0].key[0].spi: expected a whole number from 0 to 4294967295, got -1",
            "hub.toml:6: group[0].peer[0].key[0].algorithm: expected \"hmac-md5-128\" or \
             \"hmac-sha-256-128\" or \"hmac-sha-512-256\" or \"blake3-256\", got \"md5\"",
        ],
    );
}

#[test]
fn x_04_modes_need_keys() {
    // Goal: who signs needs a key to sign, who verifies one to verify; the rest is a warning.
    let auth = "hub.toml:4: group[0].peer[0].auth";
    for (mode, direction, wrong) in [
        ("accept", "send", Some("receive")),
        ("require", "send", Some("receive")),
        ("send", "receive", Some("send")),
        ("require", "receive", Some("send")),
        ("accept", "receive", None),
        ("send", "send", None),
        ("require", "both", None),
    ] {
        let text = with_key(mode, &format!("{SECRET}direction = \"{direction}\""));
        match wrong {
            None => drop(good(&text)),
            Some(word) => refused(
                &text,
                &[&format!(
                    "{auth}: \"{mode}\" needs a [[group.peer.key]] with direction \"{word}\" or \"both\""
                )],
            ),
        }
    }
    refused(
        &format!("{PEER}auth = \"accept\""),
        &[&format!(
            "{auth}: \"accept\" needs a [[group.peer.key]] with direction \"receive\" or \"both\""
        )],
    );
    let warnings = |text: &str| parse(text).unwrap().warnings();
    assert_eq!(warnings(&with_key("require", SECRET)), Vec::<String>::new());
    assert_eq!(
        warnings(&with_key(
            "send",
            "secret = \"text:short\"\ndirection = \"send\""
        )),
        [
            "group[0].peer[0].key[0]: a secret of 5 octets is easy to guess, 16 or more are advised",
            "group[0].peer[0].auth: no key can receive, so this peer's packets will be refused once \
             it signs them",
        ]
    );
    assert_eq!(
        warnings(&with_key("off", SECRET)),
        ["group[0].peer[0].auth: \"off\", so its keys are not used"]
    );
}

#[test]
fn x_01_one_receiving_key_at_a_time_has_an_spi() {
    // Goal: a received packet's SPI names one key at any moment; keys for sending may share theirs.
    let pair = |first: &str, second: &str| {
        format!("{PEER}auth = \"off\"\n{KEY}{SECRET}{first}\n{KEY}{SECRET}{second}")
    };
    let (early, late) = (
        "accept_until = 2026-01-01T00:00:00Z",
        "accept_from = 2026-01-01T00:00:00Z",
    );
    for (first, second) in [
        (early, late),
        (late, early),
        ("direction = \"send\"", ""),
        ("", "direction = \"send\""),
    ] {
        assert_eq!(good(&pair(first, second)).keys.len(), 2);
    }
    for (first, second) in [
        ("", ""),
        ("", late),
        (early, "accept_from = 2025-12-31T23:59:59Z"),
        ("direction = \"receive\"", early),
    ] {
        let wrong = "hub.toml:11: group[0].peer[0].key[1].spi: 256 already receives with key[0] at the same time";
        refused(&pair(first, second), &[wrong]);
    }
}

#[test]
fn x_04_the_effective_configuration_shows_no_secret() {
    // Goal: what `--check` prints holds every key but the secrets, and none can be read back by
    // mistake; what is in files reads back whole. Nor does `Debug` show any.
    let inline = with_key(
        "require",
        "secret = \"text:swordfishswordfish\"\ndirection = \"both\"",
    );
    let config = parse(&inline).unwrap();
    let (shown, debug) = (config.to_toml(), format!("{config:?}"));
    for text in [&shown, &debug] {
        assert!(
            !text.contains("swordfish") && !text.contains("73776f72"),
            "{text}"
        );
        assert!(!text.contains("115, 119, 111"), "{text}");
    }
    let wanted = "auth = \"require\"\n\n[[group.peer.key]]\nspi = 256\ndirection = \"both\"\n\
                  algorithm = \"hmac-md5-128\"\nsecret = \"(not shown)\"\n";
    assert!(shown.contains(wanted), "{shown}");
    assert!(
        parse(&shown)
            .unwrap_err()
            .to_string()
            .contains("key[0].secret: expected")
    );

    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, b"swordfish", 0o600);
    let text = with_key(
        "send",
        &format!(
            "secret_file = \"{path}\"\nsend_from = \"2026-01-01T00:00:00.125+02:00\"\n\
             accept_until = \"2027-01-01T00:00:00Z\""
        ),
    );
    let config = parse(&text).unwrap();
    let shown = config.to_toml();
    assert!(!shown.contains("swordfish"));
    assert!(
        shown.contains("send_from = \"2025-12-31T22:00:00.125"),
        "{shown}"
    );
    assert_eq!(parse(&shown).unwrap(), config);
}

#[test]
fn x_03_peers_that_share_packets_share_keys() {
    // Goal: on a multipoint link, and in a family, a packet is signed once for several peers.
    let key =
        |spi: u32| format!("[[group.peer.key]]\nspi = {spi}\nalgorithm = \"blake3-256\"\n{SECRET}");
    let peer = |host: u8, spi: u32| {
        format!(
            "[[group.peer]]\naddress = \"10.0.0.{host}:2334\"\nauth = \"require\"\n{}",
            key(spi)
        )
    };
    let udp = "[link.main]\nbind = \"10.0.0.1:2334\"\n";
    let multicast = "[link.main]\nkind = \"multicast\"\nbind = \"10.0.0.1:2334\"\n\
                     group = \"239.255.23.34:2334\"\ninterface = \"eth1\"\n";
    let families = |family: u8, spi: u32| {
        let (first, second) = (peer(2, 1), peer(2, spi));
        format!(
            "{udp}[[group]]\nfamily = 7\n{first}[[group]]\nname = \"b\"\nid = 2\nfamily = {family}\n{second}"
        )
    };
    for text in [
        format!("{multicast}[[group]]\n{}{}", peer(2, 1), peer(3, 1)),
        format!("{udp}[[group]]\n{}{}", peer(2, 1), peer(3, 2)),
        families(7, 1),
        families(8, 2),
    ] {
        assert_eq!(good(&text).auth, AuthMode::Require);
    }
    let fault = |line: u8, path: &str| {
        let first = "group[0].peer[0] has, which gets the same packets";
        format!("hub.toml:{line}: {path}.auth: expected auth and keys as {first}")
    };
    let text = format!("{multicast}[[group]]\n{}{}", peer(2, 1), peer(3, 2));
    refused(&text, &[&fault(16, "group[0].peer[1]")]);
    refused(&families(7, 2), &[&fault(18, "group[1].peer[0]")]);
}
