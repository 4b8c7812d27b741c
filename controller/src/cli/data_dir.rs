//! Where a controller on this machine keeps its files, when nobody says.

use std::ffi::OsString;
use std::path::PathBuf;

/// `$STATE_DIRECTORY` (systemd; the first of several), else `$XDG_DATA_HOME/fieldpost`, else `~/.local/share/fieldpost`.
pub fn default_dir(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    if let Some(state) = set("STATE_DIRECTORY") {
        return std::env::split_paths(&state).next();
    }
    // The XDG base directory specification: a relative path is to be ignored.
    let data = set("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || set("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    data.or_else(home).map(|dir| dir.join("fieldpost"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(variables: &[(&str, &str)], expected: Option<&str>) {
        let lookup = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into());
        assert_eq!(default_dir(lookup), expected.map(PathBuf::from));
    }

    #[test]
    fn systemd_then_xdg_then_home() {
        let all = [("STATE_DIRECTORY", "/s:/t"), ("XDG_DATA_HOME", "/x"), ("HOME", "/h")];
        check(&all, Some("/s"));
        check(&all[1..], Some("/x/fieldpost"));
        check(&all[2..], Some("/h/.local/share/fieldpost"));
        check(&[], None);
    }

    #[test]
    fn empty_and_relative_values_do_not_count() {
        check(&[("STATE_DIRECTORY", ""), ("XDG_DATA_HOME", "x"), ("HOME", "/h")], Some("/h/.local/share/fieldpost"));
    }
}
