//! The `exuvia` binary.
#![forbid(unsafe_code)]

fn main() {
    std::process::exit(exuvia_cli::run(
        std::env::args_os().collect(),
        None,
        exuvia_cli::Interpreter::None,
    ));
}
