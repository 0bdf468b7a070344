//! The op suite on every instruction set, and the properties that hold across threads.

use sostenuto_kernels_cpu::{CpuBackend, CpuOptions, Isa};
use sostenuto_ops::{Backend, Precision};
use sostenuto_ops_suite::{assert_same_bits, run_suite};

fn backend(isa: Isa, threads: usize, precision: Precision) -> Box<dyn Backend> {
    let options = CpuOptions { threads, precision, isa: Some(isa) };
    Box::new(CpuBackend::new(options).expect("the instruction set is there"))
}

/// Whether to go on; says why not.
fn has(isa: Isa) -> bool {
    if !isa.is_available() {
        println!("skipped: this processor lacks {}", isa.name());
    }
    isa.is_available()
}

fn check(isa: Isa, precision: Precision) {
    if has(isa) {
        // Two, so that few rows of a long context are split among them.
        run_suite(&|| backend(isa, 2, precision));
        for threads in [2, 3] {
            assert_same_bits(&|| backend(isa, 1, precision), &|| backend(isa, threads, precision));
        }
    }
}

#[test]
fn scalar_kernels_pass_the_suite_with_the_same_bits_on_any_number_of_threads() {
    check(Isa::Scalar, Precision::Exact);
}

#[test]
fn avx2_kernels_pass_the_suite_with_the_same_bits_on_any_number_of_threads() {
    check(Isa::Avx2, Precision::Exact);
}

#[test]
fn avx512_kernels_pass_the_suite_with_the_same_bits_on_any_number_of_threads() {
    check(Isa::Avx512, Precision::Exact);
}

#[test]
fn neon_kernels_pass_the_suite_with_the_same_bits_on_any_number_of_threads() {
    check(Isa::Neon, Precision::Exact);
}

#[test]
fn scalar_kernels_pass_the_suite_in_fast_mode() {
    check(Isa::Scalar, Precision::Fast);
}

#[test]
fn avx2_kernels_pass_the_suite_in_fast_mode() {
    check(Isa::Avx2, Precision::Fast);
}

#[test]
fn avx512_kernels_pass_the_suite_in_fast_mode() {
    check(Isa::Avx512, Precision::Fast);
}

#[test]
fn neon_kernels_pass_the_suite_in_fast_mode() {
    check(Isa::Neon, Precision::Fast);
}

#[test]
fn amx_kernels_pass_the_suite_with_the_same_bits_on_any_number_of_threads() {
    check(Isa::Amx, Precision::Exact);
}

#[test]
fn amx_kernels_pass_the_suite_in_fast_mode() {
    check(Isa::Amx, Precision::Fast);
}
