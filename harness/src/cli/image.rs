//! `portcullis image`: the filter as an OCI image layout, in each form that gateways fetch.
//!
//! | form | for | what it is |
//! |---|---|---|
//! | `docker` | Istio, Envoy Gateway, any registry | a Docker v2 manifest whose last layer is a tar.gz with `plugin.wasm` in it |
//! | `oci` | the same, as OCI | an OCI manifest, likewise |
//! | `artifact` | registries that keep artifacts | an OCI manifest with exactly two layers, one of them the bare module |
//!
//! A fetcher refuses an artifact with one layer, and a tar whose file has another name. The same filter gives the same
//! bytes: times are zero, and nothing tells where it was built.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::engine::EngineArgs;
use crate::report::grouped;

/// The name of the file that fetchers look for.
const FILE: &str = "plugin.wasm";

/// What fetchers accept.
const MOST_BYTES: u64 = 256 << 20;

/// A form of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// Docker v2 manifest
    Docker,
    /// OCI image
    Oci,
    /// OCI artifact of two layers
    Artifact,
}

impl Form {
    const ALL: [Form; 3] = [Form::Docker, Form::Oci, Form::Artifact];

    const fn name(self) -> &'static str {
        match self {
            Form::Docker => "docker",
            Form::Oci => "oci",
            Form::Artifact => "artifact",
        }
    }

    const fn manifest_type(self) -> &'static str {
        match self {
            Form::Docker => "application/vnd.docker.distribution.manifest.v2+json",
            Form::Oci | Form::Artifact => "application/vnd.oci.image.manifest.v1+json",
        }
    }
}

/// What the command line says.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Writes a folder for each form, which `skopeo copy oci:DIR/oci docker://registry.example/portcullis:TAG` or \
    `oras cp --from-oci-layout` sends to a registry.\n\nExit status: 0 if all is written, 1 if not, 2 for a wrong command line."
)]
pub struct Args {
    /// The filter
    #[arg(long, value_name = "FILE.wasm", default_value = EngineArgs::DEFAULT_FILTER)]
    filter: PathBuf,
    /// Which forms [default: all]
    #[arg(long = "form", value_enum)]
    forms: Vec<Form>,
    /// Where to write them
    #[arg(long, short, value_name = "DIR", default_value = "target/image")]
    output: PathBuf,
    /// The image's tag
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    tag: String,
}

/// Runs it.
pub fn run(args: &Args) -> Result<bool> {
    let shown = args.filter.display();
    let size = std::fs::metadata(&args.filter)
        .with_context(|| format!("cannot read the filter {shown} (build it with `make wasm`, or name one with `--filter`)"))?
        .len();
    if size > MOST_BYTES {
        bail!(
            "{shown} has {} bytes, and fetchers accept {MOST_BYTES}",
            grouped(size)
        );
    }
    let module =
        std::fs::read(&args.filter).with_context(|| format!("cannot read the filter {shown}"))?;
    if !module.starts_with(b"\0asm") {
        bail!("{shown} is no WebAssembly module");
    }
    let is_tag = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if args.tag.is_empty() || args.tag.len() > 128 || !args.tag.bytes().all(is_tag) {
        bail!(
            "`{}` is no tag: write letters, digits, `_`, `.` and `-`",
            args.tag
        );
    }
    let forms = match args.forms.as_slice() {
        [] => &Form::ALL[..],
        forms => forms,
    };
    println!("{:<10} sha256:{}", FILE, hex(&module));
    for form in forms {
        let dir = args.output.join(form.name());
        let digest = Layout::new(&dir)?.write(*form, &module, &args.tag)?;
        println!("{:<10} {digest}  {}", form.name(), dir.display());
    }
    Ok(true)
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// A folder of blobs and what points to them.
struct Layout<'d> {
    dir: &'d Path,
}

impl<'d> Layout<'d> {
    fn new(dir: &'d Path) -> Result<Layout<'d>> {
        let cannot = || format!("cannot write {}", dir.display());
        // Blobs of an earlier build would be sent along.
        match std::fs::symlink_metadata(dir.join("oci-layout")) {
            Ok(_) => std::fs::remove_dir_all(dir).with_context(cannot)?,
            Err(_) if dir.exists() && dir.read_dir().with_context(cannot)?.next().is_some() => {
                bail!(
                    "{} is there, and no image layout: name another folder",
                    dir.display()
                )
            }
            Err(_) => {}
        }
        std::fs::create_dir_all(dir.join("blobs/sha256")).with_context(cannot)?;
        Ok(Layout { dir })
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let file = self.dir.join(name);
        std::fs::write(&file, bytes).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Keeps a blob. Returns its descriptor.
    fn blob(&self, media_type: &str, bytes: &[u8]) -> Result<Value> {
        let digest = hex(bytes);
        self.put(&format!("blobs/sha256/{digest}"), bytes)?;
        Ok(
            json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()}),
        )
    }

    /// Writes everything. Returns the digest of the manifest, which is that of the image.
    fn write(&self, form: Form, module: &[u8], tag: &str) -> Result<String> {
        let (config, layers) = match form {
            Form::Artifact => {
                let config = self.blob(
                    "application/vnd.oci.image.config.v1+json",
                    &serde_json::to_vec(&image_config(&[]))?,
                )?;
                let mut content =
                    self.blob("application/vnd.module.wasm.content.layer.v1+wasm", module)?;
                content["annotations"] = json!({"org.opencontainers.image.title": FILE});
                let runtime = json!({"type": "envoy_proxy", "abiVersions": ["v0-541b2c1155fffb15ccde92b8324f3e38f7339ba6"], "config": {}});
                let runtime = self.blob(
                    "application/vnd.module.wasm.config.v1+json",
                    &serde_json::to_vec(&runtime)?,
                )?;
                (config, vec![runtime, content])
            }
            Form::Docker | Form::Oci => {
                let (config_type, layer_type) = match form {
                    Form::Docker => (
                        "application/vnd.docker.container.image.v1+json",
                        "application/vnd.docker.image.rootfs.diff.tar.gzip",
                    ),
                    _ => (
                        "application/vnd.oci.image.config.v1+json",
                        "application/vnd.oci.image.layer.v1.tar+gzip",
                    ),
                };
                let tar = tar(module)?;
                let config = image_config(&[hex(&tar)]);
                (
                    self.blob(config_type, &serde_json::to_vec(&config)?)?,
                    vec![self.blob(layer_type, &gzip(&tar)?)?],
                )
            }
        };
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": form.manifest_type(), "config": config, "layers": layers,
        });
        // Docker's manifests have no annotations.
        if form != Form::Docker {
            manifest["annotations"] = json!({
                "org.opencontainers.image.title": "portcullis",
                "org.opencontainers.image.version": tag,
                "org.opencontainers.image.licenses": env!("CARGO_PKG_LICENSE"),
            });
        }
        let mut image = self.blob(form.manifest_type(), &serde_json::to_vec(&manifest)?)?;
        image["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        let digest = image["digest"].as_str().unwrap_or_default().to_owned();
        let index = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [image],
        });
        self.put("index.json", &serde_json::to_vec(&index)?)?;
        self.put("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(digest)
    }
}

fn image_config(layers: &[String]) -> Value {
    let layers: Vec<String> = layers
        .iter()
        .map(|digest| format!("sha256:{digest}"))
        .collect();
    json!({
        "created": "1970-01-01T00:00:00Z", "architecture": "wasm", "os": "wasi", "config": {},
        "rootfs": {"type": "layers", "diff_ids": layers},
    })
}

fn tar(module: &[u8]) -> Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_size(module.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header, FILE, module)?;
    Ok(builder.into_inner()?)
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = GzBuilder::new()
        .mtime(0)
        .operating_system(255)
        .write(Vec::new(), Compression::best());
    gzip.write_all(bytes)?;
    Ok(gzip.finish()?)
}
