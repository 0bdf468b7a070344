//! Aligned memory that tasks write disjoint parts of.

// Tasks of one parallel region write to one buffer.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};
use std::ptr;

use memmap2::MmapMut;
use sostenuto_ops::DeviceError;

use crate::kernel::packed::LINE;
use crate::pool::Pool;

/// No page of an operating system is smaller.
const PAGE: usize = 4096;

/// A large page, on the processors and systems that have them. What a thread does with new memory is at least one: where
/// two touch the same new page at once, the system finds and zeroes one for each and throws one away.
pub(crate) const LARGE_PAGE: usize = 2 << 20;

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

/// [`sostenuto_formats::pages`]; none is in memory before it is touched.
///
/// # Errors
/// [`DeviceError::OutOfMemory`].
pub(crate) fn pages(len: usize, what: &str) -> Result<MmapMut, DeviceError> {
    let out_of_memory = |_| DeviceError::OutOfMemory { what: what.to_owned(), needed: len };
    sostenuto_formats::pages(len).map_err(out_of_memory)
}

/// A fixed number of zero-initialised numbers that start on a page.
pub(crate) struct Memory<T> {
    /// There are none for no numbers.
    pages: Option<MmapMut>,
    len: usize,
    element: PhantomData<T>,
}

impl<T> Default for Memory<T> {
    fn default() -> Self {
        Self { pages: None, len: 0, element: PhantomData }
    }
}

impl<T: Number> Memory<T> {
    /// `len` zeros, resident: the pool's threads touch every page.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`].
    pub(crate) fn zeroed(len: usize, what: &str, pool: &mut Pool) -> Result<Self, DeviceError> {
        if len == 0 {
            return Ok(Self::default());
        }
        let bytes = len.checked_mul(size_of::<T>()).and_then(|bytes| bytes.checked_next_multiple_of(LINE));
        let too_large = || DeviceError::OutOfMemory { what: what.to_owned(), needed: usize::MAX };
        let bytes = bytes.ok_or_else(too_large)?;
        let mut pages = pages(bytes, what)?;
        let parts = Parts::new(&mut pages);
        pool.run(bytes.div_ceil(LARGE_PAGE), &|task, _| {
            // SAFETY: each task has its own page.
            let page = unsafe { parts.get(task * LARGE_PAGE..bytes.min((task + 1) * LARGE_PAGE)) };
            page.iter_mut().step_by(PAGE).for_each(|byte| *byte = 0);
        });
        Ok(Self { pages: Some(pages), len, element: PhantomData })
    }

    /// Size in bytes of `len` elements: whole cache lines.
    pub(crate) fn planned_bytes(len: usize) -> usize {
        (len * size_of::<T>()).next_multiple_of(LINE)
    }

    /// Size in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.pages.as_ref().map_or(0, |pages| pages.len())
    }

    fn start<U>(&self) -> *const U {
        self.pages.as_ref().map_or(ptr::dangling(), |pages| pages.as_ptr().cast())
    }

    fn start_mut<U>(&mut self) -> *mut U {
        self.pages.as_mut().map_or(ptr::dangling_mut(), |pages| pages.as_mut_ptr().cast())
    }
}

impl Memory<u8> {
    /// The first `len` elements of another kind in the same bytes.
    ///
    /// # Panics
    /// If there are fewer.
    pub(crate) fn view<T: Number>(&mut self, len: usize) -> &mut [T] {
        assert!(len * size_of::<T>() <= self.bytes(), "elements within the memory");
        // SAFETY: the pages hold them, are aligned as every `T` is, any bytes are a `T`, and the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(self.start_mut(), len) }
    }
}

impl<T: Number> Deref for Memory<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the pages hold at least `len` elements, are aligned as every `T` is, and any bytes are a `T`.
        unsafe { std::slice::from_raw_parts(self.start(), self.len) }
    }
}

impl<T: Number> DerefMut for Memory<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as for `deref`, and the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(self.start_mut(), self.len) }
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
    use crate::numa::Nodes;

    fn zeroed<T: Number>(len: usize) -> Result<Memory<T>, DeviceError> {
        Memory::zeroed(len, "test", &mut Pool::new(2, &Nodes::detect()).unwrap())
    }

    #[test]
    fn memory_is_zero_and_starts_on_a_page() {
        let memory = zeroed::<u16>(37).unwrap();
        assert_eq!(&*memory, &[0; 37]);
        assert_eq!(memory.as_ptr() as usize % PAGE, 0);
        assert_eq!(memory.bytes(), 128);
        assert_eq!(Memory::<u16>::planned_bytes(37), 128);
        for len in [0, LARGE_PAGE / 4 - 1, LARGE_PAGE + 1] {
            let memory = zeroed::<f32>(len).unwrap();
            assert!(memory.len() == len && memory.iter().all(|&value| value == 0.0));
            assert_eq!(memory.bytes(), Memory::<f32>::planned_bytes(len));
        }
    }

    #[test]
    fn view_has_the_same_bytes() {
        let mut memory = zeroed::<u8>(70).unwrap();
        assert!(Memory::<u8>::default().view::<f32>(0).is_empty());
        memory.view::<u32>(17)[16] = 0x0102_0304;
        assert_eq!(memory[64..68], [4, 3, 2, 1]);
        assert!(std::panic::catch_unwind(move || memory.view::<u32>(33).len()).is_err());
    }

    #[test]
    fn absurd_size_is_an_error() {
        for len in [usize::MAX / 8, usize::MAX / 4 + 2, usize::MAX] {
            let result = zeroed::<f32>(len);
            assert!(matches!(result, Err(DeviceError::OutOfMemory { what, .. }) if what == "test"), "{len}");
        }
    }

    #[test]
    #[should_panic(expected = "a part lies within its slice")]
    fn part_beyond_the_slice_is_refused() {
        let mut values = [0; 4];
        // SAFETY: the only borrow.
        unsafe { Parts::new(&mut values).get(2..5) };
    }
}
