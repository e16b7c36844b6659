//! The official envtest archives: etcd and kube-apiserver for one platform, verified by checksum.

use std::{
    collections::BTreeMap,
    error::Error as _,
    fs::{self, File, Permissions},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::Duration,
};

use flate2::read::GzDecoder;
use serde::Deserialize;
use sha2::{Digest as _, Sha512};

use super::{Binary, Error, Progress, Step};
use crate::cache::{hex, publish};

/// Short, so that a machine without a network soon begins to build.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The limit between two parts of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// `envtest-releases.yaml`: archives by version and file name.
#[derive(Debug, Deserialize)]
struct Index {
    releases: BTreeMap<String, BTreeMap<String, Archive>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Archive {
    /// SHA-512, in hexadecimal digits.
    hash: String,
    #[serde(rename = "selfLink")]
    url: String,
}

/// Stores the servers of the archive for `version` in the cache, or those of the newest patch of the same minor
/// version. It compares the checksum before it unpacks anything.
pub(super) async fn fetch(
    index: &str,
    version: &str,
    cache: &Path,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let client = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .build()
        .map_err(archive_error)?;
    let text = get(&client, index).await?.text().await.map_err(archive_error)?;
    let index: Index = serde_saphyr::from_str(&text)
        .map_err(|error| Error::Archive(format!("its index can't be read: {error}")))?;
    let archive = choose(&index, version)
        .ok_or_else(|| Error::Archive(format!("there is none of {version} for {}", platform())))?;
    progress.step(&Step::Downloading { url: archive.url.clone() });

    let folder = tempfile::tempdir_in(cache).map_err(Error::io("create a folder in", cache))?;
    let file = folder.path().join("archive.tar.gz");
    let hash = save(get(&client, &archive.url).await?, &file).await?;
    if !hash.eq_ignore_ascii_case(&archive.hash) {
        return Err(Error::Archive(format!(
            "`{}` has the checksum `{hash}` and not `{}`",
            archive.url, archive.hash
        )));
    }
    let cache = cache.to_owned();
    tokio::task::spawn_blocking(move || unpack(&file, folder.path(), &cache))
        .await
        .map_err(|error| Error::Archive(error.to_string()))?
}

async fn get(client: &reqwest::Client, url: &str) -> Result<reqwest::Response, Error> {
    client.get(url).send().await.and_then(reqwest::Response::error_for_status).map_err(archive_error)
}

/// With its causes, which reqwest's own message omits.
fn archive_error(error: reqwest::Error) -> Error {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message = format!("{message}: {error}");
        cause = error.source();
    }
    Error::Archive(message)
}

/// Writes the body to `file` and returns its SHA-512.
async fn save(mut response: reqwest::Response, file: &Path) -> Result<String, Error> {
    let mut output = File::create(file).map_err(Error::io("create", file))?;
    let mut hash = Sha512::new();
    while let Some(piece) = response.chunk().await.map_err(archive_error)? {
        hash.update(&piece);
        output.write_all(&piece).map_err(Error::io("write", file))?;
    }
    Ok(hex(&hash.finalize()))
}

/// Unpacks the servers and nothing else, whatever paths they have in the archive.
fn unpack(archive: &Path, folder: &Path, cache: &Path) -> Result<(), Error> {
    let wanted = [Binary::Etcd, Binary::ApiServer];
    let file = File::open(archive).map_err(Error::io("open", archive))?;
    let mut entries = tar::Archive::new(GzDecoder::new(file));
    for entry in entries.entries().map_err(Error::io("read", archive))? {
        let mut entry = entry.map_err(Error::io("read", archive))?;
        let path = entry.path().map_err(Error::io("read", archive))?;
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(binary) = wanted.into_iter().find(|binary| Some(binary.file_name()) == name) else {
            continue;
        };
        let target = folder.join(binary.file_name());
        entry.unpack(&target).map_err(Error::io("unpack", &target))?;
        fs::set_permissions(&target, Permissions::from_mode(0o755))
            .map_err(Error::io("make executable", &target))?;
    }
    for binary in wanted {
        publish(&folder.join(binary.file_name()), cache, binary.file_name())?;
    }
    Ok(())
}

/// The archive of exactly this version, or else of the newest patch of its minor version. The project rarely publishes
/// more than one archive for a minor version.
fn choose(index: &Index, version: &str) -> Option<Archive> {
    let archive = |version: &str| {
        let name = format!("envtest-{version}-{}.tar.gz", platform());
        index.releases.get(version)?.get(&name).cloned()
    };
    archive(version).or_else(|| {
        let (minor, _) = version.rsplit_once('.')?;
        let mut patches: Vec<u32> = index
            .releases
            .keys()
            .filter_map(|key| key.strip_prefix(minor)?.strip_prefix('.')?.parse().ok())
            .collect();
        patches.sort_unstable();
        patches.into_iter().rev().find_map(|patch| archive(&format!("{minor}.{patch}")))
    })
}

/// This platform, by its name in Go.
fn platform() -> String {
    let os = match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    };
    format!("{os}-{architecture}")
}

#[cfg(test)]
#[path = "download_tests.rs"]
mod tests;
