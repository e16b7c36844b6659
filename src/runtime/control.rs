//! The control socket. A client changes the log filter of a running operator through it.
//!
//! It is a Unix socket in the file system, not a port. The containers of a pod share the loopback interface, but a
//! container reaches a file of another one only if the pod mounts the same volume into both. Only the owner may access
//! the file, and the peer must have the operator's own user ID.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::UnixStream as StdUnixStream,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    task::AbortHandle,
    time,
};

use super::LogLevel;

/// The time limit of one request.
const DEADLINE: Duration = Duration::from_secs(5);
/// The maximum size of a request, which is a log filter.
const REQUEST_BYTES: u64 = 4096;
const ANSWER_BYTES: u64 = 16 << 10;
/// The mode of the socket.
const OWNER_ONLY: u32 = 0o600;
/// Prefix of an answer that refuses a filter.
const REFUSED: &str = "error: ";

/// Listens until this is dropped.
#[derive(Debug)]
pub(crate) struct Control {
    path: PathBuf,
    task: AbortHandle,
}

impl Control {
    /// Listens at this path, and answers one request after the other.
    ///
    /// # Errors
    /// If the socket can't be created at this path.
    pub(crate) fn start(path: &Path, level: LogLevel) -> io::Result<Self> {
        // A process that was killed leaves its socket behind.
        if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
            fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(OWNER_ONLY))?;
        let owner = fs::metadata(path)?.uid();
        let serve = async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        // The server closes the connection of a slow client.
                        let _ = time::timeout(DEADLINE, answer(stream, owner, &level)).await;
                    }
                    Err(error) => {
                        tracing::debug!(%error, "can't accept a connection to the control socket");
                        time::sleep(DEADLINE).await;
                    }
                }
            }
        };
        Ok(Self { path: path.to_owned(), task: tokio::spawn(serve).abort_handle() })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        // If this fails, the next start replaces the socket.
        let _ = fs::remove_file(&self.path);
    }
}

/// Answers one request: a new log filter, or an empty request, which reads the current filter.
async fn answer(mut stream: UnixStream, owner: u32, level: &LogLevel) -> io::Result<()> {
    if stream.peer_cred()?.uid() != owner {
        return Ok(());
    }
    let mut filter = String::new();
    (&mut stream).take(REQUEST_BYTES).read_to_string(&mut filter).await?;
    let set = if filter.trim().is_empty() { Ok(()) } else { level.set(&filter) };
    let answer = match &set {
        Ok(()) => format!("{}\n", level.get()),
        Err(error) => format!("{REFUSED}{error}\n"),
    };
    if !filter.trim().is_empty() && set.is_ok() {
        tracing::info!(filter = %level.get(), "changed the log filter");
    }
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// Sends this log filter to the operator that listens at this path, and returns the current filter. An empty filter
/// changes nothing.
///
/// # Errors
/// If no operator listens at this path, or the operator refuses the filter.
pub(crate) fn request_log_level(path: &Path, filter: &str) -> io::Result<String> {
    let mut stream = StdUnixStream::connect(path)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.write_all(filter.as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES).read_to_string(&mut answer)?;
    match answer.trim_end().strip_prefix(REFUSED) {
        Some(refusal) => Err(io::Error::new(io::ErrorKind::InvalidInput, refusal.to_owned())),
        None => Ok(answer.trim_end().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use tokio::sync::oneshot;

    use super::*;
    use crate::runtime::{LogFilter, logs::tests::detached};

    /// Sends the request from another thread, as another process does.
    async fn request(path: &Path, filter: &'static str) -> io::Result<String> {
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || request_log_level(&path, filter)).await.unwrap()
    }

    #[tokio::test]
    async fn the_log_level_can_be_read_and_changed() {
        let (folder, (_layer, level)) = (tempfile::tempdir().unwrap(), detached());
        let path = folder.path().join("control.sock");
        let control = Control::start(&path, level.clone()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, OWNER_ONLY);
        assert_eq!(request(&path, "").await.unwrap(), LogFilter::DEFAULT);
        assert_eq!(request(&path, "debug\n").await.unwrap(), "debug");
        let refused = request(&path, "loud=louder").await.unwrap_err();
        assert!(refused.to_string().starts_with("`loud=louder` is not a valid log filter ("), "{refused}");
        assert_eq!(level.get().to_string(), "debug");
        drop(control);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_that_was_left_behind_is_replaced_and_no_other_file() {
        let (folder, (_layer, level)) = (tempfile::tempdir().unwrap(), detached());
        let path = folder.path().join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let control = Control::start(&path, level.clone()).unwrap();
        drop(control);
        fs::write(&path, "precious").unwrap();
        Control::start(&path, level).unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_does_not_stop_the_next() {
        let (folder, (_layer, level)) = (tempfile::tempdir().unwrap(), detached());
        let path = folder.path().join("control.sock");
        let _control = Control::start(&path, level).unwrap();
        let silent = StdUnixStream::connect(&path).unwrap();
        let (answer, answered) = oneshot::channel();
        // The client waits in real time, while the server's clock leaps to the deadline of the silent one.
        let client = thread::spawn(move || answer.send(request_log_level(&path, "")));
        assert_eq!(answered.await.unwrap().unwrap(), LogFilter::DEFAULT);
        client.join().unwrap().unwrap();
        drop(silent);
    }
}
