//! Aligned memory that tasks write disjoint parts of.

// Tasks of one parallel region write to one buffer.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};

use sostenuto_ops::DeviceError;

/// One cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Plain numbers, or structures of them: any bytes are a value. Aligned to at most a cache line.
pub(crate) trait Number: Copy + Send + Sync + 'static {}

impl Number for f32 {}
impl Number for u32 {}
impl Number for u16 {}
impl Number for i8 {}
impl Number for u8 {}
impl Number for [f32; crate::simd::BLOCK] {}
impl<const PARTS: usize> Number for crate::simd::int8::Integers<PARTS> {}
#[cfg(target_arch = "x86_64")]
impl Number for crate::simd::amx::Bf16Block {}

/// A fixed number of zero-initialised numbers that start on a cache line.
pub(crate) struct Memory<T> {
    lines: Vec<Line>,
    len: usize,
    element: PhantomData<T>,
}

impl<T> Default for Memory<T> {
    fn default() -> Self {
        Self { lines: Vec::new(), len: 0, element: PhantomData }
    }
}

impl<T: Number> Memory<T> {
    /// `len` zeros, resident.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`].
    pub(crate) fn zeroed(len: usize, what: &str) -> Result<Self, DeviceError> {
        let needed = len * size_of::<T>();
        let count = Self::planned_bytes(len) / size_of::<Line>();
        let mut lines = Vec::new();
        let out_of_memory = |_| DeviceError::OutOfMemory { what: what.to_owned(), needed };
        lines.try_reserve_exact(count).map_err(out_of_memory)?;
        lines.resize(count, Line([0; 64]));
        Ok(Self { lines, len, element: PhantomData })
    }

    /// Size in bytes of `len` elements: whole cache lines.
    pub(crate) fn planned_bytes(len: usize) -> usize {
        (len * size_of::<T>()).next_multiple_of(size_of::<Line>())
    }

    /// Size in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.lines.len() * size_of::<Line>()
    }
}

impl Memory<u8> {
    /// The first `len` elements of another kind in the same bytes.
    ///
    /// # Panics
    /// If there are fewer.
    pub(crate) fn view<T: Number>(&mut self, len: usize) -> &mut [T] {
        assert!(len * size_of::<T>() <= self.bytes(), "elements within the memory");
        // SAFETY: the lines hold them, are aligned to 64 bytes as every `T` may be, any bytes are a `T`, and the borrow
        // is unique.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), len) }
    }
}

impl<T: Number> Deref for Memory<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the lines hold at least `len` elements, are aligned to 64 bytes, and any bytes are a `T`.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl<T: Number> DerefMut for Memory<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as for `deref`, and the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

/// A slice of which the tasks of a parallel region borrow disjoint parts.
pub(crate) struct Parts<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: it only hands out parts, and who takes one vouches that no other task has it at the same time.
unsafe impl<T: Send> Sync for Parts<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Parts<'_, T> {}

impl<T> Clone for Parts<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// Borrows a part.
    ///
    /// # Safety
    /// No other borrow of an overlapping part may live at the same time.
    #[inline]
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn get(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "a part lies within its slice");
        // SAFETY: the range lies within the slice, which is borrowed for 'a; the caller vouches for uniqueness.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zero_and_starts_on_a_cache_line() {
        let memory = Memory::<u16>::zeroed(37, "test").unwrap();
        assert_eq!(&*memory, &[0; 37]);
        assert_eq!(memory.as_ptr() as usize % 64, 0);
        assert_eq!(memory.bytes(), 128);
        assert_eq!(Memory::<u16>::planned_bytes(37), 128);
    }

    #[test]
    fn view_has_the_same_bytes() {
        let mut memory = Memory::<u8>::zeroed(70, "test").unwrap();
        memory.view::<u32>(17)[16] = 0x0102_0304;
        assert_eq!(memory[64..68], [4, 3, 2, 1]);
        assert!(std::panic::catch_unwind(move || memory.view::<u32>(33).len()).is_err());
    }

    #[test]
    fn absurd_size_is_an_error() {
        let result = Memory::<f32>::zeroed(usize::MAX / 8, "a giant");
        assert!(matches!(result, Err(DeviceError::OutOfMemory { what, .. }) if what == "a giant"));
    }

    #[test]
    #[should_panic(expected = "a part lies within its slice")]
    fn part_beyond_the_slice_is_refused() {
        let mut values = [0; 4];
        // SAFETY: the only borrow.
        unsafe { Parts::new(&mut values).get(2..5) };
    }
}
