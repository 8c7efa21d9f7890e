//! Polling 100,000 records in pages of 1,000, mapped, into a JSON-lines file, against a bare loop
//! that fetches and parses the same pages.

mod support;

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use support::{Daemon, MAP, Server, event, project, response};

const RECORDS: u64 = 100_000;
const PAGE: u64 = 1_000;

fn main() {
    let pages: Vec<Vec<u8>> = (0..RECORDS / PAGE).map(page).collect();
    let end = response(br#"{"orders":[]}"#);
    let api = Server::start(move |line| {
        let number = line.split("page=").nth(1).and_then(|t| t.split(['&', ' ']).next());
        let number: usize = number.map_or(1, |n| n.parse().unwrap());
        pages.get(number - 1).unwrap_or(&end).clone()
    });
    bare(api.address);
    let bare = bare(api.address);
    let bare_rate = RECORDS as f64 / bare.as_secs_f64();
    println!("bare fetch + parse: {bare_rate:.0} records/s");

    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("orders.jsonl");
    let connector = format!(
        r#"
name = "bench"
version = "1.0.0"
owner = "bench"

[source]
base = "http://{}"

[schedule]
every = "1h"
jitter = "0s"

[stream.orders]
key = "$.id"

[stream.orders.poll]
path = "/orders"
records = "$.orders[*]"
page = {{ by = "page", param = "page", first = 1, size = {PAGE} }}
{MAP}
[destination.out]
type = "file"
path = "{}"
rotate = "10GiB"
"#,
        api.address,
        file.display()
    );
    let (_folder, connectors, state) = project(&connector);
    let began = Instant::now();
    let daemon = Daemon::start(&connectors, &state, &["--log-level", "warn"]);
    let (mut first, mut len, mut grew) = (None, 0, began.elapsed());
    // The file's length costs nothing to look at; its lines are counted once it rests.
    loop {
        let now = std::fs::metadata(&file).map_or(0, |m| m.len());
        if now > len {
            (len, grew) = (now, began.elapsed());
            first.get_or_insert(grew);
        } else if began.elapsed() > grew + Duration::from_millis(500)
            && std::fs::read_to_string(&file).is_ok_and(|t| t.lines().count() as u64 >= RECORDS)
        {
            break;
        }
        assert!(began.elapsed() < Duration::from_mins(2), "only {len} bytes after 2 minutes");
        std::thread::sleep(Duration::from_millis(2));
    }
    let took = grew;
    let rate = RECORDS as f64 / took.as_secs_f64();
    println!(
        "poll -> map -> file: {rate:.0} records/s, first after {:?} from process start, {:.1} us CPU \
         a record, {:.2} of the bare loop",
        first.unwrap(),
        daemon.cpu().as_micros() as f64 / RECORDS as f64,
        rate / bare_rate
    );
}

fn page(number: u64) -> Vec<u8> {
    let records: Vec<Vec<u8>> = (number * PAGE..(number + 1) * PAGE).map(event).collect();
    let mut body = br#"{"orders":["#.to_vec();
    body.extend_from_slice(&records.join(&b','));
    body.extend_from_slice(b"]}");
    response(&body)
}

/// What a careful person would write by hand: one connection, one page after the other, parsed.
fn bare(to: SocketAddr) -> Duration {
    let began = Instant::now();
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut records = 0;
    for number in 1..=RECORDS / PAGE {
        let request = format!("GET /orders?page={number} HTTP/1.1\r\nhost: {to}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let mut part = vec![0; 256 << 10];
        let body = loop {
            let n = stream.read(&mut part).unwrap();
            answer.extend_from_slice(&part[..n]);
            let text = std::str::from_utf8(&answer[..answer.len().min(200)]).unwrap();
            let Some(head) = text.find("\r\n\r\n") else { continue };
            let length = text.split("content-length: ").nth(1).unwrap().split('\r').next().unwrap();
            if answer.len() >= head + 4 + length.parse::<usize>().unwrap() {
                break head + 4;
            }
        };
        let document: serde_json::Value = serde_json::from_slice(&answer[body..]).unwrap();
        records += document["orders"].as_array().unwrap().len() as u64;
    }
    assert_eq!(records, RECORDS);
    began.elapsed()
}
