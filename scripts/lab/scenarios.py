"""What the lab tries. Each scenario is one function; its first line says what must hold.

Scenarios build on a `Bench`, start the hubs, and end with `converged`: identical digests and every key read
back from every hub. What was sent is judged by the decoder afterwards.
"""

import struct
import time

from .bench import Bench
from .failure import Failure

SCENARIOS = {}


def scenario(function):
    SCENARIOS[function.__name__] = function
    return function


@scenario
def line(bench: Bench):
    """Four hubs in a line: writes at both ends, overwrites, deletions and short lives reach everybody."""
    hubs = bench.line(4)
    bench.start()
    bench.aligned()
    first = bench.write(hubs[0], "first", 300)
    bench.write(hubs[3], "last", 300)
    bench.converged()
    bench.write(hubs[3], "first", 100)
    bench.delete(hubs[1], first[100:200])
    hubs[2].call("SET", "short", "life", "PX", "1500")
    bench.expected[b"short"] = None
    bench.converged()


@scenario
def cold_start(bench: Bench):
    """Hubs that held records before they met align: pages of summaries, then everything is solicited."""
    hubs = bench.line(3)
    for wire in bench.wires:
        wire.lose(100)
    for hub in hubs:
        hub.group["boot_hold"] = "1s"
    bench.start()
    for hub in hubs:
        bench.until(f"{hub.name} serves", 20, lambda: None if hub.digest() else "still held")
        bench.write(hub, hub.name, 500)
    for wire in bench.wires:
        wire.lose(0)
    bench.converged()


@scenario
def ipv6(bench: Bench):
    """The same over IPv6."""
    hubs = bench.line(3, version=6)
    bench.must_see = ["udp6", "fragmented"]
    bench.start()
    bench.aligned()
    bench.write(hubs[0], "six", 200)
    bench.write(hubs[2], "large", 3, size=20_000)
    bench.converged()


def _registration(number, holding_s):
    """An NHRP body: protocol address 10.9.0.n/32 behind NBMA address 192.0.2.n."""
    fixed = (1, 0x0800, bytes(5), 1, 0x8000, number, 0, 32, 0, 1400, holding_s, 4, 0, 4, 0)
    addresses = bytes([192, 0, 2, number, 10, 9, 0, number])
    return struct.pack("!HH5sBHIBBHHHBBBB", *fixed) + addresses


@scenario
def protocols(bench: Bench):
    """Groups of other protocols beside kv: NHRP registrations age and are purged, opaque bodies travel."""
    hubs = bench.line(3)
    for hub in hubs:
        hub.more_groups = [
            {"name": "routes", "protocol": "nhrp", "id": 2},
            {"name": "opaque", "protocol": "0x1234", "id": 3},
        ]
    bench.start()
    bench.aligned()
    for number in range(1, 101):
        holding_s = 2 if number > 80 else 7200
        hubs[0].call("SCSP.PUBLISH", "routes", bytes([10, 9, 0, number]), _registration(number, holding_s))
        hubs[2].call("SCSP.PUBLISH", "opaque", f"key {number}", bench.random.randbytes(number))
    bench.same_records("routes", 100)
    bench.same_records("opaque", 100)
    for number in range(1, 31):
        hubs[0].call("SCSP.PURGE", "routes", bytes([10, 9, 0, number]))
        hubs[2].call("SCSP.PURGE", "opaque", f"key {number}")
    # The purged ones are gone; those that nobody renewed age on each server by itself (N-02).
    bench.same_records("opaque", 70)
    bench.same_records("routes", 50)


@scenario
def family(bench: Bench):
    """Two groups of one family share their Hellos and the adjacency (H-14), also when it breaks."""
    hubs = bench.line(3)
    for hub in hubs:
        hub.group["family"] = 7
        hub.more_groups = [{"name": "second", "protocol": "0x1234", "id": 9, "family": 7}]
    bench.must_see = ["for a family"]
    bench.start()
    bench.aligned()
    bench.write(hubs[0], "one", 100)
    bench.unplug(bench.wires[1])
    bench.peer_is(hubs[2], 0, alignment="down")
    for number in range(100):
        hubs[2].call("SCSP.PUBLISH", "second", f"two {number}", "value")
    bench.write(hubs[2], "parted", 50)
    bench.plug(bench.wires[1])
    bench.converged()
    bench.same_records("second", 100)


@scenario
def mesh_with_loss(bench: Bench):
    """A mesh of four that loses 10 to 30 % in both directions converges under writes from everywhere."""
    hubs = bench.mesh(4)
    for wire, percent in zip(bench.wires, (10, 15, 20, 25, 30, 20)):
        wire.lose(percent)
    bench.start()
    bench.aligned(seconds=60)
    for hub in hubs:
        bench.write(hub, hub.name, 200)
    for hub in hubs:
        bench.write(hub, "shared", 50)
    # At 30 % some record is lost six times and takes the adjacency with it (CSU-06), perhaps repeatedly.
    bench.converged(seconds=120)
    bench.assert_lost()


@scenario
def cut_cable(bench: Bench):
    """A line whose middle link goes down and comes back: what both sides wrote meanwhile is joined."""
    hubs = bench.line(4)
    bench.start()
    bench.aligned()
    bench.write(hubs[0], "before", 100)
    bench.converged()
    middle = bench.wires[1]
    bench.unplug(middle)
    bench.peer_is(hubs[1], 1, alignment="down")
    bench.peer_is(hubs[2], 0, alignment="down")
    _write_on_both_sides(bench, hubs)
    bench.plug(middle)
    bench.converged()


@scenario
def cut_silently(bench: Bench):
    """The same without notice: packets vanish, so the hubs must find out by missing Hellos (H-07)."""
    hubs = bench.line(4)
    bench.start()
    bench.aligned()
    bench.write(hubs[0], "before", 100)
    bench.converged()
    middle = bench.wires[1]
    middle.lose(100)
    bench.peer_is(hubs[1], 1, hello="waiting")
    bench.peer_is(hubs[2], 0, hello="waiting")
    _write_on_both_sides(bench, hubs)
    middle.lose(0)
    bench.converged()
    # Once more, shorter than a Hello can be missed: retransmissions alone must do.
    middle.lose(100)
    bench.write(hubs[0], "during", 20)
    middle.lose(0)
    bench.converged()


def _write_on_both_sides(bench, hubs):
    bench.write(hubs[0], "left", 100)
    bench.write(hubs[3], "right", 100)
    bench.converged(*hubs[:2], without="right:")
    bench.converged(*hubs[2:], without="left:")
    # The same keys on both sides: the later write wins.
    bench.write(hubs[0], "both", 50)
    bench.write(hubs[3], "both", 50)
    bench.delete(hubs[3], [f"before:{number}".encode() for number in range(50)])


@scenario
def crash(bench: Bench):
    """A hub that is killed and started anew comes back to what it wrote, and to what it missed."""
    hubs = bench.mesh(3)
    bench.start()
    bench.aligned()
    keys = bench.write(hubs[2], "mine", 200)
    bench.write(hubs[0], "yours", 200)
    bench.converged()
    bench.crash(hubs[2])
    bench.delete(hubs[0], keys[:50])
    bench.write(hubs[1], "missed", 100)
    bench.converged(*hubs[:2])
    bench.restart(hubs[2])
    bench.converged()
    # Its own sequences go on from where they were (CSU-20): new values win everywhere.
    bench.write(hubs[2], "mine", 100)
    bench.converged()


@scenario
def one_way(bench: Bench):
    """A link that carries one direction only is noticed by both ends, and used again once it carries both."""
    one, other = bench.line(2)
    (wire,) = bench.wires
    bench.start()
    bench.aligned()
    bench.write(one, "before", 50)
    bench.converged()
    wire.lose_towards(one, 100)
    bench.peer_is(one, 0, hello="waiting")
    bench.peer_is(other, 0, hello="unidirectional")
    bench.write(one, "unheard", 50)
    bench.write(other, "unsaid", 50)
    wire.lose_towards(one, 0)
    bench.converged()
    wire.lose_towards(other, 30)
    bench.write(one, "one", 200)
    bench.write(other, "other", 200)
    bench.converged()
    bench.assert_lost()


@scenario
def large_records(bench: Bench):
    """Records beyond the packet limit travel in fragments (D-14), also when some get lost."""
    hubs = bench.line(3)
    bench.must_see = ["fragmented"]
    bench.start()
    bench.aligned()
    bench.write(hubs[0], "huge", 3, size=60_000)
    bench.write(hubs[2], "large", 10, size=5_000)
    bench.write(hubs[1], "small", 100)
    bench.converged()
    for wire in bench.wires:
        wire.lose(5)
    bench.write(hubs[0], "again", 10, size=12_000)
    bench.converged()
    bench.assert_lost()


@scenario
def small_mtu(bench: Bench):
    """Links of 576 octets: many small packets, none above the limit unless it holds a single record."""
    hubs = bench.line(3, mtu=576)
    bench.decoder_options = ["--mtu", "576"]
    bench.start()
    bench.aligned()
    bench.write(hubs[0], "a", 300, size=100)
    bench.write(hubs[2], "b", 20, size=1_000)
    bench.converged()


@scenario
def restart_from_disk(bench: Bench):
    """A hub that starts from its data directory serves what it held, with nobody to ask (snapshots)."""
    hubs = bench.line(2)
    for hub in hubs:
        hub.server["data_dir"] = f"{bench.folder}/{hub.name}.data"
        hub.group["boot_hold"] = "1s"
    bench.start()
    bench.aligned()
    bench.write(hubs[0], "kept", 500)
    keys = bench.write(hubs[1], "deleted", 100)
    bench.converged()
    bench.delete(hubs[1], keys)
    bench.converged()
    bench.gone(*hubs)
    for hub in hubs:
        hub.stop()
    hubs[0].start()
    bench.back(hubs[0])
    bench.until("h1 serves alone", 20, lambda: None if hubs[0].digest() else "still held")
    bench.write(hubs[0], "alone", 50)
    bench.restart(hubs[1])
    bench.converged()


def _neighbours(hubs, link, address):
    """Everybody is everybody's neighbour on the link."""
    for hub in hubs:
        hub.peers = [{"address": address(peer), "link": link} for peer in hubs if peer is not hub]


def _on_a_segment(bench, hubs):
    bench.start()
    bench.aligned()
    for hub in hubs:
        bench.write(hub, hub.name, 100)
    bench.converged()
    # On the way into the switch and out of it: 15 % in all.
    for wire in bench.wires:
        wire.lose(8)
    for hub in hubs:
        bench.write(hub, f"lossy-{hub.name}", 100)
    bench.converged()
    bench.assert_lost()
    for wire in bench.wires:
        wire.lose(0)
    # A cable is pulled at the switch: the hub loses its carrier, the others lose the hub.
    bench.unplug(bench.wires[0])
    for index in range(3):
        bench.peer_is(hubs[0], index, alignment="down")
    bench.peer_is(hubs[1], 0, alignment="down")
    bench.write(hubs[0], "parted", 50)
    bench.write(hubs[3], "together", 50)
    bench.converged(*hubs[1:], without="parted:")
    bench.plug(bench.wires[0])
    bench.converged()
    bench.crash(hubs[3])
    bench.write(hubs[1], "fewer", 50)
    bench.converged(*hubs[:3])
    bench.restart(hubs[3])
    bench.converged()


def _multicast(bench, group, bind, address):
    hubs = bench.segment(4)
    for hub in hubs:
        hub.links["lan"] = {"kind": "multicast", "bind": bind, "group": group, "interface": "eth0"}
    _neighbours(hubs, "lan", lambda peer: address.format(hubs.index(peer) + 1))
    bench.must_see = ["multicast", "to all"]
    _on_a_segment(bench, hubs)


@scenario
def multicast_ipv4(bench: Bench):
    """A multicast group on a bridge (H-10, CSU-14), with losses, a pulled cable and a crash."""
    _multicast(bench, "239.255.23.34:2334", "0.0.0.0:2334", "10.1.0.{}:2334")


@scenario
def multicast_ipv6(bench: Bench):
    """The same over IPv6."""
    _multicast(bench, "[ff05::2334]:2334", "[::]:2334", "[fd00:1::{}]:2334")


def _ethernet(bench, **link):
    hubs = bench.segment(4)
    for hub in hubs:
        hub.links["raw"] = {"kind": "ethernet", "interface": "eth0", **link}
    _neighbours(hubs, "raw", lambda peer: peer.namespace.mac("eth0"))
    bench.must_see = ["llc"]
    _on_a_segment(bench, hubs)


@scenario
def ethernet(bench: Bench):
    """RFC-native LLC/SNAP frames between MAC addresses, with losses, a pulled cable and a crash."""
    _ethernet(bench)


@scenario
def ethernet_multicast(bench: Bench):
    """The same with a multicast MAC address for all."""
    _ethernet(bench, group="03:00:00:00:23:34")
    bench.must_see += ["multicast", "to all"]


@scenario
def authentication(bench: Bench):
    """Every packet carries a MAC that the decoder verifies; keys roll over under traffic, no loss (X-06)."""
    hubs = bench.line(3)
    start = time.time()

    def after(seconds):
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start + seconds))

    # For two seconds and more both verify; the new one signs from its time on (D-18).
    old = {"algorithm": "hmac-md5-128", "secret": "text:the old secret of the lab"}
    new = {"algorithm": "hmac-sha-256-128", "secret": "text:the new secret of the lab"}
    keys = [
        {"spi": 256, "direction": "both", **old, "accept_until": after(9)},
        {"spi": 257, "direction": "both", **new, "send_from": after(6), "accept_from": after(3)},
    ]
    bench.decoder_options = ["--authenticated"]
    for key in keys:
        bench.decoder_options += ["--key", f"{key['spi']}:{key['algorithm']}:{key['secret']}"]
    bench.must_see = ["with SPI 256", "with SPI 257"]
    for hub in hubs:
        for peer in hub.peers:
            peer |= {"auth": "require", "keys": keys}
    bench.start()
    bench.aligned()
    rounds = 0
    while time.time() < start + 11:
        for hub in hubs:
            bench.write(hub, f"{hub.name}-{rounds}", 20)
        bench.converged()
        rounds += 1
    for hub in hubs:
        for peer in hub.peer_states():
            if peer["abnormal"]:
                raise Failure(f"{hub.name}: {peer['peer']} had {peer['abnormal']} abnormal events")
