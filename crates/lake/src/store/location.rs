//! Where a lake is, as a user writes it: parsed once, so that every command means the same place.
//!
//! A path is a path: nothing in it is decoded, `a%20b`, `a b` and `a\b` are three folders. A `file://` URL is decoded
//! once. In `s3://bucket/prefix` the prefix is the key's own text, as the AWS command line takes it. What this program and
//! others would read as different places is refused, with the way to write it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use object_store::path::Path;
use url::Url;

use crate::LakeError;

/// A folder, or a prefix in a bucket. Displays as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    text: String,
    place: Place,
}

/// What a location names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Folder(PathBuf),
    S3 { bucket: String, prefix: Path },
}

impl Location {
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl FromStr for Location {
    type Err = LakeError;

    /// A folder's path, its `file://` URL, or `s3://bucket/prefix` (`s3a://` is Hadoop's name for the same).
    ///
    /// # Errors
    /// [`LakeError::Location`]: the text names no place, or could be read as more than one.
    fn from_str(text: &str) -> Result<Location, LakeError> {
        let place = place(text).map_err(|why| LakeError::location(text, why))?;
        let text = text.to_owned();
        Ok(Location { text, place })
    }
}

fn place(text: &str) -> Result<Place, String> {
    if text.is_empty() {
        return Err("it is empty; name a folder, or s3://bucket/prefix".to_owned());
    }
    if text.contains('\0') {
        return Err("a path cannot hold a NUL character".to_owned());
    }
    match scheme_and_rest(text) {
        None => Ok(Place::Folder(PathBuf::from(text))),
        Some((scheme, rest)) => match (scheme.to_ascii_lowercase().as_str(), rest.strip_prefix("//")) {
            ("file", Some(_)) => file_url(text),
            ("s3" | "s3a", Some(rest)) => s3_url(rest),
            // A folder of this name would be made where the other was meant.
            (known @ ("file" | "s3" | "s3a"), None) => {
                let slashes = if known == "file" { "///" } else { "//" };
                let rest = rest.trim_start_matches('/');
                Err(format!(
                    "a URL of this scheme has more slashes; write {known}:{slashes}{rest}"
                ))
            }
            (scheme, Some(_)) => Err(format!(
                "{scheme}:// is not supported; name a folder, or s3://bucket/prefix"
            )),
            _ => Ok(Place::Folder(PathBuf::from(text))),
        },
    }
}

/// `scheme:/...`, by the characters that a scheme may have (RFC 3986, section 3.1).
fn scheme_and_rest(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let mut characters = scheme.chars();
    let is_scheme = characters.next().is_some_and(|first| first.is_ascii_alphabetic())
        && characters.all(|character| character.is_ascii_alphanumeric() || "+-.".contains(character));
    (is_scheme && rest.starts_with('/')).then_some((scheme, rest))
}

/// Decoded once. What URL parsers drop or turn into a slash is refused unless it is escaped.
fn file_url(text: &str) -> Result<Place, String> {
    let needs_escape = |character: char| character.is_ascii_control() || "#?\\".contains(character);
    if let Some(character) = text.chars().find(|character| needs_escape(*character)) {
        return Err(format!(
            "{character:?} has another meaning in a URL; write it as %{:02X}, or name the folder by its path",
            u32::from(character)
        ));
    }
    if text.ends_with(' ') {
        return Err("a URL cannot end in a space; write it as %20, or name the folder by its path".to_owned());
    }
    if text.to_ascii_lowercase().contains("%2f") {
        return Err("%2F cannot be told from a slash, which no folder's name holds".to_owned());
    }
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    let folder = url.to_file_path();
    folder
        .map(Place::Folder)
        .map_err(|()| "it does not name a local folder; write file:///path".to_owned())
}

/// The key as it is. A character that URL readers give a meaning of its own would make two lakes of one, or one of two.
fn s3_url(rest: &str) -> Result<Place, String> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err("it names no bucket; write s3://bucket/prefix".to_owned());
    }
    let in_name = |character: char| character.is_ascii_alphanumeric() || ".-_".contains(character);
    if !bucket.chars().all(in_name) {
        return Err(format!(
            "`{bucket}` cannot be a bucket's name; write s3://bucket/prefix, and credentials and endpoint as AWS_* variables"
        ));
    }
    let means_more = |character: char| character.is_ascii_control() || "#?%\\".contains(character);
    if let Some(character) = prefix.chars().find(|character| means_more(*character)) {
        let why = match character {
            '#' => "a URL ends at `#`, so that others would read another prefix",
            '?' => "a URL's path ends at `?`, so that others would read another prefix",
            '%' => "`%` may be itself or the start of an escape; write the characters of the key themselves",
            '\\' => "`\\` is a slash to some and itself to others",
            _ => "control characters are dropped by some programs and kept by others",
        };
        return Err(format!("{why}; choose a prefix without {character:?}"));
    }
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    let mut parts = prefix.split('/');
    if !prefix.is_empty() && parts.clone().any(str::is_empty) {
        return Err("its prefix has two slashes in a row, which some programs make one; write one".to_owned());
    }
    if let Some(dots) = parts.find(|part| matches!(*part, "." | "..")) {
        return Err(format!(
            "`{dots}` is not a folder's name in S3; write the prefix without it"
        ));
    }
    let prefix = Path::parse(prefix).map_err(|error| error.to_string())?;
    let bucket = bucket.to_owned();
    Ok(Place::S3 { bucket, prefix })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(text: &str) -> String {
        match text.parse::<Location>().unwrap().place {
            Place::Folder(folder) => folder.to_str().unwrap().to_owned(),
            Place::S3 { .. } => panic!("{text} is in S3"),
        }
    }

    fn key(text: &str) -> (String, String) {
        match text.parse::<Location>().unwrap().place {
            Place::S3 { bucket, prefix } => (bucket, prefix.to_string()),
            Place::Folder(_) => panic!("{text} is a folder"),
        }
    }

    fn refused(text: &str) -> String {
        text.parse::<Location>().unwrap_err().to_string()
    }

    #[test]
    fn a_path_is_taken_as_it_is() {
        for path in [
            "a b",
            "a%20b",
            "x%2fy",
            "a\\b",
            "a\tb",
            "a\nb",
            "a#b",
            "a?b",
            "a//b",
            "./s3:",
            "a:b",
            "é",
            " lake ",
            "~",
            "data: /x",
            "1s3://x",
            "a b://c",
            "//srv/lake",
        ] {
            assert_eq!(folder(path), path);
        }
    }

    #[test]
    fn a_file_url_is_decoded_once() {
        assert_eq!(folder("file:///srv/a%20b"), "/srv/a b");
        assert_eq!(folder("file:///srv/a%2520b"), "/srv/a%20b");
        assert_eq!(folder("file:///srv/a b"), "/srv/a b");
        assert_eq!(folder("file:///srv/a%5Cb%09c%0A%23%3F"), "/srv/a\\b\tc\n#?");
        assert_eq!(folder("FILE://localhost/srv"), "/srv");
        for (text, says) in [
            ("file:///srv/a#b", "write it as %23"),
            ("file:///srv/a?b", "write it as %3F"),
            ("file:///srv/a\\b", "write it as %5C"),
            ("file:///srv/a\tb", "write it as %09"),
            ("file:///srv/a\n", "write it as %0A"),
            ("file:///srv/a ", "write it as %20"),
            ("file:///srv/a%2Fb", "cannot be told from a slash"),
            ("file://host/srv", "does not name a local folder"),
            ("file:/srv/lake", "write file:///srv/lake"),
        ] {
            assert!(refused(text).contains(says), "{text:?}: {}", refused(text));
        }
    }

    #[test]
    fn a_prefix_in_s3_is_the_keys_own_text() {
        let is = |text, bucket: &str, prefix: &str| assert_eq!(key(text), (bucket.to_owned(), prefix.to_owned()));
        is("s3://city", "city", "");
        is("s3://city/", "city", "");
        is("s3a://city/lake", "city", "lake");
        is("S3://city/a b/é+&=@/", "city", "a b/é+&=@");
        for (text, says) in [
            ("s3:///lake", "it names no bucket"),
            ("s3://", "it names no bucket"),
            ("s3:/city/lake", "write s3://city/lake"),
            ("s3://city/a#b", "without '#'"),
            ("s3://city/a?b", "without '?'"),
            ("s3://city/a%20b", "write the characters of the key themselves"),
            ("s3://city/a\\b", "without '\\\\'"),
            ("s3://city/a\tb", "control characters"),
            ("s3://city/a//b", "two slashes"),
            ("s3://city//a", "two slashes"),
            ("s3://city/a//", "two slashes"),
            ("s3://city/a/../b", "`..` is not a folder's name"),
            ("s3://key:secret@city/a", "cannot be a bucket's name"),
            ("s3://city:9000/a", "cannot be a bucket's name"),
            ("s3://city?x/a", "cannot be a bucket's name"),
        ] {
            assert!(refused(text).contains(says), "{text:?}: {}", refused(text));
        }
    }

    #[test]
    fn what_is_no_place_is_refused_with_what_was_written() {
        assert!(refused("").contains("it is empty"));
        assert!(refused("a\0b").contains("NUL"));
        assert_eq!(
            refused("hdfs://host/lake"),
            "cannot use `hdfs://host/lake` as a lake: hdfs:// is not supported; name a folder, or s3://bucket/prefix"
        );
    }
}
