//! The `portcullis` command.

fn main() -> std::process::ExitCode {
    portcullis_harness::cli::main()
}
