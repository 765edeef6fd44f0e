//! Where the tests find the library of the Python that they were built for, and what that Python is.

fn main() {
    pyo3_build_config::add_libpython_rpath_link_args();
    // Whether it is free-threaded: `Py_GIL_DISABLED`.
    pyo3_build_config::use_pyo3_cfgs();
    let version = pyo3_build_config::get().version();
    println!("cargo::rustc-env=BUILT_FOR_PYTHON={}.{}", version.major, version.minor);
}
