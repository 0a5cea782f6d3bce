//! The state file of a command: small JSON that is replaced atomically. Also creates and truncates the files beside it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::NamedTempFile;

/// Reads a state file, if it exists.
pub(super) fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, String> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("reading {} failed: {error}", path.display())),
    };
    let state = serde_json::from_slice(&text);
    state.map(Some).map_err(|_| {
        let name = path.display();
        format!("{name} is not a state file of this command; move it away")
    })
}

/// Replaces a state file, and syncs it to the disk.
pub(super) fn save<T: Serialize>(path: &Path, state: &T) -> Result<(), String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let written = || -> io::Result<()> {
        let mut file = NamedTempFile::with_prefix_in(".leadgate-", folder.unwrap_or(Path::new(".")))?;
        serde_json::to_writer_pretty(&mut file, state)?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    written().map_err(|error| format!("writing {} failed: {error}", path.display()))
}

/// Removes a file, if it exists.
pub(super) fn remove(path: &Path) -> Result<(), String> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("removing {} failed: {error}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Opens a file to append to it, after a number of bytes. Cuts off the rest, which is written again.
pub(super) fn reopen(path: &Path, bytes: u64) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    if file.metadata()?.len() < bytes {
        return Err(io::Error::other("the file is shorter than its state says"));
    }
    file.set_len(bytes)?;
    file.seek(SeekFrom::End(0))?;
    Ok(file)
}

/// Creates a file that only its owner may read, because it holds personal data.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    private().write(true).create_new(true).open(path)
}

/// Returns options that create files which only their owner may read.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// Returns the path with a suffix.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
