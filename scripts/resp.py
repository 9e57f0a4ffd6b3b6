"""A small client of the Redis protocol, for the programs beside it. Python's standard library only."""

import socket

REPLY_TIMEOUT_SECS = 30


class Refused(Exception):
    """An error reply of the hub, or one that breaks the protocol."""


class ErrorReply(str):
    """One error reply; part of a batch, so not raised where it is read."""


class Connection:
    """One pipelined connection: to (host, port), or to the path of a Unix socket."""

    def __init__(self, address):
        if isinstance(address, str):
            self.address = address
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(REPLY_TIMEOUT_SECS)
            self.socket.connect(address)
        else:
            self.address = "%s:%d" % address
            self.socket = socket.create_connection(address, timeout=REPLY_TIMEOUT_SECS)
        self.reader = self.socket.makefile("rb")

    def close(self):
        self.reader.close()
        self.socket.close()

    def batch(self, commands):
        """Sends all commands at once; returns their replies in order."""
        self.socket.sendall(b"".join(encode(command) for command in commands))
        return [self.reply() for _ in commands]

    def call(self, *words):
        """The reply to one command of text or octets; an error is raised."""
        words = [word.encode() if isinstance(word, str) else word for word in words]
        (reply,) = self.batch([words])
        if isinstance(reply, ErrorReply):
            raise Refused(f"{self.address}: {b' '.join(words[:2]).decode(errors='replace')}: {reply}")
        return reply

    def reply(self):
        line = self.reader.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("connection closed by the hub")
        mark, rest = line[:1], line[1:-2]
        if mark == b"+":
            return rest
        if mark == b"-":
            return ErrorReply(rest.decode(errors="replace"))
        if mark == b":":
            return int(rest)
        if mark == b"*":
            return [self.reply() for _ in range(int(rest))]
        if mark == b"$":
            length = int(rest)
            if length < 0:
                return None
            octets = self.reader.read(length + 2)
            if len(octets) != length + 2 or not octets.endswith(b"\r\n"):
                raise ConnectionError("connection closed by the hub")
            return octets[:-2]
        raise Refused(f"{self.address}: not a reply of the Redis protocol: {line[:40]!r}")


def encode(command):
    parts = [b"*%d\r\n" % len(command)]
    for word in command:
        parts.append(b"$%d\r\n%s\r\n" % (len(word), word))
    return b"".join(parts)
