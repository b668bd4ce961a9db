//! The name that was meant by a misspelt one.

/// The one of `known` that is most like `word`; `None` when none is near enough to be meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let by_distance = known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(word, known), known));
    let (distance, nearest) = by_distance.min()?;
    (distance <= 2 + word.len() / 6).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_enough_is_meant() {
        let known = ["shop.orders", "shop.payments", "gps_data"];
        assert_eq!(nearest("shop.ordres", known), Some("shop.orders"));
        assert_eq!(nearest("gpsdata", known), Some("gps_data"));
        assert_eq!(nearest("weather_data", known), None);
        assert_eq!(nearest("x", []), None);
    }
}
