//! The program that steers a UDP link's datagrams in the kernel: Hellos and CA messages to the
//! control thread, all others to the worker whose shard owns the first record.
//!
//! Packets of one sending shard hold records of one receiving shard where both hubs have as many,
//! see [`owner`]; then nothing passes between threads. Whatever comes to another thread than here
//! meant is handled by that one all the same: multicast and Ethernet links are not steered, a kernel
//! may refuse, a coalesced buffer goes by its first datagram, and a program cannot tell malformed
//! packets.

use scsp_engine::shard::owner;
use scsp_net::Instruction;
use scsp_wire::{
    COMMON_LEN, FIXED_LEN, KEY_LEN_AT, KIND_AT, MessageType, SUMMARY_LEN, UPDATE_RECEIVER_LEN_AT,
    UPDATE_SENDER_LEN_AT,
};

/// The longest key (B.2.0.2).
const KEY_LEN_MAX: usize = u8::MAX as usize;

/// Scratch words of the program: state of the hash, position of the first record, length of its key,
/// last octets of the key.
const STATE: usize = 0;
const RECORD: usize = 1;
const KEY_LEN: usize = 2;
const LAST: usize = 3;

/// What the instructions do, as `linux/filter.h` numbers them; `A` and `X` are the two registers.
mod code {
    /// `A` = word at `X` + operand.
    pub(super) const LOAD_WORD_AT_X: u16 = 0x40;
    /// `A` = octet at `X` + operand.
    pub(super) const LOAD_OCTET_AT_X: u16 = 0x50;
    /// `A` = octet at operand.
    pub(super) const LOAD_OCTET: u16 = 0x30;
    /// `A` = operand.
    pub(super) const LOAD_CONSTANT: u16 = 0x00;
    /// `A` = scratch word.
    pub(super) const LOAD: u16 = 0x60;
    /// `X` = scratch word.
    pub(super) const LOAD_X: u16 = 0x61;
    /// Scratch word = `A`.
    pub(super) const STORE: u16 = 0x02;
    /// `X` = `A`.
    pub(super) const MOVE_TO_X: u16 = 0x07;
    /// `A` = `A` + operand.
    pub(super) const ADD: u16 = 0x04;
    /// `A` = `A` + `X`.
    pub(super) const ADD_X: u16 = 0x0c;
    /// `A` = `A` - operand.
    pub(super) const SUBTRACT: u16 = 0x14;
    /// `A` = `A` * operand.
    pub(super) const MULTIPLY: u16 = 0x24;
    /// `A` = `A` & `X`.
    pub(super) const AND_X: u16 = 0x5c;
    /// `A` = `A` ^ operand.
    pub(super) const XOR: u16 = 0xa4;
    /// `A` = `A` ^ `X`.
    pub(super) const XOR_X: u16 = 0xac;
    /// `A` = `A` << operand.
    pub(super) const SHIFT_LEFT: u16 = 0x64;
    /// `A` = `A` << `X`.
    pub(super) const SHIFT_LEFT_X: u16 = 0x6c;
    /// `A` = `A` >> operand.
    pub(super) const SHIFT_RIGHT: u16 = 0x74;
    /// Skips as many instructions as the operand says.
    pub(super) const SKIP: u16 = 0x05;
    /// Compares `A` with the operand.
    pub(super) const IF_EQUAL: u16 = 0x15;
    /// Compares `A` with the operand.
    pub(super) const IF_AT_LEAST: u16 = 0x35;
    /// Ends with the operand.
    pub(super) const ANSWER: u16 = 0x06;
    /// Ends with `A`.
    pub(super) const ANSWER_A: u16 = 0x16;
}

/// A program under construction.
#[derive(Default)]
struct Program(Vec<Instruction>);

/// An instruction whose jump still has no target.
#[must_use]
struct Open(usize);

impl Program {
    fn push(&mut self, code: u16, operand: u32) {
        self.jump(code, operand, 0, 0);
    }

    fn jump(&mut self, code: u16, operand: u32, if_true: u8, if_false: u8) {
        self.0.push(Instruction {
            code,
            if_true,
            if_false,
            operand,
        });
    }

    /// The same with an offset or a place.
    fn at(&mut self, code: u16, operand: usize) {
        self.push(code, u32::try_from(operand).expect("offsets are small"));
    }

    /// A jump to be [`land`](Self::land)ed.
    fn skip(&mut self) -> Open {
        self.push(code::SKIP, 0);
        Open(self.0.len() - 1)
    }

    /// What comes next is where `open` leads.
    fn land(&mut self, Open(at): Open) {
        let distance = self.0.len() - at - 1;
        self.0[at].operand = u32::try_from(distance).expect("programs are short");
    }

    /// `A` = `A` ^ `A` >> `distance`.
    fn fold(&mut self, distance: u32) {
        self.push(code::MOVE_TO_X, 0);
        self.push(code::SHIFT_RIGHT, distance);
        self.push(code::XOR_X, 0);
    }

    /// One step of the hash with the word in `A`, which becomes the state.
    fn step(&mut self) {
        self.at(code::LOAD_X, STATE);
        self.push(code::XOR_X, 0);
        self.push(code::MULTIPLY, owner::STEP_FACTOR);
        self.fold(owner::STEP_SHIFT);
    }
}

/// Steers among the sockets of so many workers, in their order, and one of the control thread.
pub fn program(workers: u16) -> Vec<Instruction> {
    let mut program = Program::default();
    let code_of = |kind: MessageType| u32::from(kind.code());
    program.at(code::LOAD_OCTET, KIND_AT);
    for kind in [MessageType::Ca, MessageType::Hello] {
        program.jump(code::IF_EQUAL, code_of(kind), 0, 1);
        program.push(code::ANSWER, workers.into());
    }
    locate_key(&mut program);
    hash_key(&mut program);
    // As `shard_of` does it.
    program.push(code::SHIFT_RIGHT, 16);
    program.push(code::MULTIPLY, workers.into());
    program.push(code::SHIFT_RIGHT, 16);
    program.push(code::ANSWER_A, 0);
    program.0
}

/// Finds the first record behind the two ids.
fn locate_key(program: &mut Program) {
    program.at(code::LOAD_OCTET, UPDATE_SENDER_LEN_AT);
    program.push(code::MOVE_TO_X, 0);
    program.at(code::LOAD_OCTET, UPDATE_RECEIVER_LEN_AT);
    program.push(code::ADD_X, 0);
    program.at(code::ADD, FIXED_LEN + COMMON_LEN);
    program.at(code::STORE, RECORD);
    program.push(code::MOVE_TO_X, 0);
    program.at(code::LOAD_OCTET_AT_X, KEY_LEN_AT);
    program.at(code::STORE, KEY_LEN);
}

/// Leaves the hash of the key in `A`. There are no loops: each word has its own instructions.
fn hash_key(program: &mut Program) {
    program.push(code::XOR, owner::START);
    program.at(code::STORE, STATE);
    let mut ends = Vec::new();
    for word in 0..(KEY_LEN_MAX - 1) / owner::STEP_LEN {
        // Only what another octet follows: the last word is taken from the end.
        let needed = u32::try_from((word + 1) * owner::STEP_LEN + 1).expect("small");
        program.at(code::LOAD, KEY_LEN);
        program.jump(code::IF_AT_LEAST, needed, 1, 0);
        ends.push(program.skip());
        program.at(code::LOAD_X, RECORD);
        program.at(code::LOAD_WORD_AT_X, SUMMARY_LEN + word * owner::STEP_LEN);
        program.step();
        program.at(code::STORE, STATE);
    }
    for end in ends {
        program.land(end);
    }
    // The last octets of the key; of a shorter key with some of the summary before it.
    program.at(code::LOAD_X, RECORD);
    program.at(code::LOAD, KEY_LEN);
    program.push(code::ADD_X, 0);
    program.push(code::MOVE_TO_X, 0);
    program.at(code::LOAD_WORD_AT_X, SUMMARY_LEN - owner::STEP_LEN);
    program.at(code::STORE, LAST);
    program.at(code::LOAD, KEY_LEN);
    let whole = u32::try_from(owner::STEP_LEN).expect("small");
    program.jump(code::IF_AT_LEAST, whole, 0, 1);
    let is_whole = program.skip();
    // As many bits of it as the key has.
    program.push(code::SHIFT_LEFT, 3);
    program.push(code::MOVE_TO_X, 0);
    program.push(code::LOAD_CONSTANT, 1);
    program.push(code::SHIFT_LEFT_X, 0);
    program.push(code::SUBTRACT, 1);
    program.at(code::LOAD_X, LAST);
    program.push(code::AND_X, 0);
    program.at(code::STORE, LAST);
    program.land(is_whole);
    program.at(code::LOAD, LAST);
    program.step();
    let [first, second] = owner::END_FACTORS;
    program.push(code::MULTIPLY, first);
    program.fold(owner::END_SHIFT);
    program.push(code::MULTIPLY, second);
}

#[cfg(test)]
mod tests;
