//! The last step of building a module: `portcullis-link IN OUT`.
//!
//! Envoy compiles a module with V8's optimizing compiler alone, before it is ready. That compiler has no counts of calls to go
//! by then and inlines nearly every direct call that it comes to, until a function is three times as long: half of the time
//! until Envoy is ready, most of it for code that raises alerts, reads configurations and reports panics. What is
//! called through the table it leaves alone. So calls of functions of [`LEAST_BYTES`] or more go through the table here;
//! rustc has inlined what is worth it already.
//!
//! ```text
//! call $f          ──►    i32.const 87
//!                         call_indirect (type of $f)
//!
//! table 0: 87 entries ──► 88, the last of them $f
//! ```
//!
//! Nothing else is changed, except that indices take no more bytes than they need.

mod table;

use std::process::ExitCode;

/// Functions of fewer bytes are called as before: they are inlined in less code than a call through the table is.
const LEAST_BYTES: usize = 50;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(from), Some(to), None) = (arguments.next(), arguments.next(), arguments.next())
    else {
        eprintln!("usage: portcullis-link IN OUT");
        return ExitCode::from(2);
    };
    let linked = std::fs::read(&from)
        .map_err(|error| error.to_string())
        .and_then(|module| table::call_through_table(&module, LEAST_BYTES))
        .and_then(|module| std::fs::write(&to, module).map_err(|error| error.to_string()));
    match linked {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("portcullis-link: {}: {error}", from.display());
            ExitCode::FAILURE
        }
    }
}
