//! One file a command: arguments in, a result shown, an exit code out.

pub mod chain;
pub mod dispute;
pub mod key;
pub mod manual;
pub mod measure;
pub mod run;
pub mod verify;

#[cfg(test)]
mod tests;
