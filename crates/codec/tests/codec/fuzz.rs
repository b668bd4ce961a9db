//! The seeds of the fuzz targets (`fuzz/`) and what they have found, against the decoder as it is built for use.

use std::fs;
use std::path::Path;

#[allow(unreachable_pub, reason = "the targets are a crate of their own for cargo fuzz")]
#[path = "../../fuzz/src/targets/mod.rs"]
mod targets;

fn each_input(target: &str, run: fn(&[u8])) {
    let fuzz = Path::new("fuzz");
    let mut inputs = 0;
    for kind in ["seeds", "regressions"] {
        for entry in fs::read_dir(fuzz.join(kind).join(target)).into_iter().flatten() {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            run(&fs::read(path).unwrap());
            inputs += 1;
        }
    }
    assert!(inputs > 0, "no seeds for {target}");
}

#[test]
fn seeds_and_finds_of_the_decode_target() {
    each_input("decode", targets::decode);
}

#[test]
fn seeds_and_finds_of_the_declaration_target() {
    each_input("declaration", targets::declaration);
}
