//! `POST /v1/chat/completions`.
//!
//! Both forms of answer come from the same [`generation::Generation`], so they say the same.

mod align;
mod collect;
mod conversation;
mod generation;
mod names;
mod sse;
mod stop;
mod turn;

use std::{sync::Arc, time::Instant};

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    http::header,
    response::{IntoResponse, Response},
};
use sostenuto_api::{
    ValidationError,
    chat::{ChatRequest, ToolChoice, ValidChatRequest, ValidSampling},
};
use sostenuto_engine::{GenerateRequest, SamplingParams};
use sostenuto_harmony::RenderOptions;

use self::{
    collect::collect,
    conversation::conversation,
    generation::Generation,
    names::ToolNames,
    sse::{ChunkFormat, SseBody},
    turn::{Turn, TurnOptions},
};
use crate::{
    app::App,
    auth::KeyId,
    clock::utc_date,
    error::ApiError,
    http::{RequestName, read_json_body},
};

/// Bodies larger than this are read and rendered on a thread for blocking work, so that others are not held up.
const INLINE_BODY_BYTES: usize = 64 * 1024;

/// What names an answer.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) model: String,
    pub(crate) system_fingerprint: String,
}

/// A request that only has to be submitted.
struct Prepared {
    request: ValidChatRequest,
    prompt: Vec<u32>,
    names: Arc<ToolNames>,
    key: KeyId,
}

/// The handler.
pub(crate) async fn chat_completions(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, ApiError> {
    let answer = answer(&app, request).await;
    answer.inspect_err(|error| app.metrics.count_error(error.code()))
}

async fn answer(app: &Arc<App>, request: Request) -> Result<Response, ApiError> {
    app.check_open()?;
    let name = request.extensions().get::<RequestName>().cloned();
    let key = request.extensions().get::<KeyId>().copied().unwrap_or_default();
    let body = read_json_body(request, app.deadlines.body).await?;
    // Before the work of rendering: under overload most requests end here.
    app.engine.check_room()?;
    let arrived = Instant::now();
    let prepared = prepare(app, body, key).await?;
    let (n, with_logprobs) = (prepared.request.n, prepared.request.logprobs.is_some());
    let (stream, include_usage) = (prepared.request.stream, prepared.request.include_usage);
    let identity = app.identity();
    let generation = start(app, prepared, arrived)?;
    let mut generation = Reported { generation, app: Arc::clone(app), name, start: arrived };
    if !stream {
        return Ok(
            Json(collect(&mut generation.generation, identity, n, with_logprobs).await?).into_response()
        );
    }
    let format = ChunkFormat { identity, include_usage, with_logprobs };
    let body = SseBody::new(generation, format, n, app.deadlines.keep_alive);
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
        // nginx would otherwise collect the stream before it passes it on.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::new(body)).into_response())
}

/// Reads, checks and renders a request.
async fn prepare(app: &Arc<App>, body: Vec<u8>, key: KeyId) -> Result<Prepared, ApiError> {
    if body.len() <= INLINE_BODY_BYTES {
        return prepare_now(app, &body, key);
    }
    let app = Arc::clone(app);
    let prepared = tokio::task::spawn_blocking(move || prepare_now(&app, &body, key)).await;
    prepared.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

fn prepare_now(app: &App, body: &[u8], key: KeyId) -> Result<Prepared, ApiError> {
    let request = ChatRequest::from_json(body)?.validate()?;
    if let Some(name) = &request.model {
        app.check_model(name)?;
    }
    if let ToolChoice::Required | ToolChoice::Named(_) = request.tool_choice {
        let reason =
            "a call can't be forced yet; use auto and say in the instructions which function to call";
        return Err(ValidationError::unsupported("tool_choice", "a required call", reason).into());
    }
    let names = ToolNames::new(&request.tools, &request.messages);
    let date = app.current_date.clone().unwrap_or_else(|| utc_date(app.clock.unix_seconds()));
    let conversation = conversation(&request, &names, &date);
    let prompt = app
        .harmony
        .render(&conversation, &RenderOptions { keep_analysis: true })
        .expect("every tool message has a name and every content its place");
    Ok(Prepared { request, prompt, names: Arc::new(names), key })
}

/// Submits the sequences of a request.
fn start(app: &App, prepared: Prepared, arrived: Instant) -> Result<Generation, ApiError> {
    let Prepared { request, prompt, names, key } = prepared;
    // A tool that is not shown can't be called.
    let callable = match request.tool_choice {
        ToolChoice::None => Arc::default(),
        _ => names,
    };
    let options = TurnOptions {
        names: callable,
        stop: request.stop,
        logprobs: request.logprobs.is_some(),
        include_reasoning: request.include_reasoning,
        parallel_tool_calls: request.parallel_tool_calls,
    };
    let turn = || Turn::new(&app.harmony, options.clone(), Arc::clone(&app.ids));
    let turns = (0..request.n).map(|_| turn()).collect();
    let generate = GenerateRequest {
        prompt,
        generated: Vec::new(),
        max_tokens: request.max_tokens.unwrap_or(usize::MAX),
        stop_token_ids: app.harmony.stop_ids().to_vec(),
        sampling: sampling(request.sampling, &app.sampling, || app.ids.number()),
        logprobs: request.logprobs,
        key: key.0,
        // Lower runs earlier in requests, higher in the engine.
        priority: -request.priority,
        timeout: request.timeout,
    };
    let answers = &app.metrics.answers;
    let generation = Generation::start(&app.engine, generate, turns, answers, arrived)?;
    answers.accepted(request.n, request.max_tokens);
    Ok(generation)
}

/// The request's parameters, with the server's where it names none and a fresh seed if it has none.
fn sampling(request: ValidSampling, defaults: &SamplingParams, seed: impl FnOnce() -> u64) -> SamplingParams {
    SamplingParams {
        temperature: request.temperature.unwrap_or(defaults.temperature),
        top_p: request.top_p.unwrap_or(defaults.top_p),
        top_k: request.top_k.unwrap_or(defaults.top_k),
        min_p: request.min_p.unwrap_or(defaults.min_p),
        presence_penalty: request.presence_penalty.unwrap_or(defaults.presence_penalty),
        frequency_penalty: request.frequency_penalty.unwrap_or(defaults.frequency_penalty),
        repetition_penalty: request.repetition_penalty.unwrap_or(defaults.repetition_penalty),
        logit_bias: request.logit_bias,
        seed: request.seed.unwrap_or_else(seed),
        min_tokens: defaults.min_tokens,
    }
}

/// A generation whose end is logged and counted, complete or not.
pub(crate) struct Reported {
    pub(crate) generation: Generation,
    app: Arc<App>,
    name: Option<RequestName>,
    start: Instant,
}

impl Reported {
    /// Counts the error that ends a stream.
    pub(crate) fn count_error(&self, error: &ApiError) {
        self.app.metrics.count_error(error.code());
    }
}

impl Drop for Reported {
    fn drop(&mut self) {
        let usage = self.generation.usage();
        let warnings = self.generation.warnings();
        self.app.metrics.harmony_warnings.inc_by(warnings as u64);
        tracing::info!(
            request_id = self.name.as_ref().map(|name| &*name.0),
            complete = self.generation.is_complete(),
            prompt_tokens = usage.prompt_tokens,
            completion_tokens = usage.completion_tokens,
            harmony_warnings = warnings,
            total_ms = self.start.elapsed().as_millis() as u64,
            "generation"
        );
    }
}
