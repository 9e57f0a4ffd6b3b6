//! Glob patterns over octets, as KEYS, SCAN and CONFIG GET take them.
//!
//! `*` any run, `?` any octet, `[abc]` `[a-z]` `[^…]` classes, `\` before an octet for itself. A class
//! without end reaches to the end of the pattern. Only the last `*` is ever tried again, so the work
//! is at most pattern times text, whatever the pattern.

#[cfg(test)]
mod tests;

/// Whether all of `text` matches `pattern`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    matches_by(pattern, text, |octet| octet)
}

/// As [`matches()`], upper and lower case ASCII letters being equal.
pub fn matches_ignore_case(pattern: &[u8], text: &[u8]) -> bool {
    matches_by(pattern, text, |octet| octet.to_ascii_lowercase())
}

fn matches_by(pattern: &[u8], text: &[u8], fold: impl Fn(u8) -> u8 + Copy) -> bool {
    let mut wanted = pattern;
    let mut rest = text;
    // After the last `*` seen: the pattern behind it, and the text it has not swallowed yet.
    let mut retry: Option<(&[u8], &[u8])> = None;
    while let [octet, tail @ ..] = rest {
        if wanted.first() == Some(&b'*') {
            wanted = without_stars(wanted);
            if wanted.is_empty() {
                return true;
            }
            retry = Some((wanted, rest));
            continue;
        }
        if let Some(after) = match_one(wanted, fold(*octet), fold) {
            wanted = after;
            rest = tail;
            continue;
        }
        let Some((behind_star, [_, later @ ..])) = retry else {
            return false;
        };
        wanted = behind_star;
        rest = later;
        retry = Some((behind_star, later));
    }
    without_stars(wanted).is_empty()
}

fn without_stars(mut pattern: &[u8]) -> &[u8] {
    while let [b'*', tail @ ..] = pattern {
        pattern = tail;
    }
    pattern
}

/// The pattern behind its first element, if that element (not `*`) matches `octet`.
fn match_one(pattern: &[u8], octet: u8, fold: impl Fn(u8) -> u8) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', tail @ ..] => Some(tail),
        [b'[', b'^', class @ ..] => {
            let (is_member, tail) = match_class(class, octet, fold);
            (!is_member).then_some(tail)
        }
        [b'[', class @ ..] => {
            let (is_member, tail) = match_class(class, octet, fold);
            is_member.then_some(tail)
        }
        [b'\\', escaped, tail @ ..] => (fold(*escaped) == octet).then_some(tail),
        [plain, tail @ ..] => (fold(*plain) == octet).then_some(tail),
    }
}

/// Whether `octet` is in the class, and the pattern behind its `]`.
fn match_class(mut class: &[u8], octet: u8, fold: impl Fn(u8) -> u8) -> (bool, &[u8]) {
    let mut is_member = false;
    loop {
        class = match class {
            [] => return (is_member, class),
            [b']', tail @ ..] => return (is_member, tail),
            [b'\\', escaped, tail @ ..] => {
                is_member |= fold(*escaped) == octet;
                tail
            }
            [from, b'-', to, tail @ ..] => {
                let (from, to) = (fold(*from), fold(*to));
                is_member |= (from.min(to)..=from.max(to)).contains(&octet);
                tail
            }
            [member, tail @ ..] => {
                is_member |= fold(*member) == octet;
                tail
            }
        };
    }
}
