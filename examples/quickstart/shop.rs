//! The quickstart's other side: a shop with an order API and webhooks, and an ERP.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// How long the ERP refuses everything.
const ERP_DOWN: Duration = Duration::from_secs(15);

struct Shop {
    opened: Instant,
    orders: Mutex<Vec<Value>>,
    /// What the ERP has: the record's id and how often it was written.
    erp: Mutex<BTreeMap<String, u32>>,
}

/// Serves the shop and the ERP and sells an order every three seconds.
pub async fn run(
    listener: TcpListener,
    hooks: SocketAddr,
    secret: &'static str,
    stop: CancellationToken,
) {
    let shop = Arc::new(Shop {
        opened: Instant::now(),
        orders: Mutex::new((1..=25).map(order).collect()),
        erp: Mutex::default(),
    });
    let mut tasks = JoinSet::new();
    tasks.spawn(sell(Arc::clone(&shop), hooks, secret));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                tasks.spawn(serve(Arc::clone(&shop), stream));
            }
        }
    }
}

/// Order 13 has a total that is no number.
fn order(number: u64) -> Value {
    let second = jiff::Timestamp::from_second(1_767_225_600 + i64::try_from(number).unwrap_or(0));
    let at = second.map(|t| t.to_string()).unwrap_or_default();
    let total = if number == 13 { "a lot".to_owned() } else { format!("{}.90", 10 + number) };
    json!({
        "id": number,
        "created_at": at,
        "updated_at": at,
        "state": if number.is_multiple_of(4) { "pending" } else { "paid" },
        "total": total,
        "customer": { "email": format!("Buyer{number}@Shop.Example") },
        "lines": [{ "sku": "TENON-1", "quantity": 1 + number % 3 }],
    })
}

async fn sell(shop: Arc<Shop>, hooks: SocketAddr, secret: &str) {
    for number in 26.. {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let order = order(number);
        shop.orders.lock().expect("no panic holds it").push(order.clone());
        if number.is_multiple_of(7) {
            println!("shop: sold order {number} and forgot the webhook");
            continue;
        }
        let times = if number.is_multiple_of(5) { 2 } else { 1 };
        for _ in 0..times {
            match notify(hooks, &order, secret).await {
                Ok(answer) => println!("shop: webhook for order {number} -> {answer}"),
                Err(error) => println!("shop: webhook for order {number} failed: {error}"),
            }
        }
    }
}

/// One signed webhook; the status and body that came back.
async fn notify(
    to: SocketAddr,
    order: &Value,
    secret: &str,
) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let body = order.to_string();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    let signature = ring::hmac::sign(&key, body.as_bytes());
    let request = Request::post("/shop/orders")
        .header("host", to.to_string())
        .header("content-type", "application/json")
        .header(
            "x-hub-signature-256",
            format!("sha256={}", data_encoding::HEXLOWER.encode(signature.as_ref())),
        )
        .body(Full::new(Bytes::from(body)))?;
    let stream = TokioIo::new(TcpStream::connect(to).await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok(format!("{status} {}", String::from_utf8_lossy(&body)))
    };
    tokio::select! {
        answer = exchange => answer,
        ended = connection => Err(ended.err().map_or("closed".into(), Into::into)),
    }
}

async fn serve(shop: Arc<Shop>, stream: TcpStream) {
    let service =
        service_fn(move |request| std::future::ready(Ok::<_, Infallible>(answer(&shop, &request))));
    // A client that goes away in the middle is no news.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn answer(shop: &Shop, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    if path == "/orders" {
        let query: BTreeMap<String, String> =
            url::form_urlencoded::parse(request.uri().query().unwrap_or("").as_bytes())
                .into_owned()
                .collect();
        return reply(StatusCode::OK, shop.page(&query));
    }
    let Some(id) = path.strip_prefix("/erp/") else {
        return reply(StatusCode::NOT_FOUND, json!({ "error": "no such page" }));
    };
    if shop.opened.elapsed() < ERP_DOWN {
        return reply(StatusCode::SERVICE_UNAVAILABLE, json!({ "error": "the ERP is starting" }));
    }
    let key = request.headers().get("idempotency-key").cloned();
    let times = {
        let mut erp = shop.erp.lock().expect("no panic holds it");
        let times = erp.entry(id.to_owned()).or_default();
        *times += 1;
        *times
    };
    println!("erp:  {id} written, time {times}, idempotency key {key:?}");
    reply(StatusCode::OK, json!({ "ok": true }))
}

fn reply(status: StatusCode, body: Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response
}

impl Shop {
    /// `updated_after`, `page` from 1, `limit`.
    fn page(&self, query: &BTreeMap<String, String>) -> Value {
        let number =
            |name, default| query.get(name).and_then(|v| v.parse().ok()).unwrap_or(default);
        let (page, limit): (usize, usize) = (number("page", 1), number("limit", 10));
        let after = query.get("updated_after").cloned().unwrap_or_default();
        let orders = self.orders.lock().expect("no panic holds it");
        let of_page: Vec<&Value> = orders
            .iter()
            .filter(|order| order["updated_at"].as_str().is_some_and(|at| at >= after.as_str()))
            .skip((page.max(1) - 1) * limit)
            .take(limit)
            .collect();
        json!({ "orders": of_page })
    }
}
