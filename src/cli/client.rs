//! The admin API's client: one request a connection, no pool, no retries.
//!
//! It does not go through `egress`, whose guard refuses loopback: the daemon is on this machine by
//! design.

use std::{io, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::TcpStream;

use super::Trouble;
use crate::admin::api::{Failure, Problem};

/// For a daemon on this machine to take the connection.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// Where the daemon is.
#[derive(Clone, Debug, clap::Args)]
pub struct Daemon {
    /// The daemon's admin address
    #[arg(
        long,
        value_name = "ADDR",
        env = "TENON_ADMIN",
        default_value = "127.0.0.1:8081",
        value_parser = parse_address,
        hide_env_values = true
    )]
    admin: String,
}

/// `host:port`, with or without `http://` before it.
fn parse_address(text: &str) -> Result<String, String> {
    let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    if port.is_none() || address.contains('/') {
        return Err("expected HOST:PORT, such as 127.0.0.1:8081".to_owned());
    }
    Ok(address.to_owned())
}

/// Why there is no answer, or not the wanted one.
#[derive(Debug)]
pub enum ClientError {
    /// Nobody listens there.
    NotRunning {
        /// Where.
        address: String,
        /// What the system says.
        error: io::Error,
    },
    /// The daemon refused or failed.
    Refused {
        /// What it says.
        problem: Problem,
    },
    /// Something answers there, but not as a Tenon daemon does, or the connection broke.
    Broken {
        /// Where.
        address: String,
        /// What was odd.
        what: String,
    },
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        Self::new(match error {
            ClientError::NotRunning { address, error } => format!(
                "no daemon answers at {address} ({error})\n\
                 start one with `tenon run DIR`, or name its admin address with --admin ADDR or \
                 TENON_ADMIN"
            ),
            ClientError::Refused { problem } => problem.message,
            ClientError::Broken { address, what } => format!(
                "what answers at {address} does not speak as a Tenon daemon of this version: {what}"
            ),
        })
    }
}

impl Daemon {
    /// `GET`
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    /// `DELETE`
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::DELETE, path, Bytes::new()).await
    }

    /// `POST` of a JSON document.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.ask(Method::POST, path, self.encode(body)?).await
    }

    /// `POST` whose answer comes line by line; `each` sees every line as it arrives.
    pub async fn post_lines<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        mut each: impl FnMut(T),
    ) -> Result<(), ClientError> {
        let body = self.encode(body)?;
        self.exchange(Method::POST, path, body, async |response| {
            let mut response = self.accepted(response).await?;
            let mut pending: Vec<u8> = Vec::new();
            while let Some(frame) = response.frame().await {
                let frame = frame.map_err(|error| self.broken(&error))?;
                pending.extend_from_slice(&frame.into_data().unwrap_or_default());
                while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = pending.drain(..=end).collect();
                    each(serde_json::from_slice(&line).map_err(|error| self.broken(&error))?);
                }
            }
            Ok(())
        })
        .await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        self.exchange(method, path, body, async |response| {
            let body = self.accepted(response).await?.collect().await;
            let body = body.map_err(|error| self.broken(&error))?.to_bytes();
            serde_json::from_slice(&body).map_err(|error| self.broken(&error))
        })
        .await
    }

    /// Connects, sends, and hands the answer to `read` while the connection is driven beside it.
    async fn exchange<T>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        read: impl AsyncFnOnce(Response<Incoming>) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let stream = self.connect().await?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.broken(&error))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.admin)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| self.broken(&error))?;
        let exchange = async {
            let response = sender.send_request(request).await;
            read(response.map_err(|error| self.broken(&error))?).await
        };
        // Where the connection ends first, the exchange has all it will get and ends by itself.
        let driven = async {
            let _ = connection.await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            result = exchange => result,
            () = driven => unreachable!("it never completes"),
        }
    }

    async fn connect(&self) -> Result<TcpStream, ClientError> {
        let connected = tokio::time::timeout(CONNECT_TIME, TcpStream::connect(&self.admin)).await;
        connected
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| ClientError::NotRunning { address: self.admin.clone(), error })
    }

    async fn accepted(&self, response: Response<Incoming>) -> Result<Incoming, ClientError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response.into_body());
        }
        let body = response.into_body().collect().await.map_err(|error| self.broken(&error))?;
        match serde_json::from_slice::<Failure>(&body.to_bytes()) {
            Ok(failure) => Err(ClientError::Refused { problem: failure.error }),
            Err(_) => Err(self.broken(&format!("HTTP status {status} without an explanation"))),
        }
    }

    fn encode(&self, body: &impl Serialize) -> Result<Bytes, ClientError> {
        serde_json::to_vec(body).map(Bytes::from).map_err(|error| self.broken(&error))
    }

    fn broken(&self, what: &impl ToString) -> ClientError {
        ClientError::Broken { address: self.admin.clone(), what: what.to_string() }
    }
}

/// A query of the pairs that have a value, percent-encoded, with its `?`; empty where none has.
pub fn query(pairs: &[(&str, Option<&str>)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    if query.is_empty() { query } else { format!("?{query}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        assert_eq!(parse_address("127.0.0.1:8081").as_deref(), Ok("127.0.0.1:8081"));
        assert_eq!(parse_address("http://localhost:1/").as_deref(), Ok("localhost:1"));
        assert_eq!(parse_address("[::1]:9").as_deref(), Ok("[::1]:9"));
        for bad in ["8081", "localhost", "https://x:1", "a:1/b", "a:99999"] {
            assert!(parse_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn queries_leave_out_what_is_not_set() {
        assert_eq!(query(&[("a", None), ("b", Some("x y&z"))]), "?b=x+y%26z");
        assert_eq!(query(&[("a", None)]), "");
    }
}
