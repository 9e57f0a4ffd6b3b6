use super::*;

/// All commands at the front of `stream`, and the error that ends them, if one does.
fn decode_all(decoder: &mut Decoder, stream: &[u8]) -> (Vec<Vec<Vec<u8>>>, Option<String>) {
    let mut commands = Vec::new();
    let mut at = 0;
    loop {
        match decoder.decode(&stream[at..]) {
            Err(error) => return (commands, Some(error.to_string())),
            Ok(Decoded { consumed, args }) => {
                at += consumed;
                match args {
                    Some(args) => commands.push(args.iter().map(<[u8]>::to_vec).collect()),
                    None => return (commands, None),
                }
            }
        }
    }
}

fn commands(stream: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let (commands, error) = decode_all(&mut Decoder::default(), stream);
    assert_eq!(error, None);
    commands
}

fn error(stream: &[u8]) -> String {
    decode_all(&mut Decoder::default(), stream)
        .1
        .expect("the stream is no protocol")
}

/// Goal: pipelined arrays and inline commands mix; empty ones are skipped without a reply.
#[test]
fn pipelined_commands_come_one_by_one() {
    let stream = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n\r\n*0\r\n*-1\r\n  \nPING\r\n*1\r\n$0\r\n\r\n";
    let expected: [&[&[u8]]; 3] = [&[b"GET", b"a"], &[b"PING"], &[b""]];
    assert_eq!(commands(stream), expected);
}

/// Goal: arguments may hold any octet, line ends included.
#[test]
fn bulks_are_binary_safe() {
    let stream = b"*2\r\n$4\r\n\r\n*1\r\n$3\r\n\0\xff$\r\n";
    assert_eq!(commands(stream), [[&b"\r\n*1"[..], b"\0\xff$"]]);
}

/// Goal: inline words are unquoted as Redis does it.
#[test]
fn inline_words_are_unquoted() {
    let line = b"set \"a\\x00\\xfF\\n\\\"\" 'it\\'s \\n' pre\"mid\" \"\" \\x41 \"\\xg1\"\r\n";
    let expected: [&[u8]; 7] = [
        b"set",
        b"a\0\xff\n\"",
        b"it's \\n",
        b"premid",
        b"",
        b"\\x41",
        b"xg1",
    ];
    assert_eq!(commands(line), [expected]);
}

/// Goal: every malformed stream is named in the words of Redis.
#[test]
fn malformed_streams_are_named() {
    let long_line = vec![b'a'; INLINE_LEN_MAX as usize + 1];
    let cases: [(&[u8], &str); 17] = [
        (b"*x\r\n", "invalid multibulk length"),
        (b"*\r\n", "invalid multibulk length"),
        (b"*1048577\r\n", "invalid multibulk length"),
        (b"*1 \r\n", "invalid multibulk length"),
        (b"*1\rx", "invalid multibulk length"),
        (b"*0000000000000000000000000", "invalid multibulk length"),
        (b"*1\r\nx", "expected '$', got 'x'"),
        (b"*1\r\n\r", "expected '$', got '\\r'"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$a\r\n", "invalid bulk length"),
        (b"*1\r\n$16777217\r\n", "invalid bulk length"),
        (b"*1\r\n$1\r\nab\r\n", "expected end of bulk"),
        (b"*1\r\n$1\r\na\rb", "expected end of bulk"),
        (b"get \"a\r\n", "unbalanced quotes in request"),
        (b"get 'a\r\n", "unbalanced quotes in request"),
        (b"get \"a\"b\r\n", "unbalanced quotes in request"),
        (&long_line, "too big inline request"),
    ];
    for (stream, text) in cases {
        assert_eq!(
            error(stream),
            format!("ERR Protocol error: {text}"),
            "{}",
            stream.escape_ascii()
        );
    }
}

/// Goal: after an error the stream stays refused, whatever follows.
#[test]
fn errors_are_final() {
    let mut decoder = Decoder::default();
    assert_eq!(
        decoder.decode(b"*x\r\n").err(),
        Some(ProtocolError::InvalidMultibulkLength)
    );
    assert_eq!(
        decoder.decode(b"PING\r\n").err(),
        Some(ProtocolError::InvalidMultibulkLength)
    );
}

/// Goal: a client that has to authenticate cannot make the server hold much.
#[test]
fn unauthenticated_clients_are_kept_small() {
    let case = |stream: &[u8]| {
        let mut decoder = Decoder::default();
        decoder.set_authenticated(false);
        decode_all(&mut decoder, stream).1
    };
    let many = case(b"*11\r\n").expect("too many arguments");
    assert_eq!(many, "ERR Protocol error: unauthenticated multibulk length");
    let long = case(b"*1\r\n$16385\r\n").expect("too long an argument");
    assert_eq!(long, "ERR Protocol error: unauthenticated bulk length");
    assert_eq!(case(b"*10\r\n$16384\r\n"), None);
}

/// Goal: the limit on a whole command holds although each argument is small enough.
#[test]
fn whole_commands_are_limited() {
    let mut decoder = Decoder::new(Limits {
        command_len_max: 20,
        ..Limits::default()
    });
    let (commands, error) = decode_all(&mut decoder, b"*2\r\n$3\r\nGET\r\n$9\r\n");
    assert!(commands.is_empty());
    assert_eq!(
        error.expect("too long"),
        "ERR Protocol error: too big request"
    );
}

/// Goal: octets that were looked at once are not read again. Method: they are overwritten between
/// two calls, and the outcome is the same.
#[test]
fn partial_input_is_not_scanned_again() {
    let mut decoder = Decoder::default();
    let mut buf = b"*2\r\n$3\r\nGET\r\n$1000\r\n".to_vec();
    let header_len = buf.len();
    assert!(decoder.decode(&buf).expect("well-formed").args.is_none());
    assert_eq!(decoder.needed_len(), header_len + 1002);
    buf[..8].fill(b'!');
    buf[11..header_len].fill(b'!');
    buf.extend_from_slice(&[b'k'; 1000]);
    assert!(decoder.decode(&buf).expect("well-formed").args.is_none());
    buf.extend_from_slice(b"\r\n");
    let decoded = decoder.decode(&buf).expect("well-formed");
    assert_eq!(decoded.consumed, buf.len());
    let args = decoded.args.expect("complete");
    assert_eq!((args.name(), args.at(1)), (&b"GET"[..], &[b'k'; 1000][..]));

    let mut line = b"aaaa".to_vec();
    assert!(decoder.decode(&line).expect("well-formed").args.is_none());
    line[1] = b'\n';
    line.extend_from_slice(b"\n");
    assert_eq!(decoder.decode(&line).expect("well-formed").consumed, 5);
}

/// Goal: once warm, ordinary commands allocate nothing; what a huge one took is given back.
#[test]
fn span_memory_is_reused_and_bounded() {
    let mut decoder = Decoder::default();
    let ordinary = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n";
    decode_all(&mut decoder, ordinary);
    let warm = decoder.spans.as_ptr();
    for _ in 0..100 {
        decode_all(&mut decoder, ordinary);
        assert_eq!(decoder.spans.as_ptr(), warm);
    }
    let mut huge = b"*100000\r\n".to_vec();
    huge.extend_from_slice(&b"$0\r\n\r\n".repeat(100_000));
    assert_eq!(decode_all(&mut decoder, &huge).0[0].len(), 100_000);
    assert!(
        decoder.spans.capacity() <= KEPT_MAX,
        "{}",
        decoder.spans.capacity()
    );
}

/// Goal: skipped octets are reported at once, so that they cannot fill the buffer.
#[test]
fn skipped_octets_are_consumed_without_a_command() {
    let mut decoder = Decoder::default();
    let decoded = decoder
        .decode(b"\r\n*0\r\n\n*1\r\n$4\r\nPI")
        .expect("well-formed");
    assert_eq!(decoded.consumed, 7);
    assert!(decoded.args.is_none());
    let decoded = decoder
        .decode(b"*1\r\n$4\r\nPING\r\n")
        .expect("well-formed");
    assert_eq!(decoded.args.expect("complete").name(), b"PING");
}
