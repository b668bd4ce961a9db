//! What members of a `consumer` group subscribe to, read from the metadata that they join with.

use super::group::Group;

/// Topics that the members of a `consumer` group subscribe to: the first field behind the version in their metadata.
pub(super) fn subscribed_topics(group: &Group) -> Vec<String> {
    let mut topics = Vec::new();
    for member in group.members() {
        let metadata = group.metadata_of(member);
        let mut rest = metadata.get(2..).unwrap_or(&[]);
        let Some((count, after)) = rest.split_first_chunk::<4>() else {
            continue;
        };
        rest = after;
        for _ in 0..i32::from_be_bytes(*count) {
            let Some((length, after)) = rest.split_first_chunk::<2>() else {
                break;
            };
            let Some((name, after)) = after.split_at_checked(i16::from_be_bytes(*length).max(0) as usize) else {
                break;
            };
            topics.push(String::from_utf8_lossy(name).into_owned());
            rest = after;
        }
    }
    topics
}
