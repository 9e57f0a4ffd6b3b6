//! Builder that writes a packet straight into its send slot (W-10: never beyond the limit).

use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, IntoBytes};

use crate::authentication::Signer;
use crate::checksum::seal;
use crate::extensions::{EXTENSION_END, Extension, Extensions};
use crate::ids::{CaSeq, FamilyId, ProtocolId, ServerGroupId};
use crate::layout::{
    COMMON_LEN, CaPrefix, CommonPart, EXTENSION_HEADER_LEN, ExtensionHeader, FIXED_LEN, FixedPart,
    HelloPrefix, VERSION,
};
use crate::message::CaFlags;
use crate::packet::MessageType;
use crate::record::{
    Records, Summaries, SummaryFields, encode_record, encode_summary, record_len, summary_len,
};
use crate::vendor::{Item, encode_items, items_len};

/// Longest packet: its size travels in 16 bits.
const PACKET_LEN_MAX: usize = u16::MAX as usize;

/// What the common part of every message says.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    /// Protocol id.
    pub protocol: ProtocolId,
    /// Server group id.
    pub group: ServerGroupId,
    /// Sender id, 1 to 255 octets.
    pub sender: &'a [u8],
    /// Receiver id, 0 to 255 octets; in a Hello the first one heard, if any (H-09).
    pub receiver: &'a [u8],
}

/// What only a Hello says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HelloFields {
    /// `HelloInterval` in seconds, not 0 (D-04).
    pub interval_secs: u16,
    /// `DeadFactor`, not 0 (D-04).
    pub dead_factor: u16,
    /// Family ID, 0 for none.
    pub family: FamilyId,
}

/// Octets of a message without records and extensions.
#[inline]
pub const fn overhead(message_type: MessageType, sender_len: usize, receiver_len: usize) -> usize {
    FIXED_LEN + message_type.prefix_len() + COMMON_LEN + sender_len + receiver_len
}

/// A packet in the making, in the caller's buffer.
///
/// Every `push_…` either takes its argument whole and returns `true`, or leaves the packet as it
/// was and returns `false`: the packet is full. Records come first, then extensions.
#[derive(Debug)]
pub struct Builder<'b> {
    /// No longer than the packet may become.
    buf: &'b mut [u8],
    message_type: MessageType,
    len: usize,
    /// Octets kept for extensions, the end marker included.
    reserved: usize,
    /// Where the first extension stands, once there is one.
    extensions_start: Option<usize>,
    extension_count: usize,
    record_count: u16,
}

impl<'b> Builder<'b> {
    /// Starts a CA message. Every constructor returns `None` when the message does not fit `buf`
    /// and `limit` (octets) even without records, or an id has not the length [`Header`] states.
    pub fn ca(
        buf: &'b mut [u8],
        limit: usize,
        header: &Header<'_>,
        seq: CaSeq,
        flags: CaFlags,
    ) -> Option<Self> {
        let prefix = CaPrefix {
            sequence: U32::new(seq.0),
        };
        Self::start(
            buf,
            limit,
            MessageType::Ca,
            prefix.as_bytes(),
            header,
            flags.to_wire(),
        )
    }

    /// Starts a CSU Request.
    pub fn csu_request(buf: &'b mut [u8], limit: usize, header: &Header<'_>) -> Option<Self> {
        Self::start(buf, limit, MessageType::CsuRequest, &[], header, 0)
    }

    /// Starts a CSU Reply.
    pub fn csu_reply(buf: &'b mut [u8], limit: usize, header: &Header<'_>) -> Option<Self> {
        Self::start(buf, limit, MessageType::CsuReply, &[], header, 0)
    }

    /// Starts a CSUS message.
    pub fn csus(buf: &'b mut [u8], limit: usize, header: &Header<'_>) -> Option<Self> {
        Self::start(buf, limit, MessageType::Csus, &[], header, 0)
    }

    /// Starts a Hello.
    ///
    /// # Panics
    /// When `HelloInterval` or `DeadFactor` is 0.
    pub fn hello(
        buf: &'b mut [u8],
        limit: usize,
        header: &Header<'_>,
        fields: HelloFields,
    ) -> Option<Self> {
        assert!(
            fields.interval_secs > 0 && fields.dead_factor > 0,
            "Hello timers are not 0"
        );
        let prefix = HelloPrefix {
            hello_interval: U16::new(fields.interval_secs),
            dead_factor: U16::new(fields.dead_factor),
            unused: U16::ZERO,
            family: U16::new(fields.family.0),
        };
        Self::start(buf, limit, MessageType::Hello, prefix.as_bytes(), header, 0)
    }

    fn start(
        buf: &'b mut [u8],
        limit: usize,
        message_type: MessageType,
        prefix: &[u8],
        header: &Header<'_>,
        flags: u16,
    ) -> Option<Self> {
        let fixed = FixedPart {
            version: VERSION,
            kind: message_type.code(),
            packet_size: U16::ZERO,
            checksum: U16::ZERO,
            extensions_start: U16::ZERO,
        };
        let common = CommonPart {
            protocol: U16::new(header.protocol.0),
            group: U16::new(header.group.0),
            unused: U16::ZERO, // W-05
            flags: U16::new(flags),
            sender_len: u8::try_from(header.sender.len())
                .ok()
                .filter(|len| *len > 0)?,
            receiver_len: u8::try_from(header.receiver.len()).ok()?,
            record_count: U16::ZERO,
        };
        let cap = buf.len().min(limit).min(PACKET_LEN_MAX);
        let buf = &mut buf[..cap];
        let parts = [
            fixed.as_bytes(),
            prefix,
            common.as_bytes(),
            header.sender,
            header.receiver,
        ];
        let mut len = 0;
        for part in parts {
            buf.get_mut(len..len + part.len())?.copy_from_slice(part);
            len += part.len();
        }
        Some(Self {
            buf,
            message_type,
            len,
            reserved: 0,
            extensions_start: None,
            extension_count: 0,
            record_count: 0,
        })
    }

    /// Keeps room for an extension of `value_len` octets to come after the records; once per
    /// extension. `false`, and nothing kept, when there is no room left.
    pub fn reserve(&mut self, value_len: usize) -> bool {
        let end_marker = if self.reserved == 0 {
            EXTENSION_HEADER_LEN
        } else {
            0
        };
        let wanted = value_len.saturating_add(EXTENSION_HEADER_LEN + end_marker);
        let fits = wanted <= self.room();
        if fits {
            self.reserved += wanted;
        }
        fits
    }

    /// Keeps room for the signature of [`finish_signed`](Self::finish_signed).
    pub fn reserve_signature(&mut self, signer: &Signer<'_>) -> bool {
        self.reserve(signer.value_len())
    }

    /// Octets left for records.
    #[inline]
    pub fn room(&self) -> usize {
        match self.extensions_start {
            None => self.buf.len() - self.len - self.reserved,
            Some(_) => 0,
        }
    }

    /// Records so far; in a Hello, additional receiver ids.
    #[inline]
    pub const fn record_count(&self) -> u16 {
        self.record_count
    }

    /// Whether there is no record yet.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Appends a summary; in a CSU Request a record without a body (CSU-11).
    ///
    /// # Panics
    /// In a Hello, and as [`encode_summary`].
    #[inline]
    pub fn push_summary(&mut self, fields: &SummaryFields<'_>) -> bool {
        assert!(
            self.message_type != MessageType::Hello,
            "a Hello holds no summaries"
        );
        self.claim(summary_len(fields), 1).is_some_and(|out| {
            encode_summary(out, fields);
            true
        })
    }

    /// Appends a record.
    ///
    /// # Panics
    /// In other messages than a CSU Request, and as [`encode_record`].
    #[inline]
    pub fn push_record(&mut self, fields: &SummaryFields<'_>, body: &[u8]) -> bool {
        assert!(
            self.message_type == MessageType::CsuRequest,
            "records go in CSU Requests"
        );
        self.claim(record_len(fields, body.len()), 1)
            .is_some_and(|out| {
                encode_record(out, fields, body);
                true
            })
    }

    /// Appends `count` records of this message's kind that are already in wire form.
    #[inline]
    pub fn push_wire(&mut self, wire: &[u8], count: u16) -> bool {
        debug_assert!(
            self.takes(wire, count),
            "wire holds `count` records of this message's kind"
        );
        self.claim(wire.len(), count).is_some_and(|out| {
            out.copy_from_slice(wire);
            true
        })
    }

    /// Appends one record of this message's kind, whose `len` octets `write` fills in.
    #[inline]
    pub fn push_with(&mut self, len: usize, write: impl FnOnce(&mut [u8])) -> bool {
        let at = self.len;
        let Some(out) = self.claim(len, 1) else {
            return false;
        };
        write(out);
        debug_assert!(
            self.takes(&self.buf[at..self.len], 1),
            "one record was written"
        );
        true
    }

    /// Appends an additional receiver id to a Hello (H-09).
    ///
    /// # Panics
    /// In other messages, or when `id` has not 1 to 255 octets.
    pub fn push_receiver(&mut self, id: &[u8]) -> bool {
        assert!(
            self.message_type == MessageType::Hello,
            "receiver ids go in Hellos"
        );
        assert!(!id.is_empty(), "a receiver id is not empty");
        let len = u8::try_from(id.len()).expect("a receiver id has at most 255 octets");
        self.claim(1 + id.len(), 1).is_some_and(|out| {
            out[0] = len;
            out[1..].copy_from_slice(id);
            true
        })
    }

    /// Replaces the flags of a CA message: what O must say is known only after the records.
    ///
    /// # Panics
    /// In other messages.
    pub fn set_ca_flags(&mut self, flags: CaFlags) {
        assert!(
            self.message_type == MessageType::Ca,
            "M, I and O go in CA messages"
        );
        self.common().flags = U16::new(flags.to_wire());
    }

    /// Appends an extension, after which no record fits. Also `false` when W-09 forbids it: its
    /// type, or for type 2 its vendor, is there already, there are
    /// [`EXTENSIONS_MAX`](crate::EXTENSIONS_MAX), or the value is too short for its type.
    pub fn push_extension(&mut self, code: u16, value: &[u8]) -> bool {
        let Ok(extension) = Extension::new(code, value) else {
            return false;
        };
        self.claim_extension(&extension, value.len())
            .is_some_and(|out| {
                out.copy_from_slice(value);
                true
            })
    }

    /// Appends our own vendor-private extension with these items. Also `false` as
    /// [`push_extension`](Self::push_extension), and for a value beyond 255 octets.
    pub fn push_items(&mut self, items: &[Item<'_>]) -> bool {
        if items
            .iter()
            .any(|item| u8::try_from(item.value.len()).is_err())
        {
            return false;
        }
        self.claim_extension(&Extension::OWN_VENDOR, items_len(items))
            .is_some_and(|out| {
                encode_items(out, items);
                true
            })
    }

    /// The octets of a new extension's value, or nothing.
    fn claim_extension(
        &mut self,
        extension: &Extension<'_>,
        value_len: usize,
    ) -> Option<&mut [u8]> {
        let (code, start) = (extension.code(), self.extensions_start.unwrap_or(self.len));
        let wire_len = u16::try_from(value_len).ok()?;
        // The end marker must still fit behind.
        let fits = self.len + value_len + 2 * EXTENSION_HEADER_LEN <= self.buf.len();
        let written = &self.buf[start..self.len];
        if code == EXTENSION_END
            || !fits
            || !Extensions::admits(written, self.extension_count, extension)
        {
            return None;
        }
        self.write_extension_header(code, wire_len);
        self.extensions_start = Some(start);
        self.extension_count += 1;
        let at = self.len;
        self.len += value_len;
        Some(&mut self.buf[at..self.len])
    }

    /// Fills in count, sizes and checksum; returns the packet's octets, at the buffer's start.
    pub fn finish(mut self) -> usize {
        let len = self.close();
        seal(&mut self.buf[..len]);
        len
    }

    /// The same with a signature behind all other extensions (X-03, D-08).
    ///
    /// # Panics
    /// When there is no room for it: [`reserve_signature`](Self::reserve_signature) comes first.
    pub fn finish_signed(mut self, signer: &Signer<'_>) -> usize {
        let len = self.close();
        let signed = signer.sign(self.buf, len);
        signed.expect("room for the signature is kept")
    }

    /// Fills in everything but the checksum; the packet's octets.
    fn close(&mut self) -> usize {
        if self.extensions_start.is_some() {
            self.write_extension_header(EXTENSION_END, 0);
        }
        self.common().record_count = U16::new(self.record_count);
        let size = wire_u16(self.len);
        let extensions_start = wire_u16(self.extensions_start.unwrap_or(0));
        let packet = &mut self.buf[..self.len];
        let (fixed, _) = FixedPart::mut_from_prefix(packet).expect("a packet has a fixed part");
        fixed.packet_size = size;
        fixed.extensions_start = extensions_start;
        self.len
    }

    /// Takes `len` octets for `count` records, or nothing.
    #[inline]
    fn claim(&mut self, len: usize, count: u16) -> Option<&mut [u8]> {
        if len > self.room() {
            return None;
        }
        self.record_count = self.record_count.checked_add(count)?;
        let at = self.len;
        self.len += len;
        Some(&mut self.buf[at..at + len])
    }

    /// Whether `wire` holds exactly `count` records of this message's kind.
    fn takes(&self, wire: &[u8], count: u16) -> bool {
        match self.message_type {
            MessageType::CsuRequest => Records::counted(wire, count).is_ok(),
            MessageType::Ca | MessageType::CsuReply | MessageType::Csus => {
                Summaries::counted(wire, count).is_ok()
            }
            MessageType::Hello => false,
        }
    }

    /// The caller has made sure that it fits.
    fn write_extension_header(&mut self, code: u16, value_len: u16) {
        let header = ExtensionHeader {
            code: U16::new(code),
            value_len: U16::new(value_len),
        };
        let end = self.len + EXTENSION_HEADER_LEN;
        self.buf[self.len..end].copy_from_slice(header.as_bytes());
        self.len = end;
    }

    fn common(&mut self) -> &mut CommonPart {
        let at = FIXED_LEN + self.message_type.prefix_len();
        let (common, _) = CommonPart::mut_from_prefix(&mut self.buf[at..])
            .expect("`start` wrote the common part");
        common
    }
}

/// An offset within a packet, as on the wire.
fn wire_u16(offset: usize) -> U16 {
    U16::new(u16::try_from(offset).expect("a packet has at most 65,535 octets"))
}
