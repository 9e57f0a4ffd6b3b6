"""A scenario's workbench: hubs, links, faults, expectations, and the removal of all of it."""

import os
import random
import subprocess
import sys
import tempfile
import time

from .failure import Failure
from .hub import CSUS_RETRANSMIT_SECS, Hub
from .net import CAPTURE_READY_SECS, Capture, Namespace, connect

DECODER = "crates/scspd/tests/decoder"
PORT = 2334
POLL_SECS = 0.05
CLOCK_TICK_SECS = 0.005
BATCH_LEN = 256
ALIGN_SECS = 30
CONVERGE_SECS = 60
# What a busy machine may add to a Hello's interval before the decoder objects.
SLACK_SECS = 1.0
LOG_LINES = 30
FRAME_LINES = 6


class Skipped(Exception):
    """The hub cannot do yet what the scenario is about."""


class Wire:
    """A veth pair between two hubs, or between a hub and the switch."""

    def __init__(self, ends):
        # (namespace, interface, the hub there or None) twice.
        self.ends = ends

    def lose(self, percent):
        """In both directions."""
        for namespace, interface, _ in self.ends:
            namespace.lose(interface, percent)

    def lose_towards(self, hub, percent):
        for namespace, interface, owner in self.ends:
            if owner is hub:
                namespace.lose(interface, percent)

    def set_up(self, is_up):
        """Pulls or plugs the cable: at the second end, so that the first one loses its carrier."""
        namespace, interface, _ = self.ends[1]
        namespace.set_up(interface, is_up)

    @property
    def hubs(self):
        return [owner for _, _, owner in self.ends if owner is not None]


class Bench:
    """Everything of one scenario. `close` undoes it, whatever happened."""

    def __init__(self, name, program, seed, folder=None):
        self.name = name
        self.program = program
        self.random = random.Random(f"{seed} {name}")
        self.folder = tempfile.mkdtemp(prefix=f"scsp-lab-{name}-", dir=folder)
        # What no user but root may read: configurations may hold keys.
        os.chmod(self.folder, 0o700)
        self.namespaces = []
        self.hubs = []
        self.captures = []
        self.wires = []
        # What every hub is to hold: a value for each key, None for one that was deleted.
        self.expected = {}
        # Hubs that were off or cut from a link: the decoder's --away.
        self.away = []
        self.absent_since = {}
        self.decoder_options = []
        # What the decoder's table must name: proof that the scenario was about what it says.
        self.must_see = []

    # Building.

    def namespace(self, name):
        namespace = Namespace(f"scsplab-{os.getpid()}-{len(self.namespaces)}-{name}")
        self.namespaces.append(namespace)
        return namespace

    def add_hub(self):
        number = len(self.hubs) + 1
        hub = Hub(self.program, self.namespace(f"h{number}"), number, self.folder)
        self.hubs.append(hub)
        return hub

    def join(self, one, other, mtu=1500, version=4):
        """Two hubs as neighbours on a veth pair of their own."""
        subnet = len(self.wires) + 1
        wire = []
        for hub, peer, last in ((one, other, 1), (other, one, 2)):
            interface = f"to-{peer.name}"
            wire.append((hub.namespace, interface, hub))
            if version == 4:
                bind, address = f"0.0.0.0:{PORT}", f"10.0.{subnet}.{3 - last}:{PORT}"
            else:
                bind, address = f"[::]:{PORT}", f"[fd00:{subnet}::{3 - last}]:{PORT}"
            hub.links["main"] = {"bind": bind, "mtu": mtu}
            hub.peers.append({"address": address, "link": "main"})
        connect(one.namespace, wire[0][1], other.namespace, wire[1][1], mtu)
        for last, (namespace, interface, _) in enumerate(wire, start=1):
            namespace.add_address(interface, f"10.0.{subnet}.{last}/24")
            if version == 6:
                namespace.add_address(interface, f"fd00:{subnet}::{last}/64")
        self.wires.append(Wire(wire))
        return self.wires[-1]

    def line(self, count, **rest):
        hubs = [self.add_hub() for _ in range(count)]
        for one, other in zip(hubs, hubs[1:]):
            self.join(one, other, **rest)
        return hubs

    def mesh(self, count, **rest):
        hubs = [self.add_hub() for _ in range(count)]
        for at, one in enumerate(hubs):
            for other in hubs[at + 1 :]:
                self.join(one, other, **rest)
        return hubs

    def segment(self, count, mtu=1500):
        """Hubs on one bridge, each with an interface eth0; who their neighbours are is left open."""
        switch = self.namespace("switch")
        switch.ip("link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        switch.interfaces.add("br0")
        switch.set_up("br0", True)
        for _ in range(count):
            hub = self.add_hub()
            last = len(self.hubs)
            port = f"port{last}"
            connect(hub.namespace, "eth0", switch, port, mtu)
            switch.ip("link", "set", port, "master", "br0")
            hub.namespace.add_address("eth0", f"10.1.0.{last}/24", f"fd00:1::{last}/64")
            self.wires.append(Wire([(hub.namespace, "eth0", hub), (switch, port, None)]))
        return self.hubs

    # Running.

    def start(self):
        """Captures first, then hubs: the decoder is to see every Hello."""
        for hub in self.hubs:
            reason = hub.why_unsupported()
            if reason:
                raise Skipped(reason)
        for namespace in self.namespaces:
            namespace.assert_closed()
        for hub in self.hubs:
            interface = "eth0" if "eth0" in hub.namespace.interfaces else "any"
            path = os.path.join(self.folder, f"{hub.name}.pcap")
            self.captures.append(Capture(hub.namespace, interface, path))
        for capture in self.captures:
            self.until("tcpdump listens", CAPTURE_READY_SECS, capture.why_not_ready)
        for hub in self.hubs:
            hub.start()

    def until(self, what, seconds, why_not):
        """Polls until `why_not` finds no reason any more."""
        deadline = time.monotonic() + seconds
        while True:
            reason = why_not()
            if reason is None:
                return
            if time.monotonic() > deadline:
                raise Failure(f"{what}: not within {seconds} s: {reason}")
            time.sleep(POLL_SECS)

    def aligned(self, *hubs, seconds=ALIGN_SECS):
        for hub in hubs or self.hubs:
            self.until(f"{hub.name} is aligned", seconds, hub.why_not_aligned)

    def peer_is(self, hub, index, **wanted):
        """Waits until a neighbour, by its place in the configuration, is in these states."""

        def why_not():
            hub.assert_running()
            peer = hub.peer_states()[index]
            found = {name: peer[name] for name in wanted}
            return None if found == wanted else f"{hub.name}: {peer['peer']} is {found}"

        self.until(f"{hub.name}: neighbour is {wanted}", ALIGN_SECS, why_not)

    def write(self, hub, prefix, count, size=40):
        """Sets keys; every hub is to hold them from now on."""
        values = {
            f"{prefix}:{number}".encode(): self.random.randbytes(size) for number in range(count)
        }
        if not self.expected.keys().isdisjoint(values):
            # Writers that have not heard of each other are ordered by milliseconds.
            time.sleep(CLOCK_TICK_SECS)
        self._all_ok(hub, [(b"SET", key, value) for key, value in values.items()], b"OK")
        self.expected.update(values)
        return list(values)

    def delete(self, hub, keys):
        time.sleep(CLOCK_TICK_SECS)
        self._all_ok(hub, [(b"DEL", key) for key in keys], 1)
        self.expected.update(dict.fromkeys(keys))

    @staticmethod
    def _all_ok(hub, commands, wanted):
        for start in range(0, len(commands), BATCH_LEN):
            batch = commands[start : start + BATCH_LEN]
            for command, reply in zip(batch, hub.client().batch(batch)):
                if reply != wanted:
                    words = " ".join(word[:40].decode(errors="replace") for word in command[:2])
                    raise Failure(f"{hub.name}: {words}: {reply!r}")

    def converged(self, *hubs, without=None, seconds=CONVERGE_SECS):
        """All hubs, or these that are connected, hold the same, and every key reads as written on each; keys
        that begin with `without` were written where these cannot see it."""
        expected = {
            key: value
            for key, value in self.expected.items()
            if without is None or not key.startswith(without.encode())
        }
        live = sum(value is not None for value in expected.values())
        among = hubs or self.hubs
        self.until("hubs hold the same", seconds, lambda: self._why_different(among, live))
        if not hubs:
            self.aligned(seconds=seconds)
        for hub in among:
            self._read_back(hub, expected)

    @staticmethod
    def _why_different(hubs, live):
        """Records, tombstones included, that not every hub holds; another number of keys than expected."""
        digests = {hub.name: hub.digest("ALL") for hub in hubs}
        if None in digests.values() or len(set(digests.values())) > 1:
            return f"{digests}"
        sizes = {hub.name: hub.call("DBSIZE") for hub in hubs}
        return None if set(sizes.values()) == {live} else f"{live} keys are expected: {sizes}"

    def same_records(self, group, live):
        """Every hub has this many live records of the group, and the same ones, withdrawn ones included."""

        def why_not():
            found = {hub.name: (hub.digest(group=group), hub.digest("ALL", group=group)) for hub in self.hubs}
            right = len(set(found.values())) == 1 and all(each[0][0] == live for each in found.values())
            return None if right else f"{live} are expected: {found}"

        self.until(f"hubs hold the same records of {group}", CONVERGE_SECS, why_not)

    @staticmethod
    def _read_back(hub, expected):
        keys = list(expected)
        for start in range(0, len(keys), BATCH_LEN):
            batch = keys[start : start + BATCH_LEN]
            values = hub.client().batch([(b"GET", key) for key in batch])
            for key, value in zip(batch, values):
                if value != expected[key]:
                    shown, wanted = repr(value)[:40], repr(expected[key])[:40]
                    raise Failure(f"{hub.name}: {key.decode()} is {shown}, expected {wanted}")

    # Faults.

    def gone(self, *hubs):
        """From now on these are silent, and it is not their fault."""
        for hub in hubs:
            self.absent_since.setdefault(hub, time.time())

    def back(self, *hubs):
        for hub in hubs:
            since = self.absent_since.pop(hub)
            self.away.append((hub.id_octets.hex(), since, time.time()))

    def crash(self, hub):
        self.gone(hub)
        hub.kill()

    def restart(self, hub):
        hub.start()
        self.back(hub)

    def unplug(self, wire):
        self.gone(*wire.hubs)
        wire.set_up(False)

    def plug(self, wire):
        wire.set_up(True)
        self.back(*wire.hubs)

    def assert_lost(self):
        """The losses were real."""
        if not any(namespace.lost() for namespace in self.namespaces):
            raise Failure("no frame was lost")

    # Ending.

    def finish(self):
        """Stops everything and has the decoder judge what was sent; its table."""
        for hub in self.hubs:
            if hub.process is not None:
                hub.stop()
        for capture in self.captures:
            capture.stop()
        words = [sys.executable, "-B", DECODER, "--alone", "--slack", str(SLACK_SECS)]
        words += ["--csus-retransmit", str(CSUS_RETRANSMIT_SECS), *self.decoder_options]
        words += [f"--away={server}:{start}:{end}" for server, start, end in self.away]
        words += [capture.path for capture in self.captures]
        decoder = subprocess.run(words, capture_output=True, text=True, check=False)
        output = decoder.stdout + decoder.stderr
        if decoder.returncode:
            raise Failure(f"the decoder does not accept what was sent:\n{output}")
        for trait in self.must_see:
            if f" {trait}," not in output:
                raise Failure(f"the decoder saw nothing {trait}:\n{output}")
        return output

    def evidence(self):
        """What to look at after a failure."""
        for hub in self.hubs:
            yield f"--- {hub.name}: last lines of the log"
            yield from hub.last_lines(LOG_LINES)
        for capture in self.captures:
            yield f"--- {os.path.basename(capture.path)}: last frames"
            yield from capture.last_frames(FRAME_LINES)

    def close(self):
        for hub in self.hubs:
            hub.kill()
        for capture in self.captures:
            capture.kill()
        for namespace in self.namespaces:
            namespace.remove()
