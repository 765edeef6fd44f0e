//! As much of TOML as this workspace's manifests use: one entry on each line.

/// The value of `key` in `[table]`.
pub(super) fn entry<'a>(manifest: &'a str, table: &str, key: &str) -> Option<&'a str> {
    entries(manifest, table).find(|(found, _)| *found == key).map(|(_, value)| value)
}

/// The dependencies that are crates of this workspace.
pub(super) fn members(manifest: &str) -> impl Iterator<Item = (&str, &str)> {
    entries(manifest, "workspace.dependencies").filter(|(_, value)| inline(value, "path").is_some())
}

/// The string `key` of the inline table `value`: `{ key = "string", ... }`.
pub(super) fn inline<'a>(value: &'a str, key: &str) -> Option<&'a str> {
    let table = value.strip_prefix('{')?.strip_suffix('}')?;
    let values = table.split(',').filter_map(|pair| pair.split_once('='));
    values
        .map(|(found, value)| (found.trim(), value.trim()))
        .find(|(found, _)| *found == key)?
        .1
        .strip_prefix('"')?
        .strip_suffix('"')
}

/// The keys and values of `[table]`, without comments.
fn entries<'a>(manifest: &'a str, table: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let heading = format!("[{table}]");
    let mut inside = false;
    manifest.lines().filter_map(move |line| {
        let line = line.split('#').next()?.trim();
        if line.starts_with('[') {
            inside = line == heading;
        }
        let (key, value) = line.split_once('=').filter(|_| inside)?;
        Some((key.trim(), value.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = r#"
[package]
version.workspace = true # as all

[workspace.dependencies]
ours = { path = "crates/ours", version = "0.1.0" }
theirs = { version = "1", features = ["path"] }
plain = "2"

[lints]
workspace = true
"#;

    #[test]
    fn entries_are_found_in_their_own_table() {
        assert_eq!(entry(MANIFEST, "package", "version.workspace"), Some("true"));
        assert_eq!(entry(MANIFEST, "lints", "workspace"), Some("true"));
        assert_eq!(entry(MANIFEST, "package", "workspace"), None);
        assert_eq!(entry(MANIFEST, "missing", "workspace"), None);
        assert_eq!(entry("", "package", "name"), None);
    }

    #[test]
    fn members_are_those_with_a_path() {
        let members: Vec<_> = members(MANIFEST).map(|(name, _)| name).collect();
        assert_eq!(members, ["ours"]);
    }

    #[test]
    fn inline_tables() {
        let value = entry(MANIFEST, "workspace.dependencies", "ours").unwrap();
        assert_eq!(inline(value, "version"), Some("0.1.0"));
        assert_eq!(inline(value, "features"), None);
        assert_eq!(inline("\"2\"", "version"), None);
        assert_eq!(inline("{ version = 1 }", "version"), None);
    }
}
