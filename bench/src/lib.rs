//! What the benchmarks share: the records, and CPU time as the measure.

use std::fs;

/// The benchmark's stream, as `streams/vehicle_data.toml` declares it.
pub const VEHICLE_DATA: &str = include_str!("../../streams/vehicle_data.toml");

/// A `vehicle_data` message in the original's shape, about 290 bytes; the same for the same number.
pub fn vehicle_message(number: u64) -> Vec<u8> {
    let bits = |salt: u64| split_mix(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt);
    let unit = |salt: u64| (bits(salt) >> 11) as f64 / (1_u64 << 53) as f64;
    let (high, low) = (bits(1), bits(2));
    let seconds = number % 86_400;
    format!(
        concat!(
            r#"{{"id":"{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}","device_id":"Vehicle-{:05}","timestamp":"2026-01-01T{:02}:{:02}:{:02}","#,
            r#""location":[{},{}],"speed":{},"direction":"North-East","make":"BMW","model":"C500","year":2024,"fuel_type":"Hybrid"}}"#
        ),
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff,
        bits(3) % 10_000,
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        51.5074 + unit(4),
        -0.1278 - unit(5),
        10.0 + 30.0 * unit(6),
    )
    .into_bytes()
}

fn split_mix(seed: u64) -> u64 {
    let mut bits = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// CPU seconds, user and system, that this process has used so far.
pub fn cpu_seconds() -> f64 {
    // Fields 14 and 15 of /proc/self/stat, in ticks of 10 ms (proc(5)).
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: f64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum();
    ticks / 100.0
}
