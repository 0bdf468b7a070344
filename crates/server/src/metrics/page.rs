//! Single values on a page of metrics.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeCounterValue, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// A page under way.
pub(super) struct Page<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl<'a> Page<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self { encoder }
    }

    pub(super) fn gauge(&mut self, name: &str, about: &str, value: f64) -> fmt::Result {
        let metric = ConstGauge::new(value);
        metric.encode(self.encoder.encode_descriptor(name, about, None, MetricType::Gauge)?)
    }

    /// `name` without the ending `_total`, which the format adds.
    pub(super) fn counter(&mut self, name: &str, about: &str, value: impl EncodeCounterValue) -> fmt::Result {
        let metric = ConstCounter::new(value);
        metric.encode(self.encoder.encode_descriptor(name, about, None, MetricType::Counter)?)
    }

    /// `name` without the ending `_info`, which the format adds.
    pub(super) fn info(&mut self, name: &str, about: &str, labels: &[(&str, usize)]) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, about, None, MetricType::Info)?;
        metric.encode_info(&labels)
    }
}
