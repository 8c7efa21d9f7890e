//! What the integration tests share: an HTTP server that answers by script, a bus that
//! waits for permission, the program in a folder, and what must hold of any text that is checked.
#![allow(dead_code)] // Not every part is used by the tests that there are today.

pub mod gated;
mod http;
pub mod program;
pub mod survive;
pub mod walk;

#[allow(unused_imports)]
pub use http::{MockServer, Reply, Seen};

/// Turns a bit of the text where it stands first in the files of a folder.
pub fn damage(folder: &std::path::Path, text: &str) {
    for entry in std::fs::read_dir(folder).expect("listed") {
        let path = entry.expect("an entry").path();
        let mut bytes = std::fs::read(&path).expect("read");
        if let Some(at) = bytes.windows(text.len()).position(|it| it == text.as_bytes()) {
            bytes[at] ^= 1;
            return std::fs::write(&path, bytes).expect("written");
        }
    }
    panic!("`{text}` is nowhere in {}", folder.display());
}
