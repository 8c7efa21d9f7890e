//! Which side of a canary a key is on. Pure.
//!
//! A key's point is a hash of the original's name and the key, the same after every restart and on
//! every machine; the canary has the points below its share. So a key never changes sides while the
//! share stays, and where the share grows keys only join.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::plan::Share;

/// Where a key stands, from 0 to 9,999. Stable: canaries that run would change hands.
fn point(original: &str, key: &str) -> u16 {
    let hash = xxh3_64_with_seed(key.as_bytes(), xxh3_64(original.as_bytes()));
    (hash % u64::from(Share::WHOLE)) as u16
}

/// Whether the canary has the key.
pub fn takes(share: Share, original: &str, key: &str) -> bool {
    point(original, key) < share.parts()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, prop_assert, proptest};

    use super::*;

    #[test]
    fn points_are_what_they_were() {
        let points = ["1001", "1002", "a@b.example", ""].map(|key| point("shop", key));
        assert_eq!(points, [7939, 4451, 7697, 6419]);
        assert_ne!(point("shop", "1001"), point("shop-eu", "1001"));
    }

    #[test]
    fn a_share_is_about_that_share() {
        let share = Share::of_ratio(0.1);
        let taken = (0..10_000).filter(|n| takes(share, "shop", &n.to_string())).count();
        assert!((900..1_100).contains(&taken), "{taken} of 10,000");
        let all = |share| (0..1_000).filter(|n| takes(share, "shop", &n.to_string())).count();
        assert_eq!((all(Share::of_ratio(0.0)), all(Share::of_ratio(1.0))), (0, 1_000));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn keys_only_join_a_share_that_grows(
            key in ".{0,12}",
            parts in 0..Share::WHOLE,
            more in 0..Share::WHOLE,
        ) {
            let (small, large) = (Share::of_parts(parts), Share::of_parts(parts.saturating_add(more)));
            prop_assert!(!takes(small, "shop", &key) || takes(large, "shop", &key));
        }
    }
}
