//! Which blocks of a function are in which of its loops, and where each loop is left.

use std::collections::{BTreeMap, BTreeSet};

use wasmparser::{BlockType, Operator};

/// Where a loop is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Whoever comes to this operator has left the loop.
    Passed { depth: u32 },
    /// Whoever takes this `br_if` leaves the loop.
    Taken { depth: u32 },
}

impl Exit {
    /// How many blocks further out the label of the loop is.
    pub fn depth(&self) -> u32 {
        match self {
            Exit::Passed { depth } | Exit::Taken { depth } => *depth,
        }
    }
}

/// A function as blocks that are run from their first operator to their last.
#[derive(Default)]
pub struct Flow {
    blocks: Vec<Block>,
    loops: Vec<Loop>,
}

#[derive(Default)]
struct Block {
    /// Blocks from which it is come to.
    from: Vec<usize>,
    /// How many operations V8 makes of it at least.
    operations: usize,
}

struct Loop {
    /// The block that it begins with.
    head: usize,
    /// The blocks that begin it anew.
    again: Vec<usize>,
    /// Where it may be left: the operator, the block that leaves it there or that is come to then, and how.
    exits: Vec<(usize, usize, Exit)>,
}

/// What `end` ends.
struct Frame {
    /// Index of the loop, if it is one.
    of_loop: Option<usize>,
    /// Whether a branch to it takes no value along.
    bare: bool,
    /// Blocks from which its end is come to.
    to_end: Vec<usize>,
    /// The block in front of an `if`, until its `else`.
    otherwise: Option<usize>,
}

impl Frame {
    fn new(kind: BlockType, of_loop: Option<usize>) -> Frame {
        Frame {
            of_loop,
            bare: kind == BlockType::Empty,
            to_end: Vec::new(),
            otherwise: None,
        }
    }
}

impl Flow {
    /// Reads a function, which must be valid.
    pub fn of(operators: &[Operator<'_>]) -> Flow {
        let mut flow = Flow::default();
        // What the function itself ends with takes its results along.
        let mut frames = vec![Frame::new(BlockType::FuncType(0), None)];
        let mut at = Some(flow.block(&[]));
        for (place, operator) in operators.iter().enumerate() {
            match operator {
                Operator::Block { blockty } => frames.push(Frame::new(*blockty, None)),
                Operator::Loop { blockty } => {
                    let head = flow.block(at.as_slice());
                    at = at.and(Some(head));
                    flow.loops.push(Loop {
                        head,
                        again: Vec::new(),
                        exits: Vec::new(),
                    });
                    let of_loop = Some(flow.loops.len() - 1);
                    frames.push(Frame::new(*blockty, of_loop));
                }
                Operator::If { blockty } => {
                    let mut frame = Frame::new(*blockty, None);
                    frame.otherwise = at;
                    frames.push(frame);
                    at = flow.next(at.as_slice(), place, &frames);
                }
                Operator::Else => {
                    if let Some(frame) = frames.last_mut() {
                        frame.to_end.extend(at);
                        at = frame.otherwise.take();
                    }
                    at = flow.next(at.as_slice(), place, &frames);
                }
                Operator::End => {
                    if let Some(frame) = frames.pop().filter(|frame| frame.of_loop.is_none()) {
                        let mut from = frame.to_end;
                        from.extend(at);
                        from.extend(frame.otherwise);
                        at = flow.next(&from, place, &frames);
                    }
                }
                Operator::Br { relative_depth } => {
                    flow.branch(at.take(), *relative_depth, &mut frames);
                }
                Operator::BrIf { relative_depth } => {
                    flow.branch(at, *relative_depth, &mut frames);
                    flow.may_leave(at, place, *relative_depth, &frames);
                    at = flow.next(at.as_slice(), place, &frames);
                }
                Operator::BrTable { targets } => {
                    for depth in targets.targets().chain([Ok(targets.default())]).flatten() {
                        flow.branch(at, depth, &mut frames);
                    }
                    at = None;
                }
                Operator::Return | Operator::Unreachable => at = None,
                Operator::LocalGet { .. }
                | Operator::LocalSet { .. }
                | Operator::LocalTee { .. }
                | Operator::Drop => {}
                _ => {
                    if let Some(block) = at.and_then(|at| flow.blocks.get_mut(at)) {
                        block.operations += 1;
                    }
                }
            }
        }
        flow
    }

    /// Where the loops are left that have no other loop in them and fewer than `long` operations: by operator, one exit
    /// of each loop. One that has no exit but a table of branches is not among them.
    pub fn exits(&self, long: usize) -> BTreeMap<usize, Vec<Exit>> {
        let heads = self.loops.iter().filter(|each| !each.again.is_empty());
        let heads: BTreeSet<usize> = heads.map(|each| each.head).collect();
        let mut exits: BTreeMap<usize, Vec<Exit>> = BTreeMap::new();
        for each in &self.loops {
            let body = self.body(each);
            let operations = body.iter().filter_map(|block| self.blocks.get(*block));
            let operations: usize = operations.map(|block| block.operations).sum();
            if each.again.is_empty() || heads.intersection(&body).count() > 1 || operations >= long
            {
                continue;
            }
            let leaves = |(_, block, exit): &&(usize, usize, Exit)| match exit {
                Exit::Passed { .. } => !body.contains(block),
                Exit::Taken { .. } => body.contains(block),
            };
            let of_loop = each.exits.iter().filter(leaves);
            let chosen = of_loop.min_by_key(|(.., exit)| matches!(exit, Exit::Taken { .. }));
            if let Some((place, _, exit)) = chosen {
                exits.entry(*place).or_default().push(*exit);
            }
        }
        exits
    }

    /// The blocks from which the loop can begin anew, and its head.
    fn body(&self, of: &Loop) -> BTreeSet<usize> {
        let mut body = BTreeSet::from([of.head]);
        let mut open = of.again.clone();
        while let Some(block) = open.pop() {
            if body.insert(block)
                && let Some(block) = self.blocks.get(block)
            {
                open.extend(&block.from);
            }
        }
        body
    }

    fn block(&mut self, from: &[usize]) -> usize {
        self.blocks.push(Block {
            from: from.to_vec(),
            operations: 0,
        });
        self.blocks.len() - 1
    }

    /// The block behind this operator, if it is come to from anywhere. Each loop around it may have been left there.
    fn next(&mut self, from: &[usize], place: usize, frames: &[Frame]) -> Option<usize> {
        if from.is_empty() {
            return None;
        }
        let block = self.block(from);
        for (frame, depth) in frames.iter().rev().zip(0..) {
            if let Some(around) = frame.of_loop.and_then(|index| self.loops.get_mut(index)) {
                let exit = Exit::Passed { depth };
                around.exits.push((place + 1, block, exit));
            }
        }
        Some(block)
    }

    fn branch(&mut self, from: Option<usize>, depth: u32, frames: &mut [Frame]) {
        let (Some(from), Some(frame)) = (from, frames.iter_mut().rev().nth(depth as usize)) else {
            return;
        };
        match frame.of_loop.and_then(|index| self.loops.get_mut(index)) {
            Some(target) => target.again.push(from),
            None => frame.to_end.push(from),
        }
    }

    /// Notes a `br_if` as an exit of the loops that it would leave.
    fn may_leave(&mut self, from: Option<usize>, place: usize, target: u32, frames: &[Frame]) {
        let (Some(from), Some(frame)) = (from, frames.iter().rev().nth(target as usize)) else {
            return;
        };
        if !frame.bare {
            return;
        }
        for (frame, depth) in frames.iter().rev().zip(0..target) {
            if let Some(left) = frame.of_loop.and_then(|index| self.loops.get_mut(index)) {
                let exit = Exit::Taken { depth };
                left.exits.push((place, from, exit));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Operator::{Br, BrIf, End, I32Const, LocalGet};

    const BLOCK: Operator<'_> = Operator::Block {
        blockty: BlockType::Empty,
    };
    const LOOP: Operator<'_> = Operator::Loop {
        blockty: BlockType::Empty,
    };

    /// The exits of the loops of fewer than ten operations.
    fn exits(operators: &[Operator<'static>]) -> Vec<(usize, Exit)> {
        let mut function = operators.to_vec();
        function.push(End);
        let exits = Flow::of(&function).exits(10).into_iter();
        let of_place = |(place, exits): (usize, Vec<Exit>)| {
            let exits: Vec<_> = exits.into_iter().map(|exit| (place, exit)).collect();
            exits
        };
        exits.flat_map(of_place).collect()
    }

    fn get() -> Operator<'static> {
        LocalGet { local_index: 0 }
    }

    fn br_if(relative_depth: u32) -> Operator<'static> {
        BrIf { relative_depth }
    }

    #[test]
    fn a_loop_is_left_behind_the_branch_that_begins_it_anew() {
        let passed = Exit::Passed { depth: 0 };
        assert_eq!(exits(&[LOOP, get(), br_if(0), End]), [(3, passed)]);
    }

    #[test]
    fn or_by_a_branch_to_what_is_around_it() {
        let again = Br { relative_depth: 0 };
        let operators = [BLOCK, LOOP, get(), br_if(1), again, End, End];
        assert_eq!(exits(&operators), [(3, Exit::Taken { depth: 0 })]);
    }

    #[test]
    fn or_within_it_where_nothing_leads_back() {
        let again = Br { relative_depth: 1 };
        let operators = [
            LOOP,
            BLOCK,
            get(),
            br_if(0),
            again,
            End,
            Operator::Return,
            End,
        ];
        assert_eq!(exits(&operators), [(6, Exit::Passed { depth: 0 })]);
    }

    #[test]
    fn of_loops_in_loops_only_the_inner_one_counts() {
        let operators = [LOOP, LOOP, get(), br_if(0), End, get(), br_if(0), End];
        assert_eq!(exits(&operators), [(4, Exit::Passed { depth: 0 })]);
    }

    #[test]
    fn a_loop_that_is_written_in_another_but_leads_out_of_it_is_not_in_it() {
        let outer = [LOOP, BLOCK, get(), br_if(0), Br { relative_depth: 1 }, End];
        let inner = [LOOP, get(), br_if(0), End, Operator::Return, End];
        let places: Vec<usize> = exits(&[outer, inner].concat())
            .into_iter()
            .map(|(place, _)| place)
            .collect();
        assert_eq!(places, [6, 9]);
    }

    #[test]
    fn a_long_loop_and_one_that_is_not_begun_anew_have_no_exit() {
        let long = [[I32Const { value: 7 }, Operator::Drop].as_slice(); 10].concat();
        let operators = [&[LOOP], long.as_slice(), &[get(), br_if(0), End]].concat();
        assert_eq!(exits(&operators), []);
        assert_eq!(exits(&[LOOP, get(), Operator::Drop, End]), []);
    }
}
