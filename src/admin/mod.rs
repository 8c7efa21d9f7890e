//! The admin API on its own address. JSON over HTTP/1.1; the CLI is its client.
