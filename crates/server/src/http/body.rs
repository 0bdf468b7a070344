//! Request bodies: JSON, of bounded size, in bounded time.

use std::{future::poll_fn, pin::Pin, time::Duration};

use axum::{
    body::{Body, HttpBody},
    extract::Request,
    http::{HeaderMap, header},
};
use sostenuto_api::limits::BODY_BYTES;

use crate::error::ApiError;

/// How much of a refused body is still read, so that the client gets to see the answer: up to this many bytes …
const LINGER_BYTES: usize = 4 * BODY_BYTES.max as usize;
/// … for this long.
const LINGER: Duration = Duration::from_secs(2);

/// Reads the whole body of a request that says it holds JSON.
///
/// # Errors
/// Another content type, more than [`BODY_BYTES`], later than `deadline`, or a connection that ends early.
pub(crate) async fn read_json_body(request: Request, deadline: Duration) -> Result<Vec<u8>, ApiError> {
    check_content_type(request.headers())?;
    let mut body = request.into_body();
    if body.size_hint().lower() > BODY_BYTES.max {
        linger(body).await;
        return Err(ApiError::BodyTooLarge);
    }
    let result = tokio::time::timeout(deadline, read_bounded(&mut body)).await;
    match result {
        Ok(Err(ApiError::BodyTooLarge)) => {
            linger(body).await;
            Err(ApiError::BodyTooLarge)
        }
        Ok(result) => result,
        Err(_) => Err(ApiError::BodyTimeout(deadline.as_secs_f32())),
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let value =
        headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?")).unwrap_or("none");
    let kind = value.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(ApiError::ContentType(value.chars().take(80).collect()))
}

async fn read_bounded(body: &mut Body) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::with_capacity(body.size_hint().lower() as usize);
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
        let frame = frame.map_err(|_| ApiError::BodyIncomplete)?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > BODY_BYTES.max as usize {
            return Err(ApiError::BodyTooLarge);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// Reads and drops what a client still sends, within bounds. Closing at once would reset the connection while the
/// client writes, and many clients then report a broken pipe instead of the answer.
async fn linger(mut body: Body) {
    let drain = async {
        let mut left = LINGER_BYTES;
        while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let size = frame.data_ref().map_or(0, |data| data.len());
            match left.checked_sub(size) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    // Whether it ended in time makes no difference to the answer.
    let _ = tokio::time::timeout(LINGER, drain).await;
}
