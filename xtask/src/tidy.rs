//! What people forget: each rule looks at all the files and tells every place that breaks it.

mod manifest;

use std::{collections::BTreeMap, fs, path::Path};

use manifest::{entry, inline, members};

/// The text files of a checkout, by path from its root.
#[derive(Debug, Default)]
pub(crate) struct Files(BTreeMap<String, String>);

/// What is wrong, place by place, or nothing.
type Rule = fn(&Files) -> Vec<String>;

/// Each rule, and what it asks for.
pub(crate) const RULES: [(&str, Rule); 9] = [
    ("tidy: manifests", manifests),
    ("tidy: licences", licences),
    ("tidy: module docs", module_docs),
    ("tidy: unsafe only in core", unsafe_only_in_core),
    ("tidy: changelog", changelog),
    ("tidy: versions", versions),
    ("tidy: versions in docs", versions_in_docs),
    ("tidy: lines", lines),
    ("tidy: no registry hosts", registry_hosts),
];

/// The longest line of Rust.
const WIDTH: usize = 120;

impl Files {
    /// Those of `paths` that are there and hold text.
    pub(crate) fn read<'a>(root: &Path, paths: impl IntoIterator<Item = &'a str>) -> Self {
        let read = |path: &str| Some((path.to_owned(), fs::read_to_string(root.join(path)).ok()?));
        Self(paths.into_iter().filter_map(read).collect())
    }

    fn get(&self, path: &str) -> &str {
        self.0.get(path).map_or("", String::as_str)
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    fn with_extension(&self, extension: &str) -> impl Iterator<Item = (&str, &str)> {
        self.iter().filter(move |(path, _)| Path::new(path).extension().is_some_and(|found| found == extension))
    }

    /// The folders and manifests of the crates that are published.
    fn crates(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().filter_map(|(path, text)| {
            let folder = path.strip_suffix("/Cargo.toml")?;
            let name = folder.strip_prefix("crates/")?;
            (!name.contains('/')).then_some((folder, text))
        })
    }

    fn version(&self) -> Option<&str> {
        entry(self.get("Cargo.toml"), "workspace.package", "version").map(|version| version.trim_matches('"'))
    }
}

/// Every published crate takes its lints, version and edition from the workspace.
fn manifests(files: &Files) -> Vec<String> {
    let mut found = Vec::new();
    for (folder, manifest) in files.crates() {
        for (table, key) in [("lints", "workspace"), ("package", "version.workspace"), ("package", "edition.workspace")]
        {
            if entry(manifest, table, key) != Some("true") {
                found.push(format!("{folder}/Cargo.toml: [{table}] has no `{key} = true`"));
            }
        }
    }
    if files.crates().next().is_none() {
        found.push("crates/: there is no crate".to_owned());
    }
    found
}

/// Every published crate has the texts of its licences, which a package holds only if they are in the crate's folder.
fn licences(files: &Files) -> Vec<String> {
    let mut found = Vec::new();
    for name in ["LICENSE-APACHE", "LICENSE-MIT"] {
        let text = files.get(name);
        if text.is_empty() {
            found.push(format!("{name}: is not there"));
        }
        for (folder, _) in files.crates().filter(|(folder, _)| files.get(&format!("{folder}/{name}")) != text) {
            found
                .push(format!("{folder}/{name}: is not the text of {name}; `ln -s ../../{name} {folder}` makes it so"));
        }
    }
    found
}

/// Every module begins by saying what it is, after a `#!` line and attributes if it has them.
fn module_docs(files: &Files) -> Vec<String> {
    let modules = files.with_extension("rs").filter(|(path, _)| path.split('/').any(|folder| folder == "src"));
    modules
        .filter(|(_, text)| {
            let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("#!"));
            !first.is_some_and(|line| line.starts_with("//!"))
        })
        .map(|(path, _)| format!("{path}: does not begin with `//!`, what the module is"))
        .collect()
}

/// Every published crate but core forbids unsafe code.
fn unsafe_only_in_core(files: &Files) -> Vec<String> {
    files
        .crates()
        .map(|(folder, _)| (folder, format!("{folder}/src/lib.rs")))
        .filter(|(folder, _)| *folder != "crates/core")
        .filter(|(_, root)| !files.get(root).lines().any(|line| line.trim() == "#![forbid(unsafe_code)]"))
        .map(|(_, root)| format!("{root}: has no `#![forbid(unsafe_code)]`"))
        .collect()
}

/// The changelog tells of this version, or of what is to be the next.
fn changelog(files: &Files) -> Vec<String> {
    let version = files.version().unwrap_or("the workspace's version");
    let told = files.get("CHANGELOG.md").lines().filter_map(|line| line.strip_prefix("## [")?.split(']').next());
    if told.into_iter().any(|section| section == "Unreleased" || section == version) {
        Vec::new()
    } else {
        vec![format!("CHANGELOG.md: has neither `## [Unreleased]` nor `## [{version}]`")]
    }
}

/// The crates of the workspace ask for each other at the version that they have, and no other: what is private to them
/// may change in any release.
fn versions(files: &Files) -> Vec<String> {
    let Some(version) = files.version() else {
        return vec!["Cargo.toml: [workspace.package] has no version".to_owned()];
    };
    let exact = format!("={version}");
    members(files.get("Cargo.toml"))
        .filter(|(_, value)| inline(value, "version") != Some(&exact))
        .map(|(name, _)| format!("Cargo.toml: [workspace.dependencies] {name} is not at version \"{exact}\""))
        .collect()
}

/// What a reader copies from a code block asks for this version.
fn versions_in_docs(files: &Files) -> Vec<String> {
    let version = files.version().unwrap_or_default();
    let mut found = Vec::new();
    for (path, text) in files.with_extension("md").filter(|(path, _)| *path != "CHANGELOG.md") {
        let mut in_code = false;
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim_start().starts_with("```") {
                in_code = !in_code;
            }
            let Some((name, value)) = line.split_once('=').filter(|_| in_code) else { continue };
            let value = value.trim();
            let asked = value.strip_prefix('"').and_then(|value| value.split('"').next());
            let Some(asked) = asked.or_else(|| inline(value, "version")) else { continue };
            if name.trim().starts_with("pyo3-await") && !admits(asked, version) {
                found.push(format!("{path}:{number}: asks for {} {asked}, but this is {version}", name.trim()));
            }
        }
    }
    found
}

/// Whether the requirement, such as `0.1`, is `version` or its beginning.
fn admits(requirement: &str, version: &str) -> bool {
    let requirement = requirement.trim_start_matches(['^', '~', '=', ' ']);
    version.strip_prefix(requirement).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// No line ends in blanks, and none of Rust is too long.
fn lines(files: &Files) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in files.iter() {
        let is_rust = path.ends_with(".rs");
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim_end() != line {
                found.push(format!("{path}:{number}: ends in blanks"));
            }
            let width = line.chars().count();
            if is_rust && width > WIDTH {
                found.push(format!("{path}:{number}: has {width} characters, {WIDTH} is the limit"));
            }
        }
    }
    found
}

/// What is written for people binds nobody to one index or mirror.
fn registry_hosts(files: &Files) -> Vec<String> {
    // In parts, so that no search of the sources for such a name stops here.
    let hosts = [
        ["crates", "io"].as_slice(),
        &["pypi", "org"],
        &["pythonhosted", "org"],
        &["debian", "org"],
        &["npmjs", "org"],
    ];
    let hosts = hosts.map(|parts| parts.join("."));
    let mut found = Vec::new();
    for (path, text) in files.with_extension("md") {
        for (number, line) in (1..).zip(text.lines()) {
            for host in hosts.iter().filter(|host| line.contains(*host)) {
                found.push(format!(
                    "{path}:{number}: names {host}; name the package, which every client finds by itself"
                ));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
