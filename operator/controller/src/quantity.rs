//! Quantities of Kubernetes, such as `500m`, `64`, `256Gi` or `1e3`
//! (<https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>).

/// A quantity in thousandths, as processors are counted; parts of a thousandth
/// are rounded up. None when the text is no quantity, negative, or beyond
/// 64 bits.
pub fn thousandths(text: &str) -> Option<u64> {
    scaled(text, 3)
}

/// A quantity in whole units, as bytes are counted; parts of a unit are rounded
/// up. None when the text is no quantity, negative, or beyond 64 bits.
pub fn units(text: &str) -> Option<u64> {
    scaled(text, 0)
}

/// The quantity times ten to the power of `digits`, rounded up.
fn scaled(text: &str, digits: i32) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text
        .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // A second point, or digits that do not fit, end here.
    let mantissa: u128 = format!("{whole}{fraction}").parse().ok()?;
    let (binary, decimal) = powers(suffix)?;
    let mantissa = mantissa.checked_mul(1_u128.checked_shl(binary)?)?;
    let exponent = decimal
        .checked_add(digits)?
        .checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let power = 10_u128.checked_pow(exponent.unsigned_abs());
    let value = match (exponent < 0, power) {
        (false, Some(power)) => mantissa.checked_mul(power)?,
        (true, Some(power)) => mantissa.div_ceil(power),
        (false, None) if mantissa > 0 => return None,
        (true, None) => u128::from(mantissa > 0),
        (false, None) => 0,
    };
    u64::try_from(value).ok()
}

/// The powers of two and of ten that a suffix stands for.
fn powers(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix {
        "" => (0, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        _ => (0, suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_quantity_is_understood() {
        for (text, expected) in [
            ("0", 0),
            ("1", 1000),
            ("+2", 2000),
            ("500m", 500),
            ("0.5", 500),
            (".5", 500),
            ("2.", 2000),
            ("1.5k", 1_500_000),
            ("1e3", 1_000_000),
            ("5E-1", 500),
            ("100u", 1),
            ("1n", 1),
            ("0n", 0),
            ("1E", 1_000_000_000_000_000_000_000_u128),
        ] {
            assert_eq!(thousandths(text), u64::try_from(expected).ok(), "{text}");
        }
        for (text, expected) in [
            ("256Gi", 256 << 30),
            ("1.5Gi", 3 << 29),
            ("128974848", 128_974_848),
            ("129e6", 129_000_000),
            ("129M", 129_000_000),
            ("123Mi", 123 << 20),
            ("1Ei", 1 << 60),
            ("1m", 1),
            ("1e-40", 1),
        ] {
            assert_eq!(units(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_none() {
        for text in [
            "",
            ".",
            "m",
            "-1",
            "1 Gi",
            "1gi",
            "1KI",
            "one",
            "1.2.3",
            "1e",
            "1ee3",
            "1i",
            "0x10",
            "16Ei",
            "1e40",
            "99999999999999999999999999999999999999999",
        ] {
            assert_eq!(units(text), None, "{text}");
        }
    }
}
