//! What these tests share.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Request;
use tenon::{
    egress::{Egress, EgressConfig, ExchangeLimits},
    map::{Expr, Library, Place, Site},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

pub const LIMITS: ExchangeLimits =
    ExchangeLimits { timeout: Duration::from_secs(5), max_response_bytes: 64 << 10 };

/// A client that may dial this machine, as tests have to.
pub fn egress() -> Egress {
    let allow = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
    Egress::new(EgressConfig { allow, ..EgressConfig::default() })
}

pub fn get(url: &str) -> Request<Bytes> {
    Request::get(url).body(Bytes::new()).unwrap()
}

pub fn post(url: &str, body: &str) -> Request<Bytes> {
    Request::post(url).body(Bytes::copy_from_slice(body.as_bytes())).unwrap()
}

/// Compiles a string as a destination's or an `[auth]` table's setting.
pub fn expr(text: &str) -> Expr {
    let site = Site { names: &["vars", "secret", "out", "event"], root: None, lenient: false };
    let place = Place { file: Arc::from("shop.toml"), line: 7, path: Arc::from("destination.erp") };
    Expr::compile(text, &site, place, &Library::default()).unwrap()
}

/// A peer on the level of bytes, where the scripted server is too well behaved.
pub struct RawPeer {
    listener: TcpListener,
}

impl RawPeer {
    pub async fn bind() -> Self {
        Self { listener: TcpListener::bind(("127.0.0.1", 0)).await.unwrap() }
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.listener.local_addr().unwrap())
    }

    pub async fn accept(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }
}

/// Reads one request up to the end of its head (its body has to be in the same packet).
pub async fn read_request(socket: &mut TcpStream) -> io::Result<String> {
    let mut buffer = Vec::new();
    while !buffer.windows(4).any(|window| window == b"\r\n\r\n") {
        if socket.read_buf(&mut buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(String::from_utf8_lossy(&buffer).into_owned())
}

pub async fn answer(socket: &mut TcpStream, text: &str) {
    socket.write_all(text.as_bytes()).await.unwrap();
}
