//! The `Link` header of RFC 8288: where the next page is.
//!
//! The grammar is read as section 3 and appendix B.2 have it: several links in one header or in
//! several, parameters with or without quotes, commas and semicolons within quotes and within the
//! URL, several relation types in one `rel`, of which only a link's first counts. What does not
//! parse ends the header it stands in, and what stood before it counts.

/// The target of the first link whose relation is `next`, as written (it may be relative).
pub(super) fn next_link<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<String> {
    headers.into_iter().find_map(|header| {
        let mut rest = header;
        while let Some((link, after)) = link(rest) {
            if link.is_next {
                return Some(link.target.to_owned());
            }
            rest = after;
        }
        None
    })
}

struct Link<'a> {
    target: &'a str,
    is_next: bool,
}

/// One link and what follows it.
fn link(text: &str) -> Option<(Link<'_>, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']).strip_prefix('<')?;
    let (target, mut rest) = text.split_once('>')?;
    let (mut rel, mut about_another) = (None, false);
    loop {
        rest = rest.trim_start();
        let Some(after) = rest.strip_prefix(';') else { break };
        let (name, value, after) = parameter(after)?;
        rest = after;
        if name.eq_ignore_ascii_case("rel") && rel.is_none() {
            rel = Some(value);
        } else if name.eq_ignore_ascii_case("anchor") {
            // The link is not about this page.
            about_another = true;
        }
    }
    let is_next = !about_another
        && rel.is_some_and(|rel| {
            rel.split_ascii_whitespace().any(|one| one.eq_ignore_ascii_case("next"))
        });
    Some((Link { target: target.trim(), is_next }, rest))
}

/// One parameter: name, value without quotes, what follows.
fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let end = text.find(['=', ';', ',']).unwrap_or(text.len());
    let (name, rest) = (text[..end].trim(), &text[end..]);
    let Some(value) = rest.strip_prefix('=') else { return Some((name, String::new(), rest)) };
    let value = value.trim_start();
    if let Some(quoted) = value.strip_prefix('"') {
        let (value, rest) = unquote(quoted)?;
        Some((name, value, rest))
    } else {
        let end = value.find([';', ',']).unwrap_or(value.len());
        Some((name, value[..end].trim().to_owned(), &value[end..]))
    }
}

/// A quoted string after its opening quote, and what follows its closing one.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn finds_the_next_link() {
        for (headers, expected) in [
            (vec![r#"<https://a/x?page=2>; rel="next""#], Some("https://a/x?page=2")),
            (vec![r#"<a>; rel="prev", <b>; rel="next", <c>; rel="last""#], Some("b")),
            (vec![r#"<a>; rel="prev""#, r#"<b>; rel="next""#], Some("b")),
            (vec!["<b>;rel=next"], Some("b")),
            (vec!["<b> ; REL = NEXT"], Some("b")),
            (vec![r#"<b?x=1,2;3>; rel="next""#], Some("b?x=1,2;3")),
            (vec![r#"<a>; title="x, <b>; rel=\"next\""; rel="prev", <c>; rel="next""#], Some("c")),
            (vec![r#"<b>; rel="last next""#], Some("b")),
            (vec![r#"<b>; rel="prev"; rel="next""#], None),
            (vec![r#"<b>; rel="next"; anchor="/other""#], None),
            (vec![r#"<b>; rel="nextish""#], None),
            (vec![r#", ,<b>; rel="next""#], Some("b")),
            (vec![r#"<b>; hidden; rel="next""#], Some("b")),
            (vec![r#"<b; rel="next""#], None),
            (vec![r#"<b>; rel="next"#], None),
            (vec![""], None),
            (vec![], None),
        ] {
            assert_eq!(next_link(headers.clone()).as_deref(), expected, "{headers:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn never_panics(header in r#"[<>;,="\\a-z é]{0,40}"#) {
            let _ = next_link([header.as_str()]);
        }

        #[test]
        fn what_is_written_is_found(
            before in prop::collection::vec(("[a-z/?=,;]{1,12}", "[a-mo-z ,;<>]{0,12}"), 0..4),
            target in "[a-z/?=,;&]{1,20}",
        ) {
            let mut links: Vec<String> = before
                .iter()
                .map(|(target, title)| format!(r#"<{target}>; title="{title}"; rel="prev""#))
                .collect();
            links.push(format!(r#"<{target}>; rel="next""#));
            let header = links.join(", ");
            prop_assert_eq!(next_link([header.as_str()]), Some(target));
        }
    }
}
