//! The program as a user meets it: run folders, resuming after anything, and errors that say what is wrong.

mod folders;
mod generators;
mod many;
mod mistakes;
mod runs;
mod signals;
mod streams;
mod support;
mod tools;
