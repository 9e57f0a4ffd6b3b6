#!/usr/bin/env python3
"""Loads a Debian package index into one hub and reads it back from another.

Reads what `apt-cache dumpavail` prints on standard input. Every package and version becomes a key
"name=version" whose value is the package's stanza; all of them are written to --from over the Redis
protocol, then read from --to and compared octet for octet. Exit status: 0 all equal, 1 anything missing,
different or refused, 2 bad usage, 3 a hub is not reachable. Python's standard library only.
"""

import argparse
import sys
import time

from resp import Connection, ErrorReply, Refused

KEY_LEN_MAX = 255
VALUE_LEN_MAX = 8192
# Commands sent before their replies are read: small enough that the requests of one batch fit the socket
# buffers, so that neither side waits for the other.
BATCH_LEN = 256
# How long nothing may change before the load counts as stuck.
STALL_SECS = 30
POLL_SECS = 0.1
SHOWN_MAX = 5


class Hub(Connection):
    """The key-value side of one hub."""

    def size(self):
        """Number of keys, or None while the hub holds commands back."""
        (reply,) = self.batch([(b"DBSIZE",)])
        if isinstance(reply, ErrorReply):
            if reply.startswith("LOADING"):
                return None
            raise Refused(f"{self.address}: DBSIZE: {reply}")
        return reply

    def wait_until_serving(self):
        deadline = time.monotonic() + STALL_SECS
        while self.size() is None:
            if time.monotonic() > deadline:
                raise Refused(f"{self.address}: still LOADING after {STALL_SECS} s")
            time.sleep(POLL_SECS)


def batches(items):
    for start in range(0, len(items), BATCH_LEN):
        yield items[start : start + BATCH_LEN]


def read_index(stream):
    """Keys and values of a package index; the last stanza of a name and version counts."""
    packages = {}
    octets = stream.read()
    for stanza in octets.split(b"\n\n"):
        fields = {}
        for line in stanza.split(b"\n"):
            name, colon, text = line.partition(b":")
            if colon and name in (b"Package", b"Version"):
                fields.setdefault(name, text.strip())
        if not stanza.strip():
            continue
        assert len(fields) == 2, f"stanza without name or version: {stanza[:80]!r}"
        key = fields[b"Package"] + b"=" + fields[b"Version"]
        assert len(key) <= KEY_LEN_MAX, f"key of {len(key)} octets: {key!r}"
        packages[key] = stanza[:VALUE_LEN_MAX]
    return packages


def rate(count, octets, seconds):
    seconds = max(seconds, 1e-9)
    return f"{seconds:.2f} s, {count / seconds:,.0f} keys/s, {octets / seconds / 1e6:.1f} MB/s"


def show(text):
    print(text, flush=True)


def load(hub, packages):
    """Writes everything; returns the number of writes that were refused."""
    refused = 0
    for batch in batches(list(packages.items())):
        replies = hub.batch([(b"SET", key, value) for key, value in batch])
        for (key, _), reply in zip(batch, replies):
            if reply != b"OK":
                refused += 1
                if refused <= SHOWN_MAX:
                    show(f"refused: {key.decode(errors='replace')}: {reply!r}")
    return refused


def wait_for(hub, count):
    """Waits until the hub holds `count` keys; returns what it holds at last."""
    best, changed = -1, time.monotonic()
    while True:
        size = hub.size()
        if size is not None and size >= count:
            return size
        if size is not None and size != best:
            best, changed = size, time.monotonic()
        if time.monotonic() - changed > STALL_SECS:
            return best
        time.sleep(POLL_SECS)


def differing(hub, packages, keys):
    """Reads `keys`; returns those whose value is not the one that was written, and what came instead."""
    wrong = {}
    for batch in batches(keys):
        for key, reply in zip(batch, hub.batch([(b"GET", key) for key in batch])):
            if isinstance(reply, ErrorReply) or reply != packages[key]:
                wrong[key] = reply
    return wrong


def compare(hub, packages):
    """Reads everything; what differs is read again until it is right or nothing changes any more."""
    wrong = differing(hub, packages, list(packages))
    changed = time.monotonic()
    while wrong and time.monotonic() - changed <= STALL_SECS:
        time.sleep(POLL_SECS)
        left = differing(hub, packages, list(wrong))
        if len(left) < len(wrong):
            changed = time.monotonic()
        wrong = left
    return wrong


def describe(reply, expected):
    if reply is None:
        return "missing"
    if isinstance(reply, ErrorReply):
        return f"refused: {reply}"
    if not isinstance(reply, bytes):
        return f"not a value: {reply!r}"
    at = next((i for i, (a, b) in enumerate(zip(reply, expected)) if a != b), None)
    if at is None:
        return f"{len(reply)} octets instead of {len(expected)}"
    return f"differs from octet {at} on ({len(reply)} octets, {len(expected)} written)"


def run(options):
    packages = read_index(sys.stdin.buffer)
    octets = sum(len(key) + len(value) for key, value in packages.items())
    show(f"index:   {len(packages):,} keys, {octets / 1e6:.1f} MB")
    if len(packages) < options.at_least:
        show(f"expected at least {options.at_least:,} packages; is the package index there (apt-get update)?")
        return 1

    writer, reader = Hub(options.source), Hub(options.target)
    writer.wait_until_serving()
    reader.wait_until_serving()

    start = time.monotonic()
    refused = load(writer, packages)
    show(f"written: {len(packages) - refused:,} keys to {writer.address}: "
         f"{rate(len(packages), octets, time.monotonic() - start)}")
    if refused:
        show(f"FAILED: {refused:,} writes refused by {writer.address}")
        return 1

    held = wait_for(reader, len(packages))
    show(f"arrived: {held:,} keys at {reader.address}: "
         f"{rate(len(packages), octets, time.monotonic() - start)} since the first write")

    start = time.monotonic()
    wrong = compare(reader, packages)
    show(f"read:    {len(packages):,} keys from {reader.address}: "
         f"{rate(len(packages), octets, time.monotonic() - start)}")
    for key in list(wrong)[:SHOWN_MAX]:
        show(f"{key.decode(errors='replace')}: {describe(wrong[key], packages[key])}")
    if wrong:
        show(f"FAILED: {len(wrong):,} of {len(packages):,} keys differ at {reader.address}")
        return 1
    show(f"equal:   all {len(packages):,} keys, octet for octet")
    return 0


def address(text):
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r}: expected HOST:PORT")
    return host.strip("[]"), int(port)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--from", dest="source", metavar="HOST:PORT", type=address, required=True)
    parser.add_argument("--to", dest="target", metavar="HOST:PORT", type=address, required=True)
    parser.add_argument("--at-least", metavar="N", type=int, default=60000,
                        help="fail when the index has fewer packages (default: %(default)s)")
    try:
        return run(parser.parse_args())
    except Refused as error:
        print(f"packages: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"packages: cannot reach the hub: {error}", file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main())
