//! The `tenon` program: all of it is [`tenon::cli`].

use std::process::ExitCode;

/// Events are made in one thread and freed in another, which is what it is fast at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tenon::cli::main()
}
