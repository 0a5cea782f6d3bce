//! Whether a store can be kept in a file: found out by trying, without leaving anything behind, and told with the path and
//! the reason. And whether the file is still the same while it is open. Knows no database.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// What is written to see whether there is room.
const ROOM: [u8; 4096] = [1; 4096];

/// The file of a store that is open.
#[derive(Debug)]
pub(super) struct OpenFile {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// Why the file is not the one that was opened any more, by the last check.
    lost: Mutex<Option<String>>,
}

/// Keeps other gateways from a store, also from a new file at the same path after the store's own file was deleted. SQLite's
/// own lock is on the file alone.
#[derive(Clone, Debug)]
pub(super) struct Lock(Arc<Mutex<Option<(File, PathBuf)>>>);

impl OpenFile {
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let found = fs::metadata(path)?;
        Ok(Self {
            // Should the process change its working directory.
            path: std::path::absolute(path)?,
            device: found.dev(),
            inode: found.ino(),
            lost: Mutex::default(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Why the file is not the one that was opened any more, by the last check.
    pub(super) fn lost(&self) -> Option<String> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Checks that the path still names the file that was opened, and that there is room in its folder.
    pub(super) fn check(&self) -> Result<(), String> {
        let lost = self.look();
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner) = lost.clone();
        match lost {
            Some(lost) => Err(lost),
            None => check_room(folder_of(&self.path)),
        }
    }

    fn look(&self) -> Option<String> {
        let name = self.path.display();
        match fs::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) != (self.device, self.inode) => Some(format!(
                "{name} was replaced by another file while the gateway had it open; restart the gateway"
            )),
            Ok(found) if found.nlink() == 0 => Some(deleted(&self.path)),
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(deleted(&self.path)),
            Err(error) => Some(format!("{name} cannot be found any more: {error}")),
        }
    }
}

fn deleted(path: &Path) -> String {
    format!(
        "{} was deleted or renamed while the gateway had it open; put it back if you can, and restart the gateway",
        path.display()
    )
}

impl Lock {
    /// Takes the lock of the store in that file; `None` if another process has it.
    pub(super) fn take(path: &Path) -> Result<Option<Self>, String> {
        // The same for every path that leads to the file. There may be no file yet.
        let real = path.canonicalize().or_else(|_| {
            let folder = folder_of(path).canonicalize()?;
            Ok(folder.join(path.file_name().unwrap_or_default()))
        });
        let mut name = real
            .map_err(|error: io::Error| unwritable_file(path, false, &error))?
            .into_os_string();
        name.push("-lock");
        let place = PathBuf::from(name);
        let opened = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&place);
        let file = opened.map_err(|error| unwritable_file(&place, false, &error))?;
        match file.try_lock() {
            // Without such locks in the file system SQLite's own lock has to do.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(Self(Arc::new(Mutex::new(Some((file, place))))))),
            Err(TryLockError::WouldBlock) => Ok(None),
        }
    }

    /// Gives the lock back, and leaves no file behind.
    pub(super) fn release(&self) {
        if let Some((file, place)) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = fs::remove_file(place);
            drop(file);
        }
    }
}

/// Makes the file of a store, empty, if there is none. Nobody but its owner can read it: SQLite gives the files beside it the
/// same mode. Files of older versions that everybody can read are closed to others.
pub(super) fn make_private(path: &Path) -> Result<(), String> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            for end in ["", "-wal", "-shm", "-journal"] {
                let mut name = path.as_os_str().to_owned();
                name.push(end);
                close_to_others(Path::new(&name));
            }
            Ok(())
        }
        Err(error) => Err(unwritable_file(path, false, &error)),
    }
}

/// A group that was given access on purpose keeps it.
fn close_to_others(path: &Path) {
    let Ok(found) = fs::metadata(path) else {
        return;
    };
    if found.is_file() && found.mode() & 0o007 != 0 {
        match fs::set_permissions(path, fs::Permissions::from_mode(0o600)) {
            Ok(()) => tracing::info!(path = %path.display(), "mode set to 0600: everybody could read the file"),
            Err(error) => tracing::warn!(path = %path.display(), %error, "everybody can read the file"),
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Checks that the file, if there is one, and its folder can be written.
pub(super) fn check(path: &Path) -> Result<(), String> {
    let folder = folder_of(path);
    match fs::metadata(folder) {
        Ok(found) if !found.is_dir() => return Err(format!("{} is not a folder", folder.display())),
        Ok(_) => {}
        Err(error) => return Err(no_folder(folder, &error)),
    }
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(format!("{} is a folder, not a file", path.display())),
        Ok(found) if found.nlink() > 1 => {
            // The files beside it go by its name: under another one what is in -wal would be lost.
            return Err(format!(
                "{} has {} names (hard links); remove all names but one",
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
    check_room(folder)
}

/// Checks that a file can be written in the folder.
fn check_room(folder: &Path) -> Result<(), String> {
    // A file without a name where the system has such; it is gone in any case.
    let write = || tempfile::tempfile_in(folder)?.write_all(&ROOM);
    write().map_err(|error| unwritable_folder(folder, &error))
}

fn no_folder(folder: &Path, error: &io::Error) -> String {
    let name = folder.display();
    match error.kind() {
        io::ErrorKind::NotFound => format!("the folder {name} does not exist"),
        io::ErrorKind::NotADirectory => format!("the folder {name} does not exist: a part of its path is a file"),
        io::ErrorKind::PermissionDenied => format!("the folder {name} cannot be opened by {}", user()),
        _ => format!("the folder {name} cannot be opened: {error}"),
    }
}

fn unwritable_file(path: &Path, is_readonly: bool, error: &io::Error) -> String {
    let name = path.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied if is_readonly => format!("{name} is read-only"),
        io::ErrorKind::PermissionDenied => format!("{name} cannot be written by {}", user()),
        io::ErrorKind::ReadOnlyFilesystem => format!("{name} is read-only (its file system is)"),
        _ => format!("{name} cannot be written: {error}"),
    }
}

fn unwritable_folder(folder: &Path, error: &io::Error) -> String {
    let name = folder.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!("the folder {name} cannot be written by {}", user()),
        io::ErrorKind::ReadOnlyFilesystem => format!("the folder {name} is on a read-only file system"),
        io::ErrorKind::StorageFull => format!("the disk of the folder {name} is full"),
        io::ErrorKind::QuotaExceeded => format!("the disk quota of {} is exhausted for the folder {name}", user()),
        _ => format!("no file can be made in the folder {name}: {error}"),
    }
}

/// The user of this process, by number.
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
    fn a_place_where_no_store_can_be_is_told_by_its_path_and_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().display();
        fs::write(folder.path().join("file"), "").unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        let fault = |name: &str| check(&folder.path().join(name)).unwrap_err();
        assert_eq!(fault("no/leadgate.db"), format!("the folder {root}/no does not exist"));
        assert_eq!(fault("sub"), format!("{root}/sub is a folder, not a file"));
        assert_eq!(fault("file/leadgate.db"), format!("{root}/file is not a folder"));
        assert!(fault("file/sub/leadgate.db").contains("a part of its path is a file"));
        let fault = check(Path::new("/proc/leadgate.db")).unwrap_err();
        assert!(fault.contains("the folder /proc"), "{fault}");
    }

    #[test]
    fn a_file_that_was_deleted_renamed_or_replaced_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leadgate.db");
        fs::write(&path, "content").unwrap();
        let open = OpenFile::new(&path).unwrap();
        assert_eq!((open.check(), open.lost()), (Ok(()), None));
        let aside = folder.path().join("aside");
        fs::rename(&path, &aside).unwrap();
        assert!(open.check().unwrap_err().contains("was deleted or renamed"));
        // A copy is another file.
        fs::copy(&aside, &path).unwrap();
        assert!(open.check().unwrap_err().contains("was replaced by another file"));
        assert!(open.lost().is_some());
        fs::rename(&aside, &path).unwrap();
        assert_eq!((open.check(), open.lost()), (Ok(()), None));
        fs::remove_file(&path).unwrap();
        assert!(open.check().is_err());
    }

    #[test]
    fn a_file_with_two_names_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("leadgate.db"), folder.path().join("link.db"));
        fs::write(&path, "").unwrap();
        fs::hard_link(&path, &link).unwrap();
        for path in [&path, &link] {
            assert!(check(path).unwrap_err().contains("has 2 names"));
        }
        fs::remove_file(&link).unwrap();
        check(&path).unwrap();
    }

    #[test]
    fn a_lock_is_one_for_all_paths_to_a_file_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("leadgate.db"), folder.path().join("link.db"));
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let lock = Lock::take(&path).unwrap().unwrap();
        assert!(Lock::take(&path).unwrap().is_none());
        fs::write(&path, "").unwrap();
        assert!(Lock::take(&link).unwrap().is_none());
        fs::remove_file(&path).unwrap();
        assert!(Lock::take(&path).unwrap().is_none());
        lock.release();
        assert!(!folder.path().join("leadgate.db-lock").exists());
        Lock::take(&path).unwrap().unwrap().release();
    }

    #[test]
    fn a_file_is_made_for_its_owner_alone_and_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leadgate.db");
        let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().mode() & 0o777;
        make_private(&path).unwrap();
        assert_eq!(mode("leadgate.db"), 0o600);
        for (before, after) in [(0o644, 0o600), (0o666, 0o600), (0o640, 0o640), (0o600, 0o600)] {
            for name in ["leadgate.db", "leadgate.db-wal"] {
                fs::write(folder.path().join(name), "content").unwrap();
                fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(before)).unwrap();
            }
            make_private(&path).unwrap();
            assert_eq!([mode("leadgate.db"), mode("leadgate.db-wal")], [after, after]);
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "content");
        assert!(
            make_private(&folder.path().join("no/leadgate.db"))
                .unwrap_err()
                .contains("no/leadgate.db")
        );
    }

    #[test]
    fn a_check_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leadgate.db");
        check(&path).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        fs::write(&path, "content").unwrap();
        check(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "content");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn every_reason_of_the_system_is_told_in_plain_words() {
        use io::ErrorKind as Io;
        let path = Path::new("/data/x.db");
        let file = |kind: Io, is_readonly| unwritable_file(path, is_readonly, &kind.into());
        assert_eq!(file(Io::PermissionDenied, true), "/data/x.db is read-only");
        assert!(file(Io::PermissionDenied, false).starts_with("/data/x.db cannot be written by user "));
        assert!(file(Io::ReadOnlyFilesystem, false).starts_with("/data/x.db is read-only"));
        let folder = |kind: Io| unwritable_folder(Path::new("/data"), &kind.into());
        assert!(folder(Io::PermissionDenied).starts_with("the folder /data cannot be written by user "));
        assert!(folder(Io::ReadOnlyFilesystem).contains("read-only file system"));
        assert!(folder(Io::StorageFull).contains("is full"));
        assert!(folder(Io::Other).starts_with("no file can be made in the folder /data"));
        let no = |kind: Io| no_folder(Path::new("/data"), &kind.into());
        assert!(no(Io::PermissionDenied).starts_with("the folder /data cannot be opened by user "));
    }
}
