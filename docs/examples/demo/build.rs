//! Lets `rust_program` find the libpython that it was built against.

fn main() {
    // Nothing is added when maturin builds the extension module, which links no libpython.
    pyo3_build_config::add_libpython_rpath_link_args();
}
