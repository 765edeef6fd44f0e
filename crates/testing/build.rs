//! Where this crate's own tests, which are Python programs, find Python's library.

fn main() {
    pyo3_build_config::add_libpython_rpath_link_args();
}
