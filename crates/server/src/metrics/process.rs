//! What the operating system knows of this process, by Prometheus' own names, and of the engine's. Linux only.

use std::{fmt, sync::Arc};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};
use sostenuto_engine::EngineClient;

/// Encodes memory, time and files at each scrape.
#[derive(Debug)]
pub(super) struct ProcessCollector {
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    engine: Arc<dyn EngineClient>,
}

impl ProcessCollector {
    pub(super) fn new(engine: Arc<dyn EngineClient>) -> Self {
        Self { engine }
    }
}

#[cfg(not(target_os = "linux"))]
impl Collector for ProcessCollector {
    fn encode(&self, _encoder: DescriptorEncoder<'_>) -> fmt::Result {
        Ok(())
    }
}

#[cfg(target_os = "linux")]
impl Collector for ProcessCollector {
    /// Shows nothing of this process where `/proc` can't be read.
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = super::page::Page::new(encoder);
        // An engine process may end at any time.
        let engine_bytes = self.engine.process_id().and_then(|id| linux::resident_bytes(id).ok());
        page.gauge(
            "sostenuto:engine_resident_memory_bytes",
            "Resident memory of the engine's process",
            engine_bytes.unwrap_or(0) as f64,
        )?;
        match linux::Reading::take() {
            Ok(reading) => reading.encode(&mut page),
            Err(error) => {
                tracing::debug!(%error, "the process's own numbers can't be read");
                Ok(())
            }
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fmt;

    use procfs::{ProcResult, process::LimitValue, process::Process};

    use crate::metrics::page::Page;

    /// Resident bytes of another process.
    pub(super) fn resident_bytes(process_id: u32) -> ProcResult<u64> {
        Ok(Process::new(process_id as i32)?.stat()?.rss * procfs::page_size())
    }

    /// One reading of `/proc/self`.
    pub(super) struct Reading {
        resident_bytes: u64,
        virtual_bytes: u64,
        cpu_seconds: f64,
        start_unix_seconds: f64,
        open_files: usize,
        max_files: Option<u64>,
        threads: i64,
    }

    impl Reading {
        pub(super) fn take() -> ProcResult<Reading> {
            let process = Process::myself()?;
            let stat = process.stat()?;
            let ticks_per_second = procfs::ticks_per_second() as f64;
            let max_files = match process.limits()?.max_open_files.soft_limit {
                LimitValue::Value(limit) => Some(limit),
                LimitValue::Unlimited => None,
            };
            Ok(Reading {
                resident_bytes: stat.rss * procfs::page_size(),
                virtual_bytes: stat.vsize,
                cpu_seconds: (stat.utime + stat.stime) as f64 / ticks_per_second,
                start_unix_seconds: procfs::boot_time_secs()? as f64
                    + stat.starttime as f64 / ticks_per_second,
                open_files: process.fd_count()?,
                max_files,
                threads: stat.num_threads,
            })
        }

        pub(super) fn encode(&self, page: &mut Page<'_>) -> fmt::Result {
            page.gauge("process_resident_memory_bytes", "Resident memory", self.resident_bytes as f64)?;
            page.gauge("process_virtual_memory_bytes", "Virtual memory", self.virtual_bytes as f64)?;
            page.counter("process_cpu_seconds", "Time on processors", self.cpu_seconds)?;
            page.gauge("process_start_time_seconds", "Start, in Unix time", self.start_unix_seconds)?;
            page.gauge("process_open_fds", "Open file descriptors", self.open_files as f64)?;
            if let Some(limit) = self.max_files {
                page.gauge("process_max_fds", "File descriptors at most", limit as f64)?;
            }
            page.gauge("process_threads", "Threads", self.threads as f64)
        }
    }
}
