//! Paths and their handlers.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{StatusCode, header},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;
use sostenuto_api::models::{Model, ModelList};

use crate::{
    ServerConfig,
    app::App,
    chat::chat_completions,
    error::ApiError,
    http::{Gate, gate, log},
    metrics::CONTENT_TYPE,
};

const FRONT_PAGE: &str = "\
This is Sostenuto, an OpenAI-compatible server for gpt-oss.

POST /v1/chat/completions   chat, streaming or not
GET  /v1/models             the model that is loaded
GET  /health                whether requests are accepted
GET  /metrics               counts and times, for Prometheus

Any OpenAI client works with this server's address and /v1 as base URL.
";

/// The router with everything a request passes before and after its handler.
pub(crate) fn router(app: Arc<App>, config: &ServerConfig) -> Router {
    let for_log = Arc::clone(&app);
    let gate_rules = Arc::new(Gate::new(config));
    Router::new()
        .route("/", get(front_page))
        .route("/health", get(health))
        .route("/v1/health", get(health))
        .route("/metrics", get(metrics))
        .route("/v1/models", get(models))
        .route("/v1/models/{*id}", get(model))
        .route("/v1/chat/completions", post(chat_completions))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(app)
        .layer(from_fn_with_state(gate_rules, gate))
        .layer(from_fn_with_state(for_log, log))
}

async fn front_page() -> &'static str {
    FRONT_PAGE
}

/// 200 while requests are accepted, else 503.
async fn health(State(app): State<Arc<App>>) -> Response {
    let stats = app.engine.stats();
    let (status, word) = match (app.is_closing(), app.engine.is_serving()) {
        (false, true) => (StatusCode::OK, "ok"),
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "shutting_down"),
        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "engine_stopped"),
    };
    let body = json!({"status": word, "running": stats.running, "queued": stats.queued});
    (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// The metrics, for Prometheus.
async fn metrics(State(app): State<Arc<App>>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")], app.metrics.page())
        .into_response()
}

async fn models(State(app): State<Arc<App>>) -> Json<ModelList> {
    Json(app.models())
}

async fn model(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<Model>, ApiError> {
    app.check_model(&id)?;
    Ok(Json(app.model()))
}

async fn not_found(request: Request) -> ApiError {
    let (method, path) = describe(&request);
    ApiError::NotFound { method, path }
}

async fn method_not_allowed(request: Request) -> ApiError {
    let (method, path) = describe(&request);
    ApiError::MethodNotAllowed { method, path }
}

fn describe(request: &Request) -> (String, String) {
    (request.method().to_string(), request.uri().path().chars().take(80).collect())
}
