//! Where a person's files lie, as the XDG Base Directory Specification has it.

use std::path::PathBuf;

/// The directory that `variable` names, or else this one in the person's home.
pub(crate) fn directory(variable: &str, in_home: &str) -> Option<PathBuf> {
    let from = |variable: &str| {
        std::env::var_os(variable)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    from(variable).or_else(|| from("HOME").map(|home| home.join(in_home)))
}
