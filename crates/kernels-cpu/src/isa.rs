//! Instruction sets: which there are, which the processor has, which is used.

use std::ffi::OsStr;

#[cfg(target_arch = "x86_64")]
use crate::simd::amx::Amx;
#[cfg(target_arch = "x86_64")]
use crate::simd::avx2::Avx2;
#[cfg(target_arch = "x86_64")]
use crate::simd::avx512::Avx512;
#[cfg(target_arch = "aarch64")]
use crate::simd::neon::Neon;
use crate::simd::scalar::Scalar;
use crate::simd::{Kernel, Simd};

/// Environment variable that forces an instruction set.
pub const ISA_VARIABLE: &str = "SOSTENUTO_ISA";

/// An instruction set that kernels exist for; those of one architecture from least to most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Plain code that any processor runs.
    Scalar,
    /// x86-64 with AVX2 and FMA: 8 f32 lanes.
    Avx2,
    /// x86-64 with AVX-512 F, BW, VL and DQ: 16 f32 lanes.
    Avx512,
    /// x86-64 with all of that, AVX-512 VNNI and BF16, and AMX with bf16: tiles of 16 rows by 16.
    Amx,
    /// 64-bit ARM with NEON: 8 f32 lanes.
    Neon,
}

/// Why a CPU backend could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpuError {
    /// The instruction set asked for is not there.
    #[error("this processor lacks {asked}, its best instruction set is {best}")]
    IsaMissing {
        /// What was asked for.
        asked: &'static str,
        /// What there is.
        best: &'static str,
    },
    /// The environment variable holds something else.
    #[error("{ISA_VARIABLE} is {got:?}, expected scalar, avx2, avx512, amx or neon")]
    IsaUnknown {
        /// Its value.
        got: String,
    },
    /// No thread to run on.
    #[error("{got} threads, expected 1 to {limit}")]
    Threads {
        /// What was asked for.
        got: usize,
        /// The most there may be.
        limit: usize,
    },
    /// The operating system gave no thread.
    #[error("could not start worker thread {index}: {reason}")]
    ThreadStart {
        /// Which thread.
        index: usize,
        /// What the operating system said.
        reason: String,
    },
}

impl Isa {
    /// All of them, on every architecture: what a processor lacks is there to be refused by its name.
    pub const ALL: [Self; 5] = [Self::Scalar, Self::Avx2, Self::Avx512, Self::Amx, Self::Neon];

    /// Name in messages, kernel names and [`ISA_VARIABLE`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Amx => "amx",
            Self::Neon => "neon",
        }
    }

    /// Whether this processor has it.
    pub fn is_available(self) -> bool {
        Witness::new(self).is_some()
    }

    /// The best this processor has.
    pub fn best() -> Self {
        Self::ALL.into_iter().rfind(|isa| isa.is_available()).unwrap_or(Self::Scalar)
    }

    /// What [`ISA_VARIABLE`] asks for, if it is set.
    ///
    /// # Errors
    /// [`CpuError::IsaUnknown`] where its value names none.
    pub fn from_environment() -> Result<Option<Self>, CpuError> {
        std::env::var_os(ISA_VARIABLE).map(|value| Self::named(&value)).transpose()
    }

    fn named(value: &OsStr) -> Result<Self, CpuError> {
        let named = Self::ALL.into_iter().find(|isa| value == isa.name());
        named.ok_or_else(|| CpuError::IsaUnknown { got: value.to_string_lossy().into_owned() })
    }
}

/// Proof that the processor has an instruction set, and the way to its code.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Witness {
    Scalar(Scalar),
    /// The second is for int8 products.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2<false>, Option<Avx2<true>>),
    /// The second is for int8 products.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512<false>, Option<Avx512<true>>),
    /// Vectors beside the tiles are those of AVX-512.
    #[cfg(target_arch = "x86_64")]
    Amx(Amx),
    /// The second is for int8 products.
    #[cfg(target_arch = "aarch64")]
    Neon(Neon<false>, Option<Neon<true>>),
}

impl Witness {
    /// The proof, where there is one.
    pub(crate) fn new(isa: Isa) -> Option<Self> {
        match isa {
            Isa::Scalar => Some(Self::Scalar(Scalar)),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Avx2::detect().map(|simd| Self::Avx2(simd, Avx2::detect())),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Avx512::detect().map(|simd| Self::Avx512(simd, Avx512::detect())),
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => Amx::detect().map(Self::Amx),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => Neon::detect().map(|simd| Self::Neon(simd, Neon::detect())),
            // Those of other architectures.
            _ => None,
        }
    }

    pub(crate) fn isa(self) -> Isa {
        match self {
            Self::Scalar(_) => Isa::Scalar,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(..) => Isa::Avx2,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(..) => Isa::Avx512,
            #[cfg(target_arch = "x86_64")]
            Self::Amx(_) => Isa::Amx,
            #[cfg(target_arch = "aarch64")]
            Self::Neon(..) => Isa::Neon,
        }
    }

    /// Whether int8 products take one instruction.
    pub(crate) fn has_int8_dot(self) -> bool {
        match self {
            Self::Scalar(_) => false,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_, int8) => int8.is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_, int8) => int8.is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Amx(_) => true,
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_, int8) => int8.is_some(),
        }
    }

    /// Runs a kernel with this instruction set.
    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            Self::Scalar(simd) => simd.vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd, _) => simd.vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(simd, _) => simd.vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Amx(amx) => amx.vectorize(kernel),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(simd, _) => simd.vectorize(kernel),
        }
    }

    /// Runs a kernel of int8 products.
    #[inline]
    pub(crate) fn run_int8<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_, Some(simd)) => simd.vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_, Some(simd)) => simd.vectorize(kernel),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_, Some(simd)) => simd.vectorize(kernel),
            _ => self.run(kernel),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalar_is_always_there_and_best_is_available() {
        assert!(Isa::Scalar.is_available());
        assert!(Isa::best().is_available());
        for isa in Isa::ALL {
            assert_eq!(Witness::new(isa).map(Witness::isa), isa.is_available().then_some(isa));
        }
    }

    #[test]
    fn names_select_and_anything_else_is_refused() {
        for isa in Isa::ALL {
            assert_eq!(Isa::named(OsStr::new(isa.name())), Ok(isa));
        }
        for got in ["", "AVX2", "avx2 ", "sse"] {
            let error = Isa::named(OsStr::new(got)).expect_err("not a name");
            assert_eq!(error, CpuError::IsaUnknown { got: got.into() });
        }
    }
}
