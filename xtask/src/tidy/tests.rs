//! Each rule, with a tree that it accepts and trees that it does not.

use xshell::Shell;

use super::*;
use crate::workspace::Workspace;

/// A tree that every rule accepts, with some files replaced or added.
fn tree(changes: &[(&str, &str)]) -> Files {
    let crate_manifest = "[package]\nversion.workspace = true\nedition.workspace = true\n\n[lints]\nworkspace = true\n";
    let workspace = "[workspace.package]\nversion = \"0.1.0\"\n\n[workspace.dependencies]\n\
        ours = { path = \"crates/ours\", version = \"=0.1.0\" }\ntheirs = \"7\"\n";
    let mut files = Files::default();
    for (path, text) in [
        ("Cargo.toml", workspace),
        ("LICENSE-APACHE", "apache\n"),
        ("LICENSE-MIT", "mit\n"),
        ("CHANGELOG.md", "# Changes\n\n## [Unreleased]\n"),
        ("README.md", "# Title\n\n```toml\npyo3-await-tokio = \"0.1\"\n```\n"),
        ("crates/core/Cargo.toml", crate_manifest),
        ("crates/core/LICENSE-APACHE", "apache\n"),
        ("crates/core/LICENSE-MIT", "mit\n"),
        ("crates/core/src/lib.rs", "//! Core.\n"),
        ("crates/tokio/Cargo.toml", crate_manifest),
        ("crates/tokio/LICENSE-APACHE", "apache\n"),
        ("crates/tokio/LICENSE-MIT", "mit\n"),
        ("crates/tokio/src/lib.rs", "//! The adapter.\n\n#![forbid(unsafe_code)]\n"),
    ]
    .iter()
    .chain(changes)
    {
        files.0.insert((*path).to_owned(), (*text).to_owned());
    }
    files
}

#[test]
fn every_rule_accepts_a_tidy_tree() {
    for (name, rule) in RULES {
        assert_eq!(rule(&tree(&[])), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn this_tree_is_the_kind_that_the_rules_are_for() {
    let files = Files::read(&Workspace::find().unwrap().root, ["Cargo.toml", "crates/core/Cargo.toml", "no/such/file"]);
    assert_eq!(files.0.len(), 2);
    assert_eq!(files.version(), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(files.crates().map(|(folder, _)| folder).collect::<Vec<_>>(), ["crates/core"]);
    assert!(members(files.get("Cargo.toml")).any(|(name, _)| name == "pyo3-await-tokio"));
}

#[test]
fn files_that_are_no_text_are_passed_over() {
    let shell = Shell::new().unwrap();
    let directory = shell.create_temp_dir().unwrap();
    shell.write_file(directory.path().join("text"), "text").unwrap();
    shell.write_file(directory.path().join("picture"), [0xff, 0xfe]).unwrap();
    let files = Files::read(directory.path(), ["text", "picture", ""]);
    assert_eq!(files.iter().collect::<Vec<_>>(), [("text", "text")]);
}

#[test]
fn manifests_that_stand_alone() {
    let alone = "[package]\nversion = \"0.1.0\"\nedition.workspace = true\n\n[dependencies]\nworkspace = true\n";
    let found = manifests(&tree(&[("crates/tokio/Cargo.toml", alone)]));
    let expected = [
        "crates/tokio/Cargo.toml: [lints] has no `workspace = true`",
        "crates/tokio/Cargo.toml: [package] has no `version.workspace = true`",
    ];
    assert_eq!(found, expected);
    // Only the manifests of published crates are meant.
    assert_eq!(manifests(&tree(&[("crates/core/tests/outside/Cargo.toml", alone)])), Vec::<String>::new());
    assert_eq!(manifests(&Files::default()), ["crates/: there is no crate"]);
}

#[test]
fn crates_without_their_licences() {
    let found = licences(&tree(&[
        ("crates/core/LICENSE-MIT", "another\n"),
        ("crates/smol/Cargo.toml", ""),
        ("crates/smol/LICENSE-APACHE", "apache\n"),
    ]));
    let complaint = |folder| {
        format!("{folder}/LICENSE-MIT: is not the text of LICENSE-MIT; `ln -s ../../LICENSE-MIT {folder}` makes it so")
    };
    assert_eq!(found, ["crates/core", "crates/smol"].map(complaint));
    let nowhere = ["LICENSE-APACHE: is not there", "LICENSE-MIT: is not there"];
    assert_eq!(licences(&Files::default()), nowhere);
}

#[test]
fn modules_that_do_not_say_what_they_are() {
    let found = module_docs(&tree(&[
        ("crates/core/src/a.rs", "// A comment.\n"),
        ("crates/core/src/b.rs", "use std::fmt;\n\n//! Too late.\n"),
        ("crates/core/src/c.rs", ""),
        ("crates/core/src/d/mod.rs", "#![cfg(unix)]\n//! After an attribute.\n"),
        ("crates/core/tests/e.rs", "fn main() {}\n"),
    ]));
    let says = "does not begin with `//!`, what the module is";
    assert_eq!(found, ["a", "b", "c"].map(|name| format!("crates/core/src/{name}.rs: {says}")));
}

#[test]
fn adapters_that_allow_unsafe_code() {
    let found = unsafe_only_in_core(&tree(&[("crates/tokio/src/lib.rs", "//! x\n// #![forbid(unsafe_code)]\n")]));
    assert_eq!(found, ["crates/tokio/src/lib.rs: has no `#![forbid(unsafe_code)]`"]);
}

#[test]
fn changelogs_that_tell_of_other_versions() {
    let complaint = "CHANGELOG.md: has neither `## [Unreleased]` nor `## [0.1.0]`";
    assert_eq!(changelog(&tree(&[("CHANGELOG.md", "## [0.0.9]\n\n### [Unreleased]\n")])), [complaint]);
    assert_eq!(changelog(&tree(&[("CHANGELOG.md", "## [0.1.0] - 2026-01-01\n")])), Vec::<String>::new());
    assert_eq!(changelog(&tree(&[("CHANGELOG.md", "")])), [complaint]);
}

#[test]
fn crates_that_ask_for_another_version() {
    let workspace = "[workspace.package]\nversion = \"0.2.0\"\n\n[workspace.dependencies]\n\
        a = { path = \"crates/a\", version = \"0.1.0\" }\nb = { path = \"crates/b\" }\n\
        c = { path = \"crates/c\", version = \"0.2.0\" }\nd = { path = \"crates/d\", version = \"=0.2.0\" }\n";
    let complaint = |name| format!("Cargo.toml: [workspace.dependencies] {name} is not at version \"=0.2.0\"");
    assert_eq!(versions(&tree(&[("Cargo.toml", workspace)])), ["a", "b", "c"].map(complaint));
    assert_eq!(versions(&tree(&[("Cargo.toml", "")])), ["Cargo.toml: [workspace.package] has no version"]);
}

#[test]
fn documents_that_ask_for_another_version() {
    let text = "pyo3-await-tokio = \"9\" in prose\n\n```toml\npyo3-await = \"0.2\"\nserde = \"1\"\n\
        pyo3-await-tokio = { version = \"0.1.0\", features = [\"testing\"] }\n\
        pyo3-await-smol = { version = \"0.10\" }\npyo3-await-x = { path = \"x\" }\n```\n";
    let expected = [
        "docs/guide.md:4: asks for pyo3-await 0.2, but this is 0.1.0",
        "docs/guide.md:7: asks for pyo3-await-smol 0.10, but this is 0.1.0",
    ];
    assert_eq!(versions_in_docs(&tree(&[("docs/guide.md", text)])), expected);
}

#[test]
fn requirements() {
    for (requirement, admitted) in
        [("0.1", true), ("0.1.0", true), ("=0.1.0", true), ("0", true), ("0.10", false), ("0.1.1", false), ("1", false)]
    {
        assert_eq!(admits(requirement, "0.1.0"), admitted, "{requirement}");
    }
}

#[test]
fn lines_that_are_too_long_or_end_in_blanks() {
    let long = format!("{}\n{}\n", "é".repeat(WIDTH), "é".repeat(WIDTH + 1));
    let found = lines(&tree(&[("a.md", "one\ntwo \nthree\t\n"), ("b.rs", &long), ("c.md", &long)]));
    let expected = ["a.md:2: ends in blanks", "a.md:3: ends in blanks", "b.rs:2: has 121 characters, 120 is the limit"];
    assert_eq!(found, expected);
}

#[test]
fn documents_that_name_a_registry() {
    let host = ["pypi", "org"].join(".");
    let text = format!("See docs.rs.\nGet it from https://{host}/project.\n");
    let found = registry_hosts(&tree(&[("docs/guide.md", &text), ("script.py", &text)]));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with(&format!("docs/guide.md:2: names {host}; ")), "{found:?}");
}
