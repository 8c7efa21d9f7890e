//! The `tenon` program: all of it is [`tenon::cli`].

use std::process::ExitCode;

/// Events are made in one thread and freed in another, which is what it is fast at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Small things come and go here. In huge pages they take three times the memory, and clearing
    // the pages takes more time than they save. A kernel that refuses has none to give.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    tenon::cli::main()
}
