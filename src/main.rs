//! Arguments in, exit code out.

use std::process::ExitCode;

/// Large telemetry requests allocate and free megabytes at a time; the system allocator returns those pages to the
/// kernel after every request and faults them in again, which costs more than all of our own work together.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tracegate::cli::main()
}
