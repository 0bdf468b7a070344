//! Keys and values of one layer.

use std::ops::Range;

use sostenuto_ops::{DeviceError, KvDtype};

use super::{Element, GROUP, Geometry};
use crate::memory::{self, Memory, Number};
use crate::pool::Pool;

/// Keys, values and their scales of one layer; the order of elements is in [`crate::kv`].
pub(crate) struct Planes<E> {
    /// Groups of the layer.
    groups: usize,
    /// `[head, group, head_dim, 16 slots]`.
    pub(crate) keys: Memory<E>,
    /// `[head, group, 16 slots, value row]`.
    pub(crate) values: Memory<E>,
    /// `[head, group, key or value, 16 slots]` where the element is scaled, else empty.
    pub(crate) scales: Memory<f32>,
}

/// [`Planes`], for tasks that write disjoint heads.
pub(crate) struct Parts<'a, E> {
    groups: usize,
    pub(crate) keys: memory::Parts<'a, E>,
    pub(crate) values: memory::Parts<'a, E>,
    pub(crate) scales: memory::Parts<'a, f32>,
}

/// One layer, by the type of its elements.
pub(crate) enum Layer {
    F32(Planes<f32>),
    Bf16(Planes<u16>),
    Int8(Planes<i8>),
}

/// No memory: what is left where a layer is taken out.
impl Default for Layer {
    fn default() -> Self {
        let (keys, values) = (Memory::default(), Memory::default());
        Self::F32(Planes { groups: 0, keys, values, scales: Memory::default() })
    }
}

impl<E> Clone for Parts<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Parts<'_, E> {}

impl Layer {
    /// # Errors
    /// [`DeviceError::OutOfMemory`].
    pub(super) fn new(
        dtype: KvDtype,
        geometry: &Geometry,
        groups: usize,
        pool: &mut Pool,
    ) -> Result<Self, DeviceError> {
        Ok(match dtype {
            KvDtype::F32 => Self::F32(Planes::new(geometry, groups, pool)?),
            KvDtype::Bf16 => Self::Bf16(Planes::new(geometry, groups, pool)?),
            KvDtype::Int8 => Self::Int8(Planes::new(geometry, groups, pool)?),
        })
    }

    /// Size in bytes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::F32(planes) => planes.bytes(),
            Self::Bf16(planes) => planes.bytes(),
            Self::Int8(planes) => planes.bytes(),
        }
    }

    /// What [`Layer::bytes`] is of a layer of `groups` groups.
    pub(super) fn planned_bytes(dtype: KvDtype, geometry: &Geometry, groups: usize) -> usize {
        match dtype {
            KvDtype::F32 => Planes::<f32>::planned_bytes(geometry, groups),
            KvDtype::Bf16 => Planes::<u16>::planned_bytes(geometry, groups),
            KvDtype::Int8 => Planes::<i8>::planned_bytes(geometry, groups),
        }
    }

    /// Copies slots of a group to the same slots of another.
    pub(super) fn copy_slots(&mut self, geometry: &Geometry, from: usize, to: usize, slots: &Range<usize>) {
        match self {
            Self::F32(planes) => planes.copy_slots(geometry, from, to, slots),
            Self::Bf16(planes) => planes.copy_slots(geometry, from, to, slots),
            Self::Int8(planes) => planes.copy_slots(geometry, from, to, slots),
        }
    }
}

impl<E: Element> Planes<E> {
    fn new(geometry: &Geometry, groups: usize, pool: &mut Pool) -> Result<Self, DeviceError> {
        let [keys, values, scales] = Self::lens(geometry, groups);
        Ok(Self {
            groups,
            keys: Memory::zeroed(keys, "keys", pool)?,
            values: Memory::zeroed(values, "values", pool)?,
            scales: Memory::zeroed(scales, "scales of keys and values", pool)?,
        })
    }

    /// Place of a head's group among all heads' groups.
    #[inline(always)]
    pub(crate) fn place(&self, head: usize, group: usize) -> usize {
        place(self.groups, head, group)
    }

    pub(crate) fn parts(&mut self) -> Parts<'_, E> {
        Parts {
            groups: self.groups,
            keys: memory::Parts::new(&mut self.keys),
            values: memory::Parts::new(&mut self.values),
            scales: memory::Parts::new(&mut self.scales),
        }
    }

    /// Keys, values and scales of `groups` groups.
    fn lens(geometry: &Geometry, groups: usize) -> [usize; 3] {
        let heads = groups * geometry.kv_heads;
        let scales = if E::SCALED { 2 * GROUP } else { 0 };
        [heads * geometry.key_elements(), heads * geometry.value_elements(), heads * scales]
    }

    fn bytes(&self) -> usize {
        self.keys.bytes() + self.values.bytes() + self.scales.bytes()
    }

    fn planned_bytes(geometry: &Geometry, groups: usize) -> usize {
        let [keys, values, scales] = Self::lens(geometry, groups);
        let elements = Memory::<E>::planned_bytes(keys) + Memory::<E>::planned_bytes(values);
        elements + Memory::<f32>::planned_bytes(scales)
    }

    fn copy_slots(&mut self, geometry: &Geometry, from: usize, to: usize, slots: &Range<usize>) {
        for head in 0..geometry.kv_heads {
            let (from, to) = (self.place(head, from), self.place(head, to));
            copy_rows(&mut self.keys, (geometry.dim, 1), from, to, slots);
            copy_rows(&mut self.values, (1, geometry.value_row), from, to, slots);
            if E::SCALED {
                copy_rows(&mut self.scales, (2, 1), from, to, slots);
            }
        }
    }
}

impl<E> Parts<'_, E> {
    /// As [`Planes::place`].
    #[inline(always)]
    pub(crate) fn place(&self, head: usize, group: usize) -> usize {
        place(self.groups, head, group)
    }
}

/// A head's groups lie side by side: attention reads them one after another.
#[inline(always)]
fn place(groups: usize, head: usize, group: usize) -> usize {
    assert!(group < groups, "a group of the layer");
    head * groups + group
}

/// Copies slots between groups of `[rows, 16 slots, unit]` elements.
fn copy_rows<T: Number>(
    elements: &mut [T],
    (rows, unit): (usize, usize),
    from: usize,
    to: usize,
    slots: &Range<usize>,
) {
    for row in 0..rows {
        let at = |group: usize, slot: usize| ((group * rows + row) * GROUP + slot) * unit;
        elements.copy_within(at(from, slots.start)..at(from, slots.end), at(to, slots.start));
    }
}
