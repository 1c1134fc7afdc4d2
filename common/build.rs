//! Turns `proto/` into Rust without asking the machine for `protoc`.

use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = "../proto";
    println!("cargo::rerun-if-changed={root}");
    let files = [
        "sinter/types/v1/types.proto",
        "sinter/agent/v1/agent.proto",
        "sinter/admin/v1/admin.proto",
    ];
    let mut compiler = protox::Compiler::new([root])?;
    compiler.include_imports(true).include_source_info(true).open_files(files)?;
    // Reflection and the authorization test read the same descriptors that the code is made from.
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("sinter.bin"), compiler.encode_file_descriptor_set())?;
    // Maps in order: a configuration list is signed over its bytes, so it may have one encoding only.
    tonic_prost_build::configure().btree_map(".").compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
