"""Reads captures of SCSP traffic and accepts them in full, or says frame by frame why not.

Written from the requirements, not from the Rust code: what both agree on is no misunderstanding of one of
them. Prints a table of what was seen and every violation. Exit status: 0 everything is in order, 1 something
is not or nothing was seen, 2 bad usage or no capture.
"""

import argparse
import heapq
import sys
from collections import Counter

import capture
import packet as scsp
from conversation import NS, Conversation

IP_LENS = {"udp4": 28, "udp6": 48, "llc": 8}


def main(words=None):
    options = arguments(words)
    keys = {}
    for spi, key in options.key:
        keys.setdefault(spi, []).append(key)
    talk = Conversation(options.slack, options.csus_retransmit, options.away)
    report = Report()
    assembly = {path: capture.Assembly(options.port) for path in options.captures}
    try:
        streams = [capture.frames(path) for path in options.captures]
        for frame in heapq.merge(*streams, key=lambda frame: frame.time_ns):
            examine(frame, assembly[frame.file], keys, options, talk, report)
    except (OSError, capture.NotACapture) as error:
        sys.stderr.write(f"decoder: {error}\n")
        return 2
    talk.finish()
    for path in options.captures:
        for frame in assembly[path].leftovers():
            report.blame(frame, "D-14: a fragmented datagram is not whole")
    return report.finish(options.shown)


def examine(frame, assembly, keys, options, talk, report):
    """One frame."""
    try:
        datagram = assembly.feed(frame)
        if isinstance(datagram, str):
            report.others[datagram] += 1
            if options.alone and datagram not in {capture.FRAGMENT, *capture.KERNEL}:
                report.blame(frame, f"{datagram} has no business here")
            return
        packet = scsp.decode(datagram.payload, keys, options.authenticated)
    except (capture.BadFrame, scsp.Malformed) as error:
        report.blame(frame, str(error))
        return
    check_size(datagram, packet, options.mtu)
    talk.feed(frame.time_ns, packet, datagram.target, datagram.is_multicast)
    report.add(datagram, packet)


def check_size(datagram, packet, mtu):
    """W-10: within the link's limit; D-14: only a record that alone exceeds it is larger."""
    limit = mtu - IP_LENS[datagram.carrier]
    alone = packet.kind == scsp.CSU_REQUEST and len(packet.records) == 1
    if len(datagram.payload) > limit and not alone:
        packet.blame("W-10", f"{len(datagram.payload)} octets, {limit} are the limit")


class Report:
    """Counts and violations."""

    def __init__(self):
        self.packets = Counter()
        self.octets = Counter()
        self.records = Counter()
        self.traits = Counter()
        self.others = Counter()
        self.judged = []
        self.violations = []

    def add(self, datagram, packet):
        kind = scsp.TYPES[packet.kind]
        self.judged.append((datagram, packet))
        self.packets[kind] += 1
        self.octets[kind] += len(datagram.payload)
        self.records[kind] += len(packet.records)
        self.traits[datagram.carrier] += 1
        self.traits["fragmented"] += datagram.is_fragmented
        self.traits["multicast"] += datagram.is_multicast
        self.traits["to all"] += packet.is_to_all
        self.traits["for a family"] += packet.family != 0
        if packet.spi is not None:
            self.traits[f"with SPI {packet.spi}"] += 1

    def blame(self, frame, text):
        self.violations.append((frame.time_ns, f"{frame.place} ({frame.time_ns / NS:.6f}): {text}"))

    def finish(self, shown):
        """Prints everything; the exit status."""
        for datagram, packet in self.judged:
            who = f"{scsp.TYPES[packet.kind]} {datagram.source} > {datagram.target}"
            for fault in packet.faults:
                self.blame(datagram.frame, f"{who}: {fault}")
        self.violations.sort()
        print(f"{'message':<12} {'packets':>8} {'records':>8} {'octets':>10}")
        for kind in scsp.TYPES.values():
            print(f"{kind:<12} {self.packets[kind]:>8} {self.records[kind]:>8} {self.octets[kind]:>10}")
        traits = [*sorted(self.traits.items()), *sorted(self.others.items())]
        traits.append(("violations", len(self.violations)))
        print(", ".join(f"{count} {trait}" for trait, count in traits if count or trait == "violations"))
        for _, violation in self.violations[:shown]:
            print(violation)
        if len(self.violations) > shown:
            print(f"... and {len(self.violations) - shown} more")
        if not self.packets:
            print("no SCSP packet was seen")
        return 1 if self.violations or not self.packets else 0


def arguments(words):
    parser = argparse.ArgumentParser(prog="decoder", description=__doc__.splitlines()[0])
    parser.add_argument("captures", nargs="+", metavar="PCAP", help="classic pcap files, merged by time")
    parser.add_argument("--port", type=int, default=2334, help="UDP port (2334)")
    parser.add_argument("--mtu", type=int, default=1500, help="of the links (1500)")
    parser.add_argument(
        "--key", action="append", default=[], type=key, metavar="SPI:ALGORITHM:SECRET",
        help="verify MACs; SECRET as hex:... or text:...",
    )  # fmt: skip
    parser.add_argument("--authenticated", action="store_true", help="refuse packets without a MAC")
    parser.add_argument(
        "--alone", action="store_true", help="refuse frames of anybody but servers and kernels"
    )
    parser.add_argument("--slack", type=float, default=0.0, metavar="S", help="tolerance of times (0)")
    parser.add_argument(
        "--csus-retransmit", type=float, default=1.0, metavar="S", help="configured interval (1)"
    )
    parser.add_argument(
        "--away", action="append", default=[], type=away, metavar="ID:FROM:TO",
        help="server, in hexadecimal, that was stopped or cut off between two Unix times",
    )  # fmt: skip
    parser.add_argument("--shown", type=int, default=20, metavar="N", help="violations printed (20)")
    return parser.parse_args(words)


def key(text):
    spi, algorithm, secret = text.split(":", 2)
    if algorithm not in scsp.ALGORITHMS:
        raise argparse.ArgumentTypeError(f"{algorithm}: expected one of {', '.join(scsp.ALGORITHMS)}")
    form, _, value = secret.partition(":")
    octets = {"hex": bytes.fromhex, "text": str.encode}[form](value)
    return int(spi), scsp.Key(algorithm, octets)


def away(text):
    server, start, end = text.split(":")
    return bytes.fromhex(server), int(float(start) * NS), int(float(end) * NS)
