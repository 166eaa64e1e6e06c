//! Slices of the wrong element type: an op that does not refuse a dtype in `infer`, and then asks for another, is an error of that op.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::dtype::DType;
use crate::error::{Error, Result};

struct Wrong {
    asked: DType,
    found: DType,
}

thread_local! {
    static IN_KERNEL: Cell<bool> = const { Cell::new(false) };
}

/// # Panics
/// The types differ. Within [`checked`] nothing is printed.
#[inline]
pub(crate) fn check(asked: DType, found: DType) {
    if asked != found {
        wrong(asked, found);
    }
}

#[cold]
fn wrong(asked: DType, found: DType) -> ! {
    if IN_KERNEL.get() {
        resume_unwind(Box::new(Wrong { asked, found }));
    }
    panic!("slice: the elements are {found}, not {asked}: convert with to_dtype");
}

/// Runs an op's code.
///
/// # Errors
/// [`Error::WrongElement`], or an error of `f`.
pub(super) fn checked(op: &'static str, f: impl FnOnce() -> Result<()>) -> Result<()> {
    let outer = IN_KERNEL.replace(true);
    let result = catch_unwind(AssertUnwindSafe(f));
    IN_KERNEL.set(outer);
    result.unwrap_or_else(|payload| match payload.downcast::<Wrong>() {
        Ok(wrong) => Err(Error::WrongElement { op, asked: wrong.asked, found: wrong.found }),
        Err(payload) => resume_unwind(payload),
    })
}
