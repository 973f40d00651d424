//! Writes the CustomResourceDefinitions as YAML into a folder, one file a
//! kind: `crdgen FOLDER`.

use std::{error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(
        std::env::args_os()
            .nth(1)
            .ok_or("usage: crdgen FOLDER: name the folder to write to")?,
    );
    fs::create_dir_all(&folder)?;
    for crd in flambeau_crds::all_crds() {
        let path = folder.join(format!("{}.yaml", crd.spec.names.plural));
        let text = serde_yaml::to_string(&crd)?;
        fs::write(
            &path,
            format!(
                "# Generated from the types in crds/src by `make generate`; do not edit.\n{text}"
            ),
        )?;
        println!("{}", path.display());
    }
    Ok(())
}
