//! The names of the functions that futures and streams come from.

use std::borrow::Cow;

/// The path of a future's type, from which the names of its function are made when somebody asks.
#[derive(Clone, Copy)]
pub(crate) struct Path(pub(crate) fn() -> &'static str);

impl Path {
    pub(crate) fn of<F>() -> Self {
        Self(std::any::type_name::<F>)
    }

    /// The name of the function in which the future's type was written.
    pub(crate) fn name(self) -> &'static str {
        name(self.0())
    }

    /// The same with its path.
    pub(crate) fn qualified_name(self) -> Cow<'static, str> {
        qualified_name(self.0())
    }
}

/// The full path of the function in which a future's type was written: an async block is a closure of it, and a scope
/// may be around that.
fn function(path: &str) -> &str {
    let scoped = path.strip_prefix("pyo3_await::locals::Scope<").and_then(|path| path.strip_suffix('>'));
    scoped.map_or_else(|| path.trim_end_matches("::{{closure}}"), function)
}

/// The name of the function at the end of a path: its last part, without generic arguments.
fn name(path: &str) -> &str {
    let path = function(path);
    let (mut depth, mut start, mut end) = (0_usize, 0, path.len());
    for (index, byte) in path.bytes().enumerate() {
        match byte {
            b'<' => {
                if depth == 0 && index > start {
                    end = index;
                }
                depth += 1;
            }
            // The arrow of a function's type closes nothing.
            b'>' if index == 0 || path.as_bytes()[index - 1] != b'-' => depth = depth.saturating_sub(1),
            b':' if depth == 0 => (start, end) = (index + 1, path.len()),
            _ => {}
        }
    }
    &path[start..end]
}

/// A path without generic arguments, but for those that say whose method a function is.
fn qualified_name(path: &str) -> Cow<'_, str> {
    let path = function(path);
    if !path.contains('<') {
        return Cow::Borrowed(path);
    }
    let mut qualified = String::with_capacity(path.len());
    let mut depth = 0_usize;
    let mut previous = ':';
    for character in path.chars() {
        match character {
            // At the beginning of a part it is `<Type as Trait>` or `<impl Type>`.
            '<' if depth > 0 || previous != ':' => depth += 1,
            '>' if depth > 0 && previous != '-' => depth -= 1,
            _ if depth == 0 => qualified.push(character),
            _ => {}
        }
        previous = character;
    }
    Cow::Owned(qualified)
}

#[cfg(test)]
mod tests {
    use super::{name, qualified_name};

    #[test]
    fn a_qualified_name_is_a_path_without_arguments() {
        for (path, expected) in [
            ("fetch", "fetch"),
            ("client::fetch::{{closure}}::{{closure}}", "client::fetch"),
            ("client::fetch<i32>", "client::fetch"),
            (std::any::type_name::<crate::Scope<std::future::Ready<u8>>>(), "core::future::ready::Ready"),
            ("client::Client<alloc::string::String>::fetch<fn() -> u8, Vec<u8>>", "client::Client::fetch"),
            ("<client::Client<u8> as client::Fetch<u8>>::fetch", "<client::Client as client::Fetch>::fetch"),
            ("client::<impl client::Fetch for u8>::fetch", "client::<impl client::Fetch for u8>::fetch"),
        ] {
            assert_eq!(qualified_name(path), expected, "{path}");
        }
    }

    #[test]
    fn a_name_is_the_last_part_of_a_path() {
        for (path, expected) in [
            ("fetch", "fetch"),
            ("client::fetch::{{closure}}", "fetch"),
            ("client::fetch", "fetch"),
            ("client::fetch<i32>", "fetch"),
            ("pyo3_await::locals::Scope<client::fetch::{{closure}}>", "fetch"),
            ("client::Client<alloc::string::String>::fetch", "fetch"),
            ("<client::Client as client::Fetch<u8>>::fetch", "fetch"),
            ("futures_util::future::Map<client::fetch, fn(u8) -> client::Page>", "Map"),
            ("", ""),
        ] {
            assert_eq!(name(path), expected, "{path}");
        }
    }
}
