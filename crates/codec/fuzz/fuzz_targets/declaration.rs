#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| codec_fuzz::targets::declaration(input));
