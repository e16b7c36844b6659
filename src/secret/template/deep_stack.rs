//! A stack that is large enough for nested templates.

use std::thread;

/// Size of the stack in bytes. It is reserved, and used only as far as needed. The grammar limits how deep an
/// expression nests, and the fuel how deep a value nests. The tests of this folder try the worst of both.
const STACK: usize = 64 * 1024 * 1024;

/// Runs the work on a separate thread. The engine walks through nested expressions and values by recursion,
/// and a stack overflow would end the whole process. No user's template may do that to the keys of other
/// users. `None` if the thread could not be started, or panicked.
pub(super) fn run<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("template".to_owned()).stack_size(STACK);
        builder.spawn_scoped(scope, work).ok()?.join().ok()
    })
}
