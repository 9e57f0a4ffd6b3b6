"""Frames of classic pcap files, and the SCSP packets in them.

Ethernet and Linux cooked captures (both versions); UDP over IPv4 and IPv6 with fragments put together;
RFC-native LLC/SNAP frames. UDP checksums are not looked at: virtual interfaces leave them out.
"""

import ipaddress
import struct
from dataclasses import dataclass

# Magic number, as read in the byte order it tells, and the units of the fraction in a second.
MAGICS = {0xA1B2C3D4: 1_000_000, 0xA1B23C4D: 1_000_000_000}
ETHERNET, COOKED, COOKED_2 = 1, 113, 276
ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_ARP = 0x0800, 0x86DD, 0x0806
# What a cooked header says of a frame with a length instead of a type.
COOKED_LLC = 0x0004
ETHERTYPE_MIN = 0x0600
LLC_SNAP = bytes.fromhex("aaaa0300005e0005")
UDP, IPV6_FRAGMENT = 17, 44
FRAGMENT = "fragments"
# What kernels send of themselves between servers on a link.
KERNEL = {"arp", "icmp", "igmp", "icmpv6"}
IP_PROTOCOLS = {1: "icmp", 2: "igmp", 58: "icmpv6"}
IPV6_EXTENSIONS = {0, 43, 60}
UDP_HEADER_LEN = 8


class NotACapture(Exception):
    """The file cannot be read."""


class BadFrame(Exception):
    """The frame is cut short or says something impossible of itself."""


@dataclass(frozen=True)
class Frame:
    """A captured frame."""

    file: str
    number: int
    # Nanoseconds since 1970.
    time_ns: int
    link_type: int
    octets: bytes

    @property
    def place(self):
        return f"{self.file} frame {self.number}"


@dataclass(frozen=True)
class Datagram:
    """SCSP octets on their way, and how they travelled."""

    frame: Frame
    source: str
    target: str
    payload: bytes
    # "udp4", "udp6" or "llc"
    carrier: str
    is_fragmented: bool
    is_multicast: bool


def frames(path):
    """All frames of a file, in its order."""
    with open(path, "rb") as stream:
        octets = stream.read()
    if len(octets) < 24:
        raise NotACapture(f"{path}: {len(octets)} octets are no pcap file")
    for order in "<>":
        (magic,) = struct.unpack(order + "I", octets[:4])
        if magic in MAGICS:
            break
    else:
        raise NotACapture(f"{path}: no classic pcap file (magic {octets[:4].hex()})")
    (link_type,) = struct.unpack(order + "I", octets[20:24])
    link_type &= 0x0FFFFFFF
    if link_type not in (ETHERNET, COOKED, COOKED_2):
        raise NotACapture(f"{path}: link type {link_type}, expected {ETHERNET}, {COOKED} or {COOKED_2}")
    at, number = 24, 0
    # A capture that ends in the middle of a frame was ended there.
    while at + 16 <= len(octets):
        seconds, fraction, kept, length = struct.unpack(order + "4I", octets[at : at + 16])
        if at + 16 + kept > len(octets):
            break
        number += 1
        if kept != length:
            raise NotACapture(f"{path}: frame {number} keeps {kept} of {length} octets")
        time_ns = seconds * 1_000_000_000 + fraction * (1_000_000_000 // MAGICS[magic])
        frame = octets[at + 16 : at + 16 + kept]
        yield Frame(path, number, time_ns, link_type, frame)
        at += 16 + kept


class Assembly:
    """Takes frames in order, gives the SCSP datagrams in them; of other frames the name of what they are."""

    def __init__(self, port):
        self.port = port
        # Fragments by datagram: the first frame, the octets by offset, the total once known.
        self.partial = {}

    def feed(self, frame):
        """The datagram that the frame completes, or a name."""
        kind, payload, source, target = _network(frame)
        try:
            if kind == ETHERTYPE_IPV4:
                return self._ipv4(frame, payload)
            if kind == ETHERTYPE_IPV6:
                return self._ipv6(frame, payload)
        except struct.error as error:
            raise BadFrame(f"cut short: {error}") from error
        if kind < ETHERTYPE_MIN and payload.startswith(LLC_SNAP):
            scsp = _strip_padding(frame, kind, payload)
            multicast = bool(int(target[:2] or "0", 16) & 1)
            return Datagram(frame, source, target, scsp, "llc", False, multicast)
        return "arp" if kind == ETHERTYPE_ARP else f"type {kind:#06x}"

    def leftovers(self):
        """Frames whose datagram never became whole."""
        return [first for first, _, _ in self.partial.values()]

    def _ipv4(self, frame, packet):
        length = 4 * (packet[0] & 0xF)
        total, ident, fragment = struct.unpack("!HHH", packet[2:8])
        if total > len(packet) or length < 20:
            raise BadFrame(f"IPv4 length {total} in {len(packet)} octets")
        if packet[9] != UDP:
            return IP_PROTOCOLS.get(packet[9], f"ip protocol {packet[9]}")
        source, target = (str(ipaddress.IPv4Address(packet[at : at + 4])) for at in (12, 16))
        payload = packet[length:total]
        offset, more = 8 * (fragment & 0x1FFF), bool(fragment & 0x2000)
        name = (source, target, ident, 4)
        return self._datagram(frame, "udp4", source, target, payload, name, offset, more)

    def _ipv6(self, frame, packet):
        (length,) = struct.unpack("!H", packet[4:6])
        following, at, end = packet[6], 40, 40 + length
        if end > len(packet):
            raise BadFrame(f"IPv6 length {length} in {len(packet)} octets")
        source, target = (str(ipaddress.IPv6Address(packet[at : at + 16])) for at in (8, 24))
        offset, more, ident = 0, False, 0
        while following in IPV6_EXTENSIONS or following == IPV6_FRAGMENT:
            header = following
            following, size = packet[at], packet[at + 1]
            if header == IPV6_FRAGMENT:
                place, ident = struct.unpack("!HI", packet[at + 2 : at + 8])
                offset, more = place & 0xFFF8, bool(place & 1)
                size = 0
            at += 8 * (size + 1)
        if following != UDP:
            return IP_PROTOCOLS.get(following, f"ip protocol {following}")
        name = (source, target, ident, 6)
        payload = packet[at:end]
        return self._datagram(frame, "udp6", source, target, payload, name, offset, more)

    def _datagram(self, frame, carrier, source, target, payload, name, offset, more):
        whole = offset == 0 and not more
        if not whole:
            frame, payload = self._put_together(frame, payload, name, offset, more)
            if payload is None:
                return FRAGMENT
        from_port, to_port, length, _ = struct.unpack("!4H", payload[:UDP_HEADER_LEN])
        if self.port not in (from_port, to_port):
            return f"udp port {to_port}"
        if length != len(payload):
            raise BadFrame(f"UDP length {length} in {len(payload)} octets")
        is_multicast = ipaddress.ip_address(target).is_multicast
        scsp = payload[UDP_HEADER_LEN:]
        return Datagram(frame, source, target, scsp, carrier, not whole, is_multicast)

    def _put_together(self, frame, payload, name, offset, more):
        first, parts, total = self.partial.get(name, (frame, {}, None))
        parts[offset] = payload
        if not more:
            total = offset + len(payload)
        joined = b""
        while len(joined) in parts and parts[len(joined)]:
            joined += parts[len(joined)]
        if total is not None and len(joined) == total:
            self.partial.pop(name, None)
            return first, joined
        self.partial[name] = (first, parts, total)
        return frame, None


def _network(frame):
    """Type (or 802.3 length) and payload of a frame, its source and target where they are known."""
    octets = frame.octets
    try:
        if frame.link_type == ETHERNET:
            (kind,) = struct.unpack("!H", octets[12:14])
            return kind, octets[14:], octets[6:12].hex(":"), octets[:6].hex(":")
        if frame.link_type == COOKED:
            address_len, address, kind = struct.unpack("!4xH8sH", octets[:16])
            return kind, octets[16:], address[:address_len].hex(":"), ""
        kind, address_len, address = struct.unpack("!H9xB8s", octets[:20])
        return kind, octets[20:], address[:address_len].hex(":"), ""
    except struct.error as error:
        raise BadFrame(f"cut short: {error}") from error


def _strip_padding(frame, length, payload):
    """SCSP octets of an LLC/SNAP frame. Padding up to Ethernet's minimum must be zero: whatever else it held
    would leak."""
    if frame.link_type != ETHERNET or length == COOKED_LLC:
        return payload[len(LLC_SNAP) :]
    if length > len(payload):
        raise BadFrame(f"802.3 length {length} in {len(payload)} octets")
    if any(payload[length:]):
        raise BadFrame("padding is not zero")
    return payload[len(LLC_SNAP) : length]
