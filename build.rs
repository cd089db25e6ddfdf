//! Regenerates the C header, for those who switched the feature `header` on, and names the shared library.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // The library that cargo links has no versioned symbols (rustc passes a version script of its own), so the one
    // that is installed is linked by the Makefile. This one, for tests and bindings, has the same name at least.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libvuser.so.0");
    #[cfg(feature = "header")]
    header();
}

#[cfg(feature = "header")]
fn header() {
    let root = std::path::PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    println!("cargo:rerun-if-changed=cbindgen.toml");
    println!("cargo:rerun-if-changed=src/capi");
    println!("cargo:rerun-if-changed=src/buf/layout.rs");
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml can be read");
    // The order of the `mod` lines in capi/mod.rs is the order of the header.
    let face = std::fs::read_to_string(root.join("src/capi/mod.rs")).expect("src/capi/mod.rs can be read");
    let files = face.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let mut builder = cbindgen::Builder::new().with_config(config).with_src(root.join("src/buf/layout.rs"));
    for file in files {
        builder = builder.with_src(root.join(format!("src/capi/{file}.rs")));
    }
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it")).join("vuser.h");
    let mut header = Vec::new();
    builder.generate().expect("the C face can be written as a header").write(&mut header);
    let header = String::from_utf8(header).expect("a header is text");
    // cbindgen writes a shifted u64 as a shifted int, which is too short for most flags.
    let header = ["1", "3"].iter().fold(header, |h, n| h.replace(&format!("({n} << "), &format!("(UINT64_C({n}) << ")));
    std::fs::write(&out, header).expect("OUT_DIR can be written to");
    println!("cargo:rustc-env=VUSER_HEADER={}", out.display());
}
