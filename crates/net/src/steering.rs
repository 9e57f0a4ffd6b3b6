//! Steering: a program in the kernel chooses which of the sockets of one address gets a datagram.
//!
//! Classic BPF, since that takes no privilege. The program sees the datagram's payload and answers
//! with the position of a socket in the order of binding; where it answers with none, and for
//! payloads that end before an octet it asks for (then the answer is 0), the kernel goes on.

use crate::{IoError, LinkSocket, raw};

/// One instruction of classic BPF, as in `linux/filter.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What it does.
    pub code: u16,
    /// Instructions that a comparison skips when it holds.
    pub if_true: u8,
    /// Instructions that it skips when it does not hold.
    pub if_false: u8,
    /// Offset, constant or distance.
    pub operand: u32,
}

/// Instructions of a program at most.
pub const STEERING_LEN_MAX: usize = 4096;

impl LinkSocket {
    /// Lets `program` choose among all sockets that share the address of this one, whichever are
    /// bound later too. An error leaves the kernel's own choice in force.
    pub fn steer(&self, program: &[Instruction]) -> Result<(), IoError> {
        raw::attach_steering(self, program).map_err(IoError::call("steer datagrams"))
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::{UdpOptions, bind_udp};

    const LOAD_OCTET: u16 = 0x30;
    const RETURN_A: u16 = 0x16;

    fn instruction(code: u16, operand: u32) -> Instruction {
        Instruction {
            code,
            if_true: 0,
            if_false: 0,
            operand,
        }
    }

    /// Goal: datagrams go where the program says, by the order of binding, sockets that came after
    /// the program included; over IPv4 and IPv6.
    #[test]
    fn programs_choose_the_socket() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let options = UdpOptions {
                reuse_port: true,
                ..UdpOptions::default()
            };
            let bind = |address| bind_udp(address, &options).unwrap();
            let first = bind(address.parse().unwrap());
            let address = first.local_addr().unwrap();
            let group: Vec<UdpSocket> = [first, bind(address)].into();
            // The second octet is the answer.
            let program = [instruction(LOAD_OCTET, 1), instruction(RETURN_A, 0)];
            let link = LinkSocket::from(group[0].try_clone().unwrap());
            link.steer(&program).unwrap();
            let group: Vec<UdpSocket> = group.into_iter().chain([bind(address)]).collect();
            let sender = UdpSocket::bind((address.ip(), 0)).unwrap();
            for to in [2_u8, 0, 1, 2, 1] {
                sender.send_to(&[9, to], address).unwrap();
                let mut got = [0; 4];
                let len = group[usize::from(to)].recv(&mut got).unwrap();
                assert_eq!(got[..len], [9, to]);
            }
            // Too short: the first one.
            sender.send_to(&[9], address).unwrap();
            assert_eq!(group[0].recv(&mut [0; 4]).unwrap(), 1);
        }
    }

    /// Goal: a program that the kernel does not take, and a socket that shares its address with
    /// nobody, are errors that say what was tried.
    #[test]
    fn unusable_programs_are_refused() {
        let options = UdpOptions {
            reuse_port: true,
            ..UdpOptions::default()
        };
        let socket = bind_udp("127.0.0.1:0".parse().unwrap(), &options).unwrap();
        let link = LinkSocket::from(socket);
        let endless = vec![instruction(LOAD_OCTET, 0); STEERING_LEN_MAX + 1];
        for program in [&[][..], &[instruction(LOAD_OCTET, 0)], &endless] {
            let error = link.steer(program).unwrap_err().to_string();
            assert!(error.contains("steer datagrams"), "{error}");
        }
        let alone = bind_udp("127.0.0.1:0".parse().unwrap(), &UdpOptions::default()).unwrap();
        let program = [instruction(RETURN_A, 0)];
        assert!(LinkSocket::from(alone).steer(&program).is_err());
    }
}
