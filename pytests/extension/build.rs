//! What the Python is that the module is built for: whether by its stable ABI, `Py_LIMITED_API`.

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
}
