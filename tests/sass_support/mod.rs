//! What ptxas makes of the kernels: registers, and the loops that do the work.

pub mod assembly;
#[path = "../../build/dependents.rs"]
mod dependents;
pub mod disassembly;
pub mod hot;
pub mod issue;
pub mod loops;
