"""What packets say of each other: nobody answers what was not asked, or speaks out of turn.

Fed with every packet that the servers of a group sent, in order of time. That a packet was sent does not mean
that it arrived, so only causes are checked: an acknowledgement needs a record that was sent before it, a
server's step needs the step of its neighbour that allows it.
"""

import bisect
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import bodies
from packet import CA, CSU_REPLY, CSU_REQUEST, CSUS, FLAG_I, FLAG_M, FLAG_O, HELLO, SEQ_PURGE

NS = 1_000_000_000
# Numbers in flight at most, whatever both offer, and the smallest packet worth offering.
WINDOW_MAX = 64
OFFERED_PACKET_MIN = 128
SUMMARY_LEN = 12


@dataclass
class Stream:
    """Hellos of one server in one direction."""

    time_ns: int
    interval: int


@dataclass
class Named:
    """The last Hello that named a server, and how long it is good for."""

    time_ns: int
    good_ns: int


@dataclass
class Life:
    """How long a record had left when a server came to know it."""

    time_ns: int
    left_ms: int


@dataclass
class Way:
    """What one server of a pair has sent to the other."""

    # Last CA message: flags, sequence, content.
    ca_last: tuple = None
    # Flags of each sequence sent as master or with I, and the sequences answered as slave.
    ca_asked: dict = field(default_factory=dict)
    ca_answered: set = field(default_factory=set)
    # Content of each CA message but openings, in the exchange that began last.
    ca_sent: dict = field(default_factory=dict)
    # What the last opening offered; what both agreed to: 1 is lock step.
    offer: tuple = None
    window: int = 1
    octets: int = 0
    # The first message with O off, and the number up to which the neighbour answered, in this exchange.
    ca_done: int = None
    ca_acknowledged: int = 0
    # When negotiation was last started over, and whether an exchange was completed since.
    negotiating_ns: int = None
    exchanged: bool = False
    # By (key, originator): how often a record was sent, its smallest and last sequence, and the hop count of
    # each sequence.
    sent: Counter = field(default_factory=Counter)
    seq_min: dict = field(default_factory=dict)
    seq_last: dict = field(default_factory=dict)
    hops: dict = field(default_factory=dict)
    acknowledged: Counter = field(default_factory=Counter)
    # (key, originator, sequence) of every summary.
    announced: set = field(default_factory=set)
    # Records asked for by the last CSUS and not sent since, and when it was sent.
    asked: dict = field(default_factory=dict)
    asked_ns: int = 0


class Conversation:
    """All servers of a capture.

    `slack_s` is what a busy machine may add to any time; `csus_retransmit_s` the configured interval. `away`
    are times in which a server was stopped or cut from its link, as (id, from, to) in nanoseconds."""

    def __init__(self, slack_s=0.0, csus_retransmit_s=1.0, away=()):
        self.slack_ns = int(slack_s * NS)
        self.csus_ns = int(csus_retransmit_s * NS)
        self.away = list(away)
        self.hellos = {}
        # A Hello is about a family (H-14), else about an instance: its subject.
        self.families = set()
        self.interval = 0
        self.greeted = set()
        # By subject, sender and the one named; the senders by subject and the one named.
        self.named = {}
        self.listeners = defaultdict(set)
        # By instance, sender and receiver.
        self.ways = defaultdict(Way)
        # By instance and receiver: who sent records to it.
        self.senders = defaultdict(set)
        # (key, originator) that a server asked for, by instance and server.
        self.solicited = defaultdict(set)
        # By instance, server, key, originator and sequence.
        self.lives = {}
        # When each record last went to all, by instance, sender, key, originator and sequence.
        self.broadcast = {}
        # When an adjacency changed, as far as Hellos and negotiations show it, in order of time.
        self.changes = []
        # Last list of receivers, by subject and sender.
        self.heard = {}
        # Packets that sent a record to all once more: the packet, its times, the record.
        self.repeated = []

    def feed(self, time_ns, packet, target, is_multicast):
        """Takes in a packet; what was wrong with it goes to its faults."""
        if packet.kind == HELLO:
            self._hello(time_ns, packet, target)
            return
        if packet.is_to_all:
            self._to_all(time_ns, packet, is_multicast)
            return
        way, back = self._ways(packet, packet.receiver)
        self._bidirectional(time_ns, packet)
        if packet.kind == CA:
            self._ca(time_ns, packet, way, back)
            return
        self._exchanged(time_ns, packet, way)
        if packet.kind == CSU_REQUEST:
            self._request(time_ns, packet, packet.receiver)
        elif packet.kind == CSU_REPLY:
            self._reply(packet, way, back)
        elif packet.kind == CSUS:
            self._csus(time_ns, packet, way, back)

    def finish(self):
        """Judges what could not be judged before the end."""
        for packet, before_ns, time_ns, record in self.repeated:
            # The Hello that shows a change follows within its interval.
            until_ns = time_ns + self.slack_ns + NS * self.interval
            at = bisect.bisect_left(self.changes, before_ns)
            if at == len(self.changes) or self.changes[at] > until_ns:
                packet.blame("CSU-14", f"{_shown(record)} sent to all once more")

    def _ways(self, packet, receiver):
        there = (packet.instance, packet.sender, receiver)
        back = (packet.instance, receiver, packet.sender)
        return self.ways[there], self.ways[back]

    def _was_away(self, server, start_ns, end_ns):
        """Whether the server was off at a moment between the two."""
        return any(
            who == server and start <= end_ns and end >= start_ns for who, start, end in self.away
        )

    def _hello(self, time_ns, packet, target):
        subject = packet.family or packet.instance
        if packet.family:
            self.families.add(packet.family)
        self.interval = max(self.interval, packet.interval)
        if self.heard.get((subject, packet.sender)) != sorted(packet.heard):
            self.heard[(subject, packet.sender)] = sorted(packet.heard)
            self.changes.append(time_ns)
        name = (subject, packet.sender, target)
        last = self.hellos.get(name)
        if last and not self._was_away(packet.sender, last.time_ns, time_ns):
            gap_ns = time_ns - last.time_ns
            if gap_ns > last.interval * NS + self.slack_ns:
                packet.blame(
                    "H-03", f"{gap_ns / NS:.3f} s after a Hello that promised {last.interval} s"
                )
        self.hellos[name] = Stream(time_ns, packet.interval)
        for heard in packet.heard:
            if (subject, heard) not in self.greeted:
                packet.blame("H-04", f"names {heard.hex()}, which sent no Hello yet")
            good_ns = packet.interval * packet.dead_factor * NS
            self.named[(subject, packet.sender, heard)] = Named(time_ns, good_ns)
            self.listeners[(subject, heard)].add(packet.sender)
        self.greeted.add((subject, packet.sender))

    def _bidirectional(self, time_ns, packet):
        """A server says more than Hello only while its neighbour's Hellos name it (H-05, H-07)."""
        me, other = packet.sender, packet.receiver
        found = [self.named.get((subject, other, me)) for subject in self._subjects(packet)]
        found = [named for named in found if named]
        if not found:
            packet.blame("H-12", f"{other.hex()} has not named {me.hex()} in a Hello")
            return
        last = max(found, key=lambda named: named.time_ns)
        age_ns = time_ns - last.time_ns
        if age_ns > last.good_ns + self.slack_ns:
            text = f"last named {age_ns / NS:.3f} s ago, good for {last.good_ns / NS:.0f} s"
            packet.blame("H-13", text)

    def _subjects(self, packet):
        """What a Hello for the packet may be about: which instances a family has, no packet says."""
        return [packet.instance, *self.families]

    def _ca(self, time_ns, packet, way, back):
        flags, seq = packet.flags, packet.ca_seq
        for record in packet.records:
            way.announced.add((*record.name, record.seq))
        last, way.ca_last = way.ca_last, (flags, seq, packet.content)
        if flags & FLAG_I:
            again = last is not None and last[0] & FLAG_I and last[1] == seq
            if not again and way.ca_asked and seq <= max(way.ca_asked):
                packet.blame("CA-02", f"starts at {seq}, {max(way.ca_asked)} was used before")
            way.offer, way.ca_sent = packet.offer, {}
            way.ca_asked[seq] = flags
            way.negotiating_ns, way.exchanged = time_ns, False
            self.changes.append(time_ns)
            return
        if bool(flags & FLAG_M) != (packet.sender > packet.receiver):
            packet.blame("CA-04", "M is for the larger id alone")
        if seq in way.ca_sent:
            if way.ca_sent[seq] != packet.content:
                requirement = "CA-11" if flags & FLAG_M else "CA-12"
                packet.blame(requirement, f"sequence {seq} sent again with a change")
            return
        if flags & FLAG_M:
            self._master_step(packet, way, back, last)
        else:
            self._slave_step(packet, way, back, last)
        way.ca_sent[seq] = packet.content
        if not flags & FLAG_O and way.ca_done is None:
            way.ca_done = seq
        self._finish_exchange(way, back)

    @staticmethod
    def _agree(packet, way, back):
        """The first answer of a slave ends the negotiation: both offers hold, or none does."""
        window, octets = 1, 0
        if packet.offer and back.offer:
            window, octets = map(min, zip(packet.offer, back.offer))
            window = min(window, WINDOW_MAX)
        elif packet.offer:
            packet.blame("CA-04", "offers what the opening did not")
        if window < 2 or octets < OFFERED_PACKET_MIN:
            window = 1
        for each in (way, back):
            each.ca_sent, each.ca_done = {}, None
            each.window, each.octets = window, octets
        back.ca_acknowledged = packet.ca_seq

    @staticmethod
    def _master_step(packet, way, back, last):
        """CA-05, CA-10: one further for each answer; where both offer it, as far ahead as the window."""
        seq = packet.ca_seq
        before = max(way.ca_sent, default=last and last[1])
        follows = before is not None and seq == before + 1
        # Messages behind the last summaries stand for those left out.
        if not follows and (way.window == 1 or way.ca_done is None):
            packet.blame("CA-10", f"sequence {seq} after {before}")
        if way.window == 1 and seq - 1 not in back.ca_answered:
            packet.blame("CA-07", f"sequence {seq} before {seq - 1} was answered")
        if way.window > 1 and seq > way.ca_acknowledged + way.window:
            text = f"sequence {seq} beyond a window of {way.window} after {way.ca_acknowledged}"
            packet.blame("CA-07", text)
        if packet.offer:
            packet.blame("CA-10", "offers when all is negotiated")
        way.ca_asked[seq] = packet.flags

    def _slave_step(self, packet, way, back, last):
        """CA-04, CA-13: only ever the master's sequence, one by one or, with a window, up to it."""
        seq = packet.ca_seq
        way.ca_answered.add(seq)
        question = back.ca_asked.get(seq)
        # A number behind the master's last summaries stands for those it left out.
        implied = way.window > 1 and back.ca_done is not None
        if question is None and implied and back.ca_done < seq < max(back.ca_asked):
            question = 0
        if question is None:
            packet.blame("CA-13", f"answers {seq}, which the master did not send")
            return
        if question & FLAG_I:
            self._agree(packet, way, back)
            return
        if packet.offer:
            packet.blame("CA-13", "offers when all is negotiated")
        before = max(way.ca_sent, default=None)
        if before is None or seq <= before:
            packet.blame("CA-13", f"sequence {seq} after {before}")
            return
        if seq != before + 1 and (way.window == 1 or way.ca_done is None):
            packet.blame("CA-13", f"sequence {seq} after {before}")
        back.ca_acknowledged = seq

    @staticmethod
    def _finish_exchange(way, back):
        """CA-10, CA-13: over when the slave has answered the last summaries of both."""
        if way.ca_done is None or back.ca_done is None:
            return
        answered = max(way.ca_acknowledged, back.ca_acknowledged)
        if answered >= max(way.ca_done, back.ca_done) and not way.exchanged:
            for each in (way, back):
                each.exchanged, each.asked = True, {}

    def _exchanged(self, time_ns, packet, way):
        """CSU-01: not before the caches were summarized to the end."""
        if way.exchanged:
            return
        # Threads of one server learn of a new negotiation one after the other.
        if way.negotiating_ns is None or time_ns - way.negotiating_ns > self.slack_ns:
            packet.blame("CSU-01", "sent before the exchange of summaries was over")

    def _to_all(self, time_ns, packet, is_multicast):
        """CSU-14: once to all, since resends name a receiver; anew only where an adjacency changed: what
        others were to pass on may have been lost with them."""
        if not is_multicast:
            packet.blame("CSU-14", "receiver id of all on a link for two")
        for record in packet.records:
            name = (packet.instance, packet.sender, *record.name, record.seq)
            if name in self.broadcast:
                self.repeated.append((packet, self.broadcast[name], time_ns, record))
            self.broadcast[name] = time_ns
        subjects = self._subjects(packet)
        neighbours = set().union(*(self.listeners[(each, packet.sender)] for each in subjects))
        for receiver in neighbours:
            self._request(time_ns, packet, receiver)

    def _request(self, time_ns, packet, receiver):
        way, back = self._ways(packet, receiver)
        self.senders[(packet.instance, receiver)].add(packet.sender)
        for record in packet.records:
            name, seq = record.name, record.seq
            before = way.seq_last.get(name)
            # A purged entry starts over (CSU-19); what a server that was off forgot is not held against it.
            if before is not None and seq < before < SEQ_PURGE and not record.null:
                if not self._was_away(packet.sender, 0, time_ns):
                    packet.blame("CSU-07", f"{_shown(record)} after sequence {before}")
            self._hops(packet, record)
            self._life(time_ns, packet, record, receiver)
            way.sent[name] += 1
            way.seq_last[name] = seq
            way.seq_min[name] = min(seq, way.seq_min.get(name, seq))
            way.hops[(*name, seq)] = max(record.hops, way.hops.get((*name, seq), 0))
            # Whoever sends it satisfies the request, if it is not older.
            for other in [packet.sender, *self.senders[(packet.instance, receiver)]]:
                asked = self.ways[(packet.instance, receiver, other)].asked
                if name in asked and (seq >= asked[name] or record.null):
                    del asked[name]

    def _hops(self, packet, record):
        """CSU-16: one less than it came with; 1 when solicited, anew when this server solicited it (D-06)."""
        if record.originator == packet.sender or record.hops == 1 or record.null:
            return
        me = packet.sender
        came = [
            self.ways[(packet.instance, other, me)].hops.get((*record.name, record.seq), 0)
            for other in self.senders[(packet.instance, me)]
        ]
        highest = max(came, default=0)
        if record.hops >= highest and record.name not in self.solicited[(packet.instance, me)]:
            text = f"{_shown(record)} has hop count {record.hops}, it came with {highest or 'none'}"
            packet.blame("CSU-16", text)

    def _life(self, time_ns, packet, record, receiver):
        """K-03, N-03: what is left shrinks with time, on the way and in storage; it never grows (D-21)."""
        life = None if record.seq == SEQ_PURGE else bodies.life_ms(packet.instance[0], record.body)
        if life is None:
            return
        left_ms, step_ms = life
        name = (*record.name, record.seq)
        mine, theirs = (packet.instance, packet.sender, *name), (packet.instance, receiver, *name)
        known = self.lives.get(mine)
        if known is None and record.originator == packet.sender:
            known = self.lives[mine] = Life(time_ns, left_ms)
        if known is not None:
            if left_ms > known.left_ms:
                packet.blame("D-21", f"{_shown(record)} has {left_ms} ms left, it had {known.left_ms}")
            over_ms = left_ms - known.left_ms + (time_ns - known.time_ns) / 1e6
            if over_ms > step_ms + self.slack_ns / 1e6:
                packet.blame("K-03", f"{_shown(record)} lives {over_ms:.0f} ms longer than it was to")
        # Which of several copies the receiver took is not on the wire: the longest-lived one may be.
        other = self.lives.get(theirs)
        if other is None or left_ms > other.left_ms:
            self.lives[theirs] = Life(time_ns, left_ms)

    @staticmethod
    def _reply(packet, way, back):
        """CSU-04, CSU-09: an acknowledgement for a record that was sent, each time it was sent."""
        for record in packet.records:
            name = record.name
            way.announced.add((*name, record.seq))
            way.acknowledged[name] += 1
            if name not in back.seq_min:
                packet.blame("CSU-04", f"{_shown(record)} acknowledged but never sent")
            elif record.seq < back.seq_min[name]:
                packet.blame("CSU-09", f"{_shown(record)} acknowledged, sent from {back.seq_min[name]} on")
            elif way.acknowledged[name] > back.sent[name]:
                packet.blame("CSU-04", f"{_shown(record)} acknowledged more often than sent")

    def _csus(self, time_ns, packet, way, back):
        """CA-19: for what the neighbour announced, one at a time, or as much as the window holds."""
        # Half: between the timer and the wire lies whatever a busy machine put there.
        early = time_ns - way.asked_ns < self.csus_ns // 2
        if way.asked and early and way.window == 1:
            packet.blame("CA-19", f"sent while {len(way.asked)} records were outstanding")
        if way.window == 1:
            way.asked = {}
        way.asked_ns = time_ns
        for record in packet.records:
            if (*record.name, record.seq) not in back.announced:
                packet.blame("CA-19", f"{_shown(record)} was not announced")
            way.asked[record.name] = record.seq
            self.solicited[(packet.instance, packet.sender)].add(record.name)
        octets = sum(SUMMARY_LEN + len(key) + len(originator) for key, originator in way.asked)
        if way.window > 1 and octets > way.window * way.octets:
            packet.blame("CA-19", f"{octets} octets outstanding, agreed {way.window} times {way.octets}")


def _shown(record):
    return f"{record.key.hex()} of {record.originator.hex()} with sequence {record.seq}"
