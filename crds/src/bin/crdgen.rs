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
    for file in flambeau_crds::generate::files()? {
        let path = folder.join(&file.name);
        fs::write(&path, file.text)?;
        println!("{}", path.display());
    }
    Ok(())
}
