//! The clusters that a person is logged in to, in a file that only they read.
//!
//! It is `windlass/config.json` in the person's configuration directory. It is replaced whole and
//! synced, so that it is never half written; programs that change it at once wait for each other.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{DirBuilder, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tempfile::NamedTempFile;
use windlass_api::{client::Address, ids::Namespace};
use windlass_trust::Token;

use crate::{
    error::{Exit, Failure},
    xdg,
};

const FILE: &str = "config.json";

/// The longest name of a context: names of hosts have at most as many characters.
const NAME_LEN_MAX: usize = 253;

/// How a person calls a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Name(String);

/// A string is no name of a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NameError;

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a context's name has letters, digits, `.`, `-`, `_` and `:` only, at most {NAME_LEN_MAX}"
        )
    }
}

impl std::error::Error for NameError {}

impl TryFrom<String> for Name {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b".-_:".contains(&b);
        if (1..=NAME_LEN_MAX).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text))
        } else {
            Err(NameError)
        }
    }
}

impl FromStr for Name {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        s.to_owned().try_into()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A cluster, and as whom to speak to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Site {
    /// Where its server is.
    #[serde(with = "as_text")]
    pub(crate) server: Address,
    /// The certificates of the authorities that are believed, in PEM.
    pub(crate) authorities: String,
    /// What to show there. Absent after a logout.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "reveal",
        deserialize_with = "parse_token"
    )]
    pub(crate) token: Option<Token>,
    /// The namespace to work in. Absent: the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) namespace: Option<Namespace>,
}

mod as_text {
    use super::{Deserialize, Deserializer, Serializer, de, fmt::Display};

    pub(super) fn serialize<S: Serializer>(
        value: &impl Display,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>, T>(deserializer: D) -> Result<T, D::Error>
    where
        T: std::str::FromStr<Err: Display>,
    {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

fn reveal<S: Serializer>(token: &Option<Token>, serializer: S) -> Result<S::Ok, S::Error> {
    token
        .as_ref()
        .map(|token| token.reveal().to_string())
        .serialize(serializer)
}

fn parse_token<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Token>, D::Error> {
    as_text::deserialize(deserializer).map(Some)
}

/// All clusters that a person knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The one that is spoken to unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<Name>,
    #[serde(default)]
    pub(crate) all: BTreeMap<Name, Site>,
}

impl Contexts {
    /// Those that are kept.
    pub(crate) fn read() -> Result<Self, Failure> {
        match path() {
            Ok(path) => read(&path),
            // Without a home, nobody has logged in.
            Err(_) => Ok(Self::default()),
        }
    }

    /// Changes what is kept.
    pub(crate) fn change<T>(
        change: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        change_in(&path()?, change)
    }

    /// One of them.
    pub(crate) fn get(&self, name: &Name) -> Result<&Site, Failure> {
        self.all.get(name).ok_or_else(|| no_such(name))
    }

    /// One of them, to be changed.
    pub(crate) fn get_mut(&mut self, name: &Name) -> Result<&mut Site, Failure> {
        self.all.get_mut(name).ok_or_else(|| no_such(name))
    }

    /// That of the server at `address`; the current one first.
    pub(crate) fn of(&self, address: &Address) -> Option<&Site> {
        let current = self.current.iter().filter_map(|name| self.all.get(name));
        current
            .chain(self.all.values())
            .find(|site| site.server == *address)
    }
}

fn no_such(name: &Name) -> Failure {
    Failure::new(Exit::NotFound, format!("there is no context {name}"))
        .hint("see which there are with `windlass context ls`; `windlass login` makes one")
}

fn path() -> Result<PathBuf, Failure> {
    let config = xdg::directory("XDG_CONFIG_HOME", ".config").ok_or_else(|| {
        Failure::new(
            Exit::Failed,
            "there is no home directory to keep contexts in",
        )
        .hint("name one in HOME or XDG_CONFIG_HOME")
    })?;
    Ok(config.join("windlass").join(FILE))
}

fn cannot(what: &'static str, path: &Path) -> impl Fn(io::Error) -> Failure {
    let path = path.display().to_string();
    move |error| Failure::new(Exit::Failed, format!("cannot {what} {path}: {error}"))
}

fn read(path: &Path) -> Result<Contexts, Failure> {
    let cannot = cannot("read", path);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Contexts::default()),
        Err(error) => return Err(cannot(error)),
    };
    let mode = file.metadata().map_err(&cannot)?.permissions().mode() & 0o777;
    let path = path.display();
    if mode & 0o077 != 0 {
        let detail = format!("{path} can be read by others than its owner (mode {mode:03o})");
        return Err(Failure::new(Exit::Failed, detail).hint(format!(
            "there are tokens in it: make sure that nobody has them, and `chmod 600 {path}`"
        )));
    }
    let text = io::read_to_string(file).map_err(&cannot)?;
    serde_json::from_str(&text).map_err(|error| {
        // Only the place: the error itself may quote a token.
        let (line, column) = (error.line(), error.column());
        let detail = format!("{path} is not understood: line {line}, column {column}");
        Failure::new(Exit::Failed, detail).hint("correct it, or move it away and log in again")
    })
}

fn change_in<T>(
    path: &Path,
    change: impl FnOnce(&mut Contexts) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let cannot = cannot("write", path);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(&cannot)?;
    let directory_file = File::open(directory).map_err(&cannot)?;
    // It is let go of when this is closed.
    directory_file.lock().map_err(&cannot)?;
    let mut contexts = read(path)?;
    let changed = change(&mut contexts)?;
    let text = serde_json::to_string_pretty(&contexts).expect("contexts are valid JSON");
    let write = || {
        // Such a file is its owner's alone from the start.
        let mut file = NamedTempFile::new_in(directory)?;
        writeln!(file, "{text}")?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        directory_file.sync_all()
    };
    write().map_err(cannot)?;
    Ok(changed)
}

#[cfg(test)]
mod tests;
