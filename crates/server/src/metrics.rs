//! What `GET /metrics` shows, in Prometheus' text format.
//!
//! A metric that vLLM has carries vLLM's name, meaning and buckets, so that its dashboards work; what is our own is
//! called `sostenuto:…`. `docs/metrics.md` lists all of them. Labels have values from the program alone, never from a
//! request, so the number of series is bounded.

mod answers;
mod engine;
mod page;
mod process;

use std::{borrow::Cow, sync::Arc};

use prometheus_client::{
    encoding::{EncodeLabelSet, prometheus_text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::Registry,
};
use sostenuto_engine::EngineClient;

pub(crate) use self::answers::{AnswerEnd, AnswerMetrics, Timeline};
use self::{engine::EngineCollector, process::ProcessCollector};

/// `Content-Type` of the page.
pub(crate) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// Everything that is counted beside the engine's own counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Answers and how long they took.
    pub(crate) answers: Arc<AnswerMetrics>,
    /// Oddities of the model's Harmony.
    pub(crate) harmony_warnings: Counter,
    /// Connections that are open.
    pub(crate) open_connections: Gauge,
    responses: Family<ResponseLabels, Counter>,
    errors: Family<ErrorLabels, Counter>,
    registry: Registry,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResponseLabels {
    path: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    code: &'static str,
}

impl Metrics {
    /// Metrics of a server that serves `model_name` by `engine`.
    pub(crate) fn new(model_name: &str, engine: Arc<dyn EngineClient>) -> Metrics {
        let mut registry = Registry::default();
        let of_model = [label("model_name", model_name.to_owned()), label("engine", "0")];
        let of_model = registry.sub_registry_with_labels(of_model.into_iter());
        let answers = Arc::new(AnswerMetrics::register(of_model));
        of_model.register_collector(Box::new(EngineCollector::of_model(engine.clone())));

        let metrics = Metrics {
            answers,
            harmony_warnings: Counter::default(),
            open_connections: Gauge::default(),
            responses: Family::default(),
            errors: Family::default(),
            registry,
        };
        metrics.register_own(engine)
    }

    fn register_own(mut self, engine: Arc<dyn EngineClient>) -> Metrics {
        let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        let registry = &mut self.registry;
        registry.register("sostenuto:build", "The program", version);
        registry.register(
            "sostenuto:http_responses",
            "Answers by path and HTTP status",
            self.responses.clone(),
        );
        registry.register(
            "sostenuto:request_errors",
            "Requests for an answer that got an error instead or at the end of a stream, by its code",
            self.errors.clone(),
        );
        registry.register(
            "sostenuto:harmony_warnings",
            "Oddities of the model's Harmony",
            self.harmony_warnings.clone(),
        );
        registry.register(
            "sostenuto:open_connections",
            "Connections that are open",
            self.open_connections.clone(),
        );
        registry.register_collector(Box::new(EngineCollector::own(Arc::clone(&engine))));
        registry.register_collector(Box::new(ProcessCollector::new(engine)));
        self
    }

    /// Counts an answer by its route, which is `None` for paths that do not exist.
    pub(crate) fn count_response(&self, route: Option<&str>, status: u16) {
        let path = route.unwrap_or("other").to_owned();
        self.responses.get_or_create(&ResponseLabels { path, status }).inc();
    }

    /// Counts a request for an answer that ended with this error code.
    pub(crate) fn count_error(&self, code: &'static str) {
        self.errors.get_or_create(&ErrorLabels { code }).inc();
    }

    /// The page.
    pub(crate) fn page(&self) -> String {
        let mut page = String::new();
        prometheus_text::encode(&mut page, &self.registry).expect("a String takes everything");
        page
    }
}

fn label(name: &'static str, value: impl Into<Cow<'static, str>>) -> (Cow<'static, str>, Cow<'static, str>) {
    (name.into(), value.into())
}
