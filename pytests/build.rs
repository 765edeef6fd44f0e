//! Where the tests find the library of the Python that they were built for, and which Python that is.

fn main() {
    pyo3_build_config::add_libpython_rpath_link_args();
    let version = pyo3_build_config::get().version();
    println!("cargo::rustc-env=BUILT_FOR_PYTHON={}.{}", version.major, version.minor);
}
