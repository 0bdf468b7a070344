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
use sostenuto_engine::EngineState;

use crate::{
    ServerConfig,
    app::App,
    chat::chat_completions,
    error::{ApiError, STATE_RETRY, whole_seconds},
    http::{Gate, gate, log},
    metrics::CONTENT_TYPE,
};

const FRONT_PAGE: &str = "\
This is Sostenuto, an OpenAI-compatible server for gpt-oss.

POST /v1/chat/completions   chat, streaming or not
GET  /v1/models             the model that is loaded
GET  /health                whether the server is alive, and where its engine stands
GET  /ready                 whether a request would be answered now
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
        .route("/ready", get(ready))
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

/// 200 with the state while there is anything to wait for; 503 when the engine stopped for good.
async fn health(State(app): State<Arc<App>>) -> Response {
    let state = app.state();
    let status = match state {
        EngineState::Stopped { .. } => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::OK,
    };
    report(&app, &state, status)
}

/// 200 if a token went through the engine that runs and requests are accepted, else 503.
async fn ready(State(app): State<Arc<App>>) -> Response {
    let state = app.state();
    match state {
        EngineState::Ready => report(&app, &state, StatusCode::OK),
        _ => {
            let retry_after = [(header::RETRY_AFTER, whole_seconds(STATE_RETRY))];
            (retry_after, report(&app, &state, StatusCode::SERVICE_UNAVAILABLE)).into_response()
        }
    }
}

fn report(app: &App, state: &EngineState, status: StatusCode) -> Response {
    let stats = app.engine.stats();
    let mut body = json!({
        "status": state.word(),
        "running": stats.running,
        "queued": stats.queued,
        "restarts": stats.restarts,
    });
    match state {
        EngineState::Degraded { reason } => body["reason"] = reason.as_str().into(),
        EngineState::Stopped { reason: Some(error) } => body["reason"] = error.to_string().into(),
        _ => {}
    }
    (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// The metrics, for Prometheus.
async fn metrics(State(app): State<Arc<App>>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")], app.metrics.page())
        .into_response()
}

async fn models(State(app): State<Arc<App>>) -> Result<Json<ModelList>, ApiError> {
    Ok(Json(app.models()?))
}

async fn model(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<Model>, ApiError> {
    app.check_model(&id)?;
    Ok(Json(app.model()?))
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
