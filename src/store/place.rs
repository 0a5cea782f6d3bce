//! Whether a store can be kept in a file: found out by trying, without leaving anything behind, and told with the path and
//! the reason. Knows no database.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What is written to see whether there is room.
const ROOM: [u8; 4096] = [1; 4096];

/// Checks that the file, if there is one, and its folder can be written.
pub(super) fn check(path: &Path) -> Result<(), String> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    match fs::metadata(folder) {
        Ok(found) if !found.is_dir() => return Err(format!("{} is not a folder", folder.display())),
        Ok(_) => {}
        Err(error) => return Err(no_folder(folder, &error)),
    }
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(format!("{} is a folder, not a file", path.display())),
        Ok(found) => {
            let opened = OpenOptions::new().read(true).write(true).open(path);
            opened.map_err(|error| unwritable_file(path, found.permissions().readonly(), &error))?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(unwritable_file(path, false, &error)),
    }
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
