"""Protocol specific parts of records: what each protocol lets a server send (RFC 2335, RFC 2443, the ATMARP
draft, and this project's kv protocol)."""

import struct

ATMARP, NHRP, MARS, KV = 1, 2, 3, 0xFF00
# Octets of every id and key, where the protocol says so (N-01).
ID_LENS = {ATMARP: 4, NHRP: 4, MARS: 4}

KV_HAS_LIFE = 0x0001
NHRP_FLAGS = 0xC000
ATM_LEN_MASK = 0x3F


def faults(protocol, key, body):
    """What is wrong with a record's body, as lines; an unknown protocol's body is opaque."""
    check = {ATMARP: _atmarp, NHRP: _nhrp, MARS: _mars, KV: _kv}.get(protocol)
    return list(check(key, body)) if check else []


def life_ms(protocol, body):
    """How long a record has left, and in which steps that is said; None where it has no end."""
    if protocol == KV and len(body) >= 8:
        flags, left_ms = struct.unpack("!HI", body[2:8])
        return (left_ms, 1) if flags & KV_HAS_LIFE else None
    if protocol == NHRP and len(body) >= 24:
        (left_s,) = struct.unpack("!H", body[22:24])
        return 1000 * left_s, 1000
    return None


def _unpack(layout, body):
    size = struct.calcsize("!" + layout)
    return struct.unpack("!" + layout, body[:size]) if len(body) >= size else None


def _kv(key, body):
    if not key:
        yield "K-01: empty key"
    fields = _unpack("BBHIQ", body)
    if fields is None:
        yield f"K-01: body of {len(body)} octets"
        return
    version, kind, flags, life_ms, stamp = fields
    if version != 1 or kind not in (0, 1):
        yield f"K-01: version {version}, kind {kind}"
    if flags & ~KV_HAS_LIFE:
        yield f"W-05: kv flags {flags:#06x}"
    if bool(flags & KV_HAS_LIFE) != (life_ms > 0):
        yield f"K-03: remaining life of {life_ms} ms with flags {flags:#06x}"
    if stamp >> 16 == 0:
        yield f"K-05: timestamp {stamp}"
    if kind == 1 and len(body) > 16:
        yield f"K-02: tombstone with a value of {len(body) - 16} octets"


def _nhrp(_key, body):
    fields = _unpack("HH5sBHIBBHHHBBBB", body)
    if fields is None:
        yield f"N-01: body of {len(body)} octets"
        return
    _, _, _, version, flags, _, state, prefix, unused, _, _, nbma, sub, protocol, _ = fields
    if version != 1 or state > 3:
        yield f"N-04: version {version}, state {state}"
    if flags & ~NHRP_FLAGS or unused:
        yield f"W-05: nhrp flags {flags:#06x}, unused {unused:#06x}"
    if prefix > 8 * protocol:
        yield f"N-01: prefix length {prefix} of {protocol} octets"
    yield from _lengths(body, 28, [nbma, sub], protocol)


def _mars(_key, body):
    fields = _unpack("HH5sBBBHHBBBB", body)
    if fields is None:
        yield f"N-01: body of {len(body)} octets"
        return
    hardware, _, _, unused, version, state, _, _, source, group, atm, sub = fields
    if hardware != 15 or version != 0 or state not in range(1, 6):
        yield f"N-01: hardware type {hardware}, version {version}, state {state}"
    if unused:
        yield f"W-05: unused {unused:#04x}"
    yield from _lengths(body, 20, [atm, sub], source + 2 * group)


def _atmarp(_key, body):
    fields = _unpack("HHBBBBBBBB", body)
    if fields is None:
        yield f"N-01: body of {len(body)} octets"
        return
    hardware, protocol, atm, sub, _, unused, source, target_atm, target_sub, target = fields
    if hardware != 0x0013 or protocol != 0x0800:
        yield f"N-01: hardware type {hardware:#06x}, protocol type {protocol:#06x}"
    if unused:
        yield f"W-05: unused {unused:#04x}"
    yield from _lengths(body, 12, [atm, sub, target_atm, target_sub], source + target)


def _lengths(body, fixed, atm_lens, others):
    """ATM lengths carry a type in the bit above them; the highest bit is unused (RFC 2332 5.1)."""
    if any(length & 0x80 for length in atm_lens):
        yield "W-05: unused bit of a type and length"
    total = fixed + sum(length & ATM_LEN_MASK for length in atm_lens) + others
    if total != len(body):
        yield f"N-01: body of {len(body)} octets, its lengths come to {total}"
