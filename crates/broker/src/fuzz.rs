//! What the fuzz targets of `fuzz/` call, and what replays their seeds and finds as a test. Nothing of it is in a build
//! for use.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;

use crate::config::{BrokerConfig, Durability};
use crate::log::{self, BatchHeader};
use crate::peer::Peer;
use crate::protocol::{self, Outcome};
use crate::sasl::Session;
use crate::state::State;

/// One connection's frames, each behind its length, against a broker that has seen all the inputs before: no bytes
/// may make it panic or answer with a frame that is not as long as it says.
pub fn request(input: &[u8]) {
    static BROKER: OnceLock<(tokio::runtime::Runtime, Arc<State>)> = OnceLock::new();
    let (runtime, state) = BROKER.get_or_init(|| {
        let mut config = BrokerConfig::new(([127, 0, 0, 1], 0).into(), scratch("request"));
        config.segment_bytes = 1 << 20;
        config.limits.partitions_max = 20;
        config.limits.groups_max = 50;
        config.limits.transactions_max = 50;
        // Nothing may wait for another thread.
        config.durability = Durability::Os;
        let address = config.listen;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let state = State::open(config, address);
        (
            runtime.expect("a runtime"),
            Arc::new(state.expect("a new broker's data")),
        )
    });
    let mut rest = input;
    let mut peer = Peer::new("fuzz".to_owned(), Session::new(None));
    while let Some((length, behind)) = rest.split_first_chunk() {
        let length = u32::from_be_bytes(*length) as usize;
        let Some((frame, behind)) = behind.split_at_checked(length) else {
            return;
        };
        rest = behind;
        let handling = protocol::handle(state, &mut peer, Bytes::copy_from_slice(frame));
        // Fetches and joins wait for others, who never come here.
        let handled = runtime.block_on(async { tokio::time::timeout(Duration::from_millis(1), handling).await });
        match handled {
            Ok(Outcome::Answer(answer)) => answer.check(),
            Ok(Outcome::Close(_) | Outcome::Reject(..)) => return,
            Ok(Outcome::Later(_) | Outcome::Silence) | Err(_) => {}
        }
    }
}

/// Bytes as a batch with a good CRC: read as produce, recovery and lookups by time read it.
pub fn records(input: &[u8]) {
    let mut batch = input.to_vec();
    log::seal_first(&mut batch);
    for batch in [input, &batch] {
        let Ok(header) = BatchHeader::check(batch) else {
            continue;
        };
        let _ = log::validate_records(&header, batch);
        log::find_all(&header, batch);
    }
}

/// Bytes as a segment, and as what stands beside it: whatever they are, the log opens, reads, takes a batch, and is the
/// same when opened again.
pub fn segment(input: &[u8]) {
    let dir = scratch("segment");
    log::open_and_compare(&dir, input);
    fs::remove_dir_all(&dir).expect("the scratch folder can be removed");
}

/// A new folder of this process, in memory where the system has such a place.
fn scratch(name: &str) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() {
        memory.to_path_buf()
    } else {
        std::env::temp_dir()
    };
    let thread = format!("{:?}", std::thread::current().id());
    let thread: String = thread.chars().filter(char::is_ascii_digit).collect();
    let dir = parent.join(format!("smartcity-fuzz-{}-{thread}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("the scratch folder can be made");
    dir
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn each_input(target: &str, run: fn(&[u8])) {
        let fuzz = Path::new("fuzz");
        let mut inputs = 0;
        for kind in ["seeds", "regressions"] {
            let Ok(entries) = fs::read_dir(fuzz.join(kind).join(target)) else {
                continue;
            };
            for entry in entries {
                run(&fs::read(entry.unwrap().path()).unwrap());
                inputs += 1;
            }
        }
        assert!(inputs > 0, "no seeds for {target}: run the test `write_the_seeds`");
    }

    #[test]
    fn seeds_and_finds_of_the_request_target() {
        each_input("request", request);
    }

    #[test]
    fn seeds_and_finds_of_the_records_target() {
        each_input("records", records);
    }

    #[test]
    fn seeds_and_finds_of_the_segment_target() {
        each_input("segment", segment);
    }

    /// Not a test: writes the seeds again. `cargo test -p broker --lib -- --ignored write_the_seeds`
    #[test]
    #[ignore = "writes the seeds of the fuzz targets"]
    fn write_the_seeds() {
        let seeds = Path::new("fuzz/seeds");
        let _ = fs::remove_dir_all(seeds);
        let batches = log::sample_batches();
        for (target, inputs) in [
            ("request", protocol::sample_requests(&batches)),
            (
                "records",
                batches
                    .iter()
                    .map(|(name, batch)| (name.clone(), batch.to_vec()))
                    .collect(),
            ),
            ("segment", log::sample_segments(&batches)),
        ] {
            fs::create_dir_all(seeds.join(target)).unwrap();
            for (name, input) in inputs {
                fs::write(seeds.join(target).join(name), input).unwrap();
            }
        }
    }
}
