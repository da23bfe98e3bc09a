//! Calls through the table in place of direct ones.

use std::collections::BTreeMap;

use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{
    CodeSection, ConstExpr, ElementSection, Elements, Instruction, Module, TableSection,
};
use wasmparser::{
    CodeSectionReader, ElementSectionReader, FunctionBody, Operator, Parser, Payload, Table,
    TypeRef, Validator,
};

/// Has functions of `least_bytes` or more called through table 0. The module must have that table and give it entries, as
/// those that rustc links do.
pub fn call_through_table(module: &[u8], least_bytes: usize) -> Result<Vec<u8>, String> {
    let mut calls = Calls::of(module, least_bytes).map_err(|error| error.to_string())?;
    let mut linked = Module::new();
    calls
        .parse_core_module(&mut linked, Parser::new(0), module)
        .map_err(|error| error.to_string())?;
    let linked = linked.finish();
    let valid = Validator::new().validate_all(&linked);
    valid.map_err(|error| format!("the result is no module: {error}"))?;
    Ok(linked)
}

/// Which functions are called how.
#[derive(Default)]
struct Calls {
    /// Type and place in the table of each function that is called through it.
    through_table: BTreeMap<u32, (u32, u32)>,
    /// Entries of the table so far.
    entries: u32,
}

impl Calls {
    fn of(module: &[u8], least_bytes: usize) -> Result<Calls, wasmparser::BinaryReaderError> {
        let mut calls = Calls::default();
        let mut types = Vec::new();
        let mut imported = 0;
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        imported += u32::from(matches!(import?.ty, TypeRef::Func(_)));
                    }
                }
                Payload::FunctionSection(functions) => {
                    types = functions.into_iter().collect::<Result<Vec<u32>, _>>()?;
                }
                Payload::TableSection(tables) => {
                    if let Some(table) = tables.into_iter().next() {
                        calls.entries = u32::try_from(table?.ty.initial).unwrap_or(u32::MAX);
                    }
                }
                Payload::CodeSectionStart { range, .. } => {
                    let code = wasmparser::BinaryReader::new(
                        module.get(range.clone()).unwrap_or_default(),
                        range.start,
                    );
                    let mut next = calls.entries;
                    let bodies = CodeSectionReader::new(code)?.into_iter();
                    for ((body, of_type), index) in bodies.zip(&types).zip(imported..) {
                        if body?.range().len() >= least_bytes {
                            calls.through_table.insert(index, (*of_type, next));
                            next += 1;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(calls)
    }

    fn added(&self) -> u32 {
        u32::try_from(self.through_table.len()).unwrap_or(u32::MAX)
    }
}

impl Reencode for Calls {
    type Error = std::convert::Infallible;

    fn parse_table(
        &mut self,
        tables: &mut TableSection,
        mut table: Table<'_>,
    ) -> Result<(), Error<Self::Error>> {
        if tables.is_empty() {
            let added = u64::from(self.added());
            table.ty.initial += added;
            table.ty.maximum = table.ty.maximum.map(|maximum| maximum + added);
        }
        utils::parse_table(self, tables, table)
    }

    fn parse_element_section(
        &mut self,
        elements: &mut ElementSection,
        section: ElementSectionReader<'_>,
    ) -> Result<(), Error<Self::Error>> {
        utils::parse_element_section(self, elements, section)?;
        let functions: Vec<u32> = self.through_table.keys().copied().collect();
        let offset = ConstExpr::i32_const(self.entries.cast_signed());
        elements.active(None, &offset, Elements::Functions(functions.into()));
        Ok(())
    }

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        body: FunctionBody<'_>,
    ) -> Result<(), Error<Self::Error>> {
        let mut function = self.new_function_with_parsed_locals(&body)?;
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let operator = operators.read()?;
            let through_table = match operator {
                Operator::Call { function_index } => self.through_table.get(&function_index),
                _ => None,
            };
            match through_table {
                Some((type_index, entry)) => {
                    function.instruction(&Instruction::I32Const(entry.cast_signed()));
                    function.instruction(&Instruction::CallIndirect {
                        type_index: *type_index,
                        table_index: 0,
                    });
                }
                None => {
                    function.instruction(&self.instruction(operator)?);
                }
            }
        }
        code.function(&function);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use wasm_encoder::{
        Function, FunctionSection, ImportSection, RefType, TableType, TypeSection, ValType,
    };

    /// An import, a short function, a long one, and one that calls all three. The table has one entry.
    fn module(is_table: bool) -> Vec<u8> {
        let mut types = TypeSection::new();
        types.ty().function([], [ValType::I32]);
        let mut imports = ImportSection::new();
        imports.import("env", "f", wasm_encoder::EntityType::Function(0));
        let mut functions = FunctionSection::new();
        let mut code = CodeSection::new();
        for operators in [0, 60, 0] {
            functions.function(0);
            let mut function = Function::new([]);
            for _ in 0..operators {
                function.instruction(&Instruction::I32Const(7));
                function.instruction(&Instruction::Drop);
            }
            if functions.len() == 3 {
                for called in 0..3 {
                    function.instruction(&Instruction::Call(called));
                    function.instruction(&Instruction::Drop);
                }
            }
            function.instruction(&Instruction::I32Const(1));
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
        let mut elements = ElementSection::new();
        let offset = ConstExpr::i32_const(0);
        elements.active(None, &offset, Elements::Functions(vec![1].into()));
        let mut module = Module::new();
        module.section(&types).section(&imports).section(&functions);
        if is_table {
            module.section(&tables).section(&elements);
        }
        module.section(&code);
        module.finish()
    }

    fn calls(module: &[u8]) -> Vec<String> {
        let mut calls = Vec::new();
        for payload in Parser::new(0).parse_all(module) {
            if let Payload::CodeSectionEntry(body) = payload.unwrap() {
                let operators = body.get_operators_reader().unwrap();
                let operators = operators.into_iter().map(Result::unwrap);
                let shown = operators.filter_map(|operator| match operator {
                    Operator::Call { function_index } => Some(format!("call {function_index}")),
                    Operator::CallIndirect { type_index, .. } => {
                        Some(format!("through the table, type {type_index}"))
                    }
                    _ => None,
                });
                calls.extend(shown);
            }
        }
        calls
    }

    #[test]
    fn only_what_is_long_is_called_through_the_table() {
        let before = module(true);
        assert_eq!(calls(&before), ["call 0", "call 1", "call 2"]);
        let after = call_through_table(&before, 100).unwrap();
        assert_eq!(
            calls(&after),
            ["call 0", "call 1", "through the table, type 0"]
        );
        let entries = Calls::of(&after, 100).unwrap().entries;
        assert_eq!(entries, 2, "one more than before");
    }

    #[test]
    fn a_module_without_a_table_is_refused() {
        assert!(call_through_table(&module(false), 100).is_err());
        assert!(call_through_table(b"not a module", 100).is_err());
    }
}
