//! Properties of the codec over any octets, any split of them, and any command.

use std::fmt::Write as _;

use proptest::collection::vec;
use proptest::prelude::*;
use scsp_resp::{Decoder, Limits, Protocol, Writer};

type Command = Vec<Vec<u8>>;

/// Small limits, so that random streams meet them.
const LIMITS: Limits = Limits {
    args_max: 5,
    bulk_len_max: 40,
    inline_len_max: 30,
    command_len_max: 90,
};

/// Feeds `chunks` as a connection would; gives the commands and the error that ended them, if any.
fn feed<'a>(
    limits: Limits,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Command>, Option<String>) {
    let mut decoder = Decoder::new(limits);
    let mut buf = Vec::new();
    let mut commands = Vec::new();
    for chunk in chunks {
        buf.extend_from_slice(chunk);
        loop {
            match decoder.decode(&buf) {
                Err(error) => return (commands, Some(error.to_string())),
                Ok(decoded) => {
                    let command: Option<Command> = decoded
                        .args
                        .map(|args| args.iter().map(<[u8]>::to_vec).collect());
                    let consumed = decoded.consumed;
                    assert!(consumed <= buf.len(), "no more than there is");
                    buf.drain(..consumed);
                    match command {
                        Some(command) => {
                            assert!(
                                consumed > 0 && !command.is_empty(),
                                "every turn gets further"
                            );
                            commands.push(command);
                        }
                        None => break,
                    }
                }
            }
        }
    }
    (commands, None)
}

/// Octets that look like the protocol often enough to get past its first line.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => vec(vec(any::<u8>(), 0..20), 1..5).prop_map(|command| encoded(&command)),
        1 => r#"[a"' \\x0]{0,12}"#.prop_map(|line| format!("{line}\r\n").into_bytes()),
        1 => "[*$][0-9-]{0,3}\r?\n?".prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..8),
        1 => Just(b"\r\n".to_vec()),
        1 => Just(b"*0\r\n".to_vec()),
    ];
    vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn encoded(command: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out, Protocol::Resp2);
    writer.array(command.len());
    for arg in command {
        writer.bulk(arg);
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    /// Goal: no octets make the decoder panic or stand still.
    #[test]
    fn any_octets_are_survived(octets: Vec<u8>) {
        let (commands, error) = feed(Limits::default(), [octets.as_slice()]);
        prop_assert!(error.is_some() || commands.len() <= octets.len());
    }

    /// Goal: how a stream is cut into reads does not matter.
    #[test]
    fn any_split_gives_the_same_commands(octets in stream(), cuts in vec(1usize..9, 1..9)) {
        let whole = feed(LIMITS, [octets.as_slice()]);
        let single = feed(LIMITS, octets.chunks(1));
        prop_assert_eq!(&single, &whole);
        let mut rest = octets.as_slice();
        let mut lens = cuts.iter().cycle();
        let pieces = std::iter::from_fn(|| {
            let (piece, tail) = rest.split_at((*lens.next()?).min(rest.len()));
            rest = tail;
            (!piece.is_empty()).then_some(piece)
        });
        prop_assert_eq!(feed(LIMITS, pieces), whole);
    }

    /// Goal: what is written as arrays of bulk strings is read back.
    #[test]
    fn written_commands_are_read_back(commands in vec(vec(vec(any::<u8>(), 0..300), 1..6), 0..6)) {
        let octets: Vec<u8> = commands.iter().flat_map(|command| encoded(command)).collect();
        prop_assert_eq!(feed(Limits::default(), [octets.as_slice()]), (commands, None));
    }

    /// Goal: every word survives double quotes with hexadecimal escapes.
    #[test]
    fn quoted_words_are_read_back(command in vec(vec(any::<u8>(), 0..40), 1..6)) {
        let mut line = String::new();
        for word in &command {
            line.push_str(" \"");
            for octet in word {
                write!(line, "\\x{octet:02x}").expect("text takes every write");
            }
            line.push('"');
        }
        line.push('\n');
        prop_assert_eq!(feed(Limits::default(), [line.as_bytes()]), (vec![command], None));
    }

    /// Goal: whatever a client sends, refusals are one line.
    #[test]
    fn error_replies_are_one_line(command in vec(vec(any::<u8>(), 0..200), 1..5)) {
        let octets = encoded(&command);
        let mut decoder = Decoder::default();
        let args = decoder.decode(&octets).expect("well-formed").args.expect("complete");
        let mut out = Vec::new();
        if let Err(error) = scsp_resp::Command::resolve(args) {
            Writer::new(&mut out, Protocol::Resp2).error(error);
            prop_assert!(out.starts_with(b"-ERR ") && out.ends_with(b"\r\n"));
            prop_assert_eq!(out.iter().filter(|octet| matches!(octet, b'\r' | b'\n')).count(), 2);
        }
    }
}
