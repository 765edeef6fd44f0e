//! Which Python this is built for, as `cfg`s, and where the tests find its library.

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
    pyo3_build_config::add_libpython_rpath_link_args();
}
