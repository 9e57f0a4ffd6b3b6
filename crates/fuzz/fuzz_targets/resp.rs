//! Any octets as a client's stream: no panic, the same commands however the stream is cut, and one
//! well-formed refusal or result from every argument parser.
//!
//! The first octet is the size of the pieces that the stream is cut into.

#![no_main]
#![forbid(unsafe_code)]

use libfuzzer_sys::fuzz_target;
use scsp_resp::options::{
    Auth, Expire, Hello, Scan, ScspDigest, ScspGet, ScspPeerClear, ScspPublish, ScspScan, Set,
    Timed, client, mset_pairs, ping, scsp_peers, select,
};
use scsp_resp::{Args, Command, CommandError, CommandId, Decoder, Protocol, Writer};
use scsp_resp::{command, glob};

fuzz_target!(|bytes: &[u8]| {
    let Some((piece_len, stream)) = bytes.split_first() else {
        return;
    };
    let piece_len = usize::from(*piece_len).max(1);
    assert_eq!(replies(stream.chunks(piece_len)), replies([stream]));
});

/// What a server without state answers.
fn replies<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut decoder = Decoder::default();
    let mut buf = Vec::new();
    let mut out = Vec::new();
    for piece in pieces {
        buf.extend_from_slice(piece);
        loop {
            let decoded = match decoder.decode(&buf) {
                Ok(decoded) => decoded,
                Err(error) => {
                    Writer::new(&mut out, Protocol::Resp3).error(error);
                    return out;
                }
            };
            let consumed = decoded.consumed;
            let is_command = decoded.args.is_some();
            if let Some(args) = decoded.args {
                answer(&mut out, args);
            }
            buf.drain(..consumed);
            if !is_command {
                break;
            }
        }
    }
    out
}

fn answer(out: &mut Vec<u8>, args: Args<'_>) {
    let start = out.len();
    let mut writer = Writer::new(out, Protocol::Resp3);
    match Command::resolve(args).and_then(|found| Ok((found.id, check_options(found, args)?))) {
        Ok((CommandId::Command, ())) => command::reply_command(&mut writer, args),
        Ok(_) => writer.bulk(args.name()),
        Err(error) => {
            writer.error(error);
            let line = out.get(start..).unwrap_or_default();
            let ends = line
                .iter()
                .filter(|octet| matches!(octet, b'\r' | b'\n'))
                .count();
            assert!(line.ends_with(b"\r\n") && ends == 2, "one line");
        }
    }
}

fn check_options<'a>(found: &Command, args: Args<'a>) -> Result<(), CommandError<'a>> {
    assert!(found.keys(args).count() < args.len());
    match found.id {
        CommandId::Auth => Auth::parse(args).map(drop),
        CommandId::Client => client(args).map(drop),
        CommandId::Config => found.subcommand(args).map(drop),
        CommandId::Expire => Expire::parse_expire(args).map(drop),
        CommandId::Hello => Hello::parse(args).map(drop),
        CommandId::Keys => {
            glob::matches(args.at(1), args.name());
            Ok(())
        }
        CommandId::Mset => mset_pairs(args).map(|pairs| assert_eq!(pairs.len(), args.len() / 2)),
        CommandId::Pexpire => Expire::parse_pexpire(args).map(drop),
        CommandId::Ping => ping(args).map(drop),
        CommandId::Psetex => Timed::parse_psetex(args).map(drop),
        CommandId::Scan => Scan::parse(args).map(drop),
        CommandId::ScspDigest => ScspDigest::parse(args).map(drop),
        CommandId::ScspGet => ScspGet::parse(args).map(drop),
        CommandId::ScspPeer => ScspPeerClear::parse(args).map(drop),
        CommandId::ScspPeers => scsp_peers(args).map(drop),
        CommandId::ScspPublish => ScspPublish::parse(args).map(drop),
        CommandId::ScspScan => ScspScan::parse(args).map(drop),
        CommandId::Select => select(args).map(drop),
        CommandId::Set => Set::parse(args).map(drop),
        CommandId::Setex => Timed::parse_setex(args).map(drop),
        _ => Ok(()),
    }
}
