//! The envelope of every packet, and the step from it to the message inside (RFC 2334 B.1, B.2).

use core::time::Duration;

use zerocopy::FromBytes;

use crate::authentication::Authentication;
use crate::build::Header;
use crate::checksum::verify;
use crate::error::ParseError;
use crate::extensions::{Extensions, find_authentication};
use crate::ids::{CaSeq, FamilyId, ProtocolId, ServerGroupId};
use crate::layout::{CaPrefix, CommonPart, FIXED_LEN, FixedPart, HelloPrefix, VERSION};
use crate::message::{Ca, CaFlags, CsuReply, CsuRequest, Csus, Hello, Message, Receivers};
use crate::record::{Records, Summaries};

/// Type of a message.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum MessageType {
    /// Cache Alignment (B.2.1).
    Ca = 1,
    /// Cache State Update Request (B.2.2).
    CsuRequest = 2,
    /// Cache State Update Reply (B.2.3).
    CsuReply = 3,
    /// Cache State Update Solicit (B.2.4).
    Csus = 4,
    /// Hello (B.2.5).
    Hello = 5,
}

impl MessageType {
    /// Every type, in the order of the codes.
    pub const ALL: [Self; 5] = [
        Self::Ca,
        Self::CsuRequest,
        Self::CsuReply,
        Self::Csus,
        Self::Hello,
    ];

    /// The type with this code on the wire.
    #[inline]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Ca),
            2 => Some(Self::CsuRequest),
            3 => Some(Self::CsuReply),
            4 => Some(Self::Csus),
            5 => Some(Self::Hello),
            _ => None,
        }
    }

    /// Code on the wire.
    #[inline]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Metric label (`scsp_packets_received_total{type}`).
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ca => "ca",
            Self::CsuRequest => "csu_request",
            Self::CsuReply => "csu_reply",
            Self::Csus => "csus",
            Self::Hello => "hello",
        }
    }

    /// Octets between the fixed and the mandatory common part.
    #[inline]
    pub(crate) const fn prefix_len(self) -> usize {
        match self {
            Self::Ca => size_of::<CaPrefix>(),
            Self::CsuRequest | Self::CsuReply | Self::Csus => 0,
            Self::Hello => size_of::<HelloPrefix>(),
        }
    }
}

/// A packet whose version, size, checksum, type and common part are right.
///
/// Whatever is wrong beyond that, [`open`](Self::open) finds; D-02 treats the two differently.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    bytes: &'a [u8],
    message_type: MessageType,
    extensions_start: u16,
    prefix: &'a [u8],
    common: &'a CommonPart,
    sender: &'a [u8],
    receiver: &'a [u8],
    /// Records and extensions.
    body: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Checks a datagram's payload; octets beyond the packet size are link padding (W-02).
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let have = bytes.len();
        let (fixed, _) =
            FixedPart::ref_from_prefix(bytes).map_err(|_| ParseError::Truncated { have })?;
        if fixed.version != VERSION {
            return Err(ParseError::Version(fixed.version)); // W-01
        }
        let size = fixed.packet_size.get();
        let packet = bytes
            .get(..usize::from(size))
            .filter(|packet| packet.len() >= FIXED_LEN)
            .ok_or(ParseError::Size { field: size, have })?; // W-02
        if !verify(packet) {
            return Err(ParseError::Checksum); // W-03
        }
        let message_type =
            MessageType::from_code(fixed.kind).ok_or(ParseError::Type(fixed.kind))?; // W-08
        let short = ParseError::CommonPart;
        let (prefix, rest) = packet[FIXED_LEN..]
            .split_at_checked(message_type.prefix_len())
            .ok_or(short)?;
        let (common, rest) = CommonPart::ref_from_prefix(rest).map_err(|_| short)?;
        let (sender, rest) = rest
            .split_at_checked(usize::from(common.sender_len))
            .ok_or(short)?;
        let (receiver, body) = rest
            .split_at_checked(usize::from(common.receiver_len))
            .ok_or(short)?;
        let extensions_start = fixed.extensions_start.get();
        Ok(Self {
            bytes: packet,
            message_type,
            extensions_start,
            prefix,
            common,
            sender,
            receiver,
            body,
        })
    }

    /// Type of the message inside.
    #[inline]
    pub const fn message_type(&self) -> MessageType {
        self.message_type
    }

    /// Protocol id: with the group id it names the instance.
    #[inline]
    pub fn protocol(&self) -> ProtocolId {
        ProtocolId(self.common.protocol.get())
    }

    /// Server group id.
    #[inline]
    pub fn group(&self) -> ServerGroupId {
        ServerGroupId(self.common.group.get())
    }

    /// Sender id, 1 to 255 octets in what [`open`](Self::open) accepts.
    #[inline]
    pub const fn sender(&self) -> &'a [u8] {
        self.sender
    }

    /// Receiver id of the common part, 0 to 255 octets.
    #[inline]
    pub const fn receiver(&self) -> &'a [u8] {
        self.receiver
    }

    /// Number of records: in a Hello, of additional receiver ids.
    #[inline]
    pub fn record_count(&self) -> u16 {
        self.common.record_count.get()
    }

    /// Exactly the packet, without link padding.
    #[inline]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Family of a Hello, readable before the rest of it is checked: it, not the instance, may be
    /// what identifies the neighbour's state machine (H-14). `None` in other messages.
    #[inline]
    pub fn family(&self) -> Option<FamilyId> {
        match self.message_type {
            MessageType::Hello => HelloPrefix::ref_from_bytes(self.prefix)
                .ok()
                .map(|prefix| FamilyId(prefix.family.get())),
            _ => None,
        }
    }

    /// The authentication extension, found before the rest is checked: whether the sender is who it
    /// seems to be comes before what it says (D-08, D-02). `None` as well when what stands before
    /// it is malformed.
    pub fn authentication(&self) -> Option<Authentication<'a>> {
        let (_, Tail(extensions)) = self.split_body().ok()?;
        let extensions = extensions?;
        let (spi, mac) = find_authentication(extensions)?;
        let start = self.bytes.len() - extensions.len();
        Some(Authentication::new(
            spi,
            self.bytes,
            start + mac.start..start + mac.end,
        ))
    }

    /// Checks all that is left, once; the returned views cannot fail.
    pub fn open(&self) -> Result<Message<'a>, ParseError> {
        if self.sender.is_empty() {
            return Err(ParseError::Sender);
        }
        let envelope = *self;
        let count = self.record_count();
        Ok(match self.message_type {
            MessageType::Ca => {
                let (records, extensions) = self.split_body()?;
                Message::Ca(Ca {
                    envelope,
                    seq: self.ca_seq()?,
                    flags: CaFlags::from_wire(self.common.flags.get()),
                    summaries: Summaries::counted(records, count)?,
                    extensions: extensions.check()?,
                })
            }
            MessageType::CsuRequest => {
                let (records, extensions) = self.split_body()?;
                let records = Records::counted(records, count)?;
                Message::CsuRequest(CsuRequest {
                    envelope,
                    records,
                    extensions: extensions.check()?,
                })
            }
            MessageType::CsuReply => {
                let (records, extensions) = self.split_body()?;
                let summaries = Summaries::counted(records, count)?;
                Message::CsuReply(CsuReply {
                    envelope,
                    summaries,
                    extensions: extensions.check()?,
                })
            }
            MessageType::Csus => {
                let (records, extensions) = self.split_body()?;
                let summaries = Summaries::counted(records, count)?;
                Message::Csus(Csus {
                    envelope,
                    summaries,
                    extensions: extensions.check()?,
                })
            }
            MessageType::Hello => Message::Hello(self.open_hello()?),
        })
    }

    fn open_hello(&self) -> Result<Hello<'a>, ParseError> {
        let prefix =
            HelloPrefix::ref_from_bytes(self.prefix).map_err(|_| ParseError::CommonPart)?;
        let hello_interval_secs = prefix.hello_interval.get();
        let dead_factor = prefix.dead_factor.get();
        if hello_interval_secs == 0 || dead_factor == 0 {
            return Err(ParseError::HelloTimer); // D-04
        }
        let (records, extensions) = self.split_body()?;
        Ok(Hello {
            envelope: *self,
            hello_interval: Duration::from_secs(hello_interval_secs.into()),
            hello_interval_secs,
            dead_factor,
            family: FamilyId(prefix.family.get()),
            receivers: Receivers::counted(self.receiver, records, self.record_count())?,
            extensions: extensions.check()?,
        })
    }

    fn ca_seq(&self) -> Result<CaSeq, ParseError> {
        let prefix = CaPrefix::ref_from_bytes(self.prefix).map_err(|_| ParseError::CommonPart)?;
        Ok(CaSeq(prefix.sequence.get()))
    }

    /// Splits what follows the ids where the extensions start (W-04).
    fn split_body(&self) -> Result<(&'a [u8], Tail<'a>), ParseError> {
        if self.extensions_start == 0 {
            return Ok((self.body, Tail(None)));
        }
        let body_start = self.bytes.len() - self.body.len();
        let (records, extensions) = usize::from(self.extensions_start)
            .checked_sub(body_start)
            .and_then(|records_len| self.body.split_at_checked(records_len))
            .ok_or(ParseError::ExtensionsStart {
                field: self.extensions_start,
            })?;
        Ok((records, Tail(Some(extensions))))
    }

    pub(crate) fn header(&self) -> Header<'a> {
        Header {
            protocol: self.protocol(),
            group: self.group(),
            sender: self.sender,
            receiver: self.receiver,
        }
    }
}

/// The extensions part, not yet checked.
struct Tail<'a>(Option<&'a [u8]>);

impl<'a> Tail<'a> {
    fn check(self) -> Result<Extensions<'a>, ParseError> {
        self.0.map_or(Ok(Extensions::NONE), Extensions::new)
    }
}
