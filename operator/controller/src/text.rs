//! Texts of others, at a length that people read and API servers take.

/// What stands for the rest of a text.
const REST: char = '…';

/// Cuts a text to at most so many bytes, and frees what the rest took.
pub fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let end = text.floor_char_boundary(limit.saturating_sub(REST.len_utf8()));
        text.truncate(end);
        text.push(REST);
        text.shrink_to_fit();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_is_cut_in_two_and_no_limit_is_passed() {
        assert_eq!(cut("torch".to_owned(), 5), "torch");
        assert_eq!(cut("torches".to_owned(), 6), "tor…");
        for limit in 3..20 {
            let shorter = cut("ä".repeat(20), limit);
            assert!(
                shorter.len() <= limit && shorter.ends_with('…'),
                "{shorter}"
            );
        }
    }
}
