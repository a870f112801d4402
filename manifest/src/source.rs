//! Reads manifests from files, folders and standard input.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::error::{Error, Errors};

/// The largest file, in bytes: what the server takes in one request.
pub const FILE_BYTES_MAX: usize = 1 << 20;
/// The most that one call reads, in bytes: a folder of some files of the largest size.
pub const TOTAL_BYTES_MAX: usize = 8 << 20;

const STDIN: &str = "-";
const STDIN_NAME: &str = "<stdin>";
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// A named text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What errors call it.
    pub name: String,
    /// The text.
    pub text: String,
}

/// Reads files, folders (their `*.yaml`, `*.yml` and `*.json`, sorted, without subfolders and
/// without hidden files) and, for `-`, standard input.
///
/// # Errors
/// Everything that cannot be read, with what to do about it.
pub fn load(paths: &[PathBuf]) -> Result<Vec<Source>, Errors> {
    let mut sources = Vec::new();
    let mut errors = Vec::new();
    let mut total = 0;
    for path in paths {
        match expand(path) {
            Err(error) => errors.extend(error.0),
            Ok(files) => {
                for file in files {
                    match read(&file, &mut total) {
                        Ok(source) => sources.push(source),
                        Err(error) => errors.extend(error.0),
                    }
                }
            }
        }
    }
    if paths.iter().filter(|p| p.as_os_str() == STDIN).count() > 1 {
        let help = "name `-` once";
        errors.push(Error::of_source(
            STDIN_NAME,
            "standard input can be read only once",
            help,
        ));
    }
    if errors.is_empty() {
        Ok(sources)
    } else {
        Err(Errors(errors))
    }
}

/// The files that a path stands for.
fn expand(path: &Path) -> Result<Vec<PathBuf>, Errors> {
    if path.as_os_str() == STDIN || !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let name = path.display().to_string();
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(|e| unreadable(&name, &e))? {
        let file = entry.map_err(|e| unreadable(&name, &e))?.path();
        if is_manifest(&file) {
            files.push(file);
        }
    }
    if files.is_empty() {
        let message = "there are no manifests in this folder";
        let help = "it needs a *.yaml, *.yml or *.json file; subfolders are not read";
        return Err(refused(&name, message, help));
    }
    files.sort();
    Ok(files)
}

fn is_manifest(file: &Path) -> bool {
    let extension = file.extension().and_then(|e| e.to_str());
    // Editors leave hidden files behind, like `.#web.yaml`.
    let hidden = file
        .file_name()
        .is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
    extension.is_some_and(|e| EXTENSIONS.contains(&e)) && !hidden && file.is_file()
}

/// Reads one file. `total` counts the bytes of the call.
fn read(path: &Path, total: &mut usize) -> Result<Source, Errors> {
    let (name, bytes) = if path.as_os_str() == STDIN {
        (STDIN_NAME.to_owned(), read_some(io::stdin().lock()))
    } else {
        let bytes = File::open(path).and_then(read_some);
        (path.display().to_string(), bytes)
    };
    let bytes = bytes.map_err(|e| unreadable(&name, &e))?;
    *total += bytes.len();
    if bytes.len() > FILE_BYTES_MAX {
        let message = format!("larger than {} MiB", FILE_BYTES_MAX >> 20);
        let help = "is it a manifest? split it if it is";
        return Err(refused(&name, &message, help));
    }
    if *total > TOTAL_BYTES_MAX {
        let message = format!(
            "together with the files before it larger than {} MiB",
            TOTAL_BYTES_MAX >> 20
        );
        let help = "apply the files in several calls";
        return Err(refused(&name, &message, help));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source { name, text }),
        Err(error) => {
            let good = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..good]
                .iter()
                .filter(|b| **b == b'\n')
                .count()
                + 1;
            let message = format!("line {line} is not UTF-8 text");
            let help = "save it as UTF-8; is it a manifest at all?";
            Err(refused(&name, &message, help))
        }
    }
}

/// At most one byte more than a file may have: enough to tell that it is too large.
fn read_some(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader
        .take(FILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn refused(name: &str, message: &str, help: &str) -> Errors {
    Errors(vec![Error::of_source(name, message, help)])
}

fn unreadable(name: &str, error: &io::Error) -> Errors {
    let (message, help) = match error.kind() {
        io::ErrorKind::NotFound => ("no such file or folder".to_owned(), "check the path"),
        io::ErrorKind::PermissionDenied => (
            "permission denied".to_owned(),
            "check who may read the file",
        ),
        _ => (format!("cannot be read: {error}"), "check the path"),
    };
    refused(name, &message, help)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(paths: &[PathBuf]) -> String {
        let errors = load(paths).unwrap_err().0;
        let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
        lines.join("\n")
    }

    #[test]
    fn a_folder_is_its_manifests_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.yml", "a.yaml", "c.json", "d.txt", ".#a.yaml", "yaml"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        fs::create_dir(folder.path().join("e.yaml")).unwrap();
        let sources = load(&[folder.path().to_owned()]).unwrap();
        let texts: Vec<_> = sources.iter().map(|s| &*s.text).collect();
        assert_eq!(texts, ["a.yaml", "b.yml", "c.json"]);
        assert!(sources[0].name.ends_with("a.yaml"));
    }

    #[test]
    fn what_cannot_be_read_is_told_all_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let huge = folder.path().join("huge.yaml");
        fs::write(&huge, vec![b'#'; FILE_BYTES_MAX + 1]).unwrap();
        let binary = folder.path().join("binary.yaml");
        fs::write(&binary, b"a: b\n\xff").unwrap();
        let told = messages(&[folder.path().join("gone.yaml"), huge, binary]);
        assert!(
            told.contains("gone.yaml: no such file or folder; check the path\n"),
            "{told}"
        );
        assert!(told.contains("huge.yaml: larger than 1 MiB"), "{told}");
        assert!(told.contains("binary.yaml: line 2 is not UTF-8"), "{told}");
    }

    #[test]
    fn a_call_reads_a_bounded_amount() {
        let folder = tempfile::tempdir().unwrap();
        for i in 0..=TOTAL_BYTES_MAX / FILE_BYTES_MAX {
            let file = folder.path().join(format!("{i}.yaml"));
            fs::write(file, vec![b'#'; FILE_BYTES_MAX]).unwrap();
        }
        let told = messages(&[folder.path().to_owned()]);
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(told.contains("8.yaml: together with"), "{told}");
    }
}
