//! What the comparison runs on, as far as the operating system says.

use std::fmt::Write;

/// The processor and the threads used.
pub(super) struct Machine {
    model: String,
    features: Vec<&'static str>,
    threads: usize,
}

/// Features that decide which kernels run, as Linux names them.
const FEATURES: [&str; 8] =
    ["avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8"];

/// Cores that this process may use.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get())
}

impl Machine {
    /// This one.
    pub(super) fn describe(threads: usize) -> Machine {
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Machine { threads, ..Machine::parse(&text) }
    }

    fn parse(cpuinfo: &str) -> Machine {
        let field = |name: &str| {
            let line =
                cpuinfo.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name));
            line.and_then(|line| line.split_once(':')).map_or("", |(_, value)| value.trim())
        };
        let flags: Vec<&str> = field("flags").split(' ').collect();
        let features = FEATURES.into_iter().filter(|feature| flags.contains(feature)).collect();
        Machine { model: field("model name").to_owned(), features, threads: 0 }
    }

    /// One line.
    pub(super) fn line(&self) -> String {
        let mut line =
            if self.model.is_empty() { "unknown processor".to_owned() } else { self.model.clone() };
        write!(line, ", {} threads", self.threads).expect("a string can be written to");
        if !self.features.is_empty() {
            write!(line, ", {}", self.features.join(" ")).expect("a string can be written to");
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_is_read_from_linux() {
        let text = "processor\t: 0\nmodel name\t: Some Processor\nflags\t\t: fpu avx2 fma avx512f\n";
        let machine = Machine { threads: 2, ..Machine::parse(text) };
        assert_eq!(machine.line(), "Some Processor, 2 threads, avx2 fma avx512f");
        assert_eq!(Machine { threads: 1, ..Machine::parse("") }.line(), "unknown processor, 1 threads");
    }
}
