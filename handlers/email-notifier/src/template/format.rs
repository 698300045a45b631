//! Numbers, money and dates as people of a language write them. English, German and Chinese in full; of some others the separators of
//! numbers; everything else as in English, with dates as in ISO 8601.

/// A no-break space: an amount must not be torn from its currency.
const SPACE: char = '\u{a0}';

const MONTHS_EN: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
const MONTHS_DE: [&str; 12] =
    ["Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober", "November", "Dezember"];

fn language(locale: &str) -> &str {
    locale.split('-').next().unwrap_or_default()
}

/// Between thousands, and before the fraction.
fn separators(locale: &str) -> (char, char) {
    match language(locale) {
        "de" if locale.ends_with("CH") => ('’', '.'),
        "de" | "es" | "it" | "nl" | "pt" | "da" | "id" | "tr" => ('.', ','),
        "fr" | "pl" | "cs" | "sv" | "fi" | "nb" | "ru" | "uk" => (SPACE, ','),
        _ => (',', '.'),
    }
}

/// A number with this many decimals.
pub(crate) fn number(locale: &str, value: f64, decimals: usize) -> String {
    let (thousands, point) = separators(locale);
    let text = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut out = String::new();
    if value.is_sign_negative() && text.bytes().any(|b| (b'1'..=b'9').contains(&b)) {
        out.push('-');
    }
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            out.push(thousands);
        }
        out.push(digit);
    }
    if !fraction.is_empty() {
        out.push(point);
        out.push_str(fraction);
    }
    out
}

/// An amount in a currency (ISO 4217), in units of the currency: 12.5 euros, not 1250 cents.
pub(crate) fn money(locale: &str, amount: f64, currency: &str) -> String {
    let currency = currency.trim().to_uppercase();
    let decimals = match currency.as_str() {
        "JPY" | "KRW" | "VND" | "CLP" | "ISK" | "XAF" | "XOF" | "PYG" | "UGX" => 0,
        "KWD" | "BHD" | "TND" | "JOD" | "OMR" | "IQD" | "LYD" => 3,
        _ => 2,
    };
    let chinese = language(locale) == "zh";
    let symbol = match currency.as_str() {
        "EUR" => "€",
        "GBP" => "£",
        "USD" if chinese => "US$",
        "USD" => "$",
        "CNY" if chinese => "¥",
        "CNY" => "CN¥",
        "JPY" if chinese => "JP¥",
        "JPY" => "¥",
        "INR" => "₹",
        "KRW" => "₩",
        other => other,
    };
    let amount = number(locale, amount, decimals);
    match separators(locale) {
        (_, ',') => format!("{amount}{SPACE}{symbol}"),
        _ => {
            let (sign, amount) = amount.strip_prefix('-').map_or(("", amount.as_str()), |amount| ("-", amount));
            let space = if symbol.chars().all(char::is_alphabetic) { SPACE.to_string() } else { String::new() };
            format!("{sign}{symbol}{space}{amount}")
        }
    }
}

/// What a text in RFC 3339 says, or a date alone. It stays in the zone that it was written in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct When<'a> {
    year: &'a str,
    month: usize,
    day: usize,
    /// Hours and minutes, and the offset from UTC as `Z` or `+02:00`.
    time: Option<(&'a str, &'a str)>,
}

impl<'a> When<'a> {
    /// Reads a time; none when it is not one.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let date = text.get(..10)?;
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let mut parts = date.split('-');
        let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
        if year.len() != 4 || month.len() != 2 || !digits(year) || !digits(month) || !digits(day) {
            return None;
        }
        let (month, day) = (month.parse().ok()?, day.parse().ok()?);
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        let time = match text.get(10..)? {
            "" => None,
            time => Some(clock(time)?),
        };
        Some(When { year, month, day, time })
    }

    /// The day: `21 November 2026`, `21. November 2026`, `2026年11月21日`.
    pub(crate) fn date(&self, locale: &str) -> String {
        let Self { year, month, day, .. } = self;
        match language(locale) {
            "en" => format!("{day} {} {year}", MONTHS_EN.get(month - 1).copied().unwrap_or_default()),
            "de" => format!("{day}. {} {year}", MONTHS_DE.get(month - 1).copied().unwrap_or_default()),
            "zh" => format!("{year}年{month}月{day}日"),
            _ => format!("{year}-{month:02}-{day:02}"),
        }
    }

    /// The day with the time and its zone: `21 November 2026, 09:12 UTC`.
    pub(crate) fn datetime(&self, locale: &str) -> String {
        let Some((time, offset)) = self.time else { return self.date(locale) };
        let zone = match offset {
            "Z" | "z" | "+00:00" | "-00:00" => "UTC".to_owned(),
            offset => format!("UTC{offset}"),
        };
        match language(locale) {
            "de" => format!("{}, {time} Uhr ({zone})", self.date(locale)),
            "zh" => format!("{} {time}（{zone}）", self.date(locale)),
            _ => format!("{}, {time} {zone}", self.date(locale)),
        }
    }
}

/// `T09:12:30.5Z` as `09:12` and `Z`.
fn clock(text: &str) -> Option<(&str, &str)> {
    let time = text.strip_prefix(['T', 't', ' '])?;
    let pair = |text: &str, below: u8| text.len() == 2 && text.parse::<u8>().is_ok_and(|value| value < below);
    let zone = time.find(['Z', 'z', '+', '-'])?;
    let (hours, minutes) = (time.get(..2)?, time.get(3..5)?);
    let seconds = time.get(5..zone)?;
    let good = pair(hours, 24)
        && pair(minutes, 60)
        && time.get(2..3) == Some(":")
        && (seconds.is_empty() || seconds.strip_prefix(':')?.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
    let offset = time.get(zone..)?;
    let offset_good = match offset.get(1..)? {
        "" => offset.eq_ignore_ascii_case("z"),
        rest => rest.split_once(':').is_some_and(|(hours, minutes)| pair(hours, 24) && pair(minutes, 60)),
    };
    (good && offset_good).then_some((time.get(..5)?, offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_written_as_people_do() {
        for (locale, amount, currency, expected) in [
            ("en", 1234.5, "EUR", "€1,234.50"),
            ("en", -5.0, "usd", "-$5.00"),
            ("en", 12.0, "CHF", "CHF\u{a0}12.00"),
            ("de", 1_234_567.891, "EUR", "1.234.567,89\u{a0}€"),
            ("de", -0.001, "EUR", "0,00\u{a0}€"),
            ("de-AT", 999.0, "USD", "999,00\u{a0}$"),
            ("de-CH", 1234.5, "CHF", "CHF\u{a0}1’234.50"),
            ("zh", 1299.0, "CNY", "¥1,299.00"),
            ("zh-TW", 10.0, "USD", "US$10.00"),
            ("en", 5000.0, "JPY", "¥5,000"),
            ("en", 1.0, "KWD", "KWD\u{a0}1.000"),
            ("fr", 1234.0, "EUR", "1\u{a0}234,00\u{a0}€"),
        ] {
            assert_eq!(money(locale, amount, currency), expected);
        }
    }

    #[test]
    fn dates_are_written_as_people_do() {
        for (locale, text, expected) in [
            ("en", "2026-11-21T09:12:30.123Z", "21 November 2026, 09:12 UTC"),
            ("de", "2026-03-01T23:59:00+02:00", "1. März 2026, 23:59 Uhr (UTC+02:00)"),
            ("zh", "2026-11-21T09:12:30+08:00", "2026年11月21日 09:12（UTC+08:00）"),
            ("fr", "2026-11-21T09:12Z", "2026-11-21, 09:12 UTC"),
            ("en", "2026-11-21", "21 November 2026"),
        ] {
            assert_eq!(When::parse(text).unwrap().datetime(locale), expected);
        }
        for wrong in [
            "",
            "yesterday",
            "2026-13-01",
            "2026-11-21T25:00Z",
            "2026-11-21T09:12",
            "2026-11-21Tä:ü",
            "<b>26-11-21",
            "20261121ä1",
        ] {
            assert_eq!(When::parse(wrong), None, "{wrong}");
        }
    }
}
