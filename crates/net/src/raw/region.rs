//! Page-aligned memory that Rust references never cover as a whole.

use std::alloc::{self, Layout};
use std::ptr::NonNull;

/// Alignment of every region, the smallest page size; a buffer ring must start on a page.
pub(super) const PAGE_LEN: usize = 4096;

/// Zeroed memory shared piecewise with the kernel. Only raw pointers into it are handed out, so
/// the kernel's writes to one piece never meet a reference that covers another.
#[derive(Debug)]
pub(super) struct Region {
    /// What the allocator gave.
    base: NonNull<u8>,
    layout: Layout,
    /// First page boundary in it.
    start: *mut u8,
    len: usize,
}

impl Region {
    /// Pages are taken from the system only when they are touched: the allocator zeroes blocks of
    /// ordinary alignment by mapping fresh pages, but writes zeroes to over-aligned ones. So the
    /// page boundary is found within a larger block.
    pub(super) fn new(len: usize) -> Self {
        let len = len.max(1);
        let layout = Layout::array::<u8>(len + PAGE_LEN).expect("limits are checked");
        // SAFETY: `layout` has a size of more than a page.
        let base = unsafe { alloc::alloc_zeroed(layout) };
        let Some(base) = NonNull::new(base) else {
            alloc::handle_alloc_error(layout)
        };
        let start = base.as_ptr().wrapping_add(base.align_offset(PAGE_LEN));
        Self {
            base,
            layout,
            start,
            len,
        }
    }

    /// Pointer to `len` octets at `offset`; panics when they are not inside.
    pub(super) fn pointer(&self, offset: usize, len: usize) -> *mut u8 {
        let end = offset.checked_add(len).expect("range inside the region");
        assert!(end <= self.len, "range inside the region");
        self.start.wrapping_add(offset)
    }

    /// Pointer to a `T` at `offset`; panics unless it is inside and aligned.
    #[allow(clippy::cast_ptr_alignment, reason = "asserted right here")]
    pub(super) fn place<T>(&self, offset: usize) -> *mut T {
        let place = self.pointer(offset, size_of::<T>()).cast::<T>();
        assert!(place.is_aligned(), "aligned place in the region");
        place
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: `base` came from `alloc_zeroed` with this very `layout` and is freed only here.
        // The owner dropped us, so by its contract nobody, the kernel included, uses it any more.
        unsafe { alloc::dealloc(self.base.as_ptr(), self.layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: pointers are page-aligned at the start and never leave the region.
    #[test]
    fn pointers_stay_inside() {
        let region = Region::new(8192);
        assert_eq!(region.pointer(0, 8192).align_offset(PAGE_LEN), 0);
        let outside = std::panic::catch_unwind(|| region.pointer(8000, 193));
        assert!(outside.is_err());
        let crooked = std::panic::catch_unwind(|| region.place::<u64>(4));
        assert!(crooked.is_err());
        let wrapped = std::panic::catch_unwind(|| region.pointer(usize::MAX, 2));
        assert!(wrapped.is_err());
    }
}
