//! Generates Rust code and the descriptor for reflection from `proto/` and `third_party/googleapis`, with protox, so that protoc is not required.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/leadgate");
    println!("cargo:rerun-if-changed=third_party/googleapis");
    // `serve` warns of a binary that is not built to be shipped.
    let opt_level = env::var_os("OPT_LEVEL").ok_or("cargo sets OPT_LEVEL")?;
    println!("cargo:rustc-env=LEADGATE_OPT_LEVEL={}", opt_level.display());
    build_information()?;

    // The files of leadgate, and those of Google that they import.
    let (root, imports) = (Path::new("proto"), Path::new("third_party/googleapis"));
    let mut files: Vec<PathBuf> = fs::read_dir(root.join("leadgate/v1"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    // The details of errors. No message of the API has these types, but clients look them up by reflection.
    files.push(imports.join("google/rpc/error_details.proto"));
    files.sort();

    let mut compiler = protox::Compiler::new([root, imports])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(&files)?;

    // The source info becomes the doc comments of the generated code. protox writes the descriptor, because prost-types would drop
    // custom options.
    let descriptors = compiler.file_descriptor_set();
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out.join("descriptor.bin"), compiler.encode_file_descriptor_set())?;

    tonic_prost_build::configure()
        .btree_map(".")
        .extern_path(".google.rpc", "::tonic_types::pb")
        .build_client(true)
        .compile_fds(descriptors)?;
    Ok(())
}

/// Sets what `leadgate_build_info` shows.
fn build_information() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-env-changed=LEADGATE_COMMIT");
    let commit = env::var_os("LEADGATE_COMMIT").filter(|commit| !commit.is_empty());
    let commit = commit.unwrap_or_else(|| "unknown".into());
    println!("cargo:rustc-env=LEADGATE_COMMIT={}", commit.display());
    let compiler = env::var_os("RUSTC").ok_or("cargo sets RUSTC")?;
    let version = Command::new(compiler).arg("--version").output()?.stdout;
    // Such as `rustc 1.95.0 (59807616e 2026-04-14)`.
    let version = String::from_utf8(version)?;
    let version = version.split_whitespace().nth(1).ok_or("rustc has no version")?;
    println!("cargo:rustc-env=LEADGATE_RUSTC={version}");
    Ok(())
}
