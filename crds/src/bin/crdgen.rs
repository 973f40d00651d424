//! Writes the CustomResourceDefinitions as YAML into a folder, one file a
//! kind: `crdgen FOLDER`; or the API reference, as Markdown:
//! `crdgen --reference FILE`.

use std::{error::Error, ffi::OsString, fs, path::Path};

const USAGE: &str = "usage: crdgen FOLDER, for the CustomResourceDefinitions; crdgen --reference FILE, for the API reference";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match arguments.as_slice() {
        [option, file] if option == "--reference" => write_reference(Path::new(file)),
        [folder] if !folder.as_encoded_bytes().starts_with(b"-") => {
            write_definitions(Path::new(folder))
        }
        _ => Err(USAGE.into()),
    }
}

fn write_definitions(folder: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    for file in flambeau_crds::generate::files()? {
        let path = folder.join(&file.name);
        fs::write(&path, file.text)?;
        println!("{}", path.display());
    }
    Ok(())
}

fn write_reference(file: &Path) -> Result<(), Box<dyn Error>> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(file, flambeau_crds::reference::api())?;
    println!("{}", file.display());
    Ok(())
}
