//! Container images without a registry: packed with buildah from one static program, handed to each node.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::command::run;
use crate::operator;
use crate::paths;

/// The image of the example applications.
pub const GAMES: &str = "games.flambeau.dev/games:dev";

/// The image whose container holds a pod's namespaces: the same program, asleep.
pub const PAUSE: &str = "games.flambeau.dev/pause:dev";

/// Where the chart has the operator's image from, without a tag.
pub const OPERATOR: &str = "flambeau.dev/operator";

/// How the operator's image is made, for everybody.
const OPERATOR_RECIPE: &str = include_str!("../../../Containerfile");

/// A packed image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// What pods call it.
    pub reference: String,
    /// The archive that containerd imports.
    pub archive: PathBuf,
}

impl Image {
    /// What follows the last colon of the reference.
    #[must_use]
    pub fn tag(&self) -> &str {
        self.reference.rsplit(':').next().unwrap_or_default()
    }
}

/// Packs the images that every node has: the example applications and the pause program.
///
/// # Errors
/// When the program is not built, or buildah fails.
pub fn for_nodes() -> Result<Vec<Image>> {
    let games = paths::repository().join("target/x86_64-unknown-linux-gnu/release/games");
    if !games.exists() {
        bail!("{} is not built yet; run `make games`", games.display());
    }
    Ok(vec![
        pack(&games, GAMES, &["serve"])?,
        pack(&games, PAUSE, &["pause"])?,
    ])
}

/// Packs the operator's image by the recipe that everybody uses. Its tag says what is in it, so that pods start anew when
/// the program did change.
///
/// # Errors
/// When the program is not built, or buildah fails.
pub fn operator() -> Result<Image> {
    let program = operator::program();
    if !program.exists() {
        bail!(
            "{} is not built yet; run `make operator`",
            program.display()
        );
    }
    let content = hash(&program, Sha256::new())?;
    pack_by(&program, &format!("{OPERATOR}:{content}"), OPERATOR_RECIPE)
}

/// Packs a static program into an image that runs it with the given arguments as an unprivileged user.
///
/// # Errors
/// When the program cannot be read, or buildah fails.
pub fn pack(program: &Path, reference: &str, arguments: &[&str]) -> Result<Image> {
    let name = file_name(program)?;
    let command = serde_json::to_string(arguments)?;
    // 65532 is the user that distroless images call nonroot.
    let recipe = format!(
        "FROM scratch\nCOPY {name} /{name}\nUSER 65532:65532\nENTRYPOINT [\"/{name}\"]\nCMD {command}\n"
    );
    pack_by(program, reference, &recipe)
}

fn file_name(program: &Path) -> Result<&str> {
    program
        .file_name()
        .and_then(|name| name.to_str())
        .context("a program without a name")
}

/// Packs a program by a recipe that copies it. The archive is kept under the hash of its content, so an unchanged program
/// is packed once.
fn pack_by(program: &Path, reference: &str, recipe: &str) -> Result<Image> {
    let name = file_name(program)?;
    let mut begun = Sha256::new();
    begun.update(reference);
    begun.update(recipe);
    let digest = hash(program, begun)?;

    let folder = paths::cache().join("images");
    let archive = folder.join(format!("{digest}.tar"));
    if !archive.exists() {
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        build(program, name, recipe, reference, &archive)
            .with_context(|| format!("pack image {reference}"))?;
    }
    Ok(Image {
        reference: reference.to_owned(),
        archive,
    })
}

/// The first 24 digits of the hash of a file, and of what went in before.
fn hash(file: &Path, mut begun: Sha256) -> Result<String> {
    let context = || format!("read {}", file.display());
    let mut content = fs::File::open(file).with_context(context)?;
    io::copy(&mut content, &mut HashWriter(&mut begun)).with_context(context)?;
    let bytes = begun.finalize();
    Ok(bytes
        .iter()
        .take(12)
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

fn build(program: &Path, name: &str, recipe: &str, reference: &str, archive: &Path) -> Result<()> {
    let work = TempDir::with_prefix("flambeau-image-").context("make a temporary folder")?;
    let context = work.path().join("context");
    fs::create_dir(&context).context("create the build folder")?;
    fs::copy(program, context.join(name)).with_context(|| format!("copy {}", program.display()))?;
    fs::write(context.join("Containerfile"), recipe).context("write the Containerfile")?;
    // A store of its own leaves the machine's images alone; vfs needs no mounts.
    let path = |name: &str| work.path().join(name).display().to_string();
    let (store, state, partial) = (path("store"), path("state"), path("image.tar"));
    let common = [
        "--root",
        &store,
        "--runroot",
        &state,
        "--storage-driver",
        "vfs",
    ];
    let context = context.display().to_string();
    let build = [
        "build",
        "--isolation",
        "chroot",
        "--timestamp",
        "0",
        "--tag",
        reference,
        &context,
    ];
    run("buildah", &[&common[..], &build].concat())?;
    let destination = format!("docker-archive:{partial}:{reference}");
    run(
        "buildah",
        &[&common[..], &["push", reference, &destination]].concat(),
    )?;
    // Copied beside its place first: a crash leaves no half archive under the final name.
    let beside = archive.with_extension("partial");
    fs::copy(&partial, &beside).with_context(|| format!("write {}", beside.display()))?;
    fs::rename(&beside, archive).with_context(|| format!("rename to {}", archive.display()))
}

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
