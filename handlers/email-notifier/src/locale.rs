//! Which of a rule's languages a mail is written in: the one asked for, its shorter forms, the defaults, the first there is.

/// The first of `wanted` that is among `known`, each tried as `de-AT`, then `de`; else the first of `known`.
pub(crate) fn choose<'k, T>(wanted: &[Option<&str>], known: &'k [(&'k str, T)]) -> Option<&'k (&'k str, T)> {
    wanted.iter().flatten().find_map(|wanted| shortened(wanted, known)).or_else(|| known.first())
}

/// Case does not matter, `_` is `-`, and what stands after `.` or `@` (`de_DE.UTF-8`) is left out.
fn shortened<'k, T>(wanted: &str, known: &'k [(&'k str, T)]) -> Option<&'k (&'k str, T)> {
    let wanted = wanted.split(['.', '@']).next().unwrap_or_default().trim().replace('_', "-");
    let mut rest = wanted.as_str();
    loop {
        if let Some(found) = known.iter().find(|(name, _)| name.eq_ignore_ascii_case(rest)) {
            return Some(found);
        }
        rest = rest.rsplit_once('-')?.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_chosen() {
        let known = [("en", ()), ("de", ()), ("de-CH", ()), ("zh", ())];
        for (wanted, expected) in [
            (&[Some("de-AT")][..], "de"),
            (&[Some("de_ch")], "de-CH"),
            (&[Some("de_CH.UTF-8")], "de-CH"),
            (&[Some("ZH-Hans-CN")], "zh"),
            (&[Some("fr"), Some("de")], "de"),
            (&[None, Some("de")], "de"),
            (&[Some("fr"), Some("it")], "en"),
            (&[Some(""), None], "en"),
            (&[Some("-")], "en"),
        ] {
            assert_eq!(choose(wanted, &known).map(|(name, ())| *name), Some(expected), "{wanted:?}");
        }
        assert!(choose::<()>(&[Some("de")], &[]).is_none());
    }
}
