//! Files that hold secrets: read only when nobody else may read them, replaced as a whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::error::{AtPath as _, AuthError};

/// Larger than any file of users, certificates or keys.
pub(crate) const FILE_BYTES_MAX: u64 = 16 << 20;

/// The text of a file that holds secrets.
///
/// # Errors
/// It cannot be read, its group or others may read or write it, or it is larger than 16 MiB.
pub fn read_private(path: &Path) -> Result<String, AuthError> {
    let file = File::open(path).at("read", path)?;
    // Of the file that is open: a path can lead to another one by now.
    let mode = file.metadata().at("read", path)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(AuthError::NotPrivate {
            path: path.to_path_buf(),
            mode,
        });
    }
    let bytes = read_bounded(&file, path)?;
    String::from_utf8(bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
        .at("read", path)
}

/// The bytes of a file that is no secret.
pub(crate) fn read_public(path: &Path) -> Result<Vec<u8>, AuthError> {
    read_bounded(&File::open(path).at("read", path)?, path)
}

fn read_bounded(file: &File, path: &Path) -> Result<Vec<u8>, AuthError> {
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).at("read", path)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(AuthError::TooLarge {
            path: path.to_path_buf(),
            limit: FILE_BYTES_MAX,
        });
    }
    Ok(bytes)
}

/// Writes a file that only its owner may read in place of the old one, by a rename, so that no reader sees half of it.
/// A symbolic link is kept, and what it leads to is replaced.
///
/// # Errors
/// It cannot be written; the old one is unharmed.
pub fn replace_private(path: &Path, text: &str) -> Result<(), AuthError> {
    let target = match fs::canonicalize(path) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_path_buf(),
        Err(error) => return Err(error).at("write", path),
    };
    let fresh = beside(&target);
    let written = write_new(&fresh, text).and_then(|()| fs::rename(&fresh, &target));
    if written.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    written.at("write", path)
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    name.into()
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn what_is_replaced_is_whole_private_and_keeps_its_link() {
        let dir = TempDir::new().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        replace_private(&real, "one").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        replace_private(&link, "two").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(read_private(&real).unwrap(), "two");
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        assert!(replace_private(&dir.path().join("none").join("file"), "x").is_err());
    }

    #[test]
    fn a_file_has_a_largest_size() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("large");
        replace_private(&path, "").unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(FILE_BYTES_MAX + 1).unwrap();
        assert!(matches!(read_private(&path), Err(AuthError::TooLarge { .. })));
        assert!(matches!(read_public(&path), Err(AuthError::TooLarge { .. })));
    }
}
