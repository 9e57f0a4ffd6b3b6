"""Network namespaces and what connects them: veth pairs, bridges, losses, captures.

Every interface is made inside a namespace of this run, and nothing else is ever put into one: no packet has a
way out. Names carry the process id, so several runs do not meet.
"""

import json
import os
import subprocess
import time

from .failure import Failure

# Losses are on what comes in: a capture of what goes out then shows everything that was sent. Address
# resolution is spared: that its packets get lost is the kernel's concern.
NEIGHBOUR_DISCOVERY = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept"
CAPTURE_READY_SECS = 10
# A captured frame is kept whole up to this; small, so that many fit tcpdump's ring.
CAPTURE_LEN_MAX = 2048
CAPTURE_RING_KIB = 32 * 1024
# How long a capture must not grow to be complete once nobody sends any more.
CAPTURE_SETTLE_SECS = 0.1
STOP_SECS = 5


def run(*words, stdin=None, check=True):
    """Runs a program to its end; its output."""
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise Failure(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class Namespace:
    """One machine of the lab."""

    def __init__(self, name):
        self.name = name
        self.interfaces = {"lo"}
        self.captures = []
        run("ip", "netns", "add", name)
        # Addresses are chosen here: no waiting for duplicates, none from strangers.
        for setting in ("accept_dad", "accept_ra", "autoconf"):
            path = f"/proc/sys/net/ipv6/conf/default/{setting}"
            run(*self.inside("sh", "-c", f"echo 0 > {path}"))
        self.ip("link", "set", "lo", "up")

    def inside(self, *words):
        """The command line that runs another one in here. Its process ends with this one, come what may."""
        return ("ip", "netns", "exec", self.name, "setpriv", "--pdeathsig", "KILL", *words)

    def ip(self, *words):
        return run("ip", "-n", self.name, *words)

    def nft(self, rules):
        run(*self.inside("nft", "-f", "-"), stdin=rules)

    def add_address(self, interface, *addresses):
        for address in addresses:
            self.ip("address", "add", address, "dev", interface)

    def set_up(self, interface, is_up):
        self.ip("link", "set", interface, "up" if is_up else "down")

    def mac(self, interface):
        (link,) = json.loads(self.ip("-json", "link", "show", interface))
        return link["address"]

    def lose(self, interface, percent):
        """Loses this share of the frames that come in; 100 is a silent cut, 0 heals."""
        rules = f"""
            add table netdev lab
            add chain netdev lab {interface} {{
                type filter hook ingress device "{interface}" priority 0;
            }}
            flush chain netdev lab {interface}
        """
        if percent:
            which = "" if percent == 100 else f"numgen random mod 100 < {percent}"
            rules += f"""
                add rule netdev lab {interface} ether type arp accept
                add rule netdev lab {interface} {NEIGHBOUR_DISCOVERY}
                add rule netdev lab {interface} {which} counter drop
            """
        self.nft(rules)

    def lost(self):
        """Frames dropped by the rules in force."""
        listing = run(*self.inside("nft", "-j", "list", "ruleset"))
        expressions = [
            part
            for item in json.loads(listing)["nftables"]
            for part in item.get("rule", {}).get("expr", [])
        ]
        return sum(part["counter"]["packets"] for part in expressions if "counter" in part)

    def assert_closed(self):
        """Nothing is in here but what was put here, and nothing leads out."""
        present = {link["ifname"] for link in json.loads(self.ip("-json", "link"))}
        if present != self.interfaces:
            raise Failure(f"{self.name}: interfaces {present}, made were {self.interfaces}")
        for family in ("-4", "-6"):
            if self.ip(family, "route", "show", "default").strip():
                raise Failure(f"{self.name}: has a default route")

    def remove(self):
        run("ip", "netns", "delete", self.name, check=False)


def connect(one, one_interface, other, other_interface, mtu):
    """A veth pair between two namespaces, both ends up."""
    one.ip(
        "link", "add", one_interface, "mtu", str(mtu), "type", "veth",
        "peer", "name", other_interface, "mtu", str(mtu), "netns", other.name,
    )  # fmt: skip
    for end, interface in ((one, one_interface), (other, other_interface)):
        end.interfaces.add(interface)
        # What is segmented on its way out is segmented before the capture sees it.
        end.ip("link", "set", interface, "gso_max_segs", "1")
        end.set_up(interface, True)


class Capture:
    """tcpdump on what a namespace sends."""

    def __init__(self, namespace, interface, path):
        self.path = path
        self.log = f"{path}.log"
        words = ["-n", "-i", interface, "-Q", "out", "-Z", "root"]
        words += ["-s", str(CAPTURE_LEN_MAX), "-B", str(CAPTURE_RING_KIB)]
        words += ["--time-stamp-precision=nano", "--immediate-mode", "-U", "-w", path]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                namespace.inside("tcpdump", *words),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def why_not_ready(self):
        if self.process.poll() is not None:
            raise Failure(f"tcpdump ended: {self.said()}")
        return None if "listening on" in self.said() else "tcpdump is not listening yet"

    def said(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read().strip()

    def stop(self):
        """Ends it with everything written; fails if it missed a frame."""
        size = -1
        while size != os.path.getsize(self.path):
            size = os.path.getsize(self.path)
            time.sleep(CAPTURE_SETTLE_SECS)
        self.process.terminate()
        self.process.wait(STOP_SECS)
        if "\n0 packets dropped by kernel" not in self.said():
            raise Failure(f"the capture is not whole: {self.said()}")

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def last_frames(self, count):
        if not os.path.exists(self.path):
            return []
        listing = run("tcpdump", "-nn", "-Z", "root", "-r", self.path, check=False)
        return listing.splitlines()[-count:]
