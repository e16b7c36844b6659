//! Room on the stack for what a template may nest.

use std::thread;

/// Bytes of stack; reserved, and taken only as far as they are used. An expression nests by what
/// the grammar admits, and a value by what the fuel can pay for; the tests of this folder try the worst of both.
const STACK: usize = 64 * 1024 * 1024;

/// Runs the work on a thread of its own. The engine walks through nested expressions and values by recursion,
/// and a stack that overflows would end the whole process: no user's template may do that to the keys of all
/// others. `None` when there is no such thread to be had.
pub(super) fn run<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("template".to_owned()).stack_size(STACK);
        builder.spawn_scoped(scope, work).ok()?.join().ok()
    })
}
