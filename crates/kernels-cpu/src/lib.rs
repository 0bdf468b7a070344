//! SIMD kernels, ISA witness, thread pool and the CPU backend
