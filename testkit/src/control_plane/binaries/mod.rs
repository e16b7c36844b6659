//! Finds the servers' binaries in `$KUBEBUILDER_ASSETS` or in this crate's cache. The cache is filled from the official
//! envtest archive, and with Go if the archive does not contain a binary.

mod build;
mod download;
mod pinned;

use std::{path::PathBuf, sync::Arc};

pub(super) use build::oldest_api_server;

use super::{Error, Progress, Step};
use crate::cache;

/// The index of the archives that the controller-tools project publishes.
pub(super) const ARCHIVE_INDEX: &str =
    "https://raw.githubusercontent.com/kubernetes-sigs/controller-tools/HEAD/envtest-releases.yaml";

/// One of the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Binary {
    Etcd,
    ApiServer,
    ControllerManager,
}

impl Binary {
    const fn file_name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
        }
    }

    /// The envtest archives, and the folders that are made from them, do not contain the controller manager.
    const fn is_in_archives(self) -> bool {
        matches!(self, Self::Etcd | Self::ApiServer)
    }
}

/// The binaries of one plane.
#[derive(Clone, Debug)]
pub(super) struct Binaries {
    pub(super) etcd: PathBuf,
    pub(super) api_server: PathBuf,
    /// Only if the builder requested it.
    pub(super) controller_manager: Option<PathBuf>,
}

/// The sources of binaries.
pub(super) struct Sources {
    /// `$KUBEBUILDER_ASSETS`.
    assets: Option<PathBuf>,
    cache: PathBuf,
    archive_index: String,
    /// The Go tool.
    go: PathBuf,
    progress: Arc<dyn Progress>,
}

impl Sources {
    /// The sources that the environment names.
    pub(super) fn from_environment(
        archive_index: String,
        progress: Arc<dyn Progress>,
    ) -> Result<Self, Error> {
        let cache = cache::folder("control-plane").ok_or(Error::NoCacheDirectory)?;
        Ok(Self {
            assets: std::env::var_os("KUBEBUILDER_ASSETS")
                .filter(|folder| !folder.is_empty())
                .map(PathBuf::from),
            cache: cache.join(pinned::cache_key()),
            archive_index,
            go: PathBuf::from("go"),
            progress,
        })
    }

    /// Finds the binaries, or prepares them, which takes minutes.
    pub(super) async fn find(&self, controller_manager: bool) -> Result<Binaries, Error> {
        let mut wanted = vec![Binary::Etcd, Binary::ApiServer];
        if controller_manager {
            wanted.push(Binary::ControllerManager);
        }
        if !self.missing(&wanted)?.is_empty() {
            self.fill_cache(&wanted).await?;
        }
        Ok(Binaries {
            etcd: self.path(Binary::Etcd)?,
            api_server: self.path(Binary::ApiServer)?,
            controller_manager: controller_manager
                .then(|| self.path(Binary::ControllerManager))
                .transpose()?,
        })
    }

    /// The path of a binary, or the path that it will have once the cache is filled. A folder that the user names must
    /// contain the usual binaries: a silent replacement would test another version than the user meant.
    fn path(&self, binary: Binary) -> Result<PathBuf, Error> {
        if let Some(folder) = &self.assets {
            let path = folder.join(binary.file_name());
            if path.is_file() {
                return Ok(path);
            }
            if binary.is_in_archives() {
                return Err(Error::Assets { folder: folder.clone(), binary: binary.file_name() });
            }
        }
        Ok(self.cache.join(binary.file_name()))
    }

    fn missing(&self, wanted: &[Binary]) -> Result<Vec<Binary>, Error> {
        let mut missing = Vec::new();
        for &binary in wanted {
            if !self.path(binary)?.is_file() {
                missing.push(binary);
            }
        }
        Ok(missing)
    }

    /// Adds the missing binaries to the cache, once for all processes that need them.
    async fn fill_cache(&self, wanted: &[Binary]) -> Result<(), Error> {
        let _lock = cache::lock(&self.cache, "the control plane", &*self.progress).await?;
        let missing = self.missing(wanted)?;
        if missing.iter().any(|binary| binary.is_in_archives()) {
            let version = pinned::kubernetes_version();
            let downloaded =
                download::fetch(&self.archive_index, version, &self.cache, &*self.progress).await;
            if let Err(error) = downloaded {
                self.progress.step(&Step::NoArchive { why: error.to_string() });
            }
        }
        for binary in self.missing(wanted)? {
            build::build(&self.go, binary, &self.cache, &*self.progress).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "find_tests.rs"]
mod tests;
