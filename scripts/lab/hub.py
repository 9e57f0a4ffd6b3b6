"""One scspd in its namespace."""

import os
import subprocess

from resp import Connection, Refused

from .failure import Failure

STOP_SECS = 10
GROUP = "clients"
# Fast, so that the lab is; the Hello interval is on the wire in whole seconds.
TIMERS = {
    "hello_interval": 1,
    "dead_factor": 3,
    "ca_retransmit": "300ms",
    "csus_retransmit": "300ms",
    "csu_retransmit": "300ms",
}
CSUS_RETRANSMIT_SECS = 0.3


class Hub:
    """A hub and how it is configured; may be started, killed and started again."""

    def __init__(self, program, namespace, number, folder):
        self.program = program
        self.namespace = namespace
        self.name = f"h{number}"
        self.id = f"10.255.0.{number}"
        self.folder = folder
        self.log = os.path.join(folder, f"{self.name}.log")
        self.config = os.path.join(folder, f"{self.name}.toml")
        self.socket = os.path.join(folder, f"{self.name}.sock")
        self.server = {"id": self.id, "workers": 2, "pin": False}
        # Neighbours meet on both backends.
        self.backend = "poll" if number % 2 == 0 else "auto"
        self.links = {}
        self.group = {"name": GROUP, "protocol": "kv", "id": 1}
        # Further groups with the same neighbours.
        self.more_groups = []
        self.peers = []
        self.process = None
        self.connection = None

    @property
    def id_octets(self):
        return bytes(int(part) for part in self.id.split("."))

    def write_config(self):
        parts = [
            ("[server]", self.server),
            *((f"[link.{name}]", link) for name, link in self.links.items()),
        ]
        for group in [self.group, *self.more_groups]:
            parts.append(("[[group]]", {**TIMERS, **group}))
            for peer in self.peers:
                parts.append(("[[group.peer]]", {k: v for k, v in peer.items() if k != "keys"}))
                parts += [("[[group.peer.key]]", key) for key in peer.get("keys", [])]
        parts += [
            ("[client]", {"listen": [f"unix:{self.socket}"]}),
            ("[admin]", {"listen": "127.0.0.1:9144"}),
            ("[io]", {"backend": self.backend}),
            ("[log]", {"level": "debug"}),
        ]
        with open(self.config, "w", encoding="utf-8") as out:
            for title, values in parts:
                lines = [f"{name} = {toml(value)}" for name, value in values.items()]
                out.write("\n".join([title, *lines, "", ""]))
        os.chmod(self.config, 0o600)

    def why_unsupported(self):
        """What the program says against the configuration as a whole, where it cannot do it yet."""
        self.write_config()
        words = [self.program, "--config", self.config, "--check"]
        check = subprocess.run(words, capture_output=True, text=True, check=False)
        if check.returncode and "not supported yet" in check.stderr:
            return check.stderr.strip().splitlines()[0]
        if check.returncode:
            raise Failure(f"{self.name}: {check.stderr.strip()}")
        return None

    def start(self):
        self.write_config()
        self.disconnect()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.namespace.inside(self.program, "--config", self.config),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def assert_running(self):
        if self.process is not None and self.process.poll() is not None:
            raise Failure(f"{self.name} ended with status {self.process.returncode}")

    def kill(self):
        """As a power cut would."""
        self.disconnect()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process = None

    def stop(self):
        """Gracefully; a hub that takes long, or ends otherwise than well, is a failure."""
        self.assert_running()
        self.disconnect()
        self.process.terminate()
        try:
            status = self.process.wait(STOP_SECS)
        except subprocess.TimeoutExpired as error:
            raise Failure(f"{self.name} did not stop within {STOP_SECS} s") from error
        self.process = None
        if status != 0:
            raise Failure(f"{self.name} stopped with status {status}")

    def disconnect(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def client(self):
        if self.connection is None:
            self.connection = Connection(self.socket)
        return self.connection

    def call(self, *words):
        return self.client().call(*words)

    def peer_states(self):
        """What SCSP.PEERS says, one dictionary for each neighbour."""
        peers = self.call("SCSP.PEERS")
        return [
            {peer[at].decode(): plain(peer[at + 1]) for at in range(0, len(peer), 2)} for peer in peers
        ]

    def why_not_aligned(self):
        """With every neighbour, and nothing left to do for any of them."""
        self.assert_running()
        try:
            for peer in self.peer_states():
                if peer["alignment"] != "aligned":
                    return f"{self.name}: {peer['peer']} is {peer['hello']}, {peer['alignment']}"
                if peer["queue"] or peer["requests"]:
                    return f"{self.name}: {peer['peer']} lacks {peer['queue']}, owes {peer['requests']}"
        except OSError as error:
            self.disconnect()
            return f"{self.name}: {error}"
        return None

    def digest(self, *options, group=GROUP):
        """What SCSP.DIGEST says; None while the hub holds commands back or is not there."""
        self.assert_running()
        try:
            return tuple(self.call("SCSP.DIGEST", group, *options))
        except Refused as error:
            if "LOADING" in str(error):
                return None
            raise
        except OSError:
            self.disconnect()
            return None

    def last_lines(self, count):
        if not os.path.exists(self.log):
            return []
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read().splitlines()[-count:]


def plain(value):
    return value.decode() if isinstance(value, bytes) else value


def toml(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(toml(each) for each in value) + "]"
    return str(value) if isinstance(value, int) else '"' + value.replace('"', '\\"') + '"'
