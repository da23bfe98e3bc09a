//! The last step of building a module: `portcullis-link IN OUT`.
//!
//! Envoy compiles a module with V8's optimizing compiler alone, before it is ready. That compiler has no counts of calls and
//! of rounds to go by then, so it inlines nearly every call that it comes to and writes short loops out four times, most of
//! it in code that raises alerts, reads configurations and reports panics: more than half of the time until Envoy is ready.
//! rustc has inlined and written out what is worth it already. So each function gets blocks here that are never entered and
//! that are gone before V8 makes code, but that lead it to leave [calls](calls) and [loops](loops) as they are.
//!
//! Nothing else is changed, except that indices take no more bytes than they need.

mod calls;
mod loops;

use std::convert::Infallible;
use std::process::ExitCode;

use wasm_encoder::Module;
use wasm_encoder::reencode::Reencode;
use wasmparser::{BinaryReaderError, FunctionBody, Operator, Parser, Validator};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(from), Some(to), None) = (arguments.next(), arguments.next(), arguments.next())
    else {
        eprintln!("usage: portcullis-link IN OUT");
        return ExitCode::from(2);
    };
    let linked = std::fs::read(&from)
        .map_err(|error| error.to_string())
        .and_then(|module| loops::keep_loops(&module))
        .and_then(|module| calls::keep_calls(&module))
        .and_then(|module| std::fs::write(&to, module).map_err(|error| error.to_string()));
    match linked {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("portcullis-link: {}: {error}", from.display());
            ExitCode::FAILURE
        }
    }
}

/// The operators of a function, to the end that closes it.
fn operators_of<'b>(body: &FunctionBody<'b>) -> Result<Vec<Operator<'b>>, BinaryReaderError> {
    body.get_operators_reader()?.into_iter().collect()
}

/// The module as it is written by `by`.
fn written(module: &[u8], mut by: impl Reencode<Error = Infallible>) -> Result<Vec<u8>, String> {
    let mut linked = Module::new();
    by.parse_core_module(&mut linked, Parser::new(0), module)
        .map_err(|error| error.to_string())?;
    let linked = linked.finish();
    let valid = Validator::new().validate_all(&linked);
    valid.map_err(|error| format!("the result is no module: {error}"))?;
    Ok(linked)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use wasm_encoder::{
        CodeSection, EntityType, Function, FunctionSection, ImportSection, Instruction, RefType,
        TableSection, TableType, TypeSection,
    };
    use wasmparser::Payload;

    /// A module with one imported function, a table, and these functions.
    pub fn module(functions: &[&[Instruction<'_>]]) -> Vec<u8> {
        let mut types = TypeSection::new();
        types.ty().function([], []);
        let mut imports = ImportSection::new();
        imports.import("env", "f", EntityType::Function(0));
        let mut of_types = FunctionSection::new();
        let mut code = CodeSection::new();
        for instructions in functions {
            of_types.function(0);
            let mut function = Function::new([]);
            for instruction in *instructions {
                function.instruction(instruction);
            }
            function.instruction(&Instruction::End);
            code.function(&function);
        }
        let mut tables = TableSection::new();
        tables.table(TableType {
            element_type: RefType::FUNCREF,
            table64: false,
            minimum: 1,
            maximum: Some(1),
            shared: false,
        });
        let mut module = Module::new();
        module.section(&types).section(&imports).section(&of_types);
        module.section(&tables).section(&code);
        module.finish()
    }

    /// What each function of the module does.
    pub fn operators(module: &[u8]) -> Vec<Vec<String>> {
        let mut functions = Vec::new();
        for payload in Parser::new(0).parse_all(module) {
            if let Payload::CodeSectionEntry(body) = payload.unwrap() {
                let operators = body.get_operators_reader().unwrap().into_iter();
                let shown = operators.map(|operator| format!("{:?}", operator.unwrap()));
                functions.push(shown.collect());
            }
        }
        functions
    }
}
