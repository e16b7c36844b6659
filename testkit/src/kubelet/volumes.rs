//! The volumes of a pod as folders, and their mounts in the root folder of a container.
//!
//! A volume of Secrets has the layout that the kubelet writes: each visible file is a link through `..data`, which is a
//! link to the folder of one version. Renaming another `..data` over it changes all files at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::core::v1::{Container, KeyToPath, PodSpec, Secret, Volume, VolumeMount};
use kube::ResourceExt as _;

use super::environment::Objects;

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";
/// The mode of files in a Secret volume, unless the volume or the item has another one.
const DEFAULT_MODE: i32 = 0o644;

/// The volumes of one pod.
pub(super) struct Volumes {
    folder: PathBuf,
    volumes: Vec<Volume>,
    written: Mutex<Contents>,
}

/// The contents of Secret volumes, by the name of the volume.
pub(super) type Contents = BTreeMap<String, Content>;

/// The content of a Secret volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    /// By the path in the volume.
    files: BTreeMap<String, File>,
    /// The resourceVersion of each Secret.
    secrets: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct File {
    bytes: Vec<u8>,
    mode: u32,
}

/// One Secret of a volume.
struct Source<'a> {
    secret: &'a str,
    items: Option<&'a [KeyToPath]>,
    optional: bool,
}

impl Volumes {
    /// The volumes of this pod, in this folder, which does not exist yet.
    pub(super) fn new(spec: &PodSpec, folder: PathBuf) -> Self {
        let volumes = spec.volumes.clone().unwrap_or_default();
        Self { folder, volumes, written: Mutex::default() }
    }

    /// Reads the Secrets of every volume. A volume with a missing Secret or entry has a message in place of a content.
    pub(super) async fn read(&self, objects: &Objects) -> (Contents, Vec<String>) {
        let (mut contents, mut failures) = (Contents::new(), Vec::new());
        for volume in &self.volumes {
            let Some((sources, mode)) = sources(volume) else { continue };
            match Content::read(sources, mode, objects).await {
                Ok(content) => drop(contents.insert(volume.name.clone(), content)),
                Err(message) => failures.push(format!("volume `{}`: {message}", volume.name)),
            }
        }
        (contents, failures)
    }

    /// Writes every volume that differs from these contents. A volume without a content stays as it is.
    ///
    /// # Errors
    /// A file or folder can't be written.
    pub(super) fn write(&self, contents: Contents) -> io::Result<()> {
        let mut written = self.written();
        for volume in &self.volumes {
            fs::create_dir_all(self.folder.join(&volume.name))?;
        }
        for (volume, content) in contents {
            if written.get(&volume).is_none_or(|earlier| earlier.files != content.files) {
                write(&self.folder.join(&volume), &content.files)?;
            }
            written.insert(volume, content);
        }
        Ok(())
    }

    /// The contents that the volumes have now.
    pub(super) fn contents(&self) -> Contents {
        self.written().clone()
    }

    fn written(&self) -> MutexGuard<'_, Contents> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Mounts the volumes of a container into its empty root folder: a whole volume as a link, and a `subPath` of a
    /// Secret volume as a copy. Returns the resourceVersion of each Secret that files were copied from.
    ///
    /// # Errors
    /// A message: the volume or the `subPath` does not exist, or a file can't be written.
    pub(super) fn mount(
        &self,
        container: &Container,
        root: &Path,
    ) -> Result<BTreeMap<String, String>, String> {
        let written = self.written();
        let mut copied = BTreeMap::new();
        for mount in container.volume_mounts.iter().flatten() {
            let content = written.get(&mount.name);
            self.mount_one(mount, content.is_some(), root)
                .map_err(|error| format!("can't mount volume `{}`: {error}", mount.name))?;
            if let Some(content) = content.filter(|_| sub_path(mount).is_some()) {
                copied.extend(content.secrets.clone());
            }
        }
        Ok(copied)
    }

    fn mount_one(&self, mount: &VolumeMount, is_of_secrets: bool, root: &Path) -> io::Result<()> {
        let volume = self.folder.join(&mount.name);
        let target = root.join(mount.mount_path.trim_matches('/'));
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        match sub_path(mount) {
            None => symlink(volume, target),
            Some(part) if is_of_secrets => copy(&volume.join(part), &target),
            Some(part) => {
                let part = volume.join(part);
                if !part.exists() {
                    fs::create_dir_all(&part)?;
                }
                symlink(part, target)
            }
        }
    }
}

impl Content {
    async fn read(sources: Vec<Source<'_>>, mode: i32, objects: &Objects) -> Result<Self, String> {
        let mut content = Self::default();
        for source in sources {
            match objects.secret(source.secret).await? {
                Some(secret) => content.add(&source, &secret, mode)?,
                None if source.optional => {}
                None => return Err(format!("secret \"{}\" not found", source.secret)),
            }
        }
        Ok(content)
    }

    fn add(&mut self, source: &Source<'_>, secret: &Secret, mode: i32) -> Result<(), String> {
        let data = secret.data.clone().unwrap_or_default();
        let file = |bytes: Vec<u8>, mode: i32| File { bytes, mode: mode.unsigned_abs() };
        match source.items {
            None => self.files.extend(data.into_iter().map(|(key, value)| (key, file(value.0, mode)))),
            Some(items) => {
                for item in items {
                    match data.get(&item.key) {
                        Some(value) => {
                            let file = file(value.0.clone(), item.mode.unwrap_or(mode));
                            self.files.insert(item.path.clone(), file);
                        }
                        None if source.optional => {}
                        None => {
                            return Err(format!("secret \"{}\" has no key `{}`", source.secret, item.key));
                        }
                    }
                }
            }
        }
        self.secrets.insert(source.secret.to_owned(), secret.resource_version().unwrap_or_default());
        Ok(())
    }
}

/// The Secrets of a volume and the mode of its files; `None` if the volume is of another kind.
fn sources(volume: &Volume) -> Option<(Vec<Source<'_>>, i32)> {
    if let Some(source) = &volume.secret {
        let source = Source {
            secret: source.secret_name.as_deref().unwrap_or_default(),
            items: source.items.as_deref(),
            optional: source.optional == Some(true),
        };
        return Some((vec![source], volume.secret.as_ref()?.default_mode.unwrap_or(DEFAULT_MODE)));
    }
    let projected = volume.projected.as_ref()?;
    let projections = projected.sources.iter().flatten().filter_map(|source| source.secret.as_ref());
    let sources = projections.map(|source| Source {
        secret: &source.name,
        items: source.items.as_deref(),
        optional: source.optional == Some(true),
    });
    Some((sources.collect(), projected.default_mode.unwrap_or(DEFAULT_MODE)))
}

fn sub_path(mount: &VolumeMount) -> Option<&str> {
    mount.sub_path.as_deref().filter(|path| !path.is_empty())
}

/// Writes the files as a new version, makes it the visible one, and removes the earlier version.
fn write(folder: &Path, files: &BTreeMap<String, File>) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let (data, new_data) = (folder.join(DATA), folder.join(NEW_DATA));
    let earlier = fs::read_link(&data).ok();
    let version = tempfile::Builder::new().prefix("..").tempdir_in(folder)?.keep();
    for (path, File { bytes, mode }) in files {
        let path = version.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, bytes)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode))?;
    }
    symlink(version.file_name().unwrap_or_default(), &new_data)?;
    fs::rename(&new_data, &data)?;

    let visible: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &visible {
        let link = folder.join(name);
        if link.symlink_metadata().is_err() {
            symlink(Path::new(DATA).join(name), link)?;
        }
    }
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let is_stale = name.to_str().is_some_and(|name| !name.starts_with("..") && !visible.contains(name));
        if is_stale {
            fs::remove_file(folder.join(name))?;
        }
    }
    match earlier {
        Some(earlier) => fs::remove_dir_all(folder.join(earlier)),
        None => Ok(()),
    }
}

/// Copies a file or a folder, and the files behind links.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() {
        return fs::copy(from, to).map(drop);
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        copy(&from.join(&name), &to.join(&name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(of: &[(&str, &str)]) -> BTreeMap<String, File> {
        let file = |text: &str| File { bytes: text.as_bytes().to_vec(), mode: 0o644 };
        of.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| !name.starts_with(".."));
        names.sort();
        names
    }

    #[test]
    fn a_version_replaces_the_earlier_one_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path().join("volume");
        write(&volume, &files(&[("user", "a"), ("old", "a"), ("tls/key", "a")])).unwrap();
        assert_eq!(names(&volume), ["old", "tls", "user"]);
        let first = fs::read_link(volume.join(DATA)).unwrap();

        write(&volume, &files(&[("user", "b"), ("tls/key", "b")])).unwrap();
        assert_eq!(names(&volume), ["tls", "user"]);
        assert_eq!(fs::read_to_string(volume.join("user")).unwrap(), "b");
        assert_eq!(fs::read_to_string(volume.join("tls/key")).unwrap(), "b");
        assert_ne!(fs::read_link(volume.join(DATA)).unwrap(), first);
        assert!(!volume.join(first).exists());
    }

    #[test]
    fn a_copy_contains_files_and_no_links() {
        let folder = tempfile::tempdir().unwrap();
        let (volume, copied) = (folder.path().join("volume"), folder.path().join("copy"));
        write(&volume, &files(&[("tls/key", "a"), ("tls/certificate", "a")])).unwrap();
        copy(&volume.join("tls"), &copied).unwrap();
        write(&volume, &files(&[("tls/key", "b"), ("tls/certificate", "b")])).unwrap();
        assert_eq!(names(&copied), ["certificate", "key"]);
        assert_eq!(fs::read_to_string(copied.join("key")).unwrap(), "a");
    }
}
