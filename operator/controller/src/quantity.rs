//! Quantities of Kubernetes, such as `500m`, `64`, `256Gi` or `1e3`
//! (<https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>).

/// A quantity in thousandths, as processors are counted; parts of a thousandth
/// are rounded up. None when the text is no quantity, negative, or beyond
/// 64 bits.
pub fn thousandths(text: &str) -> Option<u64> {
    Quantity::parse(text)?.scaled(3)
}

/// A quantity in whole units, as bytes are counted; parts of a unit are rounded
/// up. None when the text is no quantity, negative, or beyond 64 bits.
pub fn units(text: &str) -> Option<u64> {
    Quantity::parse(text)?.scaled(0)
}

/// Whether two texts are quantities of the same value, such as `1` and
/// `1000m`.
pub fn same(one: &str, other: &str) -> bool {
    Quantity::parse(one).is_some_and(|one| Quantity::parse(other) == Some(one))
}

/// The value of a quantity, exactly: `odd` times powers of two and of five.
/// All factors of two and five are in the powers, so that each value is
/// represented in one way only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Quantity {
    negative: bool,
    odd: u128,
    twos: i32,
    fives: i32,
}

impl Quantity {
    /// None when the text is no quantity, or beyond 128 bits.
    fn parse(text: &str) -> Option<Self> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(text) => (true, text),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
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
        if mantissa == 0 {
            return Some(Self {
                negative: false,
                odd: 0,
                twos: 0,
                fives: 0,
            });
        }
        let decimal = decimal.checked_sub(i32::try_from(fraction.len()).ok()?)?;
        let (odd, twos) = without_factor(mantissa, 2);
        let (odd, fives) = without_factor(odd, 5);
        Some(Self {
            negative,
            odd,
            twos: decimal.checked_add(twos)?.checked_add(binary)?,
            fives: decimal.checked_add(fives)?,
        })
    }

    /// The quantity times ten to the power of `digits`, rounded up.
    fn scaled(self, digits: i32) -> Option<u64> {
        if self.negative {
            return None;
        }
        let exponents = [
            (2, self.twos.checked_add(digits)?),
            (5, self.fives.checked_add(digits)?),
        ];
        let (mut value, mut divisor) = (self.odd, Some(1_u128));
        for (base, exponent) in exponents {
            let power = u128::checked_pow(base, exponent.unsigned_abs());
            if exponent < 0 {
                divisor = divisor
                    .zip(power)
                    .and_then(|(divisor, power)| divisor.checked_mul(power));
            } else if value > 0 {
                value = value.checked_mul(power?)?;
            }
        }
        // What is divided by more than fits is part of a unit.
        u64::try_from(divisor.map_or(1, |divisor| value.div_ceil(divisor))).ok()
    }
}

/// What is left of a number other than zero, and how often the factor was in
/// it.
fn without_factor(mut number: u128, factor: u128) -> (u128, i32) {
    let mut times = 0;
    while number.is_multiple_of(factor) {
        number /= factor;
        times += 1;
    }
    (number, times)
}

/// The powers of two and of ten that a suffix stands for.
fn powers(suffix: &str) -> Option<(i32, i32)> {
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
    fn quantities_are_the_same_when_their_values_are() {
        for (one, other) in [
            ("1", "1000m"),
            ("0.1", "100m"),
            ("1Gi", "1024Mi"),
            ("1.5Gi", "1536Mi"),
            ("1G", "1000M"),
            ("1e3", "1k"),
            ("+1", "1.0"),
            ("-500m", "-0.5"),
            ("-0", "0n"),
            ("1e40", "10e39"),
            ("3000000000n", "3"),
        ] {
            assert!(same(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("1Gi", "1G"),
            ("1", "1001m"),
            ("1", "-1"),
            ("9007199254740993", "9007199254740992"),
            ("1", "one"),
            ("one", "one"),
        ] {
            assert!(!same(one, other), "{one} {other}");
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
