//! Operations the kernel says it knows; multishot variants must be tried.

use std::io;

use io_uring::{IoUring, Probe, opcode};

use super::{Missing, missing};

pub(super) fn check_opcodes(ring: &IoUring) -> Result<(), Missing> {
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(missing("probe of operations"))?;
    for (code, feature) in [
        (opcode::RecvMsg::CODE, "recvmsg"),
        (opcode::SendMsg::CODE, "sendmsg"),
        (opcode::Recv::CODE, "recv"),
        (opcode::Send::CODE, "send"),
        (opcode::Accept::CODE, "accept"),
        (opcode::Read::CODE, "read"),
        (opcode::AsyncCancel::CODE, "async cancel"),
        (opcode::MsgRingData::CODE, "ring messages"),
    ] {
        if !probe.is_supported(code) {
            let source = io::Error::from_raw_os_error(libc::EINVAL);
            return Err(Missing { feature, source });
        }
    }
    Ok(())
}
