//! Turns `proto/` into Rust and into the descriptor that reflection serves, with protox: no protoc needed.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");

    let root = Path::new("proto");
    let mut files: Vec<PathBuf> = fs::read_dir(root.join("leadgate/v1"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    // The details of errors: no message of ours names them, but clients of reflection look them up.
    files.push(root.join("google/rpc/error_details.proto"));
    files.sort();

    let mut compiler = protox::Compiler::new([root])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(&files)?;

    // Source info becomes the doc comments of the generated code; the descriptor itself is written by protox, because
    // prost-types would drop custom options.
    let descriptors = compiler.file_descriptor_set();
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo names the folder")?);
    fs::write(out.join("descriptor.bin"), compiler.encode_file_descriptor_set())?;

    tonic_prost_build::configure()
        .btree_map(".")
        .extern_path(".google.rpc", "::tonic_types::pb")
        .build_client(true)
        .compile_fds(descriptors)?;
    Ok(())
}
