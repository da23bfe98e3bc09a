//! `portcullis image`: what a fetcher of Istio or Envoy Gateway looks for is there, and the same every time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sha2::{Digest, Sha256};

const MODULE: &[u8] = b"\0asm\x01\0\0\0 and what else there is";

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let dir =
            std::env::temp_dir().join(format!("portcullis-image-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Folder(dir)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn image(filter: &Path, output: &Path, more: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .arg("image")
        .args([Path::new("--filter"), filter, Path::new("--output"), output])
        .args(more)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.success(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// A layout as a fetcher reads it; every blob is asked for once.
struct Layout {
    dir: PathBuf,
    asked: BTreeSet<String>,
}

impl Layout {
    /// The blob of a descriptor, which must be as long as it says and have its digest.
    fn blob(&mut self, descriptor: &Value) -> Vec<u8> {
        let digest = descriptor["digest"]
            .as_str()
            .unwrap()
            .strip_prefix("sha256:")
            .unwrap();
        let bytes = std::fs::read(self.dir.join("blobs/sha256").join(digest)).unwrap();
        assert_eq!(bytes.len() as u64, descriptor["size"].as_u64().unwrap());
        let actual: String = Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(actual, digest);
        self.asked.insert(digest.to_owned());
        bytes
    }
}

#[test]
fn each_form_is_what_fetchers_accept() {
    let folder = Folder::new("forms");
    let filter = folder.0.join("filter.wasm");
    std::fs::write(&filter, MODULE).unwrap();
    let out = folder.0.join("image");
    let (is_done, told, complaints) = image(&filter, &out, &["--tag", "1.2.3"]);
    assert!(is_done && complaints.is_empty(), "{complaints}");
    // Again, over the first: the same bytes.
    assert_eq!(
        image(&filter, &out, &["--tag", "1.2.3"]),
        (true, told.clone(), String::new())
    );

    let forms = [
        (
            "docker",
            "application/vnd.docker.distribution.manifest.v2+json",
            "application/vnd.docker.container.image.v1+json",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ),
        (
            "oci",
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.oci.image.layer.v1.tar+gzip",
        ),
        (
            "artifact",
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.module.wasm.content.layer.v1+wasm",
        ),
    ];
    for (form, manifest_type, config_type, layer_type) in forms {
        let dir = out.join(form);
        let read = |name: &str| json(&std::fs::read(dir.join(name)).unwrap());
        assert_eq!(read("oci-layout")["imageLayoutVersion"], "1.0.0");
        let index = read("index.json");
        assert_eq!(
            index["mediaType"],
            "application/vnd.oci.image.index.v1+json"
        );
        let [entry] = index["manifests"].as_array().unwrap().as_slice() else {
            panic!("{index}")
        };
        assert_eq!(entry["mediaType"], manifest_type);
        assert_eq!(
            entry["annotations"]["org.opencontainers.image.ref.name"],
            "1.2.3"
        );
        assert!(told.contains(entry["digest"].as_str().unwrap()), "{told}");
        let mut layout = Layout {
            dir: dir.clone(),
            asked: BTreeSet::new(),
        };
        let manifest = json(&layout.blob(entry));
        assert_eq!(
            (&manifest["schemaVersion"], &manifest["mediaType"]),
            (&2.into(), &manifest_type.into())
        );
        assert_eq!(manifest["config"]["mediaType"], config_type);
        let config = json(&layout.blob(&manifest["config"]));
        let layers = manifest["layers"].as_array().unwrap();
        let last = layers.last().unwrap();
        assert_eq!(last["mediaType"], layer_type);
        let bytes = layout.blob(last);
        if form == "artifact" {
            assert_eq!(layers.len(), 2, "exactly two, or the fetcher refuses it");
            assert_eq!(bytes, MODULE);
            assert_eq!(
                layers[0]["mediaType"],
                "application/vnd.module.wasm.config.v1+json"
            );
            json(&layout.blob(&layers[0]));
        } else {
            assert_eq!(layers.len(), 1);
            let mut tar = Vec::new();
            flate2::read::GzDecoder::new(bytes.as_slice())
                .read_to_end(&mut tar)
                .unwrap();
            let digest: String = Sha256::digest(&tar)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{digest}"));
            let mut archive = tar::Archive::new(tar.as_slice());
            let mut names = Vec::new();
            for file in archive.entries().unwrap() {
                let mut file = file.unwrap();
                names.push(file.path().unwrap().display().to_string());
                let mut content = Vec::new();
                file.read_to_end(&mut content).unwrap();
                assert_eq!(content, MODULE);
            }
            assert_eq!(names, ["plugin.wasm"]);
        }
        let kept = dir.join("blobs/sha256").read_dir().unwrap().count();
        assert_eq!(
            kept,
            layout.asked.len(),
            "nothing is there that nothing points to"
        );
    }
}

#[test]
fn what_is_no_filter_or_no_place_for_one_is_refused() {
    let folder = Folder::new("refused");
    let (filter, text) = (folder.0.join("filter.wasm"), folder.0.join("text"));
    std::fs::write(&filter, MODULE).unwrap();
    std::fs::write(&text, "hello").unwrap();
    let out = folder.0.join("image");
    for (filter, more, want) in [
        (&text, &[][..], "is no WebAssembly module"),
        (&folder.0.join("none"), &[], "build it with `make wasm`"),
        (&filter, &["--tag", "a b"], "`a b` is no tag"),
        (&filter, &["--tag", ""], "is no tag"),
    ] {
        let (is_done, _, complaints) = image(filter, &out, more);
        assert!(!is_done && complaints.contains(want), "{complaints}");
    }
    // A folder of something else stays as it is.
    std::fs::create_dir_all(out.join("oci")).unwrap();
    std::fs::write(out.join("oci/thesis.txt"), "years of work").unwrap();
    let (is_done, _, complaints) = image(&filter, &out, &["--form", "oci"]);
    assert!(
        !is_done && complaints.contains("name another folder"),
        "{complaints}"
    );
    assert!(out.join("oci/thesis.txt").exists());
}
