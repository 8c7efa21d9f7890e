//! Answers that are not 2xx.

use http::{Method, StatusCode};

use super::{api::Problem, guard::Refusal};
use crate::{
    bus::StoreError,
    engine::{BackfillError, ReplayError},
};

/// A refusal or failure as it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// The body.
    pub problem: Problem,
}

impl ApiError {
    fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self { status, problem: Problem { code: code.to_owned(), message: message.into() } }
    }

    /// 400
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// 404
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// 405
    pub fn method_not_allowed(method: &Method, allowed: &Method) -> Self {
        let message = format!("{method} is not possible here, {allowed} is");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
    }

    /// 408
    pub fn too_slow() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "too_slow",
            "the request's body did not come in time",
        )
    }

    /// 409: possible in itself, but not as things stand.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    /// 413
    pub fn too_large(limit_bytes: usize) -> Self {
        let message = format!("the request's body is larger than {limit_bytes} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    /// 415
    pub fn not_json() -> Self {
        let message = "the body must be sent as content-type application/json";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", message)
    }

    /// 503
    pub fn not_ready(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message)
    }

    /// 500
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "store", error.0)
    }
}

impl From<BackfillError> for ApiError {
    fn from(error: BackfillError) -> Self {
        match error {
            BackfillError::Unknown(message) => Self::bad_request(message),
            BackfillError::Busy(message) => Self::conflict(message),
            BackfillError::Store(error) => error.into(),
        }
    }
}

impl From<ReplayError> for ApiError {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Bad(message) => Self::bad_request(message),
            ReplayError::Unknown(message) => Self::not_found(message),
            ReplayError::Conflict(message) => Self::conflict(message),
            ReplayError::Store(error) => error.into(),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::BadHost => Self::bad_request("exactly one valid Host header is needed"),
            Refusal::ForeignHost => Self::new(
                StatusCode::FORBIDDEN,
                "foreign_host",
                "the Host header names neither this machine's loopback nor the admin address",
            ),
            Refusal::ForeignOrigin => Self::new(
                StatusCode::FORBIDDEN,
                "foreign_origin",
                "a web page of another origin may not change anything here",
            ),
        }
    }
}
