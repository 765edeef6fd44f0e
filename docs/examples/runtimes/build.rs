//! Where the tests find the library of the Python that they were built for.

fn main() {
    pyo3_build_config::add_libpython_rpath_link_args();
}
