//! Who may ask at all: host, origin, API key. Passed by every request before its path is looked at.
//!
//! A page in a browser can send requests to loopback. It is kept out by three rules: the `Host` header must be a name
//! of this server (so a rebound DNS name fails), an `Origin` must be the server's own or allowed, and a request that
//! a browser marks as cross-site needs an allowed origin.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{ServerConfig, auth::KeyId, error::ApiError};

const ALLOWED_METHODS: &str = "GET, HEAD, POST, OPTIONS";
const ALLOWED_HEADERS: &str = "authorization, content-type, x-api-key, x-request-id";
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The rules, from the configuration.
#[derive(Debug)]
pub(crate) struct Gate {
    config: ServerConfig,
    /// The address that is listened on names no single interface, or one that others can reach.
    beyond_loopback: bool,
}

impl Gate {
    pub(crate) fn new(config: &ServerConfig) -> Self {
        Self { config: config.clone(), beyond_loopback: !config.bind.ip().is_loopback() }
    }

    /// Checks a request and returns the origin that the answer may be shown to, if it has one, and whose key it bears.
    fn admit(&self, request: &Request) -> Result<(Option<HeaderValue>, KeyId), ApiError> {
        let headers = request.headers();
        let host = self.check_host(headers, request.uri())?;
        let origin = self.check_origin(headers, &host)?;
        let preflight = *request.method() == Method::OPTIONS && origin.is_some();
        match self.config.api_keys.identify(headers) {
            None if needs_key(request.uri().path()) && !preflight => Err(ApiError::Unauthorized),
            key => Ok((origin, key.unwrap_or_default())),
        }
    }

    /// The request's host with its port, lower case.
    fn check_host(&self, headers: &HeaderMap, uri: &Uri) -> Result<String, ApiError> {
        let header = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let in_uri = uri.authority().map(|authority| authority.as_str());
        let several = headers.get_all(header::HOST).iter().nth(1).is_some();
        for host in in_uri.into_iter().chain([header]) {
            if several || !self.is_host_allowed(host) {
                return Err(ApiError::Host(host.chars().take(80).collect()));
            }
        }
        Ok(header.to_ascii_lowercase())
    }

    fn is_host_allowed(&self, host: &str) -> bool {
        let Some(name) = host_name(host) else { return false };
        if name.eq_ignore_ascii_case("localhost") {
            return true;
        }
        if self.config.allowed_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(name)) {
            return true;
        }
        match name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            Ok(address) => address.is_loopback() || self.beyond_loopback,
            Err(_) => false,
        }
    }

    fn check_origin(&self, headers: &HeaderMap, host: &str) -> Result<Option<HeaderValue>, ApiError> {
        let Some(origin) = headers.get(header::ORIGIN) else {
            let site = headers.get(SEC_FETCH_SITE);
            return match site.is_some_and(|site| site == "cross-site") {
                true => Err(ApiError::Origin("another site".to_owned())),
                false => Ok(None),
            };
        };
        let text = origin.to_str().unwrap_or_default();
        let own = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let is_own = own.is_some_and(|own| own.eq_ignore_ascii_case(host));
        let is_listed = self.config.allowed_origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(text));
        match is_own || is_listed {
            true => Ok(Some(origin.clone())),
            false => Err(ApiError::Origin(text.chars().take(80).collect())),
        }
    }
}

/// Everything needs a key except what says that the server is there.
fn needs_key(path: &str) -> bool {
    !matches!(path, "/" | "/health" | "/v1/health" | "/ready")
}

/// The name in `name`, `name:port`, `[v6]` or `[v6]:port`.
fn host_name(host: &str) -> Option<&str> {
    let end = match host.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => host.find(':').unwrap_or(host.len()),
    };
    let (name, port) = host.split_at(end);
    let port_is_sound = match port.strip_prefix(':') {
        Some(digits) => !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()),
        None => port.is_empty(),
    };
    (port_is_sound && !name.is_empty()).then_some(name)
}

/// Middleware: lets a request through or answers it.
pub(crate) async fn gate(State(gate): State<Arc<Gate>>, mut request: Request, next: Next) -> Response {
    let (origin, key) = match gate.admit(&request) {
        Ok(admitted) => admitted,
        Err(error) => return secured(error.into_response(), None),
    };
    request.extensions_mut().insert(key);
    let preflight = *request.method() == Method::OPTIONS && origin.is_some();
    let response = match preflight {
        true => preflight_response(),
        false => next.run(request).await,
    };
    secured(response, origin)
}

fn preflight_response() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

fn secured(mut response: Response, origin: Option<HeaderValue>) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    let policy = if origin.is_some() { "cross-origin" } else { "same-origin" };
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static(policy));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("x-request-id"));
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;
    use crate::ApiKeys;

    fn admit(config: &ServerConfig, headers: &[(&str, &str)]) -> Result<Option<HeaderValue>, ApiError> {
        let mut request = Request::builder().uri("/v1/models");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Gate::new(config).admit(&request.body(Body::empty()).unwrap()).map(|(origin, _)| origin)
    }

    fn public() -> ServerConfig {
        ServerConfig {
            bind: "0.0.0.0:8080".parse().unwrap(),
            allowed_hosts: vec!["llm.example".into()],
            ..ServerConfig::default()
        }
    }

    #[test]
    fn loopback_names_are_served_with_any_port() {
        for host in ["localhost", "LOCALHOST:1", "127.0.0.1:8080", "127.0.0.9", "[::1]", "[::1]:9"] {
            assert!(admit(&ServerConfig::default(), &[("host", host)]).is_ok(), "{host}");
        }
    }

    /// CVE-2024-28224: DNS rebinding reached a local model server.
    #[test]
    fn rebound_names_are_refused_on_every_address() {
        let names = [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost:evil",
            "x.localhost",
            "box.local",
            "",
            ":8080",
            "[::1",
            "localhost:",
            "evil@localhost",
        ];
        for host in names {
            for config in [ServerConfig::default(), public()] {
                assert!(matches!(admit(&config, &[("host", host)]), Err(ApiError::Host(_))), "{host}");
            }
        }
        assert!(matches!(admit(&ServerConfig::default(), &[]), Err(ApiError::Host(_))));
        assert!(admit(&ServerConfig::default(), &[("host", "localhost"), ("host", "localhost")]).is_err());
        assert!(admit(&ServerConfig::default(), &[("host", "192.168.1.5")]).is_err());
    }

    #[test]
    fn beyond_loopback_addresses_and_listed_names_are_served() {
        for host in ["192.168.1.5:8080", "[fe80::1]:8080", "llm.example", "LLM.example:443", "localhost"] {
            assert!(admit(&public(), &[("host", host)]).is_ok(), "{host}");
        }
    }

    /// CVE-2026-2611: a page of any origin could drive a loopback service.
    #[test]
    fn foreign_origins_are_refused_and_own_and_listed_ones_are_named_back() {
        let mut config = ServerConfig::default();
        config.allowed_origins.push("https://chat.example".into());
        let with = |origin| admit(&config, &[("host", "localhost:8080"), ("origin", origin)]);
        for origin in [
            "null",
            "",
            "file://",
            "*",
            "https://evil.example",
            "http://localhost:3000",
            "http://chat.example",
            "https://chat.example.evil",
        ] {
            assert!(matches!(with(origin), Err(ApiError::Origin(_))), "{origin}");
        }
        for origin in ["http://localhost:8080", "https://chat.example"] {
            assert_eq!(with(origin).unwrap().unwrap(), origin);
        }
    }

    #[test]
    fn cross_site_request_without_origin_is_refused() {
        let site = |site| admit(&ServerConfig::default(), &[("host", "localhost"), ("sec-fetch-site", site)]);
        assert!(matches!(site("cross-site"), Err(ApiError::Origin(_))));
        for allowed in ["same-origin", "none"] {
            assert!(site(allowed).is_ok());
        }
    }

    #[test]
    fn key_opens_everything_but_health_and_the_front_page() {
        let config = ServerConfig {
            api_keys: ApiKeys::parse("0123456789abcdef", "test").unwrap(),
            ..ServerConfig::default()
        };
        assert!(matches!(admit(&config, &[("host", "localhost")]), Err(ApiError::Unauthorized)));
        assert!(admit(&config, &[("host", "localhost"), ("x-api-key", "0123456789abcdef")]).is_ok());
        assert!(["/v1/models", "/nothing", "/health/x", "//"].into_iter().all(needs_key));
        assert!(!["/", "/health", "/v1/health", "/ready"].into_iter().any(needs_key));
    }
}
