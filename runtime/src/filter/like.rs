//! Patterns of LIKE: `%` is any stretch of text, `_` one character, `\%` and `\_` those characters themselves.
//!
//! A pattern is cut at each `%` into segments. The first stands at the start, the last at the end, and each between them is found as
//! far left as it fits, once: so no way back is ever tried, and the work is at most the length of the text times that of the pattern.

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    /// What stands between the `%`; never empty, one segment where there is no `%`.
    segments: Vec<Segment>,
}

/// A stretch of a pattern without `%`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Segment {
    pieces: Vec<Piece>,
    /// How many characters it matches.
    characters: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// These characters.
    Text(String),
    /// Any one.
    One,
}

impl Pattern {
    pub(super) fn new(pattern: &str) -> Self {
        let mut segments = vec![];
        let mut segment = Segment::default();
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            match (c, chars.peek()) {
                ('%', _) => segments.push(std::mem::take(&mut segment)),
                ('_', _) => segment.push_one(),
                ('\\', Some(&escaped @ ('%' | '_'))) => {
                    segment.push(escaped);
                    chars.next();
                }
                (other, _) => segment.push(other),
            }
        }
        segments.push(segment);
        Self { segments }
    }

    /// Whether all of the text is as the pattern says.
    pub(super) fn matches(&self, text: &str) -> bool {
        let [first, middle @ .., last] = self.segments.as_slice() else {
            return self.segments.first().and_then(|whole| whole.behind(text)).is_some_and(str::is_empty);
        };
        let Some(mut rest) = first.behind(text) else { return false };
        for segment in middle {
            let Some(behind) = segment.find(rest) else { return false };
            rest = behind;
        }
        last.ends(rest)
    }
}

impl Segment {
    fn push_one(&mut self) {
        self.pieces.push(Piece::One);
        self.characters += 1;
    }

    fn push(&mut self, c: char) {
        if let Some(Piece::Text(text)) = self.pieces.last_mut() {
            text.push(c);
        } else {
            self.pieces.push(Piece::Text(c.to_string()));
        }
        self.characters += 1;
    }

    /// What is left of a text that begins with this segment.
    fn behind<'t>(&self, text: &'t str) -> Option<&'t str> {
        self.pieces.iter().try_fold(text, |rest, piece| match piece {
            Piece::Text(text) => rest.strip_prefix(text.as_str()),
            Piece::One => {
                let mut chars = rest.chars();
                chars.next().map(|_| chars.as_str())
            }
        })
    }

    /// What is left behind the first place where this segment stands.
    fn find<'t>(&self, text: &'t str) -> Option<&'t str> {
        match self.pieces.as_slice() {
            [] => Some(text),
            [Piece::Text(only)] => text.split_once(only.as_str()).map(|(_, behind)| behind),
            _ => text.char_indices().find_map(|(at, _)| self.behind(text.get(at..).unwrap_or_default())),
        }
    }

    /// Whether a text ends with this segment.
    fn ends(&self, text: &str) -> bool {
        let start = match self.characters {
            0 => return true,
            characters => text.char_indices().rev().nth(characters - 1),
        };
        start.and_then(|(at, _)| self.behind(text.get(at..)?)).is_some_and(str::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns() {
        let table = [
            ("", "", true),
            ("", "a", false),
            ("%", "", true),
            ("%%", "a", true),
            ("_", "", false),
            ("_", "é", true),
            ("_", "ab", false),
            ("a%", "abc", true),
            ("%c", "abc", true),
            ("%b%", "abc", true),
            ("a%a", "a", false),
            ("a%a", "aa", true),
            ("%ab", "aab", true),
            ("%_b%_d", "aabccd", true),
            ("%_b%_d", "bd", false),
            ("a%b%c", "acb", false),
            ("_b%", "ab", true),
            ("_b%", "b", false),
            (r"50\%", "50%", true),
            (r"50\%", "501", false),
            (r"a\_b", "a_b", true),
            (r"a\_b", "a-b", false),
            (r"a\b", r"a\b", true),
            (r"a\\%", r"a\%", true),
            (r"\", r"\", true),
            ("%日_語%", "ab日本語cd", true),
            ("ABC", "abc", false),
        ];
        for (pattern, text, matches) in table {
            assert_eq!(Pattern::new(pattern).matches(text), matches, "{text:?} LIKE {pattern:?}");
        }
    }

    #[test]
    fn many_wildcards_cost_no_way_back() {
        // With a way back at each `%` this would be more steps than there are atoms.
        let pattern = Pattern::new(&"%a_".repeat(200));
        assert!(!pattern.matches(&"a".repeat(399)));
        assert!(pattern.matches(&"a".repeat(400)));
    }

    /// What a pattern means, in the plainest way.
    fn means(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], text) => text.is_empty(),
            (['%', rest @ ..], text) => (0..=text.len()).any(|skip| means(rest, &text[skip..])),
            (['\\', escaped @ ('%' | '_'), rest @ ..], [c, text @ ..]) => escaped == c && means(rest, text),
            (['_', rest @ ..], [_, text @ ..]) => means(rest, text),
            ([literal, rest @ ..], [c, text @ ..]) => literal == c && means(rest, text),
            (_, []) => false,
        }
    }

    proptest! {
        #[test]
        fn as_its_meaning(pattern in r"[ab%_\\é]{0,9}", text in r"[ab%_\\é]{0,9}") {
            let (pattern_chars, text_chars) = (pattern.chars().collect::<Vec<_>>(), text.chars().collect::<Vec<_>>());
            prop_assert_eq!(Pattern::new(&pattern).matches(&text), means(&pattern_chars, &text_chars));
        }
    }
}
