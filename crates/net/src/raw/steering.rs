//! Programs that choose among the sockets of one address.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::steering::Instruction;

/// `SO_ATTACH_REUSEPORT_CBPF`: the kernel checks the program and keeps a copy.
pub(crate) fn attach_steering(socket: impl AsFd, program: &[Instruction]) -> io::Result<()> {
    let mut code: Vec<libc::sock_filter> = program
        .iter()
        .map(|it| libc::sock_filter {
            code: it.code,
            jt: it.if_true,
            jf: it.if_false,
            k: it.operand,
        })
        .collect();
    let too_long = |_| io::Error::from_raw_os_error(libc::EINVAL);
    let program = libc::sock_fprog {
        len: libc::c_ushort::try_from(code.len()).map_err(too_long)?,
        filter: code.as_mut_ptr(),
    };
    let len = libc::socklen_t::try_from(size_of_val(&program)).expect("a small struct");
    let descriptor = socket.as_fd().as_raw_fd();
    let pointer: *const libc::sock_fprog = &raw const program;
    let (level, name) = (libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF);
    // SAFETY: `pointer` is the local `program` of exactly `len` octets, whose `filter` points to the
    // `len` instructions of the local `code`; both are alive and unshared until the call returns.
    // The kernel reads them and keeps nothing.
    let result = unsafe { libc::setsockopt(descriptor, level, name, pointer.cast(), len) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
