"""One SCSP packet, held against what RFC 2334 and this project's requirements let a server send.

Stricter than a receiver has to be: a field that receivers ignore must still be sent as zero. What makes the
rest of a packet unreadable is raised as `Malformed`; everything else is collected, each with the id of its
requirement (docs/conformance.md says which is which).
"""

import hashlib
import hmac
import struct
from dataclasses import dataclass, field

import bodies

CA, CSU_REQUEST, CSU_REPLY, CSUS, HELLO = 1, 2, 3, 4, 5
TYPES = {CA: "CA", CSU_REQUEST: "CSU Request", CSU_REPLY: "CSU Reply", CSUS: "CSUS", HELLO: "Hello"}

FIXED_LEN = 8
COMMON_LEN = 12
SUMMARY_LEN = 12
SPI_LEN = 4
FLAG_M, FLAG_I, FLAG_O = 0x8000, 0x4000, 0x2000
FLAG_N = 0x8000
SEQ_RESERVED = -(2**31)
SEQ_PURGE = 2**31 - 1
EXT_END, EXT_AUTHENTICATION, EXT_VENDOR = 0, 1, 2
# Our own vendor id; the data is a version and items of type, length, value.
OUR_VENDOR = bytes.fromhex("025343")
ITEM_ALIGNMENT = 3

# Name of the algorithm: how the MAC is computed, and its octets. BLAKE3 is not in the standard library.
ALGORITHMS = {
    "hmac-md5-128": (hashlib.md5, 16),
    "hmac-sha-256-128": (hashlib.sha256, 16),
    "hmac-sha-512-256": (hashlib.sha512, 32),
    "blake3-256": (None, 32),
}
MAC_LENS = sorted({length for _, length in ALGORITHMS.values()})


class Malformed(Exception):
    """The packet cannot be read any further."""


@dataclass(frozen=True)
class Key:
    """What an SPI stands for."""

    algorithm: str
    secret: bytes

    def verifies(self, octets, mac):
        """Whether the MAC is right; None where it cannot be computed here."""
        digest, length = ALGORITHMS[self.algorithm]
        if len(mac) != length:
            return False
        if digest is None:
            return None
        return hmac.compare_digest(hmac.new(self.secret, octets, digest).digest()[:length], mac)


@dataclass(frozen=True)
class Record:
    """A summary, or a whole record if it has a body."""

    hops: int
    null: bool
    seq: int
    key: bytes
    originator: bytes
    body: bytes

    @property
    def name(self):
        return self.key, self.originator


@dataclass
class Packet:
    """What was read."""

    kind: int
    instance: tuple
    sender: bytes
    receiver: bytes
    flags: int = 0
    ca_seq: int = 0
    interval: int = 0
    dead_factor: int = 0
    family: int = 0
    heard: list = field(default_factory=list)
    records: list = field(default_factory=list)
    # Octets up to the extensions, without the checksum: equal when a packet is sent once more.
    content: bytes = b""
    spi: int = None
    # Window and packet size of an alignment offer.
    offer: tuple = None
    faults: list = field(default_factory=list)

    def blame(self, requirement, text):
        self.faults.append(f"{requirement}: {text}")

    @property
    def is_to_all(self):
        return len(self.receiver) > 0 and set(self.receiver) == {0xFF}


class Reader:
    """Takes octets off the front of a part of the packet."""

    def __init__(self, octets, at, end):
        self.octets, self.at, self.end = octets, at, end

    def take(self, length, what):
        if self.at + length > self.end:
            raise Malformed(f"W-06: {what} of {length} octets at {self.at} does not fit before {self.end}")
        self.at += length
        return self.octets[self.at - length : self.at]

    def unpack(self, layout, what):
        return struct.unpack("!" + layout, self.take(struct.calcsize("!" + layout), what))


def checksum_is_right(octets):
    """Whether the Internet checksum over all octets comes out even (W-03)."""
    padded = octets + bytes(len(octets) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total == 0xFFFF


def decode(octets, keys=None, authenticated=False):
    """Reads one packet that came without any octet around it.

    `keys` are lists of `Key` by SPI; MACs are verified when there are any. With `authenticated`, a packet
    without a MAC is a fault."""
    if len(octets) < FIXED_LEN:
        raise Malformed(f"W-02: {len(octets)} octets are no packet")
    version, kind, size, _, extensions = struct.unpack("!BBHHH", octets[:FIXED_LEN])
    if version != 1:
        raise Malformed(f"W-01: version {version}")
    if kind not in TYPES:
        raise Malformed(f"W-08: message type {kind}")
    if size != len(octets):
        raise Malformed(f"W-02: packet size {size} in {len(octets)} octets")
    if extensions not in range(FIXED_LEN + COMMON_LEN, size) and extensions != 0:
        raise Malformed(f"W-04: extensions at {extensions} of {size}")
    reader = Reader(octets, FIXED_LEN, extensions or size)
    packet = _mandatory(reader, kind)
    if reader.at != reader.end:
        raise Malformed(f"W-06: {reader.end - reader.at} octets after the last record")
    packet.content = octets[:4] + octets[FIXED_LEN : reader.end]
    if not checksum_is_right(octets):
        packet.blame("W-03", "checksum is wrong")
    if extensions:
        _extensions(packet, octets, extensions, keys or {})
    if authenticated and packet.spi is None:
        packet.blame("X-04", "sent without authentication")
    return packet


def _mandatory(reader, kind):
    """Everything between the fixed part and the extensions."""
    ca_seq = interval = dead_factor = family = unused = 0
    if kind == CA:
        (ca_seq,) = reader.unpack("I", "CA sequence")
    elif kind == HELLO:
        interval, dead_factor, unused, family = reader.unpack("4H", "hello part")
    common = reader.unpack("4HBBH", "mandatory common part")
    protocol, group, common_unused, flags, sender_len, receiver_len, count = common
    packet = Packet(
        kind,
        (protocol, group),
        reader.take(sender_len, "sender id"),
        reader.take(receiver_len, "receiver id"),
        flags=flags,
        ca_seq=ca_seq,
        interval=interval,
        dead_factor=dead_factor,
        family=family,
    )
    if unused or common_unused:
        packet.blame("W-05", f"unused fields are {unused:#06x} and {common_unused:#06x}")
    if not packet.sender:
        packet.blame("W-06", "sender id is empty")
    _flags(packet, count)
    if kind == HELLO:
        _hello(packet, reader, count)
    else:
        if not packet.receiver:
            packet.blame("CA-03" if kind == CA else "CSU-13", "receiver id is empty")
        if packet.is_to_all and kind != CSU_REQUEST:
            packet.blame("CSU-14", f"{TYPES[kind]} to all")
        if count == 0 and kind != CA:
            packet.blame("W-06", f"{TYPES[kind]} without records")
        packet.records = [_record(packet, reader) for _ in range(count)]
    if packet.sender and packet.sender in [packet.receiver] + packet.heard:
        packet.blame("H-04", "sender is among the receivers")
    _id_lens(packet)
    return packet


def _flags(packet, count):
    known = FLAG_M | FLAG_I | FLAG_O if packet.kind == CA else 0
    if packet.flags & ~known:
        packet.blame("W-05", f"flags {packet.flags:#06x}")
    if packet.flags & FLAG_I and (packet.flags != known or count):
        packet.blame("CA-02", f"I set with flags {packet.flags:#06x} and {count} records")


def _hello(packet, reader, count):
    """Receivers as H-09 lays them out."""
    if packet.interval == 0 or packet.dead_factor == 0:
        packet.blame("D-04", f"interval {packet.interval}, dead factor {packet.dead_factor}")
    if count and not packet.receiver:
        packet.blame("H-09", f"{count} additional receivers but no first one")
    ids = [packet.receiver] if packet.receiver else []
    for _ in range(count):
        (length,) = reader.unpack("B", "receiver id length")
        ids.append(reader.take(length, "additional receiver id"))
    if b"" in ids:
        packet.blame("H-09", "additional receiver id is empty")
    if len(set(ids)) != len(ids):
        packet.blame("H-04", "a receiver is named twice")
    packet.heard = ids


def _record(packet, reader):
    start = reader.at
    hops, length, key_len, originator_len, flags, seq = reader.unpack("HHBBHi", "record")
    key = reader.take(key_len, "cache key")
    originator = reader.take(originator_len, "originator id")
    body_len = length - (reader.at - start)
    if body_len < 0:
        raise Malformed(f"W-07: record length {length} with ids of {key_len} and {originator_len}")
    record = Record(
        hops, bool(flags & FLAG_N), seq, key, originator, reader.take(body_len, "body")
    )
    if flags & ~FLAG_N:
        packet.blame("W-05", f"record flags {flags:#06x}")
    if not originator:
        packet.blame("W-07", "originator id is empty")
    if seq == SEQ_RESERVED:
        packet.blame("CSU-18", "reserved CSA sequence")
    if packet.kind == CSU_REQUEST:
        _whole_record(packet, record)
    else:
        if body_len:
            packet.blame("W-07", f"summary with a body of {body_len}")
        if hops != 1:
            packet.blame("CSU-17", f"summary with hop count {hops}")
        if record.null and packet.kind in (CA, CSUS):
            packet.blame("CSU-11", f"N set in a summary of {TYPES[packet.kind]}")
    return record


def _whole_record(packet, record):
    if record.hops == 0:
        packet.blame("CSU-16", "record with hop count 0")
    if record.null:
        if record.body:
            packet.blame("CSU-11", "N set in a record with a body")
    elif record.seq != SEQ_PURGE:
        # CSU-19: a purge is one whatever its body.
        for fault in bodies.faults(packet.instance[0], record.key, record.body):
            packet.faults.append(fault)


def _id_lens(packet):
    length = bodies.ID_LENS.get(packet.instance[0])
    if length is None:
        return
    ids = [packet.sender, *packet.heard]
    if packet.receiver and not packet.is_to_all:
        ids.append(packet.receiver)
    for record in packet.records:
        ids += [record.key, record.originator]
    odd = [each.hex() for each in ids if len(each) != length]
    if odd:
        packet.blame("N-01", f"ids or keys that are not of {length} octets: {' '.join(odd)}")


def _extensions(packet, octets, start, keys):
    reader = Reader(octets, start, len(octets))
    seen = set()
    while True:
        at = reader.at
        kind, length = reader.unpack("HH", "extension")
        value = reader.take(length, "extension value")
        if kind == EXT_END:
            break
        name = (kind, value[:3] if kind == EXT_VENDOR else None)
        if name in seen:
            packet.blame("W-09", f"extension {kind} twice")
        seen.add(name)
        if kind == EXT_AUTHENTICATION:
            _authentication(packet, octets, at + 4, value, keys)
        elif kind == EXT_VENDOR:
            _vendor(packet, value)
        else:
            packet.blame("W-08", f"extension of type {kind}")
    if length or reader.at != len(octets):
        packet.blame("W-09", f"end of extensions has {length} octets, {len(octets) - reader.at} follow")


def _authentication(packet, octets, at, value, keys):
    if len(value) - SPI_LEN not in MAC_LENS:
        packet.blame("X-01", f"authentication of {len(value)} octets")
        return
    (packet.spi,) = struct.unpack("!I", value[:SPI_LEN])
    if not keys:
        return
    # D-08: over the packet with the MAC and the checksum zero.
    blank = bytearray(octets)
    blank[4:6] = bytes(2)
    blank[at + SPI_LEN : at + len(value)] = bytes(len(value) - SPI_LEN)
    known = keys.get(packet.spi)
    if known is None:
        packet.blame("X-02", f"SPI {packet.spi} is not configured")
    elif False in [key.verifies(bytes(blank), value[SPI_LEN:]) for key in known]:
        packet.blame("X-03", f"MAC of SPI {packet.spi} is wrong")


def _vendor(packet, value):
    if len(value) < len(OUR_VENDOR):
        packet.blame("W-09", f"vendor-private extension of {len(value)} octets")
        return
    if value[:3] != OUR_VENDOR:
        packet.blame("X-07", f"vendor id {value[:3].hex()} is not ours")
        return
    if value[3:4] != b"\x01":
        packet.blame("X-07", f"version {value[3:4].hex() or 'missing'} of our extension")
        return
    reader = Reader(value, 4, len(value))
    while reader.at < reader.end:
        kind, length = reader.unpack("BB", "vendor item")
        item = reader.take(length, "vendor item value")
        if kind == ITEM_ALIGNMENT and length < 4:
            packet.blame("X-07", f"alignment offer of {length} octets")
        elif kind == ITEM_ALIGNMENT:
            packet.offer = struct.unpack("!HH", item[:4])
