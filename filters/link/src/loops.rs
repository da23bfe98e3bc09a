//! Loops that V8 leaves as they are.
//!
//! V8 writes a loop that has no other loop in it and fewer than 80 operations out up to four times. A loop is as long as all
//! blocks from which it can begin anew. So where it is left, a block is added that would begin it anew and that is never
//! entered: its one call of a function with [`RESULTS`] results counts for as many operations, and is gone before V8 makes
//! code of it.
//!
//! ```text
//! loop $l                 loop $l
//!   …                       …
//!   br_if $l                br_if $l
//! end              ──►      i32.const 0
//!                           if
//!                             i32.const 0
//!                             call_indirect (result i32 i32 …)
//!                             br $l
//!                           end
//!                         end
//! ```

mod flow;

use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{BlockType, CodeSection, Function, Instruction, TypeSection, ValType};
use wasmparser::{BinaryReaderError, FunctionBody, Operator, Parser, Payload, TypeSectionReader};

use crate::{operators_of, written};
use flow::{Exit, Flow};

/// Results of the call that is never made: each is an operation, and the call itself comes to some more.
const RESULTS: usize = 40;

/// Loops of at least so many operations V8 leaves alone.
const LONG_OPERATIONS: usize = 80;

/// Has V8 write no loop of the module out more than once. The module must have a table.
pub fn keep_loops(module: &[u8]) -> Result<Vec<u8>, String> {
    let loops = Loops::of(module).map_err(|error| error.to_string())?;
    written(module, loops)
}

struct Loops {
    /// The type of the call that is never made, behind those that the module has.
    type_index: u32,
}

impl Loops {
    fn of(module: &[u8]) -> Result<Loops, BinaryReaderError> {
        let mut type_index = 0;
        for payload in Parser::new(0).parse_all(module) {
            if let Payload::TypeSection(groups) = payload? {
                for group in groups {
                    type_index += u32::try_from(group?.types().len()).unwrap_or(u32::MAX);
                }
            }
        }
        Ok(Loops { type_index })
    }

    /// Writes what begins the loop `depth` blocks further out anew, and never does.
    fn write_block(&self, function: &mut Function, depth: u32) {
        function.instruction(&Instruction::I32Const(0));
        function.instruction(&Instruction::If(BlockType::Empty));
        function.instruction(&Instruction::I32Const(0));
        function.instruction(&Instruction::CallIndirect {
            type_index: self.type_index,
            table_index: 0,
        });
        function.instruction(&Instruction::Br(depth + 1));
        function.instruction(&Instruction::End);
    }
}

impl Reencode for Loops {
    type Error = Infallible;

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: TypeSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_type_section(self, types, section)?;
        types.ty().function([], [ValType::I32; RESULTS]);
        Ok(())
    }

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        body: FunctionBody<'_>,
    ) -> Result<(), Error<Infallible>> {
        let mut function = self.new_function_with_parsed_locals(&body)?;
        let operators = operators_of(&body)?;
        let exits = Flow::of(&operators).exits(LONG_OPERATIONS);
        for (place, operator) in operators.into_iter().enumerate() {
            let exits = exits.get(&place).into_iter().flatten();
            let (taken, passed): (Vec<&Exit>, Vec<&Exit>) =
                exits.partition(|exit| matches!(exit, Exit::Taken { .. }));
            for exit in passed {
                self.write_block(&mut function, exit.depth());
            }
            if let (Operator::BrIf { relative_depth }, false) = (&operator, taken.is_empty()) {
                function.instruction(&Instruction::If(BlockType::Empty));
                for exit in taken {
                    self.write_block(&mut function, exit.depth() + 1);
                }
                function.instruction(&Instruction::Br(relative_depth + 1));
                function.instruction(&Instruction::End);
                continue;
            }
            function.instruction(&self.instruction(operator)?);
        }
        code.function(&function);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tests::{module, operators};

    const LOOP: [Instruction<'_>; 4] = [
        Instruction::Loop(BlockType::Empty),
        Instruction::I32Const(1),
        Instruction::BrIf(0),
        Instruction::End,
    ];

    #[test]
    fn what_begins_a_loop_anew_is_added_where_it_is_left() {
        let after = keep_loops(&module(&[&LOOP])).unwrap();
        let shown = operators(&after).concat();
        let expected = [
            "Loop { blockty: Empty }",
            "I32Const { value: 1 }",
            "BrIf { relative_depth: 0 }",
            "I32Const { value: 0 }",
            "If { blockty: Empty }",
            "I32Const { value: 0 }",
            "CallIndirect { type_index: 1, table_index: 0 }",
            "Br { relative_depth: 1 }",
            "End",
            "End",
            "End",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_branch_that_leaves_a_loop_still_leads_where_it_did() {
        let function = [
            Instruction::Block(BlockType::Empty),
            Instruction::Loop(BlockType::Empty),
            Instruction::I32Const(1),
            Instruction::BrIf(1),
            Instruction::Br(0),
            Instruction::End,
            Instruction::End,
        ];
        let after = keep_loops(&module(&[&function])).unwrap();
        let shown = operators(&after).concat();
        let expected = [
            "If { blockty: Empty }",
            "I32Const { value: 0 }",
            "If { blockty: Empty }",
            "I32Const { value: 0 }",
            "CallIndirect { type_index: 1, table_index: 0 }",
            "Br { relative_depth: 2 }",
            "End",
            "Br { relative_depth: 2 }",
            "End",
            "Br { relative_depth: 0 }",
        ];
        assert_eq!(shown[3..13], expected);
    }

    #[test]
    fn what_is_no_module_is_refused() {
        assert!(keep_loops(b"not a module").is_err());
    }
}
