//! One line per request, without a word of what was said.

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};

use crate::app::App;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_REQUEST_ID_BYTES: usize = 64;

/// Name of a request in logs and in the `x-request-id` header.
#[derive(Debug, Clone)]
pub(crate) struct RequestName(pub(crate) Arc<str>);

/// Middleware: names the request, and logs and counts its answer's status, with the time until its header.
pub(crate) async fn log(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let start = Instant::now();
    let id: Arc<str> = client_request_id(request.headers()).unwrap_or_else(|| app.ids.id("req_")).into();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    request.extensions_mut().insert(RequestName(Arc::clone(&id)));
    let mut response = next.run(request).await;
    let status = response.status().as_u16();
    app.metrics.count_response(route.as_ref().map(MatchedPath::as_str), status);
    let header_ms = start.elapsed().as_millis() as u64;
    tracing::info!(%method, path, status, header_ms, request_id = &*id, "request");
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    response
}

/// The client's own name for the request, if it is one that a log line can carry.
fn client_request_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(X_REQUEST_ID)?.to_str().ok()?;
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let fits = (1..=MAX_REQUEST_ID_BYTES).contains(&id.len());
    (fits && id.bytes().all(sound)).then(|| id.to_owned())
}
