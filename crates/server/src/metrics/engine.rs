//! The engine's counts, read at each scrape.

use std::{fmt, sync::Arc};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};
use sostenuto_engine::{BLOCK_SLOTS, EngineClient, EngineStats};

use super::page::Page;

/// Encodes one reading of the engine's counts.
#[derive(Debug)]
pub(super) struct EngineCollector {
    engine: Arc<dyn EngineClient>,
    encode: fn(&mut Page<'_>, &EngineStats) -> fmt::Result,
}

impl EngineCollector {
    /// The metrics that vLLM has.
    pub(super) fn of_model(engine: Arc<dyn EngineClient>) -> Self {
        Self { engine, encode: encode_of_model }
    }

    /// Our own.
    pub(super) fn own(engine: Arc<dyn EngineClient>) -> Self {
        Self { engine, encode: encode_own }
    }
}

impl Collector for EngineCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        (self.encode)(&mut Page::new(encoder), &self.engine.stats())
    }
}

fn encode_of_model(page: &mut Page<'_>, stats: &EngineStats) -> fmt::Result {
    page.gauge("vllm:num_requests_running", "Sequences that run", stats.running as f64)?;
    page.gauge("vllm:num_requests_waiting", "Sequences that wait to run", stats.queued as f64)?;
    let usage = stats.blocks.held as f64 / stats.total_blocks.max(1) as f64;
    page.gauge("vllm:kv_cache_usage_perc", "Share of the KV blocks in use, 0 to 1", usage)?;
    let totals = &stats.totals;
    page.counter(
        "vllm:prefix_cache_queries",
        "Tokens looked up in the prefix cache",
        totals.prefix_queried_tokens,
    )?;
    page.counter("vllm:prefix_cache_hits", "Tokens that the prefix cache held", totals.prefix_hit_tokens)?;
    page.counter("vllm:num_preemptions", "Sequences that gave up their place", totals.preemptions)?;
    page.info(
        "vllm:cache_config",
        "The KV memory",
        &[("block_size", BLOCK_SLOTS), ("num_gpu_blocks", stats.total_blocks)],
    )
}

fn encode_own(page: &mut Page<'_>, stats: &EngineStats) -> fmt::Result {
    let totals = &stats.totals;
    page.gauge(
        "sostenuto:queued_prompt_tokens",
        "Prompt tokens of the sequences that wait",
        stats.queued_prompt_tokens as f64,
    )?;
    page.gauge("sostenuto:preempted_sequences", "Sequences that wait to go on", stats.preempted as f64)?;
    for (name, about, blocks) in [
        ("sostenuto:kv_blocks", "KV blocks in all", stats.total_blocks),
        ("sostenuto:kv_blocks_free", "KV blocks that hold nothing", stats.blocks.free),
        ("sostenuto:kv_blocks_cached", "KV blocks that hold a prefix nobody uses", stats.blocks.cached),
        ("sostenuto:kv_blocks_held", "KV blocks that sequences hold", stats.blocks.held),
        ("sostenuto:kv_blocks_promised", "KV blocks that sequences will take", stats.blocks.promised),
    ] {
        page.gauge(name, about, blocks as f64)?;
    }
    page.counter(
        "sostenuto:kv_blocks_evicted",
        "Cached KV blocks taken for other use",
        stats.evicted_blocks,
    )?;
    page.counter(
        "sostenuto:engine_restarts",
        "Engine processes that replaced one that failed",
        stats.restarts,
    )?;
    page.counter("sostenuto:engine_steps", "Steps of the engine", totals.steps)?;
    page.counter(
        "sostenuto:computed_prompt_tokens",
        "Rows computed that gave no new token",
        totals.prefill_tokens,
    )?;
    page.counter("sostenuto:accepted_sequences", "Sequences that the engine accepted", stats.accepted)?;
    page.counter(
        "sostenuto:queue_full",
        "Sequences that the engine refused because its queue was full",
        stats.refused,
    )
}
