//! Records: what they look like, how many of them get into a server fast.

use std::net::SocketAddr;
use std::thread;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::Shape;
use crate::interrupt;
use crate::pipeline::Pipeline;

/// Connections and depth of a mass load.
const LOAD_CONNECTIONS: u32 = 4;
const LOAD_PIPELINE: usize = 256;

/// Small generator of repeatable numbers (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    /// The next one.
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// The next one below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        u32::try_from((u128::from(self.next()) * u128::from(bound)) >> 64).expect("below a u32")
    }
}

/// Makes keys and values in buffers that are used again.
#[derive(Clone, Debug)]
pub(crate) struct Maker {
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Maker {
    pub(crate) fn new(shape: Shape) -> Self {
        let (key, value) = (
            usize::from(shape.key_octets),
            usize::from(shape.value_octets),
        );
        Self {
            key: vec![b'k'; key],
            value: vec![b'v'; value],
        }
    }

    /// Key number `number`, and the value of `version` for it.
    pub(crate) fn record(&mut self, number: u32, version: u64) -> (&[u8], &[u8]) {
        let at = self.key.len() - 8;
        hex(&mut self.key[at..], u64::from(number));
        hex(&mut self.value[..16], version);
        let mut numbers = Numbers(version ^ (u64::from(number) << 32));
        for chunk in self.value[16..].chunks_mut(16) {
            let mut digits = [0; 16];
            hex(&mut digits, numbers.next());
            chunk.copy_from_slice(&digits[..chunk.len()]);
        }
        (&self.key, &self.value)
    }
}

/// The last digits of `number`, as many as fit.
fn hex(out: &mut [u8], mut number: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[usize::from(number.to_le_bytes()[0] & 15)];
        number >>= 4;
    }
}

/// Writes keys 0 to `records` with values of `version` through several connections.
pub(crate) fn load(
    address: SocketAddr,
    records: u32,
    version: u64,
    shape: Shape,
) -> anyhow::Result<()> {
    let bar = progress(u64::from(records), "loading");
    let part = records.div_ceil(LOAD_CONNECTIONS);
    let result = thread::scope(|scope| {
        let threads: Vec<_> = (0..LOAD_CONNECTIONS)
            .map(|number| {
                let from = (number * part).min(records);
                let to = (from + part).min(records);
                let bar = &bar;
                scope.spawn(move || load_part(address, from..to, version, shape, bar))
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().expect("loaders do not panic"))
    });
    bar.finish_and_clear();
    result
}

fn load_part(
    address: SocketAddr,
    numbers: std::ops::Range<u32>,
    version: u64,
    shape: Shape,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let mut maker = Maker::new(shape);
    let mut pipeline = Pipeline::open_serving(address)?;
    let last = numbers.end.saturating_sub(1);
    for number in numbers {
        let (key, value) = maker.record(number, version);
        pipeline.push(&[b"SET", key, value]);
        if pipeline.len() == LOAD_PIPELINE || number == last {
            bar.inc(pipeline.len() as u64);
            pipeline.flush()?;
            interrupt::check()?;
        }
    }
    Ok(())
}

/// Something that turns while a test of unknown length runs; only a terminal shows it.
pub(crate) fn spinner(what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:>10} {human_pos} {elapsed}");
    let style = style.expect("the template is well-formed");
    ProgressBar::no_length()
        .with_style(style)
        .with_message(what)
}

/// A bar that only a terminal shows.
pub(crate) fn progress(len: u64, what: &'static str) -> ProgressBar {
    let template = "{msg:>10} {wide_bar} {human_pos} of {human_len} {elapsed}";
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    ProgressBar::new(len).with_style(style).with_message(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: keys differ by number, values by number and version, lengths are as asked.
    #[test]
    fn records_differ() {
        let mut maker = Maker::new(Shape {
            key_octets: 10,
            value_octets: 40,
        });
        let (key, value) = maker.record(0xABC, 1);
        assert_eq!((key, value.len()), (b"kk00000abc".as_slice(), 40));
        let value = value.to_vec();
        assert_ne!(maker.record(0xABD, 1).0, b"kk00000abc");
        assert_ne!(maker.record(0xABC, 2).1, value);
        assert_ne!(maker.record(0xABD, 1).1, value);
        assert_eq!(maker.record(0xABC, 1).1, value);
    }

    /// Goal: numbers stay below the bound and reach both ends of a small one.
    #[test]
    fn numbers_below_a_bound() {
        let mut numbers = Numbers(7);
        let drawn: Vec<_> = (0..200).map(|_| numbers.below(3)).collect();
        assert!((0..3).all(|number| drawn.contains(&number)));
        assert!(drawn.iter().all(|number| *number < 3));
    }
}
