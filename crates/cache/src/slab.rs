//! A growing array in chunks: growth copies nothing, numbers stay valid.

const CHUNK_BITS: u32 = 12;
const CHUNK_LEN: usize = 1 << CHUNK_BITS;

/// Array of `T` in chunks of 4,096, addressed by number.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Box<[T; CHUNK_LEN]>>,
    len: u32,
}

impl<T: Copy + Default> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            len: 0,
        }
    }

    /// Numbers given out so far: all below are valid.
    pub(crate) const fn len(&self) -> u32 {
        self.len
    }

    /// Appends and returns the number.
    pub(crate) fn push(&mut self, value: T) -> u32 {
        let number = self.len;
        if number as usize >> CHUNK_BITS == self.chunks.len() {
            let chunk = vec![T::default(); CHUNK_LEN].into_boxed_slice();
            let chunk = chunk.try_into().ok();
            self.chunks.push(chunk.expect("it has the length"));
        }
        self.len += 1;
        *self.at_mut(number) = value;
        number
    }

    #[inline]
    pub(crate) fn at(&self, number: u32) -> &T {
        &self.chunks[number as usize >> CHUNK_BITS][number as usize % CHUNK_LEN]
    }

    #[inline]
    pub(crate) fn at_mut(&mut self, number: u32) -> &mut T {
        &mut self.chunks[number as usize >> CHUNK_BITS][number as usize % CHUNK_LEN]
    }

    /// Forgets all numbers; keeps at most `chunks_max` chunks.
    pub(crate) fn reset(&mut self, chunks_max: usize) {
        self.chunks.truncate(chunks_max);
        self.len = 0;
    }

    /// Octets allocated.
    pub(crate) fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK_LEN * size_of::<T>()
    }
}
