//! Calls that V8 leaves as they are.
//!
//! V8 inlines each call that it comes to of a function shorter than what the caller may still grow by, which is up to three
//! times the caller's own length. So the caller begins with calls that are never made, of functions that are nothing but
//! length: what V8 inlines of them is gone from what the caller may grow by.
//!
//! ```text
//! (func $f …)      ──►    (func $f
//!                           i32.const 0
//!                           if
//!                             call $long256
//!                             call $long128
//!                           end
//!                           …)
//! ```

use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{BlockType, CodeSection, Function, FunctionSection, Instruction, TypeSection};
use wasmparser::{
    BinaryReader, BinaryReaderError, CodeSectionReader, FunctionBody, FunctionSectionReader,
    Operator, Parser, Payload, TypeRef, TypeSectionReader,
};

use crate::{operators_of, written};

/// A call of a function of fewer bytes is inlined as before: in less code than it takes to call, as often as not.
const LEAST_BYTES: usize = 128;

/// Bytes of the functions that are nothing but length. Each has half of the one before, so whatever a caller may grow by,
/// little more than the last of them is left.
const LONG_BYTES: [usize; 5] = [2048, 1024, 512, 256, LEAST_BYTES];

/// As many times its own length may a function grow by.
const GROWTH: usize = 3;

/// Every function may grow by so many bytes.
const LEAST_GROWTH_BYTES: usize = 110;

/// Has V8 inline no call of a function of [`LEAST_BYTES`] or more.
pub fn keep_calls(module: &[u8]) -> Result<Vec<u8>, String> {
    let calls = Calls::of(module).map_err(|error| error.to_string())?;
    written(module, calls)
}

/// What the module has.
#[derive(Default)]
struct Calls {
    types: u32,
    imported: u32,
    /// Bytes of each function that is not imported.
    lengths: Vec<usize>,
    /// How many of those have been written.
    written: usize,
}

impl Calls {
    fn of(module: &[u8]) -> Result<Calls, BinaryReaderError> {
        let mut calls = Calls::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::TypeSection(groups) => {
                    for group in groups {
                        calls.types += u32::try_from(group?.types().len()).unwrap_or(u32::MAX);
                    }
                }
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        calls.imported += u32::from(matches!(import?.ty, TypeRef::Func(_)));
                    }
                }
                Payload::CodeSectionStart { range, .. } => {
                    let code = module.get(range.clone()).unwrap_or_default();
                    for body in CodeSectionReader::new(BinaryReader::new(code, range.start))? {
                        calls.lengths.push(body?.range().len());
                    }
                }
                _ => {}
            }
        }
        Ok(calls)
    }

    /// Whether this is a call that V8 might inline into a function that may grow by so many bytes.
    fn is_inlined(&self, operator: &Operator<'_>, bytes: usize) -> bool {
        let Operator::Call { function_index } = operator else {
            return false;
        };
        let index = function_index.checked_sub(self.imported);
        let length = index.and_then(|index| self.lengths.get(index as usize));
        length.is_some_and(|length| (LEAST_BYTES..bytes).contains(length))
    }

    /// Writes calls that are never made, and take so many bytes when they are inlined.
    fn write_calls(&self, function: &mut Function, bytes: usize) {
        let first = self.imported + u32::try_from(self.lengths.len()).unwrap_or(u32::MAX);
        function.instruction(&Instruction::I32Const(0));
        function.instruction(&Instruction::If(BlockType::Empty));
        for (long_bytes, index) in LONG_BYTES.into_iter().zip(first..) {
            let longest = long_bytes == LONG_BYTES[0];
            let times = bytes / long_bytes;
            for _ in 0..if longest { times } else { times.min(1) } {
                function.instruction(&Instruction::Call(index));
            }
        }
        function.instruction(&Instruction::End);
    }
}

/// A function of so many bytes that does nothing.
fn long(bytes: usize) -> Function {
    let mut function = Function::new([]);
    function.instruction(&Instruction::Return);
    // What takes long to read by the byte would cost V8 time: these are ten bytes and one.
    while function.byte_len() + 13 <= bytes {
        function.instruction(&Instruction::I64Const(i64::MIN));
        function.instruction(&Instruction::Drop);
    }
    while function.byte_len() + 1 < bytes {
        function.instruction(&Instruction::Nop);
    }
    function.instruction(&Instruction::End);
    function
}

impl Reencode for Calls {
    type Error = Infallible;

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: TypeSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_type_section(self, types, section)?;
        types.ty().function([], []);
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: FunctionSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_function_section(self, functions, section)?;
        for _ in LONG_BYTES {
            functions.function(self.types);
        }
        Ok(())
    }

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        body: FunctionBody<'_>,
    ) -> Result<(), Error<Infallible>> {
        let mut function = self.new_function_with_parsed_locals(&body)?;
        let operators = operators_of(&body)?;
        let bytes = (body.range().len() * GROWTH).max(LEAST_GROWTH_BYTES);
        let is_inlined = |operator: &Operator<'_>| self.is_inlined(operator, bytes);
        if operators.iter().any(is_inlined) {
            self.write_calls(&mut function, bytes);
        }
        for operator in operators {
            function.instruction(&self.instruction(operator)?);
        }
        code.function(&function);
        self.written += 1;
        if self.written == self.lengths.len() {
            for bytes in LONG_BYTES {
                code.function(&long(bytes));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tests::{module, operators};

    /// Functions: one of so many bytes, and one that calls it and has two hundred bytes or so.
    fn caller_of(bytes: usize) -> Vec<u8> {
        let filling = |bytes: usize| vec![Instruction::Nop; bytes - 2];
        let caller = [vec![Instruction::Call(1)], filling(200)].concat();
        module(&[&filling(bytes), &caller])
    }

    fn shown(bytes: usize) -> Vec<Vec<String>> {
        operators(&keep_calls(&caller_of(bytes)).unwrap())
    }

    #[test]
    fn what_a_caller_may_grow_by_is_taken_up() {
        let functions = shown(300);
        assert_eq!(functions.len(), 2 + LONG_BYTES.len());
        let begins = [
            "I32Const { value: 0 }",
            "If { blockty: Empty }",
            "Call { function_index: 5 }",
            "Call { function_index: 6 }",
            "Call { function_index: 7 }",
            "End",
            "Call { function_index: 1 }",
        ];
        assert_eq!(functions[1][..7], begins);
        assert!(!functions[0].iter().any(|shown| shown.starts_with("Call")));
    }

    #[test]
    fn calls_that_are_not_inlined_or_may_be_are_left_alone() {
        for bytes in [LEAST_BYTES - 1, 1000] {
            assert_eq!(shown(bytes)[1][0], "Call { function_index: 1 }");
        }
    }

    #[test]
    fn what_is_long_is_as_long_as_it_says() {
        for bytes in LONG_BYTES {
            assert_eq!(long(bytes).byte_len(), bytes);
        }
    }

    #[test]
    fn what_is_no_module_is_refused() {
        assert!(keep_calls(b"not a module").is_err());
    }
}
