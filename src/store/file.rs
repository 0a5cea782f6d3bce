//! The file of a store: checks that a path can hold a store, locks the file, and detects that it was deleted or replaced while
//! it is open. Every error contains the path and the reason. The checks create no files that remain.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The data that is written to check for free space.
const SPACE_CHECK: [u8; 4096] = [1; 4096];

/// Number of bytes that are copied at a time.
const COPY_CHUNK: usize = 1024 * 1024;
/// The space that a copy leaves on the disk for the store.
const MIN_SPACE: u64 = 64 * 1024 * 1024;

/// Why a store was not copied.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CopyError {
    /// The disk has too little space.
    DiskFull(String),
    Failed(String),
}

/// The file of an open store.
#[derive(Debug)]
pub(super) struct OpenFile {
    path: PathBuf,
    /// For copies. If a process closes any of its handles of a file, all its POSIX locks of the file end, those of SQLite too. So this
    /// one stays open.
    file: File,
    device: u64,
    inode: u64,
    /// Why the path does not name the opened file, according to the last check.
    file_error: Mutex<Option<String>>,
}

/// The lock of a store. Prevents that another gateway opens the store, or a new file at its path after the file was deleted.
/// The lock of SQLite covers only the file itself.
#[derive(Clone, Debug)]
pub(super) struct FileLock(Arc<Mutex<Option<(File, PathBuf)>>>);

impl OpenFile {
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let found = fs::metadata(path)?;
        Ok(Self {
            // Absolute, so that it stays valid if the process changes its working directory.
            path: std::path::absolute(path)?,
            file: File::open(path)?,
            device: found.dev(),
            inode: found.ino(),
            file_error: Mutex::default(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Copies the file into a file without a name in the same directory. Nothing may write to the file meanwhile. Returns the copy and
    /// its length.
    pub(super) fn copy(&self, is_cancelled: impl Fn() -> bool) -> Result<(File, u64), CopyError> {
        let directory = directory_of(&self.path);
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                CopyError::DiskFull(unwritable_directory(directory, &error))
            }
            _ => CopyError::Failed(format!("copying {} failed: {error}", self.path.display())),
        };
        let length = self.file.metadata().map_err(failed)?.len();
        let space = rustix::fs::statvfs(directory).map_err(|error| failed(error.into()))?;
        check_space(directory, length, space.f_bavail.saturating_mul(space.f_frsize))?;
        let mut copy = tempfile::tempfile_in(directory).map_err(failed)?;
        let mut chunk = vec![0; COPY_CHUNK];
        let mut copied = 0;
        while copied < length {
            if is_cancelled() {
                return Err(CopyError::Failed("the copy was interrupted".to_owned()));
            }
            let most = usize::try_from(length - copied).map_or(COPY_CHUNK, |rest| rest.min(COPY_CHUNK));
            let read = self.file.read_at(&mut chunk[..most], copied).map_err(failed)?;
            if read == 0 {
                return Err(failed(io::ErrorKind::UnexpectedEof.into()));
            }
            copy.write_all(&chunk[..read]).map_err(failed)?;
            copied += read as u64;
        }
        copy.rewind().map_err(failed)?;
        Ok((copy, length))
    }

    /// Returns why the path does not name the opened file, according to the last check.
    pub(super) fn file_error(&self) -> Option<String> {
        self.file_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Checks that the path still names the opened file, and that its directory has free space.
    pub(super) fn check(&self) -> Result<(), String> {
        let error = self.find_file_error();
        *self.file_error.lock().unwrap_or_else(PoisonError::into_inner) = error.clone();
        match error {
            Some(error) => Err(error),
            None => check_free_space(directory_of(&self.path)),
        }
    }

    fn find_file_error(&self) -> Option<String> {
        let name = self.path.display();
        match fs::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) != (self.device, self.inode) => Some(format!(
                "{name} was replaced by another file while the gateway had it open; restart the gateway"
            )),
            Ok(found) if found.nlink() == 0 => Some(deleted(&self.path)),
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(deleted(&self.path)),
            Err(error) => Some(format!("{name} cannot be accessed: {error}")),
        }
    }
}

/// Fails if a copy would leave the store too little space for its own writes.
fn check_space(directory: &Path, length: u64, available: u64) -> Result<(), CopyError> {
    let needed = length.saturating_add(MIN_SPACE);
    if available >= needed {
        return Ok(());
    }
    let mebibytes = |bytes: u64| bytes.div_ceil(1024 * 1024);
    Err(CopyError::DiskFull(format!(
        "the disk of the directory {} has {} MiB free; a copy of the store needs {} MiB",
        directory.display(),
        available / (1024 * 1024),
        mebibytes(needed)
    )))
}

fn deleted(path: &Path) -> String {
    format!(
        "{} was deleted or renamed while the gateway had it open; restore it if possible, and restart the gateway",
        path.display()
    )
}

impl FileLock {
    /// Locks the store in this file. Returns `None` if another process has locked it.
    pub(super) fn lock(path: &Path) -> Result<Option<Self>, String> {
        // The real path, so that all paths of a file have the same lock. The file may not exist yet.
        let real = path.canonicalize().or_else(|_| {
            let directory = directory_of(path).canonicalize()?;
            Ok(directory.join(path.file_name().unwrap_or_default()))
        });
        let mut name = real
            .map_err(|error: io::Error| unwritable_file(path, false, &error))?
            .into_os_string();
        name.push("-lock");
        let lock_path = PathBuf::from(name);
        let opened = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path);
        let file = opened.map_err(|error| unwritable_file(&lock_path, false, &error))?;
        match file.try_lock() {
            // If the file system does not support locks, only the lock of SQLite protects the store.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(Self(Arc::new(Mutex::new(Some((file, lock_path))))))),
            Err(TryLockError::WouldBlock) => Ok(None),
        }
    }

    /// Releases the lock, and deletes its file.
    pub(super) fn release(&self) {
        if let Some((file, lock_path)) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = fs::remove_file(lock_path);
            drop(file);
        }
    }
}

/// Creates the file of a store if it does not exist, with mode 0600. SQLite gives the files beside it the same mode. The mode of
/// existing files that all users can access is changed to 0600.
pub(super) fn create_private(path: &Path) -> Result<(), String> {
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match created {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            for end in ["", "-wal", "-shm", "-journal"] {
                let mut name = path.as_os_str().to_owned();
                name.push(end);
                restrict_access(Path::new(&name));
            }
            Ok(())
        }
        Err(error) => Err(unwritable_file(path, false, &error)),
    }
}

/// Sets the mode to 0600 if all users can access the file. Access of a group is kept.
fn restrict_access(path: &Path) {
    let Ok(found) = fs::metadata(path) else {
        return;
    };
    if found.is_file() && found.mode() & 0o007 != 0 {
        match fs::set_permissions(path, fs::Permissions::from_mode(0o600)) {
            Ok(()) => {
                tracing::info!(path = %path.display(), "file mode set to 0600, because all users could access the file")
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "setting the file mode to 0600 failed; all users can access the file")
            }
        }
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

/// Checks that the file, if there is one, and its directory can be written.
pub(super) fn check(path: &Path) -> Result<(), String> {
    let directory = directory_of(path);
    match fs::metadata(directory) {
        Ok(found) if !found.is_dir() => return Err(format!("{} is not a directory", directory.display())),
        Ok(_) => {}
        Err(error) => return Err(no_directory(directory, &error)),
    }
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(format!("{} is a directory, not a file", path.display())),
        Ok(found) if found.nlink() > 1 => {
            // The files beside it have the same name with a suffix. Under another name the content of -wal would be lost.
            return Err(format!(
                "{} has {} names (hard links); remove all names except one",
                path.display(),
                found.nlink()
            ));
        }
        Ok(found) => {
            let opened = OpenOptions::new().read(true).write(true).open(path);
            opened.map_err(|error| unwritable_file(path, found.permissions().readonly(), &error))?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(unwritable_file(path, false, &error)),
    }
    check_free_space(directory)
}

/// Checks that a file can be written in the directory.
fn check_free_space(directory: &Path) -> Result<(), String> {
    // A file without a name if the system supports it. It is deleted in any case.
    let write = || tempfile::tempfile_in(directory)?.write_all(&SPACE_CHECK);
    write().map_err(|error| unwritable_directory(directory, &error))
}

fn no_directory(directory: &Path, error: &io::Error) -> String {
    let name = directory.display();
    match error.kind() {
        io::ErrorKind::NotFound => format!("the directory {name} does not exist"),
        io::ErrorKind::NotADirectory => format!("the directory {name} does not exist: a part of its path is a file"),
        io::ErrorKind::PermissionDenied => format!("the directory {name} cannot be opened by {}", user()),
        _ => format!("the directory {name} cannot be opened: {error}"),
    }
}

fn unwritable_file(path: &Path, is_readonly: bool, error: &io::Error) -> String {
    let name = path.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied if is_readonly => format!("{name} is read-only"),
        io::ErrorKind::PermissionDenied => format!("{name} cannot be written by {}", user()),
        io::ErrorKind::ReadOnlyFilesystem => format!("{name} is on a read-only file system"),
        _ => format!("{name} cannot be written: {error}"),
    }
}

fn unwritable_directory(directory: &Path, error: &io::Error) -> String {
    let name = directory.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!("the directory {name} cannot be written by {}", user()),
        io::ErrorKind::ReadOnlyFilesystem => format!("the directory {name} is on a read-only file system"),
        io::ErrorKind::StorageFull => format!("the disk of the directory {name} is full"),
        io::ErrorKind::QuotaExceeded => format!("the disk quota of {} is exhausted for the directory {name}", user()),
        _ => format!("no file can be created in the directory {name}: {error}"),
    }
}

/// The user of this process by its number.
fn user() -> String {
    match fs::metadata("/proc/self") {
        Ok(process) => format!("user {}", process.uid()),
        Err(_) => "the user of this process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unusable_path_is_reported_with_the_path_and_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().display();
        fs::write(directory.path().join("file"), "").unwrap();
        fs::create_dir(directory.path().join("sub")).unwrap();
        let error = |name: &str| check(&directory.path().join(name)).unwrap_err();
        assert_eq!(
            error("no/leadgate.db"),
            format!("the directory {root}/no does not exist")
        );
        assert_eq!(error("sub"), format!("{root}/sub is a directory, not a file"));
        assert_eq!(error("file/leadgate.db"), format!("{root}/file is not a directory"));
        assert!(error("file/sub/leadgate.db").contains("a part of its path is a file"));
        let error = check(Path::new("/proc/leadgate.db")).unwrap_err();
        assert!(error.contains("the directory /proc"), "{error}");
    }

    #[test]
    fn a_copy_leaves_space_for_the_store() {
        let error = |length, available| check_space(Path::new("/data"), length, available);
        assert_eq!(error(1000, 1000 + MIN_SPACE), Ok(()));
        let text = "the disk of the directory /data has 63 MiB free; a copy of the store needs 65 MiB";
        assert_eq!(error(1, MIN_SPACE - 1), Err(CopyError::DiskFull(text.to_owned())));
    }

    #[test]
    fn a_deleted_renamed_or_replaced_file_is_detected() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("leadgate.db");
        fs::write(&path, "content").unwrap();
        let open = OpenFile::new(&path).unwrap();
        assert_eq!((open.check(), open.file_error()), (Ok(()), None));
        let aside = directory.path().join("aside");
        fs::rename(&path, &aside).unwrap();
        assert!(open.check().unwrap_err().contains("was deleted or renamed"));
        // A copy is another file.
        fs::copy(&aside, &path).unwrap();
        assert!(open.check().unwrap_err().contains("was replaced by another file"));
        assert!(open.file_error().is_some());
        fs::rename(&aside, &path).unwrap();
        assert_eq!((open.check(), open.file_error()), (Ok(()), None));
        fs::remove_file(&path).unwrap();
        assert!(open.check().is_err());
    }

    #[test]
    fn a_file_with_two_names_is_rejected() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("leadgate.db"), directory.path().join("link.db"));
        fs::write(&path, "").unwrap();
        fs::hard_link(&path, &link).unwrap();
        for path in [&path, &link] {
            assert!(check(path).unwrap_err().contains("has 2 names"));
        }
        fs::remove_file(&link).unwrap();
        check(&path).unwrap();
    }

    #[test]
    fn all_paths_of_a_file_have_one_lock_that_leaves_no_file_behind() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("leadgate.db"), directory.path().join("link.db"));
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let lock = FileLock::lock(&path).unwrap().unwrap();
        assert!(FileLock::lock(&path).unwrap().is_none());
        fs::write(&path, "").unwrap();
        assert!(FileLock::lock(&link).unwrap().is_none());
        fs::remove_file(&path).unwrap();
        assert!(FileLock::lock(&path).unwrap().is_none());
        lock.release();
        assert!(!directory.path().join("leadgate.db-lock").exists());
        FileLock::lock(&path).unwrap().unwrap().release();
    }

    #[test]
    fn a_store_file_is_accessible_only_to_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("leadgate.db");
        let mode = |name: &str| fs::metadata(directory.path().join(name)).unwrap().mode() & 0o777;
        create_private(&path).unwrap();
        assert_eq!(mode("leadgate.db"), 0o600);
        for (before, after) in [(0o644, 0o600), (0o666, 0o600), (0o640, 0o640), (0o600, 0o600)] {
            for name in ["leadgate.db", "leadgate.db-wal"] {
                fs::write(directory.path().join(name), "content").unwrap();
                fs::set_permissions(directory.path().join(name), fs::Permissions::from_mode(before)).unwrap();
            }
            create_private(&path).unwrap();
            assert_eq!([mode("leadgate.db"), mode("leadgate.db-wal")], [after, after]);
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "content");
        assert!(
            create_private(&directory.path().join("no/leadgate.db"))
                .unwrap_err()
                .contains("no/leadgate.db")
        );
    }

    #[test]
    fn a_check_leaves_no_file_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("leadgate.db");
        check(&path).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        fs::write(&path, "content").unwrap();
        check(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "content");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn system_errors_have_plain_texts() {
        use io::ErrorKind as Io;
        let path = Path::new("/data/x.db");
        let file = |kind: Io, is_readonly| unwritable_file(path, is_readonly, &kind.into());
        assert_eq!(file(Io::PermissionDenied, true), "/data/x.db is read-only");
        assert!(file(Io::PermissionDenied, false).starts_with("/data/x.db cannot be written by user "));
        assert!(file(Io::ReadOnlyFilesystem, false).contains("read-only file system"));
        let directory = |kind: Io| unwritable_directory(Path::new("/data"), &kind.into());
        assert!(directory(Io::PermissionDenied).starts_with("the directory /data cannot be written by user "));
        assert!(directory(Io::ReadOnlyFilesystem).contains("read-only file system"));
        assert!(directory(Io::StorageFull).contains("is full"));
        assert!(directory(Io::Other).starts_with("no file can be created in the directory /data"));
        let no = |kind: Io| no_directory(Path::new("/data"), &kind.into());
        assert!(no(Io::PermissionDenied).starts_with("the directory /data cannot be opened by user "));
    }
}
