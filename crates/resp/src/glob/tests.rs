use super::*;

use proptest::prelude::*;

/// A pattern's element, for the reference.
#[derive(Debug, Clone)]
enum Element {
    Run,
    Any,
    Octet(u8),
    Class {
        negated: bool,
        ranges: Vec<(u8, u8)>,
    },
}

/// Splits a pattern into elements: written apart from the matcher, by index.
fn elements(pattern: &[u8]) -> Vec<Element> {
    let mut elements = Vec::new();
    let mut at = 0;
    while at < pattern.len() {
        match pattern[at] {
            b'*' => elements.push(Element::Run),
            b'?' => elements.push(Element::Any),
            b'\\' if at + 1 < pattern.len() => {
                at += 1;
                elements.push(Element::Octet(pattern[at]));
            }
            b'[' => {
                at += 1;
                let negated = pattern.get(at) == Some(&b'^');
                at += usize::from(negated);
                let mut ranges = Vec::new();
                while at < pattern.len() && pattern[at] != b']' {
                    if pattern[at] == b'\\' && at + 1 < pattern.len() {
                        at += 1;
                        ranges.push((pattern[at], pattern[at]));
                    } else if at + 2 < pattern.len() && pattern[at + 1] == b'-' {
                        let (from, to) = (pattern[at], pattern[at + 2]);
                        ranges.push((from.min(to), from.max(to)));
                        at += 2;
                    } else {
                        ranges.push((pattern[at], pattern[at]));
                    }
                    at += 1;
                }
                elements.push(Element::Class { negated, ranges });
            }
            octet => elements.push(Element::Octet(octet)),
        }
        at += 1;
    }
    elements
}

/// The definition, tried in every way: exponential, for short inputs only.
fn reference(elements: &[Element], text: &[u8]) -> bool {
    let Some((element, rest)) = elements.split_first() else {
        return text.is_empty();
    };
    if matches!(element, Element::Run) {
        return (0..=text.len()).any(|skipped| reference(rest, &text[skipped..]));
    }
    let Some((octet, tail)) = text.split_first() else {
        return false;
    };
    let hit = match element {
        Element::Run | Element::Any => true,
        Element::Octet(wanted) => wanted == octet,
        Element::Class { negated, ranges } => {
            *negated != ranges.iter().any(|(from, to)| (from..=to).contains(&octet))
        }
    };
    hit && reference(rest, tail)
}

/// Goal: the forms that operators write.
#[test]
fn ordinary_patterns() {
    for (pattern, text, expected) in [
        ("*", "", true),
        ("*", "anything", true),
        ("user:*", "user:1", true),
        ("user:*", "use", false),
        ("h?llo", "hello", true),
        ("h?llo", "hllo", false),
        ("h[ae]llo", "hallo", true),
        ("h[^e]llo", "hello", false),
        ("h[a-b]llo", "hbllo", true),
        ("h[b-a]llo", "hbllo", true),
        ("a\\*b", "a*b", true),
        ("a\\*b", "axb", false),
        ("a\\", "a\\", true),
        ("[abc", "c", true),
        ("[", "[", false),
        ("a*b*c", "a--b--b-c", true),
        ("a*b*c", "a--b--b-", false),
        ("", "", true),
        ("", "a", false),
        ("Key", "key", false),
    ] {
        assert_eq!(
            matches(pattern.as_bytes(), text.as_bytes()),
            expected,
            "{pattern} {text}"
        );
    }
    assert!(matches_ignore_case(b"MAX[A-Z]em*", b"maxMEMory"));
}

/// Goal: no exponential blow-up. Method: a pattern that makes naive matchers take 2^40 steps.
#[test]
fn many_stars_stay_cheap() {
    let pattern = b"a*".repeat(1000);
    let text = [b'a'; 999];
    assert!(!matches(&pattern, &text));
    assert!(matches(&pattern, &[b'a'; 1000]));
}

proptest! {
    /// Goal: the matcher is the definition, for all octets that have a meaning.
    #[test]
    fn agrees_with_the_reference(pattern in r"[ab*?\[\]^\\-]{0,9}", text in r"[ab\]^\\-]{0,7}") {
        let expected = reference(&elements(pattern.as_bytes()), text.as_bytes());
        prop_assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected);
    }

    /// Goal: no octets make it panic.
    #[test]
    fn never_panics(pattern: Vec<u8>, text: Vec<u8>) {
        prop_assert!(!matches(&pattern, &text) || matches_ignore_case(&pattern, &text)
            || pattern.contains(&b'['));
    }
}
