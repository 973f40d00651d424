//! Where the testbed keeps what it makes.

use std::env;
use std::path::{Path, PathBuf};

/// The root of the repository this crate was built from, or `FLAMBEAU_ROOT`.
#[must_use]
pub fn repository() -> PathBuf {
    match env::var_os("FLAMBEAU_ROOT") {
        Some(root) => PathBuf::from(root),
        None => {
            let here = Path::new(env!("CARGO_MANIFEST_DIR"));
            here.ancestors().nth(2).unwrap_or(here).to_path_buf()
        }
    }
}

/// Built upstream parts and images, kept from one `up` to the next: `FLAMBEAU_CACHE`, by default
/// `target/testbed-cache`.
#[must_use]
pub fn cache() -> PathBuf {
    env::var_os("FLAMBEAU_CACHE")
        .map_or_else(|| repository().join("target/testbed-cache"), PathBuf::from)
}

/// Everything that belongs to the running testbed: one folder per cluster, logs, `env`.
#[must_use]
pub fn testbed() -> PathBuf {
    repository().join("target/testbed")
}
