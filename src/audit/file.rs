//! The file of the audit: each line is one write at its end. The file is opened again when its path names another file.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{Error, ErrorKind, Result, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Target;

/// The mode of a new file: only the user of the process may read it.
const MODE: u32 = 0o600;

/// The file that lines are written to.
pub(super) struct AuditFile {
    target: Target,
    open: Option<OpenFile>,
}

struct OpenFile {
    file: File,
    /// Device and inode. `None` for standard output.
    identity: Option<Identity>,
    /// Whether the last line has no end, because only a part of it was written.
    is_torn: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl AuditFile {
    pub(super) fn new(target: Target) -> Self {
        Self { target, open: None }
    }

    /// Opens the file, unless it is open and its path still names it.
    pub(super) fn reopen(&mut self) -> Result<()> {
        self.current().map(drop)
    }

    /// Appends a line, which includes its end.
    pub(super) fn append(&mut self, line: &[u8]) -> Result<()> {
        let appended = self.current()?.append(line);
        if appended.is_err() && matches!(self.target, Target::File(_)) {
            // The handle may be the reason, for example on a file system that was mounted again.
            self.open = None;
        }
        appended
    }

    fn current(&mut self) -> Result<&mut OpenFile> {
        let is_current = match (&self.open, &self.target) {
            (None, _) => false,
            (Some(_), Target::Stdout) => true,
            (Some(open), Target::File(path)) => {
                let now = std::fs::metadata(path).ok();
                open.identity == now.as_ref().map(Identity::of)
            }
        };
        if !is_current {
            self.open = None;
        }
        match &mut self.open {
            Some(open) => Ok(open),
            closed => Ok(closed.insert(OpenFile::new(&self.target)?)),
        }
    }
}

impl OpenFile {
    fn new(target: &Target) -> Result<Self> {
        let path = match target {
            Target::Stdout => {
                return Ok(Self {
                    file: std::io::stdout().as_fd().try_clone_to_owned()?.into(),
                    identity: None,
                    is_torn: false,
                });
            }
            Target::File(path) => path,
        };
        let file = OpenOptions::new().append(true).create(true).mode(MODE).open(path)?;
        let metadata = file.metadata()?;
        Ok(Self {
            file,
            identity: Some(Identity::of(&metadata)),
            is_torn: metadata.is_file() && !ends_with_line(path, metadata.len()),
        })
    }

    fn append(&mut self, line: &[u8]) -> Result<()> {
        let mut bytes = Vec::new();
        let bytes = match self.is_torn {
            true => {
                bytes.push(b'\n');
                bytes.extend_from_slice(line);
                bytes.as_slice()
            }
            false => line,
        };
        let written = loop {
            match self.file.write(bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                written => break written?,
            }
        };
        self.is_torn = written < bytes.len();
        if self.is_torn {
            self.file.write_all(&bytes[written..])?;
            self.is_torn = false;
        }
        Ok(())
    }
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// Whether the last line of a file has its end. A file that cannot be read is assumed to have it.
fn ends_with_line(path: &Path, length: u64) -> bool {
    let mut last = [b'\n'];
    if let (Some(at), Ok(file)) = (length.checked_sub(1), File::open(path)) {
        let _ = file.read_exact_at(&mut last, at);
    }
    last == [b'\n']
}

/// Checks that the file can be written, or created. Changes nothing.
pub(super) fn check(path: &Path) -> Result<()> {
    match OpenOptions::new().append(true).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        opened => return opened.map(drop),
    }
    let name = path.file_name().ok_or_else(|| Error::from(ErrorKind::IsADirectory))?;
    let mut probe = name.to_owned();
    probe.push(format!(".check-{}", std::process::id()));
    let probe: PathBuf = path.with_file_name(probe);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(&probe)?;
    std::fs::remove_file(&probe)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_new_file_is_private() {
        let folder = folder();
        let path = folder.path().join("audit.jsonl");
        let mut file = AuditFile::new(Target::File(path.clone()));
        file.append(b"1\n").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_renamed_or_deleted_file_is_opened_again() {
        let folder = folder();
        let (path, old) = (folder.path().join("audit.jsonl"), folder.path().join("old"));
        let mut file = AuditFile::new(Target::File(path.clone()));
        file.append(b"1\n").unwrap();
        std::fs::rename(&path, &old).unwrap();
        file.append(b"2\n").unwrap();
        assert_eq!((read(&old).as_str(), read(&path).as_str()), ("1\n", "2\n"));
        std::fs::remove_file(&path).unwrap();
        file.reopen().unwrap();
        assert_eq!(read(&path), "");
        file.append(b"3\n").unwrap();
        assert_eq!(read(&path), "3\n");
        std::fs::rename(&old, &path).unwrap();
        file.append(b"4\n").unwrap();
        assert_eq!(read(&path), "1\n4\n");
    }

    #[test]
    fn a_full_disk_fails_and_recovers() {
        let folder = folder();
        let (path, real) = (folder.path().join("audit.jsonl"), folder.path().join("real"));
        symlink("/dev/full", &path).unwrap();
        let mut file = AuditFile::new(Target::File(path.clone()));
        assert_eq!(file.append(b"1\n").unwrap_err().kind(), ErrorKind::StorageFull);
        std::fs::remove_file(&path).unwrap();
        symlink(&real, &path).unwrap();
        file.append(b"2\n").unwrap();
        assert_eq!(read(&real), "2\n");
    }

    #[test]
    fn a_line_after_an_incomplete_line_begins_on_its_own() {
        let folder = folder();
        let path = folder.path().join("audit.jsonl");
        std::fs::write(&path, "{\"time\":").unwrap();
        let mut file = AuditFile::new(Target::File(path.clone()));
        file.append(b"1\n").unwrap();
        file.append(b"2\n").unwrap();
        assert_eq!(read(&path), "{\"time\":\n1\n2\n");
    }

    #[test]
    fn the_check_leaves_nothing_behind() {
        let folder = folder();
        let path = folder.path().join("audit.jsonl");
        check(&path).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        std::fs::write(&path, "1\n").unwrap();
        check(&path).unwrap();
        assert_eq!(read(&path), "1\n");
        check(folder.path()).unwrap_err();
        check(&folder.path().join("missing/audit.jsonl")).unwrap_err();
        check(Path::new("/")).unwrap_err();
    }
}
