//! The folder of a test's server: data, keys and logs.
//!
//! The shared plane is a static, which Rust never drops, and a test process may be killed. Therefore a shell removes
//! the folder. It outlives this process and waits for the end of its pipe, like the shells in `process.rs`.

use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use crate::{FileError, Progress, Step};

/// Removes `$1` at the end of stdin, unless stdin contains a request to keep it. Servers that are being killed at the
/// same moment may still add files, hence the repetition.
const JANITOR: &str = r#"
read -r order
[ "$order" = keep ] && exit 0
for attempt in 1 2 3 4 5 6 7 8 9 10; do
  rm -rf -- "$1" 2>/dev/null && exit 0
  sleep 0.5
done
"#;

/// A folder that is removed with this value or at the end of this process.
pub(crate) struct Scratch {
    what: &'static str,
    path: PathBuf,
    janitor: Child,
    keep: bool,
    progress: Arc<dyn Progress>,
}

impl Scratch {
    /// Creates an empty folder that only this user can read. `what` describes the server in it.
    pub(crate) fn new(what: &'static str, progress: Arc<dyn Progress>) -> Result<Self, FileError> {
        let temporary = std::env::temp_dir();
        let folder = tempfile::Builder::new()
            .prefix("servicekey-testkit-")
            .tempdir_in(&temporary)
            .map_err(FileError::of("create a folder in", &temporary))?;
        let janitor = Command::new("sh")
            .args(["-c", JANITOR, "janitor"])
            .arg(folder.path())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(FileError::of("start", "sh"))?;
        let mut scratch = Self { what, path: folder.keep(), janitor, keep: false, progress };
        if std::env::var_os("TESTKIT_KEEP").is_some_and(|value| !value.is_empty() && value != "0") {
            // Now and not in `drop`, which Rust never calls for a static.
            scratch.keep();
        }
        Ok(scratch)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn keep(&mut self) {
        if self.keep {
            return;
        }
        self.keep = true;
        if let Some(mut orders) = self.janitor.stdin.take() {
            let _ = orders.write_all(b"keep\n");
        }
        self.progress.step(&Step::Kept { what: self.what, folder: self.path.clone() });
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep();
        }
        drop(self.janitor.stdin.take());
        let _ = self.janitor.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    use super::*;

    fn scratch() -> Scratch {
        let scratch = Scratch::new("a test", Arc::new(|_: &Step| {})).unwrap();
        std::fs::write(scratch.path().join("log"), "line").unwrap();
        scratch
    }

    #[test]
    fn the_folder_goes_with_the_plane() {
        let scratch = scratch();
        let path = scratch.path().to_owned();
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn the_folder_of_a_failed_test_stays() {
        let scratch = scratch();
        let path = scratch.path().to_owned();
        let failure = catch_unwind(AssertUnwindSafe(|| {
            let _scratch = scratch;
            resume_unwind(Box::new("a failed assertion"));
        }));
        assert!(failure.is_err());
        assert!(path.join("log").exists());
        std::fs::remove_dir_all(path).unwrap();
    }
}
