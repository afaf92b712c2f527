//! The code in the object, for tests that examine it.
//!
//! Instructions are eight octets (RFC 9669 section 3); the few that matter here
//! are calls, jumps and accesses to the stack.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, Result, bail, ensure};
use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionKind, SymbolKind,
};

/// Octets of an instruction.
const SIZE: i64 = 8;

/// Address of the top of the stack.
const FRAME_POINTER: u8 = 10;

/// Operation codes (RFC 9669 section 4 and 5).
mod code {
    pub const LOAD_64: u8 = 0x18;
    pub const CALL: u8 = 0x85;
    pub const CALL_REGISTER: u8 = 0x8d;
    pub const EXIT: u8 = 0x95;
    pub const JUMP: u8 = 0x05;
    pub const JUMP_LONG: u8 = 0x06;
    pub const MOVE: u8 = 0xbf;
    pub const ADD_IMMEDIATE: u8 = 0x07;
    pub const CLASS: u8 = 0x07;
    pub const CLASS_LOAD: u8 = 0x01;
    pub const CLASS_STORE: u8 = 0x02;
    pub const CLASS_STORE_REGISTER: u8 = 0x03;
    pub const CLASS_ALU: u8 = 0x04;
    pub const CLASS_JUMP: u8 = 0x05;
    pub const CLASS_JUMP_32: u8 = 0x06;
    pub const CLASS_ALU_64: u8 = 0x07;
}

/// What a call instruction calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Callee {
    /// A helper of the kernel, by its number in include/uapi/linux/bpf.h.
    Helper(i32),
    /// A function of the object.
    Function(String),
    /// Whatever a register points to.
    Register,
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    code: u8,
    destination: u8,
    source: u8,
    offset: i16,
    immediate: i32,
    /// What it calls, if it is a call.
    pub calls: Option<Callee>,
}

/// A function of the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its symbol.
    pub name: String,
    /// Its instructions; the second halves of wide ones included, so that an
    /// index is also a distance of jumps.
    pub code: Vec<Instruction>,
}

impl Function {
    /// Decodes code without relocations.
    ///
    /// # Errors
    ///
    /// It ends inside an instruction, or calls functions.
    pub fn decode(name: &str, code: &[u8]) -> Result<Self> {
        let call = |_, instruction: &Instruction| bail!("{name} calls {instruction:?}");
        Self::read(name, code, call)
    }

    /// Decodes code; `call` tells which function an instruction at an offset
    /// calls.
    fn read(
        name: &str,
        raw: &[u8],
        call: impl Fn(u64, &Instruction) -> Result<String>,
    ) -> Result<Self> {
        let mut code: Vec<Instruction> = Vec::with_capacity(raw.len() / 8);
        let mut second_half = false;
        for (offset, raw) in (0..).step_by(8).zip(raw.chunks(8)) {
            let mut instruction = decode(raw)?;
            if second_half {
                second_half = false;
            } else {
                second_half = instruction.code == code::LOAD_64;
                instruction.calls = match (instruction.code, instruction.source) {
                    (code::CALL, 0) => Some(Callee::Helper(instruction.immediate)),
                    (code::CALL, 1) => Some(Callee::Function(call(offset, &instruction)?)),
                    (code::CALL, other) => bail!("{name} has a call of kind {other}"),
                    (code::CALL_REGISTER, _) => Some(Callee::Register),
                    _ => None,
                };
            }
            code.push(instruction);
        }
        ensure!(!code.is_empty(), "{name} is empty");
        Ok(Self {
            name: name.to_owned(),
            code,
        })
    }

    /// Where execution may go on behind instruction `index`: nowhere after an
    /// exit.
    ///
    /// # Errors
    ///
    /// A jump leaves the function.
    pub fn successors(&self, index: usize) -> Result<Vec<usize>> {
        let instruction = self.at(index)?;
        let next = index + 1;
        let jump = |distance: i64| -> Result<usize> {
            let target = i64::try_from(next)? + distance;
            let target = usize::try_from(target).context("a jump in front of the function")?;
            self.at(target)?;
            Ok(target)
        };
        Ok(match instruction.code {
            code::EXIT => vec![],
            code::CALL | code::CALL_REGISTER => vec![next],
            code::JUMP => vec![jump(instruction.offset.into())?],
            code::JUMP_LONG => vec![jump(instruction.immediate.into())?],
            code::LOAD_64 => vec![index + 2],
            other => match other & code::CLASS {
                code::CLASS_JUMP | code::CLASS_JUMP_32 => {
                    vec![next, jump(instruction.offset.into())?]
                }
                _ => vec![next],
            },
        })
    }

    fn at(&self, index: usize) -> Result<&Instruction> {
        self.code
            .get(index)
            .with_context(|| format!("{} has no instruction {index}", self.name))
    }

    /// Functions of the object that it calls.
    pub fn callees(&self) -> impl Iterator<Item = &str> {
        self.code
            .iter()
            .filter_map(|instruction| match &instruction.calls {
                Some(Callee::Function(name)) => Some(name.as_str()),
                Some(Callee::Helper(_) | Callee::Register) | None => None,
            })
    }

    /// Octets of stack that it reaches below the frame pointer.
    #[must_use]
    pub fn stack(&self) -> u32 {
        // Registers that hold an address in the stack, as far as it is known.
        let mut held: BTreeMap<u8, i64> = BTreeMap::new();
        let mut lowest = 0;
        for instruction in &self.code {
            let Instruction {
                code,
                destination,
                source,
                offset,
                immediate,
                ..
            } = *instruction;
            held.insert(FRAME_POINTER, 0);
            let mut reach = |base: u8| {
                if let Some(address) = held.get(&base) {
                    lowest = lowest.min(address + i64::from(offset));
                }
            };
            match code & code::CLASS {
                code::CLASS_LOAD => reach(source),
                code::CLASS_STORE | code::CLASS_STORE_REGISTER => reach(destination),
                _ => {}
            }
            match code {
                code::MOVE if held.contains_key(&source) && offset == 0 => {
                    let address = held[&source];
                    held.insert(destination, address);
                }
                code::ADD_IMMEDIATE if held.contains_key(&destination) => {
                    let address = held[&destination] + i64::from(immediate);
                    lowest = lowest.min(address);
                    held.insert(destination, address);
                }
                code::LOAD_64 => drop(held.remove(&destination)),
                code::CALL | code::CALL_REGISTER => held.retain(|&register, _| register > 5),
                other => {
                    if matches!(
                        other & code::CLASS,
                        code::CLASS_LOAD | code::CLASS_ALU | code::CLASS_ALU_64
                    ) {
                        held.remove(&destination);
                    }
                }
            }
        }
        u32::try_from(-lowest).unwrap_or(u32::MAX)
    }
}

/// The functions of an object by name.
pub type Functions = BTreeMap<String, Function>;

/// Reads the functions of an object.
///
/// # Errors
///
/// It is no BPF object, or it calls what cannot be told.
pub fn functions(elf: &[u8]) -> Result<Functions> {
    let file = object::File::parse(elf).context("the object is no ELF file")?;
    // Function symbols by section and offset.
    let mut names = HashMap::new();
    for symbol in file
        .symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Text)
    {
        if let Some(section) = symbol.section_index() {
            names.insert((section, symbol.address()), symbol.name()?.to_owned());
        }
    }
    let mut functions = Functions::new();
    for section in file
        .sections()
        .filter(|section| section.kind() == SectionKind::Text)
    {
        let data = section.data()?;
        let here = section.index();
        let mut relocated = HashMap::new();
        for (offset, relocation) in section.relocations() {
            if let RelocationTarget::Symbol(symbol) = relocation.target() {
                relocated.insert(offset, file.symbol_by_index(symbol)?);
            }
        }
        for symbol in file
            .symbols()
            .filter(|symbol| symbol.kind() == SymbolKind::Text)
        {
            if symbol.section_index() != Some(here) {
                continue;
            }
            let name = symbol.name()?.to_owned();
            let range = symbol.address()..symbol.address() + symbol.size();
            let code = data
                .get(usize::try_from(range.start)?..usize::try_from(range.end)?)
                .with_context(|| format!("{name} ends behind its section"))?;
            let function = Function::read(&name, code, |offset, instruction| {
                let offset = range.start + offset;
                // Relative to the relocation's symbol, which may be the
                // section, or without one to the instruction itself.
                let (section, base) = match relocated.get(&offset) {
                    Some(symbol) => (
                        symbol.section_index().context("a call out of the object")?,
                        symbol.address(),
                    ),
                    None => (here, offset),
                };
                let distance = (i64::from(instruction.immediate) + 1) * SIZE;
                let target = base.wrapping_add_signed(distance);
                names
                    .get(&(section, target))
                    .cloned()
                    .with_context(|| format!("{name} calls {target:#x}, which is no function"))
            })?;
            functions.insert(name, function);
        }
    }
    Ok(functions)
}

fn decode(raw: &[u8]) -> Result<Instruction> {
    let raw: [u8; 8] = raw.try_into().context("half an instruction")?;
    Ok(Instruction {
        code: raw[0],
        destination: raw[1] & 0x0f,
        source: raw[1] >> 4,
        offset: i16::from_le_bytes([raw[2], raw[3]]),
        immediate: i32::from_le_bytes([raw[4], raw[5], raw[6], raw[7]]),
        calls: None,
    })
}
